"""The unit tests' rung: the model's own tests in its own image, mounted there and never part of it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import anyio
import dagger
from dagger import dag

from pipelines.config import Model
from pipelines.config_check import UnitTests
from pipelines.stages.check_report import Rung
from pipelines.stages.engine_errors import tail

LEFT_BEHIND = ["**/__pycache__", "**/*.pyc", "**/.pytest_cache"]


async def unit_rung(image: dagger.Container, model: Model, unit: UnitTests) -> Rung:
    """Run the tests in one exec. A failed one is a rung that does not hold, not an error of the engine."""
    container = await _with_tests(image, model, unit)
    tests = container.with_exec(list(unit.command))
    try:
        with anyio.fail_after(unit.timeout_s):
            said = f"{await tests.stdout()}\n{await tests.stderr()}".strip()
    except TimeoutError:
        return Rung("unit", ok=False, detail=f"the unit tests took more than {unit.timeout_s:g} s")
    except dagger.ExecError as err:
        said = f"{err.stdout}\n{err.stderr}".strip()
        return Rung("unit", ok=False, detail=failure_of(said, err.exit_code), log=tail(said, 40))
    count = ran_in(said)
    if count == 0:
        return Rung("unit", ok=False, detail="the unit tests' command found no test", log=tail(said))
    return Rung("unit", ok=True, detail=counted(count), facts={"tests": count})


async def _with_tests(image: dagger.Container, model: Model, unit: UnitTests) -> dagger.Container:
    root = PurePosixPath(await image.workdir() or "/")
    for name in unit.files:
        source, target = model.directory / name, str(root / name)
        if source.is_dir():
            directory = dag.host().directory(str(source), exclude=LEFT_BEHIND)
            image = image.with_mounted_directory(target, directory, read_only=True)
        else:
            image = image.with_mounted_file(target, dag.host().file(str(source)))
    return image


def counted(count: int | None) -> str:
    """The rung in a few words; a runner whose output is not known tells no number."""
    if count is None:
        return "unit tests"
    return "1 unit test" if count == 1 else f"{count} unit tests"


def ran_in(said: str) -> int | None:
    """How many tests unittest or pytest says it ran; None when neither spoke."""
    if ran := re.findall(r"^Ran (\d+) tests? in ", said, re.MULTILINE):
        return sum(map(int, ran))
    if lines := re.findall(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in [\d.]+s", said, re.MULTILINE):
        parts = dict(re.findall(r"(\d+) (passed|failed|error|errors)", lines[-1]))
        return sum(map(int, parts))
    return None


def failure_of(said: str, exit_code: int) -> str:
    """Which tests failed, in one line."""
    names = re.findall(r"^(?:FAIL|ERROR): (\S+)", said, re.MULTILINE)
    names += re.findall(r"^(?:FAILED|ERROR) (\S+::\S+)", said, re.MULTILINE)
    if not names:
        return f"the unit tests' command ended with exit code {exit_code}"
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - 3} more" if len(unique) > 3 else ""
    return f"unit tests failed: {', '.join(unique[:3])}{more}"
