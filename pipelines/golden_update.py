"""``modelport check --update``: the golden file with the answers that the model gives now."""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import Model
from pipelines.errors import CheckFailed, ConfigError, Place
from pipelines.golden_text import edits, is_compact, json_span, replaced, yaml_span
from pipelines.golden_values import Change, Recorded, changes
from pipelines.golden_yaml import has_aliases, yaml_lines, yaml_nodes
from pipelines.in_engine.check_cases import Case
from pipelines.stages.check_golden import is_yaml, read_golden
from pipelines.values import JSON

_WIDEST = 400
"""A longer line of the difference is cut: an embedding has thousands of numbers."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a golden file would become. Nothing is written before ``write``."""

    file: Path
    before: str
    after: str
    updated: tuple[str, ...]
    """Cases that get a new answer: `golden.jsonl:7: hello`."""
    refused: tuple[str, ...]
    """Cases whose answer is none to record, and why."""

    def difference(self) -> str:
        """A unified difference; "" where nothing changes. Long lines are cut."""
        name = self.file.name
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=0
        )
        return "\n".join(line if len(line) <= _WIDEST else f"{line[:_WIDEST]}…" for line in lines)

    def write(self) -> None:
        """Replace the file as a whole, with its mode.

        Raises:
            ConfigError: it can't be written, or changed since it was read.
        """
        try:
            if self.file.read_bytes() != self.before.encode("utf-8"):
                raise ConfigError("the file changed while the model was asked", place=Place(self.file))
            _replace(self.file.resolve(), self.after)
        except OSError as err:
            raise ConfigError(f"can't be written: {err.strerror}", place=Place(self.file)) from err


def _replace(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(file.stat().st_mode & 0o7777)
        Path(name).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def update_of(model: Model, told: Sequence[Mapping[str, Any]]) -> Update:
    """The update for what the client ``told`` of the cases whose answers differ.

    Raises:
        ConfigError: the golden file is wrong.
        CheckFailed: it changed since the model was asked.
    """
    file = model.directory / str(model.check.golden)
    before = _text_of(file)
    cases = {case.line: case for case in read_golden(model)[0]}
    text = _Text(file, before)
    updated, refused = [], []
    for one in told:
        where = f"{_shown(file)}:{one['line']}" + (f": {one['name']}" if one["name"] else "")
        case = cases.get(one["line"])
        if case is None:
            raise CheckFailed("the file changed while the model was asked", place=Place(file))
        if why := one.get("refused") or text.why_not(case):
            refused.append(f"{where}: {why}")
            continue
        found = changes(case, text.written[case.line], recorded(one), _tolerances(model), model.check.ignore)
        if not found:
            refused.append(f"{where}: {'; '.join(one['messages'][:1])}: write it by hand")
            continue
        text.change(case.line, found)
        updated.append(where)
    return Update(file, before, text.after(), tuple(updated), tuple(refused))


def recorded(told: Mapping[str, Any]) -> Recorded:
    """An answer as the client tells it."""
    try:
        value: JSON = json.loads(told["body"])
        is_json = True
    except ValueError:
        value, is_json = None, False
    return Recorded(told["status"], value, is_json, told["body"], told["headers"])


class _Text:
    """The text of a golden file under change."""

    def __init__(self, file: Path, text: str) -> None:
        self._text = text
        self._yaml = is_yaml(file)
        self._edits: list[Any] = []  # Any: spans with their new texts, as golden_text has them
        self._aliases = self._yaml and has_aliases(text)
        if self._yaml:
            self._nodes = yaml_nodes(text)
            self.written: dict[int, JSON] = dict(yaml_lines(text))
        else:
            self._starts = _line_starts(text)
            self.written = {
                number: json.loads(line)
                for number, line in enumerate(text.split("\n"), start=1)
                if line.strip()
            }

    def why_not(self, case: Case) -> str:
        """Why the case can't be written by a program; "" if it can."""
        if self._aliases:
            return (
                "the file has aliases (*name), and what one stands for may be used elsewhere: edit it by hand"
            )
        if case.expected.body_file is not None:
            return f"the answer is compared with {case.expected.body_file}: put the new one there"
        return ""

    def change(self, line: int, found: Sequence[Change]) -> None:
        if self._yaml:
            self._edits += edits(yaml_span(self._nodes[line]), found, compact=False)
            return
        start = self._starts[line]
        compact = is_compact(self._text[start : self._starts.get(line + 1, len(self._text))])
        self._edits += edits(json_span(self._text, start), found, compact=compact)

    def after(self) -> str:
        """The new text, which reads as what was meant."""
        return replaced(self._text, self._edits)


def _line_starts(text: str) -> dict[int, int]:
    starts, place = {}, 0
    for number, line in enumerate(text.split("\n"), start=1):
        starts[number] = place
        place += len(line) + 1
    return starts


def _tolerances(model: Model) -> dict[str, tuple[float, float]]:
    return {path: (one.absolute, one.relative) for path, one in model.check.tolerance.items()}


def _text_of(file: Path) -> str:
    """With its line ends as they are."""
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise CheckFailed("the file changed while the model was asked", place=Place(file)) from err


def _shown(file: Path) -> str:
    return str(Place(file))
