"""`python -m paifang` is `paifang`."""

from paifang.cli import main

main()
