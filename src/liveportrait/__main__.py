"""`python -m liveportrait`: the command line."""

import sys

from liveportrait.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())
