"""The check stage on the embedded engine: a model that works, and each way in which one does not."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagger
import pytest
from dagger import dag
from engine_process import engine_session
from registry_process import registry_program, running_registry

from demo.base_image import BaseImageError, ensure, push
from pipelines.config import Check, Model, Tools
from pipelines.errors import CheckFailed
from pipelines.stages.check import check
from pipelines.stages.check_report import CheckReport

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry]

SERVE = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Model(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say({"status": "ok"})
    def do_POST(self):
        n = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["n"]
        if n == 99:
            print("no memory left for 99", file=sys.stderr, flush=True)
            os._exit(9)
        self.say({"double": n * 2, "user": os.getuid()})
    def say(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
time.sleep(float(os.environ.get("LOADING", "0")))
print("loaded", flush=True)
HTTPServer(("", 8080), Model).serve_forever()
"""
TESTS = """
import unittest, pathlib
class T(unittest.TestCase):
    def test_a(self):
        self.assertTrue(pathlib.Path("serve.py").exists())
    def test_b(self):
        with self.assertRaises(OSError):
            pathlib.Path("tests/new").write_text("read-only")
"""


@dataclass(frozen=True)
class Home:
    base: str
    state: Path
    events: Path

    def executed(self) -> list[str]:
        """What the engine really ran in this session."""
        told = [json.loads(line) for line in self.events.read_text().splitlines()]
        return [event["kind"] for event in told if not event["cached"]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    if registry_program() is None:
        pytest.skip("needs docker-registry")
    try:
        layout = ensure()
    except BaseImageError as err:
        pytest.skip(f"needs a Debian base image: {err}")
    root = tmp_path_factory.mktemp("check")
    with running_registry(root / "registry") as registry:
        push(layout, registry.host)
        yield Home(f"{registry.host}/library/python:3.11-slim", root / "state", root / "events")


@asynccontextmanager
async def connected(home: Home, workdir: Path) -> AsyncIterator[None]:
    """A session of its own: it sees the files of the host as they are now."""
    with (
        engine_session(home.state, workdir=workdir, EMBEDDED_ENGINE_EVENTS=str(home.events)) as session,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DAGGER_SESSION_PORT", str(session.port))
        patch.setenv("DAGGER_SESSION_TOKEN", session.params["session_token"])
        async with dagger.connection(dagger.Config(retry=None)):
            yield


@pytest.fixture
async def base(home: Home, tmp_path: Path) -> AsyncIterator[dagger.Container]:
    home.events.write_text("")
    async with connected(home, tmp_path):
        yield dag.container().from_(home.base)


def image_of(base: dagger.Container, serve: str = SERVE) -> dagger.Container:
    served = base.with_new_file("/app/serve.py", serve).with_workdir("/app").with_user("10001:10001")
    return served.with_default_args(["python", "serve.py"])


def model_of(home: Home, directory: Path, *cases: dict[str, Any], **check: Any) -> Model:
    if cases:
        directory.joinpath("golden.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
        check["golden"] = "golden.jsonl"
    check.setdefault("abuse", False)  # its tests are in test_check_limits_engine
    file = directory / "modelport.yaml"
    return Model(
        name="m",
        directory=directory,
        file=file,
        check=Check.model_validate(check),
        tools=Tools(image=home.base),
    )


def case(n: int, double: int) -> dict[str, Any]:
    return {"request": {"json": {"n": n}}, "expected": {"json": {"double": double}}}


async def failure_of(image: dagger.Container, model: Model) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        await check(image, model)
    assert isinstance(caught.value.report, CheckReport)
    return caught.value


async def test_a_model_that_works_and_again_without_running_anything(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    tmp_path.joinpath("tests").mkdir()
    tmp_path.joinpath("tests/test_x.py").write_text(TESTS)
    rows = [{"request": {"json": {"n": n}}, "expected": n * 2} for n in range(30)]
    tmp_path.joinpath("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    quality = {"data": "rows.jsonl", "metric": "rmse", "answer": "double", "at_most": 0.5}
    expected = {"request": {"json": {"n": 2}}, "expected": {"json": {"double": 4, "user": 10001}}}
    model = model_of(home, tmp_path, expected, case(3, 6), unit={}, quality=quality)
    report = await check(image_of(base), model)
    assert (
        report.summary() == "healthy · 2 unit tests · 2 of 2 golden cases · rmse 0.000 [0.000, 0.000] (≤ 0.5)"
    )
    assert "exec" in home.executed()

    home.events.write_text("")
    async with connected(home, tmp_path):
        again = await check(image_of(dag.container().from_(home.base)), model)
    assert again.summary() == report.summary()
    assert home.executed() == []


async def test_a_wrong_answer_is_told_and_asked_again(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    model = model_of(home, tmp_path, case(1, 2), case(2, 5))
    error = await failure_of(image_of(base), model)
    assert str(error).endswith('golden.jsonl:2: "double" is 4, expected 5 (exact)')
    assert isinstance(error.report, CheckReport)
    assert error.report.summary() == "healthy · 1 of 2 golden cases"
    home.events.write_text("")
    async with connected(home, tmp_path):
        await failure_of(image_of(dag.container().from_(home.base)), model)
    assert "exec" in home.executed()  # a failure is not kept


async def test_a_model_that_ends_instead_of_serving(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    error = await failure_of(image_of(base, "raise SystemExit('no weights here')"), model_of(home, tmp_path))
    assert "the model ended with exit code 1 instead of serving" in str(error)
    assert "no weights here" in error.detail


async def test_a_model_that_ends_during_the_check(home: Home, base: dagger.Container, tmp_path: Path) -> None:
    error = await failure_of(image_of(base), model_of(home, tmp_path, case(99, 1)))
    assert "the model ended during the check, with exit code 9" in str(error)
    assert "no memory left for 99" in error.detail


async def test_a_port_that_never_opens_costs_the_time_to_start_and_no_more(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    await base.sync()
    image, began = image_of(base, "import time; time.sleep(300)"), time.monotonic()
    error = await failure_of(image, model_of(home, tmp_path, start_timeout_s=2))
    assert str(error).endswith("port 8080 did not open within 2 s")
    assert time.monotonic() - began < 30  # an engine by itself waits for two minutes


async def test_a_model_that_takes_its_time_to_load(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    image = image_of(base.with_env_variable("LOADING", "1.5"))
    report = await check(image, model_of(home, tmp_path))
    assert report.summary() == "healthy"
    assert report.rungs[0].seconds > 0.5  # the client waited, not the engine


async def test_unit_tests_that_fail_and_other_rungs_that_hold(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    tmp_path.joinpath("tests").mkdir()
    tmp_path.joinpath("tests/test_x.py").write_text(TESTS.replace('"serve.py"', '"gone.py"'))
    error = await failure_of(image_of(base), model_of(home, tmp_path, case(1, 2), unit={}))
    assert "unit tests failed: test_a" in str(error)
    assert "AssertionError" in error.detail
    assert isinstance(error.report, CheckReport)
    assert error.report.summary() == "healthy · unit tests failed: test_a · 1 of 1 golden cases"


async def test_a_command_that_finds_no_test_is_a_failure(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    tmp_path.joinpath("tests").mkdir()
    tmp_path.joinpath("tests/notes.txt").write_text("none")
    assert "found no test" in str(await failure_of(image_of(base), model_of(home, tmp_path, unit={})))


async def test_unit_tests_that_take_too_long(home: Home, base: dagger.Container, tmp_path: Path) -> None:
    tmp_path.joinpath("slow.py").write_text("import time; time.sleep(60)")
    unit = {"command": ["python", "slow.py"], "files": ["slow.py"], "timeout_s": 1.5}
    assert "took more than 1.5 s" in str(
        await failure_of(image_of(base), model_of(home, tmp_path, unit=unit))
    )


async def test_a_gpu_that_is_not_here_is_skipped_and_recorded_so(
    home: Home, base: dagger.Container, tmp_path: Path
) -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("there is a GPU here")
    report = await check(image_of(base), model_of(home, tmp_path, gpu={"command": ["nvidia-smi"]}))
    assert report.summary() == "healthy · gpu skipped: no GPU here"
    [told] = [rung.to_json() for rung in report.rungs if rung.name == "gpu"]
    assert (told["ok"], told["skipped"]) == (None, True)
    required = model_of(home, tmp_path, gpu={"command": ["nvidia-smi"], "required": True})
    assert "the check asks for a GPU" in str(await failure_of(image_of(base), required))


def wheel(directory: Path, name: str, version: str, text: str, requires: str = "") -> None:
    """A wheel of one module, in ``directory``."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", text)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


HELPED = """
import unittest, helper
class T(unittest.TestCase):
    def test_helped(self):
        self.assertEqual(helper.HELP, 42)
"""


@pytest.fixture
async def packages(base: dagger.Container, tmp_path: Path) -> dagger.Container:
    """An image with two wheels in a directory of its own, for pip to find without any index."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    wheel(directory, "helper", "1.0", "from model_part import PART\nHELP = PART + 1\n", "model_part>=1")
    wheel(directory, "model_part", "1.0", "PART = 41\n")
    wheel(directory, "model_part", "2.0", "PART = 0\n")
    return base.with_directory("/wheels", dag.host().directory(str(directory)))


async def test_what_the_unit_tests_need_never_enters_the_image(
    home: Home, packages: dagger.Container, tmp_path: Path
) -> None:
    tmp_path.joinpath("tests").mkdir()
    tmp_path.joinpath("tests/test_x.py").write_text(HELPED)
    tmp_path.joinpath("tests/requirements.txt").write_text("--no-index\n--find-links /wheels\nhelper\n")
    pip = ["pip", "install", "--no-index", "--find-links", "/wheels", "model_part==1.0"]
    image = image_of(packages.with_user("root").with_exec(pip))
    before = await image.as_tarball().digest()
    model = model_of(home, tmp_path, unit={"requirements": "tests/requirements.txt"})
    report = await check(image, model)
    assert report.summary() == "healthy · 1 unit test"  # with the image's own model_part, not the newer one
    assert await image.as_tarball().digest() == before
    look = (
        "import importlib.util, os; print(importlib.util.find_spec('helper'), os.path.exists('/modelport'))"
    )
    assert await image.with_exec(["python", "-c", look]).stdout() == "None False\n"


async def test_requirements_that_want_another_version_than_the_image_has(
    home: Home, packages: dagger.Container, tmp_path: Path
) -> None:
    tmp_path.joinpath("tests").mkdir()
    tmp_path.joinpath("tests/test_x.py").write_text(HELPED)
    text = "--no-index\n--find-links /wheels\nmodel_part>=2\n"
    tmp_path.joinpath("tests/requirements.txt").write_text(text)
    pip = ["pip", "install", "--no-index", "--find-links", "/wheels", "model_part==1.0"]
    image = image_of(packages.with_user("root").with_exec(pip))
    error = await failure_of(image, model_of(home, tmp_path, unit={"requirements": "tests/requirements.txt"}))
    assert "could not be installed" in str(error)
    assert "model_part==1.0" in error.detail.replace("-", "_")


BATCH = """
import json, pathlib, sys
source, target = map(pathlib.Path, sys.argv[1:])
for file in sorted(source.iterdir()):
    values = [float(line) for line in file.read_text().split()]
    (target / f"{file.stem}.json").write_text(json.dumps({"mean": sum(values) / len(values)}))
(target / "run.log").write_text("done")
"""


def batch_of(home: Home, directory: Path, mean: float, **more: Any) -> Model:
    directory.mkdir()  # of its own: a session sees a directory of the host as it first saw it
    for name, text in {"in/a.txt": "1\n2\n", "out/a.json": json.dumps({"mean": mean})}.items():
        directory.joinpath(name).parent.mkdir(exist_ok=True)
        directory.joinpath(name).write_text(text)
    batch = {
        "command": ["python", "/app/batch.py", "{input}", "{output}"],
        "cases": [{"input": "in", "expected": "out"}],
        "ignore_files": ["*.log"],
        **more,
    }
    return model_of(home, directory, batch=batch)


async def test_a_batch_model(home: Home, base: dagger.Container, tmp_path: Path) -> None:
    image = base.with_new_file("/app/batch.py", BATCH).with_user("10001:10001")
    report = await check(image, batch_of(home, tmp_path / "a", 1.5001, tolerance={"mean": 0.01}))
    assert report.summary() == "1 of 1 output files · each run within 600 s"
    assert [rung.name for rung in report.rungs] == ["starts", "files", "budgets"]

    error = await failure_of(image, batch_of(home, tmp_path / "b", 2.0))
    assert 'out/a.json: "mean" is 1.5, expected 2.0 (exact)' in str(error)

    broken = base.with_new_file("/app/batch.py", "raise SystemExit('no weights')")
    error = await failure_of(broken, batch_of(home, tmp_path / "c", 1.5))
    assert "out: the command ended with exit code 1" in str(error)
    assert "no weights" in error.detail

    slow = base.with_new_file("/app/batch.py", "import time; time.sleep(60)")
    error = await failure_of(slow, batch_of(home, tmp_path / "d", 1.5, within_s=1))
    assert "out: the command took more than 1 s" in str(error)


async def test_golden_cases_in_yaml(home: Home, base: dagger.Container, tmp_path: Path) -> None:
    text = (
        "- {request: {json: {n: 1}}, expected: {json: {double: 2}}}\n\n"
        "- {request: {json: {n: 2}}, expected: {json: {double: 5}}}\n"
    )
    tmp_path.joinpath("golden.yaml").write_text(text)
    error = await failure_of(image_of(base), model_of(home, tmp_path, golden="golden.yaml"))
    assert str(error).endswith('golden.yaml:3: "double" is 4, expected 5 (exact)')
