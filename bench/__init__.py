"""Benchmarks: figures in their units, and ratios to a floor measured in the same run (`paifang bench NAME --json`).

`runtime` (the actor runtime beside bare Trio channels), `admission` (grants and closes on disk beside pgbench), `face`
(the loop's lag while faces are encoded).  Imported by the command line alone; may import everything.
"""
