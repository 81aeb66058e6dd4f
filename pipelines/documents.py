"""What a stage leaves beside run.json: JUnit XML of a check, SARIF of a scan, the SBOM of an inventory.

They are written whether the stage passed or not, as soon as it has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from pipelines.config import Model
from pipelines.errors import PipelineError
from pipelines.junit import junit_xml
from pipelines.scan_files import write_sarif
from pipelines.stages.check_report import CheckReport
from pipelines.stages.inventory import Inventory
from pipelines.stages.scan_report import ScanReport

T = TypeVar("T")
JUNIT = "junit.xml"


async def with_documents(work: Awaitable[T], directory: Path, model: Model) -> T:
    """``work``, whose report is written to ``directory`` too. Raises what ``work`` raises."""
    try:
        report = await work
    except PipelineError as err:
        write_documents(err.report, directory, model)
        raise
    write_documents(report, directory, model)
    return report


def write_documents(report: object, directory: Path, model: Model) -> None:
    """The documents of ``report``, if it is one that has some."""
    match report:
        case CheckReport():
            (directory / JUNIT).write_text(junit_xml(report, model), "utf-8")
        case ScanReport():
            write_sarif(directory, report, model)
        case Inventory():
            report.write(directory)
