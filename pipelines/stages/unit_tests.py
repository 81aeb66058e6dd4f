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
from pipelines.stages.python_image import PIP_CACHE

LEFT_BEHIND = ["**/__pycache__", "**/*.pyc", "**/.pytest_cache"]
PIP = "/modelport/pip"
REQUIREMENTS = "/modelport/test-requirements.txt"
PACKAGES = "/modelport/test-packages"
"""None of these is in the image: they are mounted while pip and the tests run."""
COPY_PIP = """
import os, pip, shutil, sys
shutil.copytree(os.path.dirname(pip.__file__), os.path.join(sys.argv[1], "pip"))
"""
INSTALL = """
import os, re, sys, tempfile
from importlib.metadata import distributions
pip, requirements, target, cache = sys.argv[1:]
own = sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions() if d.metadata["Name"]})
with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as constraints:
    constraints.write("\\n".join(own))
sys.path.insert(0, pip)
from pip._internal.cli.main import main
code = main(["install", "--no-compile", "--disable-pip-version-check", "--root-user-action=ignore",
             "--no-warn-script-location", "--cache-dir", cache, "--prefix", target,
             "--constraint", constraints.name, "-r", requirements])
for base, names, _ in os.walk(target):
    for name in names:
        if name in ("site-packages", "dist-packages"):
            os.path.lexists(target + "/site") or os.symlink(os.path.join(base, name), target + "/site")
    if os.path.isdir(os.path.join(base, "bin")) and base != target:
        os.path.lexists(target + "/bin") or os.symlink(os.path.join(base, "bin"), target + "/bin")
sys.exit(code)
"""


async def unit_rung(image: dagger.Container, model: Model, unit: UnitTests) -> Rung:
    """Run the tests in one exec. A failed one is a rung that does not hold, not an error of the engine."""
    container = await with_files(image, model, unit.files)
    if unit.requirements is not None:
        try:
            container = await with_requirements(container, image, model, unit)
        except dagger.ExecError as err:
            said = tail(f"{err.stdout}\n{err.stderr}".strip(), 40)
            return Rung("unit", ok=False, detail=not_installed(unit.requirements, err), log=said)
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


async def with_files(image: dagger.Container, model: Model, files: tuple[str, ...]) -> dagger.Container:
    """``image`` with files of the model's directory mounted below its working directory."""
    root = PurePosixPath(await image.workdir() or "/")
    for name in files:
        source, target = model.directory / name, str(root / name)
        if source.is_dir():
            directory = dag.host().directory(str(source), exclude=LEFT_BEHIND)
            image = image.with_mounted_directory(target, directory, read_only=True)
        else:
            image = image.with_mounted_file(target, dag.host().file(str(source)))
    return image


async def with_requirements(
    tests: dagger.Container, image: dagger.Container, model: Model, unit: UnitTests
) -> dagger.Container:
    """``tests`` with what they need on Python's path: installed into a directory that is only mounted there.

    pip is that of the tools image, which runs on the image's Python: the image itself needs none. What the
    image has stays as it is: its versions bind pip, so nothing that is tested is shadowed by another one.

    Raises:
        dagger.ExecError: pip could not install.
    """
    fetch = dag.container().from_(model.tools.image).with_exec(["python3", "-c", COPY_PIP, PIP])
    installer = (
        image.with_user("0")
        .with_workdir("/")
        .with_mounted_directory(PIP, fetch.directory(PIP), read_only=True)
        .with_mounted_file(REQUIREMENTS, dag.host().file(str(model.directory / str(unit.requirements))))
        .with_mounted_directory(PACKAGES, dag.directory())
        .with_mounted_cache(PIP_CACHE, dag.cache_volume("modelport-pip"))
    )
    installed = installer.with_exec(
        [unit.python, "-B", "-c", INSTALL, PIP, REQUIREMENTS, PACKAGES, PIP_CACHE]
    )
    packages = await installed.directory(PACKAGES).sync()
    tests = tests.with_mounted_directory(PACKAGES, packages, read_only=True)
    for name, last in (("PYTHONPATH", f"{PACKAGES}/site"), ("PATH", f"{PACKAGES}/bin")):
        own = await image.env_variable(name)
        tests = tests.with_env_variable(name, f"{own}:{last}" if own else last)
    return tests


def not_installed(requirements: str, err: dagger.ExecError) -> str:
    """Why the tests could not even begin."""
    return f"what the unit tests need ({requirements}) could not be installed (exit code {err.exit_code})"


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
