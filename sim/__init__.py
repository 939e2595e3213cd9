"""The simulated site: what `paifang sim` runs as a process of its own, beside a real server.

Nothing here is a real device, and everything says so.  The transports are real, though: boards and readers are ptys,
smart gates speak the device link over NNG, the printer listens on TCP, the sales window logs in over the console
channel.  The server cannot tell the difference, and no function of the server is called from here.

`barrier` (the physics of one lane), `board`, `reader`, `gate`, `printer`, `window` (the devices), `plan` and
`visitors` (who comes and what they do), `script` (the demo's phases), `truth` (what the devices saw), `run`
(`run_sim`).  Imported only by `paifang/`.
"""
