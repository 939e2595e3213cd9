"""The composition root: command line, site file, keys, users, and the wiring of everything else.

`cli` (commands), `site` and `check` (the site file), `keys`, `users`, `wiring` (the tree of actors), `serve` (the
server as a process), `evacuate` (its own process), `run` and `demo` (server and simulated site together), `figures`
(what a demo's truth and database say).  May import everything; nothing imports it.
"""
