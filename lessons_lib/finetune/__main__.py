"""``python -m lessons_lib.finetune``: see ``lessons_lib.finetune.script``."""

import sys

from lessons_lib.finetune.script import main

if __name__ == "__main__":
    sys.exit(main())
