"""Golden cases in YAML: the same cases as in JSON, with their lines; what is wrong has its line too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.config import load
from pipelines.errors import ConfigError
from pipelines.golden_yaml import yaml_lines
from pipelines.in_engine.check_cases import LineError
from pipelines.stages.check_golden import plan_golden

CASES = """\
# what everyone asks
- name: norwegian
  request: {json: {text: no, since: 2024-01-01, octal: 0o7, time: 12:30}}
  expected:
    json: {language: no, score: 0.99}   # "no" is a language

- request: {text: ""}
  expected: {status: 4xx}
"""


def test_values_are_those_of_json() -> None:
    (line, first), (other, _) = yaml_lines(CASES)
    assert (line, other) == (2, 7)
    assert first == {
        "name": "norwegian",
        "request": {"json": {"text": "no", "since": "2024-01-01", "octal": "0o7", "time": "12:30"}},
        "expected": {"json": {"language": "no", "score": 0.99}},
    }


def test_the_client_gets_the_cases_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "golden.yaml").write_text(CASES)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "modelport.yaml").write_text("name: m\ncheck: {golden: golden.yaml}\n")
    planned = plan_golden(load(tmp_path / "modelport.yaml", {}))
    assert planned is not None
    cases = planned.section["cases"]
    assert [line for line, _ in json.loads(json.dumps(cases))] == [2, 7]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "there is no case"),
        ("[]", 0, "there is no case"),
        ("a: 1", 1, "not a list of cases"),
        ("- request: {}\n- a: 1\n  a: 2", 3, '"a" stands there twice'),
        ("- {a: [}", 1, "not valid YAML"),
        ("- x\n- !!python/object/apply:os.system [ls]", 2, "not a value that JSON knows"),
        ("- 1: 2", 1, 'the key "1" is no text'),
        ("- &a [*a]", 1, "too large"),
        ("- &a [1,1,1,1,1,1,1,1]\n- &b [" + "*a," * 400 + "]\n- [" + "*b," * 400 + "]", 3, "too large"),
    ],
)
def test_what_is_wrong(text: str, line: int, message: str) -> None:
    with pytest.raises(LineError, match=message) as caught:
        yaml_lines(text)
    assert caught.value.line == line


def test_a_wrong_case_is_told_with_its_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "golden.yaml").write_text("- request: {}\n  expected: {}\n- request: {}\n  expectd: {}\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "modelport.yaml").write_text("name: m\ncheck: {golden: golden.yaml}\n")
    with pytest.raises(ConfigError) as caught:
        plan_golden(load(tmp_path / "modelport.yaml", {}))
    assert str(caught.value) == 'golden.yaml:3: unknown key "expectd" in a golden case'
    assert caught.value.hint == 'did you mean "expected"?'
