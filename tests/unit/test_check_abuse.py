"""Hostile requests and load against small servers of several tempers; the schema's judgement of answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pipelines.config import Check, Model
from pipelines.config_abuse import Abuse, AbuseOrNot, Attack
from pipelines.config_schema_check import SchemaCheck
from pipelines.in_engine.check_abuse import abuse
from pipelines.in_engine.check_attacks import ATTACKS, NAMES, json_object
from pipelines.in_engine.check_cases import Request
from pipelines.in_engine.check_load import budgets
from pipelines.in_engine.check_rung import Context
from pipelines.in_engine.check_schema import pack, schema
from pipelines.schema_conformance import judged
from pipelines.stages.check_abuse import plan_abuse
from pipelines.stages.check_budgets import plan_budgets

GOOD = {"name": "good", "request": {"json": {"text": "a"}}, "expected": {"json": {"length": 1}}}


class Robust(BaseHTTPRequestHandler):
    """Takes {"text": "..."}; refuses all else."""

    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self) -> None:
        self.say(200 if self.path == "/healthz" else 404)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/predict" or not length.isdigit() or len(length) > 7:
            self.close_connection = True
            self.say(404 if self.path != "/predict" else 413)
            return
        body = self.rfile.read(int(length))
        try:
            text = json.loads(body)["text"]
            self.say(200, {"length": len(text.encode())})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.say(self.bad(body))

    def bad(self, body: bytes) -> int:
        """The status of a bad request."""
        return 400

    def say(self, status: int, value: dict[str, Any] | None = None) -> None:
        data = json.dumps(value or {}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


class Failing(Robust):
    def bad(self, body: bytes) -> int:
        return 500 if body == b"{" else 400


class Hanging(Robust):
    def bad(self, body: bytes) -> int:
        if body == b"{":
            time.sleep(1)
        return 400


class Dropping(Robust):
    def bad(self, body: bytes) -> int:
        if body == b"{":
            raise ConnectionAbortedError
        return 400


class Broken(Robust):
    """After a bad request nothing is as it was."""

    broken = False

    def do_GET(self) -> None:
        self.say(503 if Broken.broken else 200)

    def bad(self, body: bytes) -> int:
        Broken.broken = True
        return 400


class Lenient(Robust):
    def bad(self, body: bytes) -> int:
        return 200


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving(handler: type[Robust]) -> Iterator[int]:
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def context(port: int, directory: Path, *cases: dict[str, Any], **sections: Any) -> Context:
    (directory / "golden.jsonl").write_text("".join(json.dumps(one) + "\n" for one in cases or (GOOD,)))
    golden = {"file": "golden.jsonl", "tolerance": {}, "ignore": []}
    plan = {
        "host": "127.0.0.1",
        "port": port,
        "health": "/healthz",
        "path": "/predict",
        "files": str(directory),
    }
    times = {"start_timeout_s": 5, "request_timeout_s": 5}
    return Context.of({**plan, **times, "golden": golden, **sections})


def attacked(handler: type[Robust], directory: Path, **section: Any) -> dict[str, Any]:
    wanted = Abuse(**{"huge_mb": 1, "concurrent": 8, **section}).model_dump(mode="json")
    with serving(handler) as port:
        return abuse(context(port, directory, abuse=wanted))


def only(*names: Attack) -> dict[str, Any]:
    return {"skip": tuple(name for name in NAMES if name not in names)}


def test_a_robust_server_outlives_all(tmp_path: Path) -> None:
    told = attacked(Robust, tmp_path)
    assert told["ok"], told["detail"]
    assert [one["name"] for one in told["attacks"]] == list(NAMES)
    assert all(one["sent"] for one in told["attacks"])
    assert told["good_request"] == "golden.jsonl:1"


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (Failing, "malformed: a brace: status is 500"),
        (Hanging, "malformed: a brace: no whole answer within 0.4 s"),
        (Dropping, "malformed: a brace: the connection was closed without an answer"),
    ],
)
def test_what_no_model_may_do(handler: type[Robust], said: str, tmp_path: Path) -> None:
    told = attacked(handler, tmp_path, within_s=0.4, **only("malformed"))
    assert not told["ok"] and said in told["detail"]
    assert told["attacks"][0]["messages"] == [told["detail"].removeprefix("malformed: ")]


def test_the_attack_that_a_model_does_not_outlive_is_the_last(tmp_path: Path) -> None:
    told = attacked(Broken, tmp_path, **only("malformed", "wrong_types"))
    assert told["detail"].startswith(
        "malformed: the model does not answer after it: GET /healthz is answered with 503"
    )
    assert len(told["attacks"]) == 1


def test_taking_what_is_bad_is_wrong_only_where_it_has_to_be_refused(tmp_path: Path) -> None:
    assert attacked(Lenient, tmp_path, **only("malformed"))["ok"]
    told = attacked(Lenient, tmp_path, refused=("malformed",), **only("malformed"))
    assert "status is 200, expected 400 to 499" in told["detail"]


def test_attacks_are_made_of_the_good_request() -> None:
    request = Request("POST", "/predict", (("X-Key", "k"),), b'{"a": 1, "b": "x"}')
    shots = ATTACKS["missing_fields"](request, {})
    assert [json_object(one.request) for one in shots][2:] == [{"b": "x"}, {"a": 1}]
    assert all(("X-Key", "k") in one.request.headers and one.request.path == "/predict" for one in shots)
    types = {one.name for one in ATTACKS["wrong_types"](request, {})}
    assert '"a" is "text"' in types and '"a" is 0' not in types


def test_the_names_of_the_section_are_those_of_the_client() -> None:
    assert set(NAMES) == set(Attack.__args__)  # type: ignore[attr-defined]


def test_the_section_is_on_or_off() -> None:
    adapter: TypeAdapter[Abuse | None] = TypeAdapter(AbuseOrNot)
    assert adapter.validate_python(True) == Abuse()
    assert adapter.validate_python(False) is None
    with pytest.raises(ValidationError):
        adapter.validate_python({"skip": ["nonsense"]})


LOAD = {
    "concurrency": 4,
    "requests": 40,
    "seconds": 5,
    "warmup": 1,
    "errors": 0,
    "figures": ["p50_ms", "p95_ms"],
}


def test_latencies_of_a_load(tmp_path: Path) -> None:
    with serving(Robust) as port:
        told = budgets(context(port, tmp_path, load=LOAD))
    assert told["ok"] and told["load"]["requests"] == 40 and told["load"]["errors"] == 0
    assert 0 < told["figures"]["p50_ms"] <= told["figures"]["p95_ms"] < 5000


def test_errors_under_load_fail(tmp_path: Path) -> None:
    wrong = {"request": {"json": {"text": 3}}, "expected": {}}
    with serving(Robust) as port:
        told = budgets(context(port, tmp_path, GOOD, wrong, load=LOAD))
    assert not told["ok"] and told["detail"] == "20 of 40 requests under load failed"
    assert told["failures"][0]["line"] == 2
    assert told["failures"][0]["messages"] == ["status is 400, expected 200"]


def test_a_load_ends_with_its_time(tmp_path: Path) -> None:
    with serving(Robust) as port:
        told = budgets(context(port, tmp_path, load={**LOAD, "requests": 10**6, "seconds": 0.2}))
    assert told["ok"] and told["load"]["seconds"] < 2


def test_without_a_good_request_latencies_are_not_measured(tmp_path: Path) -> None:
    bad = {"request": {"json": {}}, "expected": {"status": 400}}
    with serving(Robust) as port:
        told = budgets(context(port, tmp_path, bad, load=LOAD))
    assert told["figures"] == {} and "no golden case" in told["not_measured"]["p95_ms"]


def test_without_the_runner_memory_is_not_measured(tmp_path: Path) -> None:
    with serving(Robust) as port:
        section = {**LOAD, "figures": ["memory_mb"], "runner_port": 9}
        told = budgets(context(port, tmp_path, load=section))
    assert told["figures"] == {} and "python3" in told["not_measured"]["memory_mb"]


def model_of(directory: Path, **check: Any) -> Model:
    return Model(
        name="m", directory=directory, file=directory / "modelport.yaml", check=Check.model_validate(check)
    )


def test_limits_are_no_part_of_what_is_asked(tmp_path: Path) -> None:
    one, other = (plan_budgets(model_of(tmp_path, budgets={"p95_ms": limit})) for limit in (5, 50))
    assert one is not None and one == other
    assert plan_abuse(model_of(tmp_path, abuse=False)) is None


def test_answers_are_packed_and_judged(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    answer = {"type": "object", "properties": {"length": {"type": "integer"}}, "required": ["length"]}
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    section = SchemaCheck(answer="answer.json")
    with serving(Robust) as port:
        told = schema(context(port, tmp_path, GOOD, schema={"openapi": None, "most": 5}))
    model = model_of(tmp_path, schema={"answer": "answer.json"})
    for _ in range(2):  # the second time as it was judged before
        verdict = judged(told, model, section)
        assert (verdict.checked, verdict.failures, verdict.problems) == (1, (), ())
    answer["properties"]["length"]["type"] = "string"  # type: ignore[index]
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (failure,) = judged(told, model, section).failures
    assert failure["messages"] == [
        "the answer of POST /predict does not conform: \"length\": 1 is not of type 'string'"
    ]


def test_a_document_that_is_not_there_is_told(tmp_path: Path) -> None:
    with serving(Robust) as port:
        told = schema(context(port, tmp_path, schema={"openapi": "/openapi.json", "most": 5}))
    assert not told["ok"] and "GET /openapi.json is answered with status 404" in told["detail"]


def test_a_document_that_is_no_json_is_told(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    told = {"document": pack("<html>"), "answers": pack("[]")}
    verdict = judged(told, model_of(tmp_path), SchemaCheck(openapi="/openapi.json"))
    assert "is not JSON" in verdict.problems[0]


@pytest.mark.parametrize("section", [{}, {"openapi": "/a", "file": "b"}, {"openapi": "a"}])
def test_a_schema_has_one_source(section: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SchemaCheck.model_validate(section)
