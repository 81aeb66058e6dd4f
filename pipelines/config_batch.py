"""The section ``check: batch:``: a model without a server, which makes files out of files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from pipelines.config_check_paths import below
from pipelines.config_tolerance import Tolerances
from pipelines.config_values import NamedDirectory, NamedPath, Section, problem


def _absolute(path: str) -> str:
    clean = PurePosixPath(path)
    if not clean.is_absolute() or ".." in clean.parts or len(clean.parts) < 2:  # "/" and a name
        raise problem("path", f'"{path}" is not an absolute path in the image', "like /modelport/output")
    return str(clean)


ImagePath = Annotated[str, AfterValidator(_absolute)]


class BatchCase(Section):
    """Input that is handed to the model, and the files that it has to make of it."""

    name: str = ""
    """What an error says; without it the name of the directory with the expected files."""
    input: Annotated[NamedPath, AfterValidator(below)]
    """A file or a directory; its content is what stands at `batch: input:`."""
    expected: Annotated[NamedDirectory, AfterValidator(below)]
    """A directory with the expected files: JSON, JSONL and CSV by value, text by line, all others by byte."""


class Batch(Section):
    """A command that reads files and writes files, run in the image; no port is opened then."""

    command: tuple[str, ...] = Field(min_length=1)
    """Run in the image's working directory, as its user; {input} and {output} stand for the two paths."""
    cases: tuple[BatchCase, ...] = Field(min_length=1)
    """Each is one run of the command."""
    input: ImagePath = "/modelport/input"
    """Where a case's input is in the image, read-only."""
    output: ImagePath = "/modelport/output"
    """The directory that the command writes to; empty when it starts."""
    tolerance: Tolerances = Field(default_factory=dict)
    """How far numbers may be off, at a path of a JSON file or in a column of a CSV file."""
    ignore: tuple[str, ...] = ()
    """Paths of JSON files and columns of CSV files that are not compared."""
    ignore_files: tuple[str, ...] = ()
    """Globs of output files that are not compared, like "*.log"."""
    within_s: float = Field(default=600.0, gt=0, le=86_400, allow_inf_nan=False)
    """How long one run of the command may take, in seconds."""

    @model_validator(mode="after")
    def _apart(self) -> Batch:
        one, other = PurePosixPath(self.input), PurePosixPath(self.output)
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise problem("path", f'"{self.input}" and "{self.output}" are not apart from each other')
        return self
