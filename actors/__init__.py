"""The domain: one module or folder per actor, with its pure rules beside it.

`lane` (the state machine of a lane, on a board or behind the device link), `gate`, `reader`, `printer` (actors round a
driver), `counter` (a lane's statements until they are on disk), `admission` (the pure decision, refusal codes),
`occupancy`, `passes` (card and face), `evacuation` (latch, release, acknowledgements), `link` (routes the device
link), `sales`, `accounts`, `site` (the supervision tree as data).  May import `core`, `protocols`, the driver seam
(`drivers.base`, `drivers.errors`) and `storage.interfaces`; nothing that does I/O.
"""
