"""``python -m bvverify.cli``: the same as the ``bvverify`` command."""

import sys

from bvverify.cli import main

if __name__ == "__main__":
    sys.exit(main())
