from patchcore.cli import main

main()
