"""The entry that every CI shim calls. The pipeline is the package in ci/requirements.txt; try it here first:

python ci/main.py plan   # what would run and be pushed
python ci/main.py run
"""

from pipelines.cli import entry

if __name__ == "__main__":
    entry()
