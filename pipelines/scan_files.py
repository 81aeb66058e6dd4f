"""What a scan leaves beside the run record: ``scan.sarif``, whether the release goes on or is blocked."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from pipelines.config import Model, repository_root
from pipelines.record import write_json
from pipelines.sarif import Subject, sarif
from pipelines.stages.scan_report import ScanReport

SARIF: Final = "scan.sarif"


def write_sarif(directory: Path, report: ScanReport, model: Model) -> Path:
    """Write ``report`` as SARIF, atomically; the file."""
    file = directory / SARIF
    write_json(file, sarif(report, subject_of(model)))
    return file


def subject_of(model: Model) -> Subject:
    """``model`` as SARIF names it."""
    root = repository_root(model.directory)
    place = model.directory.resolve().relative_to(root).as_posix()
    try:
        own = version("modelport")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        own = "0+unknown"
    return Subject(model.name, "" if place == "." else place, own)
