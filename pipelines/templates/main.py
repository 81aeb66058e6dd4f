"""The entry that every CI shim calls. The pipeline is the package in ci/requirements.txt; try it here first:

python ci/main.py plan   # what would run and be pushed
python ci/main.py run
"""

import sys

from pipelines.cli import main

if __name__ == "__main__":
    sys.exit(main())
