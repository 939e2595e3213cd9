"""I/O with hardware, one folder or module per family, all behind the seam in `base`.

`serial` (a line under Trio), `turnstile` (boards), `scanner` (QR readers), `printer` (ESC/POS transports), `nng` (the
device link's sockets), `face` (worker processes and the gallery).  May import `protocols`, `core` errors, trio and I/O
libraries; never the domain.
"""
