"""`python -m aurexd` is `aurexd`."""

from aurexd.cli import main

if __name__ == "__main__":
    main()
