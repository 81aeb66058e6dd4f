"""``python -m embedded_engine``."""

import sys

from embedded_engine.cli import main

if __name__ == "__main__":
    sys.exit(main())
