"""``python -m lessons_lib.methods.transfer``: see :mod:`lessons_lib.methods.transfer.script`."""

import sys

from lessons_lib.methods.transfer.script import main

if __name__ == "__main__":
    sys.exit(main())
