"""Evaluation data of three formats, and the place of every wrong row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.config_quality import Quality
from pipelines.errors import ConfigError
from pipelines.quality_data import Data, read_data

TEMPLATE = {"json": {"text": "{text}"}}


def quality(name: str, **more: Any) -> Quality:
    return Quality.model_validate(
        {"data": name, "metric": "accuracy", "answer": "language", "at_least": 0.5, **more}
    )


def read(tmp_path: Path, name: str, content: str | bytes, **more: Any) -> Data:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_data(tmp_path, quality(name, **more), "/predict", tmp_path / "cache")


def wrong(tmp_path: Path, name: str, content: str | bytes, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, name, content, **more)
    return f"{caught.value} | {caught.value.hint}".replace(f"{tmp_path}/", "")


def test_jsonl_rows_with_their_requests(tmp_path: Path) -> None:
    line = {"request": {"json": {"text": "Hallo"}}, "expected": "de", "name": "greeting"}
    data = read(tmp_path, "rows.jsonl", f"\n{json.dumps(line)}\n")
    (row,) = data.rows
    assert (row.line, row.name, row.expected) == (2, "greeting", "de")
    assert (row.request.method, row.request.path, row.request.body) == (
        "POST",
        "/predict",
        b'{"text": "Hallo"}',
    )


def test_what_the_client_gets_does_not_know_what_is_right(tmp_path: Path) -> None:
    line = {"request": {"json": {"text": "Hallo"}}, "expected": "de"}
    one = read(tmp_path, "rows.jsonl", json.dumps(line))
    other = read(tmp_path, "rows.jsonl", json.dumps({**line, "expected": "nl"}))
    assert one.requests() == other.requests()
    assert json.loads(one.requests()) == {"line": 1, "name": "", "request": line["request"]}


def test_csv_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    text = 'text,language,age\r\n"Ja, ""nein""\nund",de,3\r\nOui,fr,4\r\n'
    template = {"json": {"text": "{text}", "age": "{age:number}", "note": "{age} years, {{so}}"}}
    data = read(tmp_path, "rows.csv", text, request=template, expected="language", slices={"by": "age"})
    assert [row.line for row in data.rows] == [2, 4]
    assert data.expected == ["de", "fr"]
    assert [row.slices for row in data.rows] == [("3",), ("4",)]
    assert data.rows[0].wanted == {"json": {"text": 'Ja, "nein"\nund', "age": 3, "note": "3 years, {so}"}}


def test_parquet_rows_keep_their_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs modelport[metrics]")
    import pyarrow

    table = pyarrow.table({"text": ["Ja", "Oui"], "label": [1, 2], "parts": [[0.5], [1.5, 2.0]]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    template = {"json": {"text": "{text}", "parts": "{parts}"}}
    content = (tmp_path / "rows.parquet").read_bytes()
    data = read(tmp_path, "rows.parquet", content, request=template, expected="label")
    assert data.expected == [1, 2]
    assert data.rows[1].wanted == {"json": {"text": "Oui", "parts": [1.5, 2.0]}}
    # From now on what the file says is known, and pyarrow is not asked.
    (kept,) = (tmp_path / "cache").glob("parquet-*.jsonl")
    kept.write_text('{"text": "kept", "label": 7, "parts": []}\n')
    assert read(tmp_path, "rows.parquet", content, request=template, expected="label").expected == [7]


def test_parquet_rows_that_are_wrong(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs modelport[metrics]")
    import pyarrow

    assert "rows.parquet: not a Parquet file" in wrong(tmp_path, "rows.parquet", b"nonsense")
    table = pyarrow.table({"text": ["Ja", "Oui"], "label": ["de", None], "blob": [b"1", b"2"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    said = wrong(tmp_path, "rows.parquet", content, request=TEMPLATE, expected="label")
    assert 'rows.parquet: row 1: the column "blob" has a value that JSON does not know' in said
    parquet.write_table(table.drop_columns(["blob"]), tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    said = wrong(tmp_path, "rows.parquet", content, request=TEMPLATE, expected="label")
    assert 'rows.parquet: row 2: "label" is null' in said


@pytest.mark.parametrize(
    ("name", "content", "more", "said"),
    [
        ("rows.jsonl", '{"request": {"text": "x"}}', {}, 'rows.jsonl:1: there is no column "expected"'),
        ("rows.jsonl", '\n{"expected": 1}', {}, 'rows.jsonl:2: "request" is missing'),
        ("rows.jsonl", "{", {}, "rows.jsonl:1: not JSON"),
        ("rows.jsonl", "", {}, "rows.jsonl: there is no case in it"),
        (
            "rows.jsonl",
            '{"request": {}, "expectd": 1, "expected": 1}',
            {},
            'rows.jsonl:1: unknown key "expectd"',
        ),
        ("rows.jsonl", '{"request": {"jsn": 1}, "expected": 1}', {}, 'did you mean "json"?'),
        (
            "rows.jsonl",
            '{"request": {}, "expected": 1.5}',
            {},
            'rows.jsonl:1: "expected" is a number; a class is',
        ),
        (
            "rows.jsonl",
            '{"request": {"body_file": "no.png"}, "expected": 1}',
            {},
            "rows.jsonl:1: there is no file",
        ),
        (
            "rows.csv",
            "text,language\nJa\n",
            {"request": TEMPLATE},
            "rows.csv:2: the row has 1 cells, the header 2",
        ),
        (
            "rows.csv",
            "text,text\n",
            {"request": TEMPLATE},
            'rows.csv:1: the column "text" stands there twice',
        ),
        ("rows.csv", 'text,l\n"Ja"x,de\n', {"request": TEMPLATE}, "rows.csv:2: not CSV"),
        (
            "rows.csv",
            "txt,expected\nJa,de\n",
            {"request": TEMPLATE},
            'rows.csv:2: there is no column "text" | did you mean "txt"?',
        ),
        (
            "rows.csv",
            "age,expected\n1,a\nold,b\n",
            {"request": {"json": "{age:number}"}},
            "rows.csv:3: the column \"age\" has 'old', which is no number",
        ),
        (
            "rows.csv",
            "age,expected\n1,high\n",
            {"request": {"json": "{age}"}, "metric": "mae", "at_least": None, "at_most": 1},
            'rows.csv:2: "expected" is a text; the metric needs a number',
        ),
        ("rows.csv", "text,expected\n", {"request": TEMPLATE}, "rows.csv: there is no row in it"),
        ("rows.csv", b"text\n\xff\n", {"request": TEMPLATE}, "rows.csv: the file is not UTF-8 text"),
        (
            "rows.jsonl",
            '{"request": {}, "expected": "a"}',
            {"slices": {"by": "language"}},
            'rows.jsonl:1: there is no column "language"',
        ),
    ],
)
def test_a_wrong_row_is_told_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, more: dict[str, Any], said: str
) -> None:
    assert said in wrong(tmp_path, name, content, **more)


def test_too_many_rows_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.quality_data.MOST_ROWS", 2)
    text = "text,expected\n" + "Ja,de\n" * 3
    assert "it has more than 2 rows" in wrong(tmp_path, "rows.csv", text, request=TEMPLATE)
    monkeypatch.setattr("pipelines.quality_data.LARGEST_FILE", 10)
    assert "the file has more than 0 MB" in wrong(tmp_path, "rows.csv", text, request=TEMPLATE)


def test_a_value_in_a_path_is_encoded(tmp_path: Path) -> None:
    data = read(tmp_path, "rows.csv", "id,expected\na/b c,x\n", request={"path": "/items/{id}"})
    assert data.rows[0].request.path == "/items/a%2Fb%20c"
    assert data.rows[0].request.method == "GET"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"metric": "no such"}, "is not the name of a metric"),
        ({"metric": "my_score"}, "does not know what"),
        ({"metric": "my_score", "answers": "numbers", "at_least": None}, 'needs "at_least" or "at_most"'),
        ({"metric": "mean_squared_error"}, 'takes "at_most", not "at_least"'),
        ({"at_least": None}, 'needs "at_least"'),
        ({"at_most": 1}, "only one of"),
        ({"slices": {"by": "a", "at_most": 1}}, 'take "at_least", not "at_most"'),
        ({"request": {"jsn": 1}}, 'unknown key "jsn"'),
        ({"request": {"json": 1, "text": "x"}}, 'both "json" and "text"'),
        ({"no_worse_than": "yesterday"}, "published"),
    ],
)
def test_sections_that_are_wrong(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        quality("rows.jsonl", **more)


def test_no_worse_than_needs_no_limit() -> None:
    assert quality("rows.jsonl", at_least=None, no_worse_than="published").slices is None
