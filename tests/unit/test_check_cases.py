"""Golden and evaluation files: what a line may say, and what a wrong one is told."""

from __future__ import annotations

import json
import re

import pytest

from pipelines.in_engine.check_cases import LineError, golden_cases


def golden(*lines: object) -> str:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)


def test_the_short_form() -> None:
    (case,) = golden_cases(
        golden({"request": {"json": {"text": "ä"}}, "expected": {"json": {"a": 1}}}), "/predict"
    )
    assert (case.request.method, case.request.path) == ("POST", "/predict")
    assert case.request.body == '{"text": "ä"}'.encode()
    assert case.request.headers == (("Content-Type", "application/json"),)
    assert (case.expected.status, case.expected.json) == (200, {"a": 1})


def test_everything_said() -> None:
    line = {
        "name": "one",
        "request": {
            "method": "PUT",
            "path": "/a?b=c",
            "body_file": "x/y.bin",
            "headers": {"content-type": "image/png"},
        },
        "expected": {"status": 404, "text": "no", "headers": {"X": "y"}},
        "tolerance": {"a": 0.5, "b.c": {"relative": 0.1}},
        "ignore": ["took"],
    }
    (case,) = golden_cases(golden(line), "/predict")
    assert case.request.body_file == "x/y.bin"
    assert case.request.headers == (("content-type", "image/png"),)
    assert case.tolerance == {"a": (0.5, 0.0), "b.c": (0.0, 0.1)}
    assert (case.expected.text, case.expected.headers, case.ignore) == ("no", (("X", "y"),), ("took",))


def test_a_request_without_body_is_a_get() -> None:
    (case,) = golden_cases(golden({"request": {"path": "/"}, "expected": {}}), "/predict")
    assert (case.request.method, case.request.body) == ("GET", None)


def test_lines_are_counted_with_the_empty_ones() -> None:
    good = {"request": {}, "expected": {}}
    assert [case.line for case in golden_cases(golden("", good, "  ", good, ""), "/p")] == [2, 4]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes (column 2)"),
        ("[]", "the line is a list, not an object"),
        ('{"request": {}, "request": {}}', '"request" stands there twice'),
        ('{"request": {"json": NaN}, "expected": {}}', "NaN is no JSON number"),
        ({"request": {}}, '"expected" is missing'),
        ({"expected": {}}, '"request" is missing'),
        ({"request": {}, "expected": {}, "tolerence": {}}, 'unknown key "tolerence" in a golden case'),
        ({"request": {"body": 1}, "expected": {}}, 'unknown key "body" in "request"'),
        ({"request": {"json": 1, "text": "x"}, "expected": {}}, 'both "json" and "text"'),
        ({"request": {"method": "get"}, "expected": {}}, '"get" is no HTTP method'),
        ({"request": {"path": "predict"}, "expected": {}}, "not the path of a URL"),
        ({"request": {"path": "/a b"}, "expected": {}}, "not the path of a URL"),
        ({"request": {"path": "/ä"}, "expected": {}}, "not the path of a URL"),
        ({"request": {"body_file": "../x"}, "expected": {}}, "not a path below this file's directory"),
        ({"request": {"body_file": "/etc/passwd"}, "expected": {}}, "not a path below"),
        ({"request": {"headers": {"A": "b\r\nC: d"}}, "expected": {}}, 'the header "A" is not one line'),
        ({"request": {"headers": {"A B": "c"}}, "expected": {}}, 'the header "A B"'),
        ({"request": {}, "expected": {"status": "200"}}, '"status" is "200"'),
        ({"request": {}, "expected": {"status": True}}, '"status" is true'),
        ({"request": {}, "expected": {"status": 999}}, "999 is no HTTP status"),
        ({"request": {}, "expected": {"json": 1, "text": ""}}, 'both "json" and "text"'),
        ({"request": {}, "expected": {}, "tolerance": {"a": -1}}, 'the tolerance of "a"'),
        ({"request": {}, "expected": {}, "tolerance": {"a": "1"}}, 'the tolerance of "a" is a text'),
        ({"request": {}, "expected": {}, "tolerance": {"a": {"abs": 1}}}, 'unknown key "abs"'),
        ({"request": {}, "expected": {}, "ignore": [1]}, '"ignore" is a list of paths'),
        ({"request": {}, "expected": {}, "name": 7}, '"name" is a number, not a text'),
    ],
)
def test_a_wrong_line(line: object, said: str) -> None:
    with pytest.raises(LineError) as caught:
        golden_cases(golden({"request": {}, "expected": {}}, line), "/predict")
    assert said in str(caught.value)
    assert caught.value.line == 2


def test_the_nearest_key_is_named() -> None:
    with pytest.raises(LineError) as caught:
        golden_cases(golden({"request": {}, "expected": {}, "tolerence": {}}), "/predict")
    assert caught.value.hint == 'did you mean "tolerance"?'


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_an_error(text: str) -> None:
    with pytest.raises(LineError, match="no case"):
        golden_cases(text, "/predict")


def test_a_class_of_statuses() -> None:
    [case] = golden_cases('{"request": {}, "expected": {"status": "4xx"}}', "/p")
    assert (case.expected.takes(422), case.expected.takes(500), case.expected.takes(399)) == (
        True,
        False,
        False,
    )
    assert case.expected.shown_status == "4xx"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"multipart": {}}, '"multipart" has no field'),
        ({"multipart": {"a": 1}}, 'the field "a" is a number'),
        ({"multipart": {"a": {"file": "../x"}}}, "not a path below"),
        ({"multipart": {"a": {"fil": "x"}}}, 'unknown key "fil"'),
        ({"multipart": {'a"b': "x"}}, "is no name of a field"),
        ({"multipart": {"a": "x"}, "json": 1}, "has both"),
    ],
)
def test_a_wrong_form(request_: dict[str, object], message: str) -> None:
    with pytest.raises(LineError, match=re.escape(message)):
        golden_cases(json.dumps({"request": request_, "expected": {}}), "/p")


def test_a_name_that_two_cases_have() -> None:
    line = '{"name": "a", "request": {}, "expected": {}}\n'
    with pytest.raises(LineError, match="first in line 1") as caught:
        golden_cases(line * 2, "/p")
    assert caught.value.line == 2


def test_a_file_is_octets_unless_the_request_says_otherwise() -> None:
    [case] = golden_cases('{"request": {"body_file": "a/cat.jpg"}, "expected": {}}', "/p")
    assert case.request.headers == (("Content-Type", "application/octet-stream"),)
