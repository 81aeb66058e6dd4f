"""A check's report as JUnit XML, the form that CI systems read (Jenkins' and Surefire's schema).

One suite for the check; each rung is a test case, and each golden case of its own where the rung names them.
A skipped rung is <skipped>, never a pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from pipelines.config import Model
    from pipelines.stages.check_report import CheckReport, Rung

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0, production 2: whatever else a model's log holds would make the file unreadable."""
_LADDER = ("starts", "healthy", "schema", "golden", "quality", "budgets", "abuse")


def junit_xml(report: CheckReport, model: Model) -> str:
    """The document, with its declaration. The same report gives the same text."""
    check = f"{model.name}.check"
    suite = ElementTree.Element("testsuite", name=check)
    for rung in report.rungs:
        if rung.name == "golden" and rung.facts.get("cases"):
            _golden(suite, rung, check, model.check.golden or "golden")
        else:
            _rung(suite, rung, check)
    for name in _not_reached(report, model):
        case = ElementTree.SubElement(suite, "testcase", classname=check, name=name, time="0.000")
        ElementTree.SubElement(case, "skipped", message="not reached: an earlier rung failed")
    kinds = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}
    kinds["skipped"] = "testcase/skipped"
    counts = {key: str(len(suite.findall(path))) for key, path in kinds.items()}
    seconds = f"{sum(rung.seconds for rung in report.rungs):.3f}"
    suite.attrib.update(counts, time=seconds)
    root = ElementTree.Element("testsuites", {"name": check, "time": seconds, **_without_skipped(counts)})
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _without_skipped(counts: Mapping[str, str]) -> dict[str, str]:
    """The schema's root has no such attribute."""
    return {key: count for key, count in counts.items() if key != "skipped"}


def _rung(suite: ElementTree.Element, rung: Rung, check: str) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=check, name=rung.name, time=f"{rung.seconds:.3f}"
    )
    if rung.skipped:
        ElementTree.SubElement(case, "skipped", message=_clean(rung.detail))
    elif not rung.ok:
        told = [_failure_text(failure) for failure in rung.facts.get("failures") or []]
        _failed(case, rung.detail, "\n".join([*told, rung.log]).strip())
    else:
        ElementTree.SubElement(case, "system-out").text = _clean(rung.summary())


def _golden(suite: ElementTree.Element, rung: Rung, check: str, file: str) -> None:
    """A test case for each golden case; where more failed than are told one by one, for the rest too."""
    failed = {failure["line"]: failure for failure in rung.facts["failures"]}
    cases = rung.facts["cases"]
    asked = rung.facts["total"] - rung.facts["not_asked"]
    untold = rung.facts["total"] - rung.facts["not_asked"] - rung.facts["passed"] - len(failed)
    for number, (line, name) in enumerate(cases):
        title = f"{file}:{line}" + (f" {name}" if name else "")
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"{check}.golden", name=_clean(title), time="0.000"
        )
        if line in failed:
            _failed(case, failed[line]["messages"][0], "\n".join(failed[line]["messages"]))
        elif number >= asked:
            ElementTree.SubElement(case, "skipped", message="not asked: the model had stopped answering")
    if untold > 0:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"{check}.golden", name="others", time="0.000"
        )
        _failed(case, f"{untold} more golden cases failed", "")


def _failure_text(failure: Mapping[str, Any]) -> str:
    where = f"line {failure['line']}: " if failure.get("line") else ""
    name = f"{failure['name']}: " if failure.get("name") else ""
    return "\n".join(f"{where}{name}{message}" for message in failure.get("messages", ()))


def _failed(case: ElementTree.Element, message: str, text: str) -> None:
    failure = ElementTree.SubElement(case, "failure", type="CheckFailed", message=_clean(message))
    failure.text = _clean(text)


def _not_reached(report: CheckReport, model: Model) -> list[str]:
    """The rungs that were asked for and not climbed, for one before them failed."""
    if report.failed is None or model.check.batch is not None:
        return []
    check = model.check
    wanted = {
        "starts": True,
        "healthy": True,
        "schema": check.schema_,
        "golden": check.golden,
        "quality": check.quality,
        "budgets": check.budgets,
        "abuse": check.abuse,
    }
    climbed = {rung.name for rung in report.rungs}
    return [name for name in _LADDER if wanted[name] and name not in climbed]


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
