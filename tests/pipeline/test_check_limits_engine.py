"""Schema, budgets and abuse on the embedded engine: a model that keeps them, and degraded copies of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dagger
import pytest
from dagger import dag
from test_check_engine import Home, base, connected, failure_of, home, model_of  # noqa: F401  # fixtures too

from pipelines.config import Model
from pipelines.published import Published
from pipelines.stages.check import check
from pipelines.stages.check_report import CheckReport, Rung
from pipelines.statements import GateVerdict, Result

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.registry]

SERVE = """
import json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
BALLAST = bytearray(b"x") * (int(os.environ.get("BALLAST_MB", "0")) * 1_000_000)
SLOW_S, FRAGILE = float(os.environ.get("SLOW_S", "0")), os.environ.get("FRAGILE", "")
DOCUMENT = json.loads(open("openapi.json").read())
class Model(BaseHTTPRequestHandler):
    timeout = 20
    def do_GET(self):
        found = {"/healthz": {"status": "ok"}, "/openapi.json": DOCUMENT}
        self.say(200, found[self.path]) if self.path in found else self.say(404, {})
    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if self.path != "/predict":
            return self.say(404, {})
        if not length.isdigit() or len(length) > 9 or int(length) > 1_000_000:
            self.close_connection = True
            return self.say(413, {})
        try:
            n = json.loads(self.rfile.read(int(length)))["n"]
            if type(n) is not int or n > 10**6:
                raise TypeError(n)
        except (ValueError, TypeError, KeyError):
            return self.say(500, {"error": "oh"}) if FRAGILE == "500" else self.say(400, {})
        except RecursionError:
            os._exit(11) if FRAGILE == "exit" else self.say(400, {})
        else:
            if n % 5 == 0:  # one path is slow
                time.sleep(SLOW_S)
            self.say(200, {"double": n * 2})
    def say(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass
ThreadingHTTPServer.request_queue_size = 64
ThreadingHTTPServer(("", 8080), Model).serve_forever()
"""


def document(*, double: str = "integer", more: tuple[str, ...] = ()) -> dict[str, Any]:
    """The OpenAPI document of the model."""
    answer = {"type": "object", "properties": {"double": {"type": double}}, "required": ["double"]}
    for name in more:
        answer["properties"][name] = {"type": "string"}  # type: ignore[index]
    ask = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    post = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": ask}}},
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": answer}}}},
    }
    info = {"title": "m", "version": "1"}
    return {"openapi": "3.1.0", "info": info, "paths": {"/predict": {"post": post}}}


def image_of(base: dagger.Container, openapi: dict[str, Any] | None = None, **env: str) -> dagger.Container:  # noqa: F811
    image = base.with_new_file("/app/serve.py", SERVE).with_workdir("/app").with_user("10001:10001")
    image = image.with_new_file("/app/openapi.json", json.dumps(openapi or document()))
    for name, value in env.items():
        image = image.with_env_variable(name, value)
    return image.with_default_args(["python", "serve.py"])


def cases(home: Home, directory: Path, **check: Any) -> Model:  # noqa: F811
    """A model of ten cases, every fifth of which is on the slow path."""
    wanted = [{"request": {"json": {"n": n}}, "expected": {"json": {"double": 2 * n}}} for n in range(1, 11)]
    return model_of(home, directory, *wanted, **{"abuse": False, **check})


def rung_of(report: CheckReport, name: str) -> Rung:
    return next(rung for rung in report.rungs if rung.name == name)


LOAD = {"concurrency": 2, "requests": 60, "seconds": 10}
GENEROUS = {"cold_start_s": 60, "p50_ms": 2000, "p95_ms": 5000, "memory_mb": 2000, "load": LOAD}


async def test_all_of_it_holds_and_again_without_running_anything(
    home: Home,  # noqa: F811
    base: dagger.Container,  # noqa: F811
    tmp_path: Path,
) -> None:
    section: dict[str, Any] = {"budgets": GENEROUS, "abuse": True, "schema": {"openapi": "/openapi.json"}}
    report = await check(image_of(base), cases(home, tmp_path, **section))
    figures = rung_of(report, "budgets").facts["figures"]
    assert set(figures) == {"cold_start_s", "p50_ms", "p95_ms", "memory_mb"}
    assert 0 < figures["p50_ms"] <= figures["p95_ms"]
    assert 5 < figures["memory_mb"] < 200  # a small Python server
    attacks = rung_of(report, "abuse").facts["attacks"]
    assert len(attacks) == 14 and all(one["ok"] and one["sent"] for one in attacks)
    assert rung_of(report, "schema").detail == "schema valid · 10 answers conform"

    home.events.write_text("")
    async with connected(home, tmp_path):
        tighter = {**section, "budgets": {**GENEROUS, "p95_ms": 4000}}  # a limit is no question
        again = await check(image_of(dag.container().from_(home.base)), cases(home, tmp_path, **tighter))
    assert rung_of(again, "budgets").facts["figures"] == figures
    assert home.executed() == []


async def test_a_slow_path_is_caught_by_its_budget(
    home: Home,  # noqa: F811
    base: dagger.Container,  # noqa: F811
    tmp_path: Path,
) -> None:
    model = cases(home, tmp_path, budgets={"p50_ms": 150, "p95_ms": 150, "load": LOAD})
    error = await failure_of(image_of(base, SLOW_S="0.4"), model)
    assert re.search(r"modelport\.yaml: p95 4\d\d ms is above its limit of 150$", str(error))
    assert "60 requests, 2 at once" in (error.hint or "")
    rung = rung_of(error.report, "budgets")  # type: ignore[arg-type]  # held by failure_of
    assert rung.facts["notes"] == ["measured twice: p95"]
    assert rung.facts["figures"]["p50_ms"] < 150


async def test_a_model_that_takes_too_much_memory(home: Home, base: dagger.Container, tmp_path: Path) -> None:  # noqa: F811
    model = cases(home, tmp_path, budgets={"memory_mb": 100})
    error = await failure_of(image_of(base, BALLAST_MB="150"), model)
    assert re.search(r"modelport\.yaml: memory 1\d\d MB is above its limit of 100$", str(error))


async def test_without_python_in_the_image_memory_is_not_measured_aloud(
    home: Home,  # noqa: F811
    base: dagger.Container,  # noqa: F811
    tmp_path: Path,
) -> None:
    python = (await base.with_exec(["python3", "-c", "import sys; print(sys.executable)"]).stdout()).strip()
    image = image_of(base).with_env_variable("PATH", "/nowhere").with_default_args([python, "serve.py"])
    error = await failure_of(image, cases(home, tmp_path, budgets={"memory_mb": 2000}))
    assert "memory not measured" in str(error) and "python3" in str(error)
    report = await check(
        image, cases(home, tmp_path, budgets={"memory_mb": 2000, "could_not_measure": "warn"})
    )
    assert "memory not measured" in report.summary()


async def test_a_model_that_ends_under_abuse(home: Home, base: dagger.Container, tmp_path: Path) -> None:  # noqa: F811
    error = await failure_of(image_of(base, FRAGILE="exit"), cases(home, tmp_path, abuse=True))
    assert "deep: the model does not answer after it" in str(error)
    assert str(error).endswith("the model ended during the check, with exit code 11")


async def test_a_model_that_answers_bad_requests_with_500(
    home: Home,  # noqa: F811
    base: dagger.Container,  # noqa: F811
    tmp_path: Path,
) -> None:
    error = await failure_of(image_of(base, FRAGILE="500"), cases(home, tmp_path, abuse=True))
    assert "empty: an empty body, application/json: status is 500" in str(error)
    assert "wrong_types" in (error.detail or "")


async def test_an_answer_that_is_not_as_the_document_says(
    home: Home,  # noqa: F811
    base: dagger.Container,  # noqa: F811
    tmp_path: Path,
) -> None:
    image = image_of(base, document(double="string"))
    error = await failure_of(image, cases(home, tmp_path, schema={"openapi": "/openapi.json"}))
    assert "the answer of POST /predict does not conform: \"double\": 2 is not of type 'string'" in str(error)
    assert error.place is not None and error.place.line == 1


async def test_a_change_that_breaks_callers(home: Home, base: dagger.Container, tmp_path: Path) -> None:  # noqa: F811
    before = {"document": document(more=("unit",)), "sha256": "x"}

    async def published() -> Published | None:
        gate = GateVerdict("check", Result.PASSED, facts={"schema": before})
        unread: Any = None  # neither manifest nor registry is asked
        return Published("m", "", "sha256:1", "latest", {}, {"check": gate}, None, unread, unread, unread)

    section = {"openapi": "/openapi.json", "compare": "published"}
    with pytest.raises(Exception, match="breaking change: POST /predict: 200 unit: was removed") as caught:
        await check(image_of(base), cases(home, tmp_path, schema=section), published)
    assert "latest" in (getattr(caught.value, "hint", "") or "")
    lenient = cases(home, tmp_path, schema={**section, "breaking": "warn"})
    report = await check(image_of(base), lenient, published)
    assert "1 breaking" in rung_of(report, "schema").detail
