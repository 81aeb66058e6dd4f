"""``python -m embedded_engine``."""

import sys

try:
    from embedded_engine.cli import main
except KeyboardInterrupt:  # while it loads: nothing was begun
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
