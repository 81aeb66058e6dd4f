"""`modelport check --update`: what is written, and all that stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.check_cases_asked import lines_of
from pipelines.config import Model, load
from pipelines.errors import ConfigError, UsageError
from pipelines.golden_update import Update, update_of
from pipelines.stages.check_golden import read_golden


def model_of(directory: Path, text: str, name: str = "golden.jsonl", **check: Any) -> Model:
    directory.joinpath(name).write_bytes(text.encode())
    directory.joinpath("Dockerfile").write_text("FROM scratch\n")
    content = {"name": "m", "check": {"golden": name, **check}}
    directory.joinpath("modelport.yaml").write_text(json.dumps(content))
    return load(directory / "modelport.yaml", {})


def told(line: int, body: object, status: int = 200, **more: Any) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    base = {"line": line, "name": "", "messages": ["x"], "status": status, "body": text, "headers": {}}
    return {**base, **more}


def updated(model: Model, *changed: dict[str, Any]) -> Update:
    update = update_of(model, changed)
    update.write()
    read_golden(model)  # what was written is a golden file
    return update


def test_only_the_value_that_differs_is_written(tmp_path: Path) -> None:
    text = (
        '{"request":  {"json": 1}, "expected": {"json": {"b": 1.0, "a": "x", "c": [{"d": 2}]}}, "name":""}\n'
        "\n"
        '{"request":{"json":2},"expected":{"json":{"é":"ü","deep":{"z":[]}}}}'
    )
    model = model_of(tmp_path, text)
    first = told(1, {"a": "y", "b": 1, "c": [{"d": 3, "new": 0}], "more": 1})
    third = told(3, {"é": "ö", "deep": {"z": [1, 2]}})
    update = updated(model, first, third)
    assert (tmp_path / "golden.jsonl").read_text() == (
        '{"request":  {"json": 1}, "expected": {"json": {"b": 1.0, "a": "y", "c": [{"d": 3}]}}, "name":""}\n'
        "\n"
        '{"request":{"json":2},"expected":{"json":{"é":"ö","deep":{"z":[1,2]}}}}'
    )
    assert [one.rpartition("/")[2] for one in update.updated] == ["golden.jsonl:1", "golden.jsonl:3"]
    assert '+{"request":{"json":2}' in update.difference()
    assert update.difference().startswith("--- a/golden.jsonl\n+++ b/golden.jsonl\n@@ -1 +1 @@")


def test_yaml_keeps_its_comments_and_its_form(tmp_path: Path) -> None:
    text = """\
# the cases that matter
- name: one   # first
  request: {json: 1}
  expected:
    json:
      language: no  # Norwegian
      score: 0.9
    # the end of it
- name: two
  request: {json: 2}
  expected: {json: {a: [1, 2]}, headers: {X: y}}
- name: three
  request: {text: x}
  expected:
    text: |
      one
      two

# last words
"""
    model = model_of(tmp_path, text, "golden.yaml")
    updated(
        model,
        told(2, {"language": "da", "score": 0.9}),
        told(9, {"a": [1, 2, 3]}, headers={"X": "y"}),
        told(12, "three\n"),
    )
    assert (tmp_path / "golden.yaml").read_text() == (
        text.replace("no  #", '"da"  #')
        .replace("{a: [1, 2]}", "{a: [1, 2, 3]}")
        .replace("|\n      one\n      two\n", '"three\\n"\n')
    )


def test_a_number_within_its_tolerance_and_what_is_ignored_stay(tmp_path: Path) -> None:
    line = '{"request": {"json": 1}, "expected": {"json": {"score": 0.5, "label": "a", "took": 3}}}\n'
    model = model_of(tmp_path, line, tolerance={"score": 0.1}, ignore=["took"])
    updated(model, told(1, {"score": 0.55, "label": "b", "took": 9}))
    assert (tmp_path / "golden.jsonl").read_text() == line.replace('"a"', '"b"')


def test_a_key_that_is_gone_and_a_new_status(tmp_path: Path) -> None:
    lines = [
        '{"request": {"json": 1}, "expected": {"json": {"x": {"a": 1, "b": 2}, "y": 0}}}',
        '{"request": {"json": 2}, "expected": {"json": {"a": 1}}}',
        '{"request": {"json": 3}, "expected": {"status": 422}}',
    ]
    model = model_of(tmp_path, "\n".join(lines) + "\n")
    updated(model, told(1, {"x": {"a": 5}, "y": 0}), told(2, {"error": "no"}, 400), told(3, {"a": 1}, 200))
    assert (tmp_path / "golden.jsonl").read_text().splitlines() == [
        '{"request": {"json": 1}, "expected": {"json": {"x": {"a": 5}, "y": 0}}}',
        '{"request": {"json": 2}, "expected": {"status": 400, "json": {"error": "no"}}}',
        '{"request": {"json": 3}, "expected": {"status": 200}}',
    ]


def test_what_is_refused_is_told_and_not_written(tmp_path: Path) -> None:
    line = '{"name": "a", "request": {"json": 1}, "expected": {"json": 1}}\n'
    model = model_of(tmp_path, line)
    update = update_of(model, [{"line": 1, "name": "a", "refused": "the model failed (status 500)"}])
    assert update.updated == ()
    assert update.refused[0].endswith("golden.jsonl:1: a: the model failed (status 500)")
    assert update.difference() == ""


def test_a_file_with_aliases_is_left_alone(tmp_path: Path) -> None:
    text = "- request: &r {json: 1}\n  expected: {json: 1}\n- request: *r\n  expected: {json: 2}\n"
    model = model_of(tmp_path, text, "golden.yaml")
    assert "aliases" in update_of(model, [told(1, 5)]).refused[0]


def test_line_ends_and_the_mode_stay(tmp_path: Path) -> None:
    line = '{"request": {"json": 1}, "expected": {"json": 1}}\r\n'
    model = model_of(tmp_path, line * 2)
    file = tmp_path / "golden.jsonl"
    file.chmod(0o640)
    updated(model, told(2, 7))
    assert file.read_bytes() == (line + line.replace('"json": 1}}', '"json": 7}}')).encode()
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["Dockerfile", "golden.jsonl", "modelport.yaml"]


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    line = '{"request": {"json": 1}, "expected": {"json": 1}}\n'
    model = model_of(tmp_path, line)
    update = update_of(model, [told(1, 2)])
    (tmp_path / "golden.jsonl").write_text(line + line)
    with pytest.raises(ConfigError, match="changed while"):
        update.write()
    assert (tmp_path / "golden.jsonl").read_text() == line + line


def test_which_case_is_meant(tmp_path: Path) -> None:
    line = '{"name": "%s", "request": {}, "expected": {}}\n'
    model = model_of(tmp_path, line % "german" + "\n" + line % "2")
    assert lines_of(model, "german") == (1,)
    assert lines_of(model, "3") == (3,)
    assert lines_of(model, "2") == (3,)  # a name comes before a line
    with pytest.raises(UsageError, match="no golden case") as caught:
        lines_of(model, "germn")
    assert caught.value.hint == 'did you mean "german"?'
