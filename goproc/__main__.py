"""``python -m goproc``: the same as the ``goproc`` command."""

import sys

from goproc.cli import main

if __name__ == "__main__":
    sys.exit(main())
