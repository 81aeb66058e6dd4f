"""The check's report and its errors: what is said, where, and what to do next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagger
import gql
import pytest
from dagger._exceptions import QueryErrorValue

from pipelines.config import Model, load
from pipelines.errors import CheckFailed, ConfigError
from pipelines.stages.check_failures import check_failed
from pipelines.stages.check_ladder import ended_by_itself, not_started
from pipelines.stages.check_plan import plan_check
from pipelines.stages.check_planned import as_pattern
from pipelines.stages.check_report import CheckReport, Rung, parse_ladder
from pipelines.stages.unit_tests import failure_of, ran_in

GOOD = {"request": {"json": {"n": 1}}, "expected": {"json": {"a": 1}}}


def model_of(directory: Path, check: dict[str, Any], **files: str) -> Model:
    for name, text in {"Dockerfile": "FROM scratch\n", **files}.items():
        directory.joinpath(name.replace("__", ".")).write_text(text)
    directory.joinpath("modelport.yaml").write_text(json.dumps({"name": "m", "check": check}))
    return load(directory / "modelport.yaml", {})


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.chdir(tmp_path)
    quality = {"data": "rows.jsonl", "metric": "accuracy", "answer": "a", "at_least": 0.95}
    rows = json.dumps({"request": {"json": 1}, "expected": "x"})
    check = {"golden": "golden.jsonl", "quality": quality, "unit": None}
    return model_of(tmp_path, check, golden__jsonl=json.dumps(GOOD), rows__jsonl=rows)


def golden(*failures: tuple[int, str], total: int = 24, not_asked: int = 0, name: str = "") -> Rung:
    told = [{"line": line, "name": name, "messages": [message], "more": 0} for line, message in failures]
    passed = total - not_asked - len(failures)
    facts = {"passed": passed, "total": total, "not_asked": not_asked, "failures": told}
    return Rung("golden", not failures, f"{passed} of {total} golden cases", 0.1, facts)


QUALITY = Rung("quality", ok=True, detail="accuracy 0.964 (≥ 0.95)")
STARTS, HEALTHY = Rung("starts", ok=True, detail="port 8080"), Rung("healthy", ok=True, detail="healthy")


def test_the_summary() -> None:
    unit = Rung("unit", ok=True, detail="14 unit tests")
    report = CheckReport((STARTS, HEALTHY, unit, golden(), QUALITY))
    assert report.summary() == "healthy · 14 unit tests · 24 of 24 golden cases · accuracy 0.964 (≥ 0.95)"
    assert report.to_json()["verdict"] == "passed"
    json.dumps(report.to_json())


def test_a_golden_case_that_differs(model: Model) -> None:
    rung = golden((7, '"language" is "nl", expected "af" (exact)'))
    error = check_failed(CheckReport((STARTS, HEALTHY, rung)), model)
    assert str(error) == 'golden.jsonl:7: "language" is "nl", expected "af" (exact)'
    assert "`modelport check . --case 7` repeats it alone; `--update` records the new answer" in error.hint
    assert error.exit_code == 4
    assert isinstance(error.report, CheckReport)


def test_all_golden_cases_that_differ_are_told(model: Model) -> None:
    rung = golden((7, "one"), (9, "two"), not_asked=3, name="hello")
    error = check_failed(CheckReport((rung,)), model)
    assert "(and 1 more of 24 golden cases); 3 were not asked" in str(error)
    assert error.detail == "golden.jsonl:7: hello: one\ngolden.jsonl:9: hello: two"


def test_too_many_differences_are_cut(model: Model) -> None:
    error = check_failed(CheckReport((golden(*[(n, "x") for n in range(1, 16)]),)), model)
    assert error.detail.endswith("and 5 more")


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("status is 500, expected 200; the answer was x", "why, its own log says"),
        ("no whole answer within 30 s", "request_timeout_s"),
        ('"a" is missing, expected 1', "--case 1` repeats it alone"),
    ],
)
def test_hints_of_golden_cases(model: Model, message: str, hint: str) -> None:
    assert hint in check_failed(CheckReport((golden((1, message)),)), model).hint


def test_a_rung_that_tells_its_failure_itself(model: Model) -> None:
    failure = {"line": 3, "name": "", "messages": ['predicted "nl", expected "af"'], "more": 0}
    facts = {"file": "rows.jsonl", "line": 3, "hint": "look at it", "failures": [failure]}
    error = check_failed(CheckReport((STARTS, Rung("quality", False, "accuracy 0.1", facts=facts))), model)
    assert str(error) == "rows.jsonl:3: accuracy 0.1"
    assert error.hint == "look at it"
    assert error.detail == 'rows.jsonl:3: predicted "nl", expected "af"'


def test_a_rung_that_says_nothing_of_its_own(model: Model) -> None:
    error = check_failed(CheckReport((Rung("abuse", False, "it ended", log="killed"),)), model)
    assert str(error) == "modelport.yaml: it ended"
    assert (error.hint, error.detail) == ("see `check: abuse:` in modelport.yaml", "killed")


def test_the_rung_that_was_reached_and_those_that_were_skipped() -> None:
    skipped = Rung("gpu", ok=True, detail="gpu skipped: no GPU here", skipped=True)
    report = CheckReport((STARTS, HEALTHY, skipped, golden((7, "x"))))
    assert report.reached == "healthy"
    assert not skipped.passed
    told = report.to_json()["rungs"]
    assert isinstance(told, list)
    assert [one["ok"] for one in told if isinstance(one, dict)] == [True, True, None, False]
    assert CheckReport((STARTS, skipped)).reached == "starts"
    assert "gpu skipped: no GPU here" in report.summary()


@pytest.mark.parametrize("text", ["", "hello", "[]", "{}", '{"rungs": [1]}', '{"rungs": [{}]}', "null"])
def test_what_is_not_the_clients_answer(text: str) -> None:
    assert parse_ladder(text) is None


def exec_error(command: list[str], code: int, message: str, stderr: str = "") -> dagger.ExecError:
    extensions = {"_type": "EXEC_ERROR", "cmd": command, "exitCode": code, "stdout": "", "stderr": stderr}
    value = QueryErrorValue(message=message, locations=None, path=None, extensions=extensions)
    error = dagger.QueryError([value], gql.gql("{ version }"))
    assert isinstance(error, dagger.ExecError)
    return error


def test_a_model_that_does_not_start(model: Model) -> None:
    log = "Traceback\nModuleNotFoundError: No module named 'numpy'"
    rung = not_started(exec_error(["python", "serve.py"], 1, "start m: exit code: 1", log), model)
    assert rung.detail == "the model ended with exit code 1 instead of serving (`python serve.py`)"
    error = check_failed(CheckReport((rung,)), model)
    assert "No module named 'numpy'" in error.detail
    assert "check: port:" in error.hint


def test_a_port_that_never_opens(model: Model) -> None:
    rung = not_started(exec_error(["python", "serve.py"], -1, "start m: not ready"), model)
    assert rung.detail == "the model did not open port 8080 (`python serve.py`)"


CLIENT = ["python3", "-B", "-m", "pipelines.in_engine.check_client", "plan.json"]


def test_a_model_that_ends_during_the_check(model: Model) -> None:
    rung = not_started(exec_error(CLIENT, 9, "bound service s1 exited: exit code: 9", "killed"), model)
    assert rung.detail == "the model ended during the check, with exit code 9"
    assert rung.log == "killed"


def test_a_tools_image_without_python(model: Model) -> None:
    with pytest.raises(CheckFailed) as caught:
        not_started(exec_error(CLIENT, 1, "exit code: 1", 'exec: "python3": not found'), model)
    assert "tools: image:" in caught.value.hint


# what is read before the build


def test_the_files_a_check_needs(tmp_path: Path) -> None:
    tmp_path.joinpath("data").mkdir()
    tmp_path.joinpath("data/x[1].bin").write_bytes(b"x")
    line = {"request": {"body_file": "x[1].bin"}, "expected": {}}
    tmp_path.joinpath("data/golden.jsonl").write_text(json.dumps(line))
    plan = plan_check(model_of(tmp_path, {"golden": "data/golden.jsonl"}))
    assert plan.files == ("data/golden.jsonl", "data/x[1].bin")
    assert as_pattern(plan.files[1]) == r"data/x\[1\].bin"


def test_a_wrong_line_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "tolerence": {}})
    with pytest.raises(ConfigError) as caught:
        plan_check(model_of(tmp_path, {"golden": "g.jsonl"}, g__jsonl=bad))
    assert str(caught.value) == 'g.jsonl:2: unknown key "tolerence" in a golden case'
    assert caught.value.hint == 'did you mean "tolerance"?'


def test_a_body_file_that_is_not_there(tmp_path: Path) -> None:
    line = json.dumps({"request": {"body_file": "gone.png"}, "expected": {}})
    with pytest.raises(ConfigError, match=r'g\.jsonl:1: there is no file "gone.png"'):
        plan_check(model_of(tmp_path, {"golden": "g.jsonl"}, g__jsonl=line))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    model = model_of(tmp_path, {"golden": "g.jsonl"}, g__jsonl="x")
    tmp_path.joinpath("g.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        plan_check(model)


def test_the_clients_plan_is_stable(model: Model) -> None:
    first, second = plan_check(model).to_client(), plan_check(model).to_client()
    assert first == second
    assert json.loads(first)["golden"]["file"] == "golden.jsonl"
    assert str(model.directory) not in first  # another checkout of the same files is the same check


# unit tests


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("..\n-----\nRan 14 tests in 0.9s\n\nOK", 14),
        ("Ran 1 test in 0.001s\n\nOK", 1),
        ("Ran 0 tests in 0.000s\n\nOK", 0),
        ("===== 3 passed, 1 skipped in 0.12s =====", 3),
        ("1 failed, 5 passed in 2.00s", 6),
        ("all good", None),
    ],
)
def test_how_many_tests_ran(said: str, count: int | None) -> None:
    assert ran_in(said) == count


def test_which_tests_failed() -> None:
    said = "FAIL: test_a (t.T.test_a)\nERROR: test_b (t.T.test_b)\nFAILED t.py::test_c - x\nRan 9 tests in 1s"
    assert failure_of(said, 1) == "unit tests failed: test_a, test_b, t.py::test_c"
    assert failure_of("boom", 2) == "the unit tests' command ended with exit code 2"


def test_a_model_that_ends_under_daggers_engine() -> None:
    def error(message: str) -> dagger.QueryError:
        value = QueryErrorValue(message=message, locations=None, path=None, extensions={})
        return dagger.QueryError([value], gql.gql("{ version }"))

    text = "bound service 6dvp4fa9ri77s (aliased as model) exited: exit code: 137 [traceparent:c93b-dc39]"
    rung = ended_by_itself(error(text))
    assert rung is not None
    assert rung.detail == "the model ended with exit code 137 instead of serving"
    assert ended_by_itself(error("the engine has no disk left")) is None
