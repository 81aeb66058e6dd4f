"""What the import of the SDK costs a run, and what its children see of it."""

import os
import subprocess
import sys

PROGRAM = """
import os
before = dict(os.environ)
from pipelines.engine_session import load_graph
load_graph()
import dagger
assert dict(os.environ) == before, "the environment is as it was"
print(dagger.Container.with_exec.__code__.co_filename)
"""


def run(**environ: str) -> str:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_the_sdk_is_imported_without_its_call_checks() -> None:
    assert run().endswith("gen.py"), "the method itself, not a check around it"


def test_the_users_own_setting_stays() -> None:
    assert run(PYTHONOPTIMIZE="0").endswith("gen.py")
