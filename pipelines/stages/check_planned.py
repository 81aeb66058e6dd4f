"""What a rung asks of the check's client, and how the files that it names are read. Needs no engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pipelines.errors import ConfigError, Place
from pipelines.in_engine.check_cases import Case, LineError
from pipelines.values import JSON

T = TypeVar("T")

FILES = "/modelport/files"
"""Where the client finds the model's files: golden cases, data, bodies."""
LARGEST_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class Planned:
    """One rung's part of the client's plan."""

    key: str
    """The plan's key that asks for the rung."""
    section: Mapping[str, JSON]
    """What the rung reads there. The same for the same configuration: it is part of the cache's key."""
    programs: tuple[str, ...]
    """The modules of ``pipelines.in_engine`` that the rung imports, beside the client's own."""
    files: frozenset[str] = field(default=frozenset())
    """What the client needs of the model's directory, relative to it."""
    longest_s: float = 0.0
    """An upper bound of the rung's time, should every answer take as long as it may."""
    needs: frozenset[str] = field(default=frozenset())
    """Keys of other sections that it reads, with their files: "golden" for requests that are good."""


def read_lines(file: Path, parse: Callable[[str], T], largest: int = LARGEST_FILE) -> T:
    """What ``parse`` makes of the text of ``file``.

    Raises:
        ConfigError: with the file and the line that is wrong.
    """
    try:
        if file.stat().st_size > largest:
            raise ConfigError(
                f"the file has more than {largest >> 20} MB",
                place=Place(file),
                hint="check with fewer cases",
            )
        return parse(file.read_text("utf-8"))
    except LineError as err:
        raise ConfigError(str(err), place=Place(file, err.line or None), hint=err.hint) from err
    except UnicodeDecodeError as err:
        raise ConfigError("the file is not UTF-8 text", place=Place(file), hint="save it as UTF-8") from err
    except OSError as err:
        raise ConfigError(
            f"the file can't be read: {err.strerror}", place=Place(file), hint="is it there?"
        ) from err


def body_files(file: Path, directory: Path, cases: Iterable[Case]) -> frozenset[str]:
    """The files that ``cases`` of ``file`` send or expect, relative to ``directory``.

    Raises:
        ConfigError: one is not there.
    """
    found = set()
    for case in cases:
        for key, name in case.named_files():
            body = file.parent / name
            if not body.is_file():
                raise ConfigError(
                    f'there is no file "{name}"',
                    place=Place(file, case.line),
                    hint=f"{key} is relative to the directory of {file.name}",
                )
            found.add(body.relative_to(directory).as_posix())
    return frozenset(found)


def as_pattern(path: str) -> str:
    """``path`` as a pattern that matches itself only."""
    return re.sub(r"([\\*?\[\]!])", r"\\\1", path)
