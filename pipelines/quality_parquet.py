"""The rows of a Parquet file, kept as JSONL beside the runs: pyarrow is imported once for each file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pipelines.errors import ConfigError, Place
from pipelines.quality_memo import replace_file

LARGEST: Final = 256 << 20
"""Bytes of the file, unpacked."""
_BATCH: Final = 1000


def parquet_rows(file: Path, cache: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """The rows with their number, from 1. Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as err:
        raise ConfigError(
            f"the file can't be read: {err.strerror}", place=Place(file), hint="is it there?"
        ) from err
    kept = cache / f"parquet-{digest}.jsonl"
    if not kept.exists():
        replace_file(kept, "".join(_lines(file)))
    with kept.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield number, json.loads(line)


def _lines(file: Path) -> Iterator[str]:
    parquet, error = _pyarrow(file)
    try:
        opened = parquet.ParquetFile(file)
        _hold_size(file, opened.metadata)
        number = 0
        for batch in opened.iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield _line(file, number, row)
    except (error, OSError) as err:
        raise ConfigError(f"not a Parquet file: {str(err)[:200]}", place=Place(file)) from err


def _line(file: Path, number: int, row: dict[str, object]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        what = "a number that is not finite"
    except TypeError as err:
        what = f"a value that JSON does not know ({str(err).split(' is ')[0]})"
    bad = next((name for name, value in row.items() if not _plain(value)), "?")
    raise ConfigError(
        f'row {number}: the column "{bad}" has {what}',
        place=Place(file),
        hint="leave the column out, or save it as text or numbers",
    )


def _plain(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _hold_size(file: Path, metadata: Any) -> None:  # Any: pyarrow has no types
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if size > LARGEST:
        raise ConfigError(
            f"it has {size >> 20} MB unpacked, more than {LARGEST >> 20} MB",
            place=Place(file),
            hint="check with a sample of it, and without columns that no request needs",
        )


def _pyarrow(file: Path) -> tuple[Any, type[Exception]]:
    try:
        parquet = import_module("pyarrow.parquet")  # an extra, without types
    except ImportError as err:
        raise ConfigError(
            "a Parquet file is read by pyarrow, which is not installed",
            place=Place(file),
            hint="pip install 'modelport[metrics]'",
        ) from err
    return parquet, import_module("pyarrow").ArrowException
