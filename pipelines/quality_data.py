"""The rows of evaluation data, read on our side: JSONL, CSV, Parquet; a wrong one is told with its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipelines.config_quality import Quality
from pipelines.errors import ConfigError, Place
from pipelines.in_engine.check_cases import LineError, Request, is_number, kind, request_of, row_objects
from pipelines.quality_table import Answers
from pipelines.quality_template import TemplateError, column, filled

LARGEST_FILE: Final = 64 << 20
MOST_ROWS: Final = 100_000
"""Each is a request; a check with more would take hours, and its answers would not fit in a report."""


@dataclass(frozen=True, slots=True)
class DataRow:
    """One row: what is asked, and what would be right."""

    line: int
    """The line of the file, from 1; of Parquet the row."""
    name: str
    wanted: dict[str, object] = field(repr=False)
    """The request as it is written, for the client."""
    request: Request = field(repr=False)
    expected: object = None
    slices: tuple[str, ...] = ()
    """The values of the columns that slices are made by."""


@dataclass(frozen=True, slots=True)
class Data:
    """All rows of one file."""

    file: Path
    rows: tuple[DataRow, ...]
    texts_only: bool = False
    """CSV: every value is a text, so "3" may stand for 3."""

    @property
    def expected(self) -> list[object]:
        """What would be right, row by row."""
        return [row.expected for row in self.rows]

    def place(self, line: int | None) -> Place:
        """Where a row is; Parquet has no lines."""
        return Place(self.file, line if self.file.suffix != ".parquet" else None)

    def requests(self) -> str:
        """The rows for the client: JSONL, without what would be right: so new labels ask nothing anew."""
        return "".join(
            json.dumps({"line": row.line, "name": row.name, "request": row.wanted}, ensure_ascii=False) + "\n"
            for row in self.rows
        )

    def bodies(self) -> set[str]:
        """The files that are sent, relative to the data file."""
        return {name for row in self.rows for _, name in row.request.named_files()}


def read_data(directory: Path, quality: Quality, path: str, cache: Path) -> Data:
    """The rows of ``quality``'s data. ``path`` is the URL path of requests that name none.

    ``cache`` keeps what Parquet files say, so that pyarrow is imported once for each.

    Raises:
        ConfigError: the file or a row of it is wrong, with its place.
    """
    file = directory / quality.data
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        from pipelines.quality_parquet import parquet_rows  # noqa: PLC0415  only for such files

        found: Iterator[tuple[int, Mapping[str, object]]] = parquet_rows(file, cache)
    else:
        text = _text(file)
        found = _csv(file, text) if suffix == ".csv" else _jsonl(file, text)
    rows: list[DataRow] = []
    for line, row in found:
        if len(rows) == MOST_ROWS:
            raise ConfigError(
                f"it has more than {MOST_ROWS} rows", place=Place(file), hint="check with a sample of them"
            )
        rows.append(_row(file, line, row, quality, path))
    if not rows:
        raise ConfigError("there is no row in it", place=Place(file), hint="see docs/check.md, Quality")
    data = Data(file, tuple(rows), suffix == ".csv")
    _hold_bodies(data)
    return data


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ConfigError(
                f"the file has more than {LARGEST_FILE >> 20} MB",
                place=Place(file),
                hint="check with a sample of it",
            )
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as err:
        raise ConfigError("the file is not UTF-8 text", place=Place(file), hint="save it as UTF-8") from err
    except OSError as err:
        raise ConfigError(
            f"the file can't be read: {err.strerror}", place=Place(file), hint="is it there?"
        ) from err


def _jsonl(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    try:
        yield from row_objects(text)
    except LineError as err:
        raise ConfigError(str(err), place=Place(file, err.line or None), hint=err.hint) from err


def _csv(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    before = 0
    header: list[str] = []
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not header:
                header = _header(file, cells, line)
            elif cells:
                if len(cells) != len(header):
                    raise ConfigError(
                        f"the row has {len(cells)} cells, the header {len(header)}",
                        place=Place(file, line),
                        hint='a comma or a line break in a cell needs "quotes" around it',
                    )
                yield line, dict(zip(header, cells, strict=True))
    except csv.Error as err:
        raise ConfigError(
            f"not CSV: {err}", place=Place(file, before + 1), hint='a quote in a cell is written ""'
        ) from err


def _header(file: Path, cells: list[str], line: int) -> list[str]:
    twins = {name for name in cells if cells.count(name) > 1}
    if twins or not all(cells):
        what = f'the column "{min(twins)}" stands there twice' if twins else "a column has no name"
        raise ConfigError(
            what, place=Place(file, line), hint="the first line of a CSV file names the columns"
        )
    return cells


def _row(file: Path, line: int, row: Mapping[str, object], quality: Quality, path: str) -> DataRow:
    place = Place(file, line if file.suffix.lower() != ".parquet" else None)
    where = f"row {line}: " if place.line is None else ""
    try:
        name = row.get("name")
        wanted = _request(row, quality)
        by = quality.slices.by if quality.slices else ()
        return DataRow(
            line,
            name if isinstance(name, str) else "",
            wanted,
            request_of(line, wanted, path),
            _expected(column(quality.expected, row), quality, texts=file.suffix.lower() == ".csv"),
            tuple(_slice(column(one, row)) for one in by),
        )
    except LineError as err:
        raise ConfigError(f"{where}{err}", place=place, hint=err.hint) from err
    except TemplateError as err:
        raise ConfigError(f"{where}{err}", place=place, hint=err.hint) from err


def _request(row: Mapping[str, object], quality: Quality) -> dict[str, object]:
    if quality.request is not None:
        return filled(quality.request, row)
    by = quality.slices.by if quality.slices else ()
    if "request" not in row:
        raise TemplateError(
            '"request" is missing', 'or say how columns make it: `quality: request: {json: {text: "{text}"}}`'
        )
    known = {"request", "name", quality.expected, *by}
    for key in row:
        if key not in known:
            raise TemplateError(
                f'unknown key "{key}" in a line of evaluation data', f"known are {', '.join(sorted(known))}"
            )
    wanted = row["request"]
    if not isinstance(wanted, dict):
        raise TemplateError(f'"request" is {kind(wanted)}, not an object')
    return wanted


def _slice(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _expected(value: object, quality: Quality, *, texts: bool) -> object:
    """What would be right, as the metric takes it. Raises TemplateError."""
    wanted = quality.compares
    if texts and isinstance(value, str) and wanted in (Answers.NUMBERS, Answers.RANKING):
        value = _read(value)
    problem = not_fit(value, wanted, expected=True)
    if problem:
        raise TemplateError(f'"{quality.expected}" {problem}', f"{quality.metric} compares {wanted}")
    return value


def _read(text: str) -> object:
    """What a cell says, where it is no text."""
    for read in (json.loads, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def not_fit(value: object, wanted: Answers, *, expected: bool) -> str:
    """Why ``value`` is nothing that the metric can compare; "" where it is."""
    if wanted is Answers.CLASSES or (wanted is Answers.SCORES and expected):
        if value is None or isinstance(value, dict | list | float):
            return f"is {kind(value)}; a class is a text, a whole number or true/false"
        return ""
    if wanted is Answers.SCORES and isinstance(value, dict):
        fits = bool(value) and all(is_number(one) for one in value.values())
        return "" if fits else "is an object whose values are not all numbers"
    if wanted is not Answers.RANKING and is_number(value):
        return ""
    if isinstance(value, list) and value and all(is_number(one) for one in value):
        return ""
    what = "a list of numbers" if wanted is Answers.RANKING else "a number"
    return f"is {kind(value)}; the metric needs {what}"


def _hold_bodies(data: Data) -> None:
    seen: set[str] = set()
    for row in data.rows:
        for key, name in row.request.named_files():
            if name not in seen and not (data.file.parent / name).is_file():
                raise ConfigError(
                    f'there is no file "{name}"',
                    place=data.place(row.line),
                    hint=f"{key} is relative to the directory of {data.file.name}",
                )
            seen.add(name)
