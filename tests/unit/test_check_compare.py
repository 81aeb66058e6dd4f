"""Answers against what was expected: which differences are told, and in which words."""

from __future__ import annotations

import json
import math

import pytest

from pipelines.in_engine.check_cases import Case, golden_cases
from pipelines.in_engine.check_compare import case_differences, close, differences
from pipelines.in_engine.check_http import Answer


@pytest.mark.parametrize(
    ("expected", "actual", "said"),
    [
        ({"language": "af"}, {"language": "nl"}, '"language" is "nl", expected "af" (exact)'),
        ({"a": 1}, {}, '"a" is missing, expected 1'),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, '"a.b.1" is 3, expected 2 (exact)'),
        ({"a": [1, 2]}, {"a": [1]}, '"a" has 1 item, expected 2'),
        ({"a": 1}, {"a": "1"}, '"a" is "1" (a text), expected 1 (a number)'),
        ({"a": 1}, {"a": True}, '"a" is true, expected 1 (a number)'),
        ({"a": None}, {"a": 0}, '"a" is 0 (a number), expected null'),
        ({"a": {}}, {"a": []}, '"a" is [] (a list), expected {} (an object)'),
        ([1], {"a": 1}, 'the answer is {"a": 1} (an object), expected [1] (a list)'),
        ({"a": 0.1}, {"a": 0.2}, '"a" is 0.2, expected 0.1 (exact)'),
        ({"a": "ä"}, {"a": "a"}, '"a" is "a", expected "ä" (exact)'),
    ],
)
def test_a_difference_in_words(expected: object, actual: object, said: str) -> None:
    assert differences(expected, actual, {}) == [said]


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 1, "new": 2}),
        ({"a": 1}, {"a": 1.0}),
        ({}, {"a": 1}),
        ([], []),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}),
        ({"a": 10**400}, {"a": 10**400}),
        (None, None),
    ],
)
def test_no_difference(expected: object, actual: object) -> None:
    assert differences(expected, actual, {}) == []


def test_every_difference_is_told() -> None:
    assert len(differences({"a": 1, "b": [1, 2], "c": 3}, {"a": 2, "b": [0], "c": 3}, {})) == 3


def test_a_tolerance_holds_for_its_path_and_below_and_the_longest_wins() -> None:
    tolerances = {"v": (0.1, 0.0), "v.0": (0.0, 0.0), "w.*.s": (0.5, 0.0)}
    expected = {"v": [1.0, 1.0], "w": [{"s": 1.0, "t": 1.0}]}
    assert differences(expected, {"v": [1.0, 1.09], "w": [{"s": 1.4, "t": 1.0}]}, tolerances) == []
    assert differences(expected, {"v": [1.09, 1.0], "w": [{"s": 1.0, "t": 1.1}]}, tolerances) == [
        '"v.0" is 1.09, expected 1.0 (exact)',
        '"w.0.t" is 1.1, expected 1.0 (exact)',
    ]


def test_the_tolerance_is_told() -> None:
    assert differences({"score": 0.75}, {"score": 0.61}, {"score": (0.01, 0.0)}) == [
        '"score" is 0.61, expected 0.75 ± 0.01'
    ]
    assert differences({"s": 200}, {"s": 100}, {"s": (0.0, 0.05)}) == ['"s" is 100, expected 200 ± 5 %']


def test_a_tolerance_does_not_make_a_text_a_number() -> None:
    assert differences({"a": 1}, {"a": "1"}, {"a": (9.0, 0.0)}) != []


def test_ignored_paths_are_not_compared() -> None:
    assert differences({"took": 1, "a": {"took": 2}}, {"took": 5, "a": {}}, {}, ["took", "a.took"]) == []
    assert differences({"a": {"took": 2}}, {"a": {"took": 3}}, {}, ["took"]) != []


@pytest.mark.parametrize(
    ("expected", "actual", "absolute", "relative", "is_close"),
    [
        (0.75, 0.76, 0.01, 0.0, True),  # the gap is 0.010000000000000009
        (0.75, 0.7601, 0.01, 0.0, False),
        (100.0, 101.0, 0.0, 0.01, True),
        (0.0, 1e-9, 0.0, 0.01, False),
        (-100.0, -101.0, 0.0, 0.01, True),
        (1.0, math.inf, 1e9, 0.0, False),
        (1.0, math.nan, 1e9, 0.0, False),
        (10**400, 1.5, 1.0, 0.5, False),
        (1, 1.0, 0.0, 0.0, True),
    ],
)
def test_close(expected: float, actual: float, absolute: float, relative: float, is_close: bool) -> None:
    assert close(expected, actual, absolute, relative) is is_close


def case_of(**expected: object) -> Case:
    line = json.dumps({"request": {"json": {}}, "expected": expected})
    return golden_cases(line, "/predict")[0]


def test_status_comes_first_with_what_was_said() -> None:
    answer = Answer(500, b'{"error": "out of memory"}')
    (said,) = case_differences(case_of(json={"a": 1}), answer, {}, [])
    assert said.startswith("status is 500, expected 200; the answer was")
    assert "out of memory" in said


def test_text_headers_and_json() -> None:
    case = case_of(text="pong", headers={"X-Model": "a"})
    assert case_differences(case, Answer(200, b"pong", (("x-model", "a"),)), {}, []) == []
    assert len(case_differences(case, Answer(200, b"ping"), {}, [])) == 2


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_an_answer_that_is_no_json(body: bytes) -> None:
    (said,) = case_differences(case_of(json={"a": 1}), Answer(200, body), {}, [])
    assert said.startswith("the answer is not JSON")
    assert len(said) < 300


def test_the_case_is_more_exact_than_the_configuration() -> None:
    line = {"request": {"json": {}}, "expected": {"json": {"a": 1.0}}, "tolerance": {"a": 0.001}}
    (case,) = golden_cases(json.dumps(line), "/predict")
    assert case_differences(case, Answer(200, b'{"a": 1.05}'), {"a": (0.1, 0.0)}, []) != []
