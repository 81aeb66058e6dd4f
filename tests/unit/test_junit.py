"""JUnit XML of a check: each rung and golden case, skipped ones too, in the form that CI systems read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipelines.config import Check, Model
from pipelines.junit import junit_xml
from pipelines.stages.check_report import CheckReport, Rung

# Jenkins' schema (xunit plugin, junit-10.xsd): each element with its children and its attributes, "!" a must.
SCHEMA: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"testsuite"}, {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        {
            "!name",
            "!tests",
            "!failures",
            "!errors",
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
        },
    ),
    "testcase": (
        {"skipped", "error", "failure", "system-out", "system-err"},
        {"!name", "time", "classname", "group"},
    ),
    "failure": (set(), {"type", "message"}),
    "skipped": (set(), {"type", "message"}),
    "system-out": (set(), set()),
}


def hold_schema(element: ElementTree.Element) -> None:
    children, attributes = SCHEMA[element.tag]
    assert set(element.attrib) <= {name.lstrip("!") for name in attributes}, element.attrib
    assert {name[1:] for name in attributes if name.startswith("!")} <= set(element.attrib)
    for child in element:
        assert child.tag in children, f"<{child.tag}> in <{element.tag}>"
        hold_schema(child)


def golden(passed: int, total: int, not_asked: int = 0, *failures: dict[str, Any]) -> Rung:
    facts = {
        "passed": passed,
        "total": total,
        "not_asked": not_asked,
        "failures": list(failures),
        "cases": [[line, f"case {line}"] for line in range(1, total + 1)],
    }
    return Rung("golden", passed == total, f"{passed} of {total} golden cases", 0.25, facts)


def failure(line: int, message: str) -> dict[str, Any]:
    return {"line": line, "name": f"case {line}", "messages": [message, "and more"], "more": 0}


STARTS = Rung("starts", ok=True, detail="port 8080", seconds=1.5)
GPU = Rung("gpu", ok=True, detail="gpu skipped: no GPU here", skipped=True)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    quality = {"data": "d.jsonl", "metric": "accuracy", "answer": "a", "at_least": 0.5}
    check = Check.model_validate({"golden": "golden.jsonl", "quality": quality})
    return Model(name="langid", directory=tmp_path, file=tmp_path / "modelport.yaml", check=check)


def suite_of(model: Model, *rungs: Rung) -> ElementTree.Element:
    root = ElementTree.fromstring(junit_xml(CheckReport(rungs), model))
    hold_schema(root)
    suite = root.find("testsuite")
    assert suite is not None
    return suite


def test_a_check_that_passed(model: Model) -> None:
    quality = Rung("quality", ok=True, detail="accuracy 0.97 (≥ 0.95)", seconds=0.5)
    suite = suite_of(model, STARTS, GPU, golden(3, 3), quality)
    names = [case.get("name") for case in suite]
    cases = [f"golden.jsonl:{line} case {line}" for line in (1, 2, 3)]
    assert names == ["starts", "gpu", *cases, "quality"]
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")}
    assert counts == {"tests": "6", "failures": "0", "errors": "0", "skipped": "1", "time": "2.250"}
    assert suite.findtext("testcase[@name='quality']/system-out") == "accuracy 0.97 (≥ 0.95)"


def test_a_skipped_rung_is_no_pass(model: Model) -> None:
    skipped = suite_of(model, GPU).find("testcase[@name='gpu']/skipped")
    assert skipped is not None
    assert skipped.get("message") == "gpu skipped: no GPU here"


def test_golden_cases_that_failed_or_were_not_asked(model: Model) -> None:
    rung = golden(1, 4, 1, failure(2, '"a" is "<b>", expected 1'), failure(3, "no answer"))
    suite = suite_of(model, STARTS, Rung("healthy", ok=True, detail="healthy"), rung)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("8", "2", "3")
    assert suite.find("testcase[@name='abuse']/skipped") is not None  # as quality: not reached
    failed = suite.find("testcase[@name='golden.jsonl:2 case 2']/failure")
    assert failed is not None
    assert failed.get("message") == '"a" is "<b>", expected 1'
    assert failed.text == '"a" is "<b>", expected 1\nand more'
    assert suite.find("testcase[@name='golden.jsonl:4 case 4']/skipped") is not None
    assert suite.find("testcase[@name='quality']/skipped") is not None  # not reached


def test_failures_that_are_not_told_one_by_one_are_counted(model: Model) -> None:
    suite = suite_of(model, golden(0, 30, 0, *[failure(n, "x") for n in range(1, 21)]))
    others = suite.find("testcase[@name='others']/failure")
    assert others is not None
    assert others.get("message") == "10 more golden cases failed"


def test_a_rung_that_failed_tells_its_log_whatever_is_in_it(model: Model) -> None:
    rung = Rung("starts", ok=False, detail="it ended \x00\x1b[31m", log="Traceback \x07 ]]> & \ud800 <x>")
    suite = suite_of(model, rung)
    failed = suite.find("testcase[@name='starts']/failure")
    assert failed is not None
    assert failed.get("message") == "it ended \ufffd\ufffd[31m"
    assert failed.text == "Traceback \ufffd ]]> & \ufffd <x>"
