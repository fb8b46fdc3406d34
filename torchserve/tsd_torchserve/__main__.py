"""`python -m tsd_torchserve` is the command `torchserve`."""

import sys

from tsd_torchserve.command import main

if __name__ == "__main__":
    sys.exit(main())
