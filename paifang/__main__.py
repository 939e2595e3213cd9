from paifang.cli import main

main()
