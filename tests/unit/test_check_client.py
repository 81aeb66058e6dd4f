"""The check's client against a real HTTP server: one that is good, slow, wrong, broken, silent, endless."""

from __future__ import annotations

import ast
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.in_engine import check_client
from pipelines.in_engine.check_http import NoAnswerError, Target
from pipelines.in_engine.check_rung import MOST_SILENT, Context

ROOT = Path(__file__).parents[2]


class Handler(BaseHTTPRequestHandler):
    """Doubles a number; each other path misbehaves in its own way."""

    server: Model

    def do_GET(self) -> None:
        healthy = time.monotonic() >= self.server.healthy_at
        self.answer(200 if healthy else 503, b'{"status": "loading"}')

    def do_POST(self) -> None:
        self.server.asked += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path:
            case "/predict":
                self.answer(200, json.dumps({"value": json.loads(body)["value"] * 2, "took": 0.1}).encode())
            case "/echo":
                self.answer(
                    200, json.dumps({"type": self.headers["Content-Type"], "size": len(body)}).encode()
                )
            case "/refused":
                self.answer(422, b'{"error": "no value"}')
            case "/form":
                self.answer(200, json.dumps(parts_of(self.headers["Content-Type"], body)).encode())
            case "/reversed":
                self.answer(200, body[::-1])
            case "/counted":
                self.answer(200, json.dumps({"value": 1, "count": self.server.asked}).encode())
            case "/error":
                self.answer(500, b'{"error": "out of memory"}')
            case "/closed":
                self.connection.shutdown(socket.SHUT_RDWR)
            case "/garbage":
                self.wfile.write(b"\x00\x01\x02 nothing like HTTP\r\n\r\n")
            case "/short":
                self.answer(200, b"{}", length=10)
            case "/silent":
                self.server.ended.wait(10)
            case "/trickle":
                self.trickle()
            case "/endless":
                self.endless()

    def answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def trickle(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ended.wait(0.05):
                self.wfile.write(b" ")

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ended.is_set():
                self.wfile.write(b" " * 65536)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


def parts_of(media_type: str, body: bytes) -> dict[str, tuple[str | None, str, int]]:
    """Each field's file name, type and size, as Python's own mail parser reads a form."""
    message = message_from_bytes(b"Content-Type: " + media_type.encode() + b"\r\n\r\n" + body)
    found = {}
    for part in message.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            name = part.get_param("name", header="content-disposition")
            found[str(name)] = (part.get_filename(), part.get_content_type(), len(content))
    return found


class Model(ThreadingHTTPServer):
    daemon_threads = True
    healthy_at = 0.0
    asked = 0

    def __init__(self) -> None:
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def model() -> Iterator[Model]:
    server = Model()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def plan(files: Path, port: int, **more: object) -> dict[str, Any]:
    base = {
        "host": "127.0.0.1",
        "port": port,
        "health": "/healthz",
        "path": "/predict",
        "start_timeout_s": 0.4,
        "request_timeout_s": 0.4,
        "files": str(files),
        "climb": [key for key in ("golden", "record") if key in more],
    }
    return {**base, **more}


def golden(files: Path, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    files.joinpath("golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"file": "golden.jsonl", "tolerance": {}, "ignore": [], **more}


def case(value: object, expected: object, path: str = "/predict") -> dict[str, Any]:
    return {"request": {"path": path, "json": {"value": value}}, "expected": {"json": {"value": expected}}}


def climb(files: Path, port: int, **more: object) -> dict[str, Any]:
    return check_client.climb(Context.of(plan(files, port, **more)))


def test_the_ladder(model: Model, tmp_path: Path) -> None:
    report = climb(tmp_path, model.server_port, golden=golden(tmp_path, case(1, 2), case(2, 4)))
    assert report["ok"]
    assert [rung["name"] for rung in report["rungs"]] == ["starts", "healthy", "golden"]
    assert (report["rungs"][2]["passed"], report["rungs"][2]["total"]) == (2, 2)
    assert report["rungs"][2]["cases"] == [[1, ""], [2, ""]]


def test_one_case_alone(model: Model, tmp_path: Path) -> None:
    section = golden(tmp_path, case(1, 2), case(2, 5), case(3, 6), only=[3])
    rung = climb(tmp_path, model.server_port, golden=section)["rungs"][-1]
    assert (rung["ok"], rung["total"], model.asked) == (True, 1, 1)


def test_cases_that_stand_in_the_plan(model: Model, tmp_path: Path) -> None:
    """Those of a YAML file, which the client can't read; its body files are beside it all the same."""
    tmp_path.joinpath("golden").mkdir()
    tmp_path.joinpath("golden/x.bin").write_bytes(b"123")
    echo = {"request": {"path": "/echo", "body_file": "x.bin"}, "expected": {"json": {"size": 3}}}
    section = {
        "file": "golden/cases.yaml",
        "cases": [[2, case(1, 3)], [9, echo]],
        "tolerance": {},
        "ignore": [],
    }
    rung = climb(tmp_path, model.server_port, golden=section)["rungs"][-1]
    assert [failure["line"] for failure in rung["failures"]] == [2]


def test_a_status_class_and_its_body(model: Model, tmp_path: Path) -> None:
    def refused(status: object, **expected: Any) -> dict[str, Any]:
        return {"request": {"path": "/refused", "json": {}}, "expected": {"status": status, **expected}}

    good = [refused("4xx"), refused(422), refused("4xx", json={"error": "no value"})]
    assert climb(tmp_path, model.server_port, golden=golden(tmp_path, *good))["ok"]
    bad = [
        case(1, 2, "/error") | {"expected": {"status": "4xx"}},
        refused("5xx"),
        refused("4xx", json={"x": 1}),
    ]
    rung = climb(tmp_path, model.server_port, golden=golden(tmp_path, *bad))["rungs"][-1]
    said = [failure["messages"][0] for failure in rung["failures"]]
    assert said[0].startswith("status is 500, expected 4xx;")
    assert said[1].startswith("status is 422, expected 5xx;")
    assert said[2] == '"x" is missing, expected 1'


def test_a_form_with_a_file(model: Model, tmp_path: Path) -> None:
    tmp_path.joinpath("cat.png").write_bytes(b"\x89PNG\r\n")
    form = {"image": {"file": "cat.png"}, "threshold": "0.5"}
    line = {
        "request": {"path": "/form", "multipart": form},
        "expected": {"json": {"image": ["cat.png", "image/png", 6], "threshold": [None, "text/plain", 3]}},
    }
    report = climb(tmp_path, model.server_port, golden=golden(tmp_path, line))
    assert report["ok"], report


def test_an_answer_that_is_a_file(model: Model, tmp_path: Path) -> None:
    tmp_path.joinpath("in.bin").write_bytes(b"\x00\x01")
    tmp_path.joinpath("out.bin").write_bytes(b"\x01\x00")
    tmp_path.joinpath("other.bin").write_bytes(b"\x01\x01")
    request = {"path": "/reversed", "body_file": "in.bin"}
    lines = [{"request": request, "expected": {"body_file": name}} for name in ("out.bin", "other.bin")]
    rung = climb(tmp_path, model.server_port, golden=golden(tmp_path, *lines))["rungs"][-1]
    assert [failure["line"] for failure in rung["failures"]] == [2]
    assert rung["failures"][0]["messages"] == ['the answer differs from byte 1 on from "other.bin"']


def test_answers_for_a_record(model: Model, tmp_path: Path) -> None:
    counted = {"request": {"path": "/counted", "json": 1}, "expected": {"json": {"value": 1, "count": 0}}}
    lines = [case(1, 2), case(2, 5), case(1, 1, "/error"), counted, case(1, 1, "/closed")]
    section = golden(tmp_path, *lines)
    report = climb(tmp_path, model.server_port, record=section)
    assert report["ok"]
    changed = {one["line"]: one for one in report["rungs"][-1]["changed"]}
    assert sorted(changed) == [2, 3, 4, 5]
    assert json.loads(changed[2]["body"])["value"] == 4
    assert "the model failed (status 500)" in changed[3]["refused"]
    assert "differ from each other" in changed[4]["refused"]
    assert "connection" in changed[5]["refused"]


def test_what_no_case_looks_at_may_differ_between_two_answers_of_a_record(
    model: Model, tmp_path: Path
) -> None:
    ignored = {"request": {"path": "/counted", "json": 1}, "expected": {"json": {"value": 7, "count": 0}}}
    section = golden(tmp_path, case(1, 7, "/counted"), ignored | {"ignore": ["count"]})
    changed = climb(tmp_path, model.server_port, record=section)["rungs"][-1]["changed"]
    assert [json.loads(one["body"])["value"] for one in changed] == [1, 1]


def test_a_wrong_answer_is_told_with_its_line(model: Model, tmp_path: Path) -> None:
    report = climb(tmp_path, model.server_port, golden=golden(tmp_path, case(1, 2), case(2, 5), case(3, 7)))
    rung = report["rungs"][-1]
    assert not report["ok"]
    assert (rung["detail"], [failure["line"] for failure in rung["failures"]]) == (
        "1 of 3 golden cases",
        [2, 3],
    )
    assert rung["failures"][0]["messages"] == ['"value" is 4, expected 5 (exact)']


def test_a_failed_rung_is_the_last(model: Model, tmp_path: Path) -> None:
    model.healthy_at = time.monotonic() + 60
    report = climb(tmp_path, model.server_port, golden=golden(tmp_path, case(1, 2)))
    assert [(rung["name"], rung["ok"]) for rung in report["rungs"]] == [("starts", True), ("healthy", False)]
    assert "503" in report["rungs"][1]["detail"]
    assert "loading" in report["rungs"][1]["detail"]


def test_health_is_waited_for(model: Model, tmp_path: Path) -> None:
    model.healthy_at = time.monotonic() + 0.25
    assert climb(tmp_path, model.server_port, start_timeout_s=5.0)["ok"]


def test_a_closed_port(tmp_path: Path) -> None:
    began = time.monotonic()
    report = climb(tmp_path, free_port())
    assert [rung["name"] for rung in report["rungs"]] == ["starts"]
    assert "did not open within 0.4 s" in report["rungs"][0]["detail"]
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/error", "status is 500, expected 200"),
        ("/closed", "the connection"),
        ("/garbage", "the answer is not HTTP"),
        ("/short", "the answer ended early"),
        ("/silent", "no whole answer within 0.4 s"),
        ("/trickle", "no whole answer within 0.4 s"),
    ],
)
def test_a_model_that_misbehaves(model: Model, tmp_path: Path, path: str, said: str) -> None:
    report = climb(tmp_path, model.server_port, golden=golden(tmp_path, case(1, 2, path)))
    assert said in report["rungs"][-1]["failures"][0]["messages"][0]


def test_an_endless_answer_is_cut_off(model: Model) -> None:
    target = Target("127.0.0.1", model.server_port, 10, largest=1 << 20)
    with pytest.raises(NoAnswerError, match="larger than 1 MB"):
        target.ask("POST", "/endless", body=b"")


def test_a_model_that_stopped_answering_is_not_asked_for_ever(model: Model, tmp_path: Path) -> None:
    cases = [case(n, n, "/silent") for n in range(10)]
    report = climb(tmp_path, model.server_port, golden=golden(tmp_path, *cases), request_timeout_s=0.1)
    assert report["rungs"][-1]["not_asked"] == 10 - MOST_SILENT
    assert model.asked == MOST_SILENT


def test_bodies_from_files_and_as_text(model: Model, tmp_path: Path) -> None:
    tmp_path.joinpath("x.bin").write_bytes(b"\x00" * 77)
    lines = [
        {
            "request": {"path": "/echo", "body_file": "x.bin"},
            "expected": {"json": {"type": "application/octet-stream", "size": 77}},
        },
        {
            "request": {"path": "/echo", "text": "ä", "headers": {"Content-Type": "text/x"}},
            "expected": {"json": {"type": "text/x", "size": 2}},
        },
    ]
    assert climb(tmp_path, model.server_port, golden=golden(tmp_path, *lines))["ok"]


def test_the_program_prints_one_line_and_says_by_its_exit_code(model: Model, tmp_path: Path) -> None:
    for expected, code in ((2, 0), (3, 1)):
        content = plan(tmp_path, model.server_port, golden=golden(tmp_path, case(1, expected)))
        tmp_path.joinpath("plan.json").write_text(json.dumps(content))
        command = [
            sys.executable,
            "-B",
            "-m",
            "pipelines.in_engine.check_client",
            str(tmp_path / "plan.json"),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == code
        assert json.loads(done.stdout)["ok"] is (code == 0)
        assert done.stdout.count("\n") == 1


def test_what_is_told_stays_small(model: Model, tmp_path: Path) -> None:
    line = {
        "request": {"json": {"value": 1}},
        "expected": {"json": {f"{'k' * 500}{n}": "x" * 500 for n in range(50)}},
    }
    report = climb(tmp_path, model.server_port, golden=golden(tmp_path, *[line] * 100))
    assert len(json.dumps(report)) < 80_000  # an engine keeps the last 100 kB
    assert report["rungs"][-1]["failures"][0]["more"] == 45


LATER = {
    "file_digest",
    "removeprefix",
    "removesuffix",
    "is_relative_to",
    "with_stem",
    "bit_count",
    "pairwise",
}
"""Names of the standard library that Python 3.8 has not; told by vermin, which found no other."""


@pytest.mark.parametrize(
    "file", sorted((ROOT / "pipelines/in_engine").glob("*.py")), ids=lambda file: file.stem
)
def test_the_programs_are_python_3_8_with_the_standard_library_only(file: Path) -> None:
    """A tools image may have an old Python; they ran on 3.8.18; this holds syntax, imports and some names."""
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    nodes = list(ast.walk(tree))
    imported = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    others = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    own = "pipelines.in_engine.check_" if file.stem.startswith("check_") else "pipelines.in_engine"
    assert all(name.startswith(own) for name in others), others
    assert not LATER & {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    named = {(node.func.id, key.arg) for node in nodes if isinstance(node, ast.Call)
             if isinstance(node.func, ast.Name) for key in node.keywords}  # fmt: skip
    assert ("zip", "strict") not in named


class Gateway(BaseHTTPRequestHandler):
    """Ends after its first answer, like a model behind a route whose other end answers for it."""

    def do_POST(self) -> None:
        self.send_response(502)
        self.send_header("Content-Length", "0")
        self.end_headers()
        assert isinstance(self.server, ThreadingHTTPServer)
        self.server.socket.close()

    def log_message(self, *args: object) -> None:
        pass


def test_a_model_that_ended_beats_the_status_that_was_answered_for_it(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    target = Target("127.0.0.1", server.server_port, 2)
    with pytest.raises(NoAnswerError, match="the model ended: its port does not open any more"):
        target.ask("POST", "/predict", (), b"{}")
    thread.join()
    server.server_close()


def test_a_port_that_never_opened_is_no_model_that_ended() -> None:
    with pytest.raises(NoAnswerError, match="no connection"):
        Target("127.0.0.1", free_port(), 1).ask("GET", "/healthz")
