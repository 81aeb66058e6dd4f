"""The entry that every CI shim calls: this repository's models, on whichever engine is there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipelines.cli import entry

if __name__ == "__main__":
    entry()
