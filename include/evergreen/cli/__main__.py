"""`python -m evergreen.cli`: runs a command and turns an error into one line and an exit code."""

from evergreen.cli.app import main

if __name__ == "__main__":
    main()
