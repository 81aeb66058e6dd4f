"""YAML that remembers its lines: what ``modelport.yaml`` says, and where it says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import ConfigError, Place

KeyPath = tuple[str | int, ...]

_MOST_NODES = 50_000


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain Python values, with each key's line and each scalar's text."""

    file: Path
    data: dict[str, Any]
    lines: Mapping[KeyPath, int]
    scalars: Mapping[KeyPath, str]

    def place(self, path: KeyPath) -> Place:
        """The line of ``path``, or of the nearest key above it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return Place(self.file, self.lines.get(path, 1))


def read_yaml(file: Path) -> Document:
    """Read one mapping with PyYAML's safe loader.

    Raises:
        ConfigError: unreadable, not YAML, a key twice, not a mapping. An empty file is an empty mapping.
    """
    node, data = _parse(file, _text(file))
    lines: dict[KeyPath, int] = {}
    scalars: dict[KeyPath, str] = {}
    if node is not None:
        for path, child, line in _walk(node):
            lines.setdefault(path, line)
            if isinstance(child, yaml.ScalarNode):
                scalars.setdefault(path, child.value)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            "the file has to be a mapping of keys to values",
            place=Place(file, 1),
            hint="start with `name: …`",
        )
    return Document(file, data, lines, scalars)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        raise ConfigError("not UTF-8 text", place=Place(file, line), hint="save the file as UTF-8") from err
    except OSError as err:
        raise ConfigError(
            f"can't be read: {err.strerror}", place=Place(file), hint="`modelport init` makes one"
        ) from err


def _parse(file: Path, text: str) -> tuple[yaml.Node | None, Any]:
    """The document as nodes and as values."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _hold_sane(file, node)
        return node, None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as err:
        raise _syntax_error(file, err) from err
    except yaml.reader.ReaderError as err:
        line = text[: err.position].count("\n") + 1
        message = f"a character that YAML does not allow (#x{ord(text[err.position]):04x})"
        raise ConfigError(message, place=Place(file, line), hint="remove it") from err
    except (ValueError, RecursionError) as err:
        raise ConfigError(
            f"not valid YAML: {err}", place=Place(file), hint="quote dates and numbers meant as text"
        ) from err
    finally:
        if loader is not None:
            loader.dispose()


def _syntax_error(file: Path, err: yaml.MarkedYAMLError) -> ConfigError:
    mark = err.problem_mark or err.context_mark
    line = mark.line + 1 if mark else None
    text = " ".join(part for part in (err.context, err.problem) if part)
    detail = mark.get_snippet() if mark else None
    hint = "YAML is indented with spaces, and `key: value` needs the space after the colon"
    return ConfigError(f"not valid YAML: {text}", place=Place(file, line), hint=hint, detail=detail or "")


def _hold_sane(file: Path, root: yaml.Node) -> None:
    """Refuse a key that is there twice, and a file that aliases blow up."""
    count, stack = 0, [(root, 0)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > _MOST_NODES or depth > 50:
            place = Place(file, node.start_mark.line + 1)
            raise ConfigError(
                "the file is too large or too deep", place=place, hint="use fewer aliases (*name)"
            )
        _hold_unique(file, node)
        stack.extend((child, depth + 1) for child in reversed(list(_children(node))))


def _hold_unique(file: Path, node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            message = f'the key "{key.value}" is there twice; first in line {seen[key.value]}'
            raise ConfigError(message, place=Place(file, line), hint="keep one of them")
        if isinstance(key, yaml.ScalarNode):
            seen[key.value] = line


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _walk(node: yaml.Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, yaml.Node, int]]:
    """Every value with its key path and line.

    Merge keys (``<<``) are in ``node`` already: the constructor has flattened them, to the front.
    """
    yield path, node, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index))
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # the last one wins: the file's own before a merged one
            name = key.value if isinstance(key, yaml.ScalarNode) else str(key.start_mark.line)
            yield (*path, name), value, key.start_mark.line + 1
            yield from _walk(value, (*path, name))
