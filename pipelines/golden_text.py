"""Values replaced in the text of a golden file: comments, order and form of all the rest stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]  # typeshed leaves it out

import yaml

from pipelines.golden_values import Change, Path

_SPACE = " \t\r"


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value stands in the text, and where the values in it do."""

    start: int
    end: int
    children: Mapping[str | int, Span] = field(default_factory=dict)

    def at(self, path: Path) -> tuple[Span, Path]:
        """The span of ``path``, or of the nearest above it that is in the text, with the steps left."""
        span = self
        for depth, step in enumerate(path):
            if step not in span.children:
                return span, path[depth:]
            span = span.children[step]
        return span, ()


def replaced(text: str, edits: Sequence[tuple[Span, str]]) -> str:
    """``text`` with each span's new text. No span is part of another one."""
    for span, new in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        gap = (
            " " if span.start == span.end and text[span.start - 1 : span.start] == ":" else ""
        )  # `key:` alone
        text = text[: span.start] + gap + new + text[span.end :]
    return text


def edits(case: Span, found: Sequence[Change], compact: bool) -> list[tuple[Span, str]]:
    """The edits that write ``found`` into the case at ``case``. All of their paths are in the text."""
    made = []
    for change in found:
        span, left = case.at(change.path)
        if left:
            raise ValueError(f"{change.path} is not in the text")
        made.append((span, as_text(change.value, compact=compact)))
    return made


def as_text(value: object, *, compact: bool) -> str:
    """JSON on one line, which is YAML too."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if compact else (", ", ": "))


def is_compact(line: str) -> bool:
    """Whether JSON is written without spaces there."""
    return '":' in line and '": ' not in line


def json_span(text: str, start: int) -> Span:
    """The value that begins at ``start`` (white space before it is no part). ``text`` is JSON there."""
    start = _skip(text, start)
    match text[start]:
        case "{":
            return _object(text, start)
        case "[":
            return _array(text, start)
        case '"':
            return Span(start, scanstring(text, start + 1)[1])
        case _:
            try:
                return Span(start, json.JSONDecoder().raw_decode(text, start)[1])
            except JSONDecodeError as err:  # a file that changed since it was read
                raise ValueError(str(err)) from err


def _object(text: str, start: int) -> Span:
    children: dict[str | int, Span] = {}
    place = _skip(text, start + 1)
    while text[place] != "}":
        key, place = scanstring(text, place + 1)
        child = json_span(text, _skip(text, place) + 1)  # past the colon
        children[key] = child
        place = _next(text, child.end)
    return Span(start, place + 1, children)


def _array(text: str, start: int) -> Span:
    children: dict[str | int, Span] = {}
    place = _skip(text, start + 1)
    while text[place] != "]":
        child = json_span(text, place)
        children[len(children)] = child
        place = _next(text, child.end)
    return Span(start, place + 1, children)


def _next(text: str, place: int) -> int:
    """Past the comma after an item; the closing bracket is not passed."""
    place = _skip(text, place)
    return _skip(text, place + 1) if text[place] == "," else place


def _skip(text: str, place: int) -> int:
    while text[place] in _SPACE:
        place += 1
    return place


def yaml_span(node: yaml.Node) -> Span:
    """The same of a YAML node. A block ends with its last value, so comments after it stay."""
    start, end = node.start_mark.index, node.end_mark.index
    children: dict[str | int, Span] = {}
    if isinstance(node, yaml.MappingNode):
        children = {key.value: yaml_span(value) for key, value in node.value}
    elif isinstance(node, yaml.SequenceNode):
        children = {index: yaml_span(value) for index, value in enumerate(node.value)}
    if children and not getattr(node, "flow_style", False):
        end = max(child.end for child in children.values())
    elif isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        end = _block_end(node)
    return Span(start, end, children)


def _block_end(node: yaml.ScalarNode) -> int:
    """A block text's mark is behind its last line break, which has to stay."""
    buffer = node.end_mark.buffer
    end: int = node.end_mark.index
    if buffer is None:
        return end
    while end > node.start_mark.index and buffer[end - 1] in "\n\r \t":
        end -= 1
    return end
