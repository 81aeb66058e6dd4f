"""Golden cases in YAML: a list of cases, each with its line; values as in JSON (YAML 1.2's JSON schema).

Unlike in PyYAML's YAML 1.1, ``no`` is the text "no" (as for Norwegian), and a date is a text.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

from pipelines.in_engine.check_cases import LineError
from pipelines.values import JSON

MOST_NODES = 200_000
_RESOLVERS = (
    ("bool", re.compile(r"(?:true|false)$"), "tf"),
    ("null", re.compile(r"(?:null|~|)$"), ["n", "~", ""]),
    ("int", re.compile(r"-?(0|[1-9][0-9]*)$"), "-0123456789"),
    ("float", re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?$"), "-0123456789"),
)


class _Loader(yaml.SafeLoader):
    """Scalars as JSON has them."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # so PyYAML's own classes do

    def whole_number(self, node: yaml.ScalarNode) -> int:
        return int(node.value)

    def number(self, node: yaml.ScalarNode) -> float:
        return float(node.value)


for _name, _pattern, _starts in _RESOLVERS:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern.pattern})$"), _starts
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)


def yaml_lines(text: str) -> list[tuple[int, JSON]]:
    """The cases with the line that each begins in. Raises LineError."""
    node, loader = _root(text)
    try:
        return [(item.start_mark.line + 1, _value(loader, item)) for item in _items(node)]
    finally:
        loader.dispose()


def yaml_nodes(text: str) -> dict[int, yaml.Node]:
    """The node of each case, by its line. Raises LineError."""
    node, loader = _root(text)
    loader.dispose()
    return {item.start_mark.line + 1: item for item in _items(node)}


def has_aliases(text: str) -> bool:
    """Whether one part of the file stands for another."""
    return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))


def _root(text: str) -> tuple[yaml.Node | None, _Loader]:
    loader = _Loader(text)
    try:
        return loader.get_single_node(), loader
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        said = " ".join(part for part in (err.context, err.problem) if part)
        raise LineError(mark.line + 1 if mark else 0, f"not valid YAML: {said}") from err
    except (yaml.YAMLError, RecursionError) as err:
        raise LineError(0, f"not valid YAML: {err}") from err


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    if node is None:
        raise LineError(0, "there is no case in it", "a list of cases; see docs/check.md")
    if not isinstance(node, yaml.SequenceNode):
        raise LineError(node.start_mark.line + 1, "the file is not a list of cases", "each begins with `- `")
    if not node.value:
        raise LineError(0, "there is no case in it", "a list of cases; see docs/check.md")
    items: list[yaml.Node] = node.value
    return items


def _value(loader: _Loader, item: yaml.Node) -> JSON:
    _hold_sane(item)
    try:
        value: JSON = loader.construct_object(item, deep=True)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or item.start_mark
        raise LineError(mark.line + 1, f"not a value that JSON knows: {err.problem}") from err
    except (ValueError, TypeError, RecursionError) as err:
        raise LineError(item.start_mark.line + 1, f"not a value that JSON knows: {err}") from err
    return value


def _hold_sane(item: yaml.Node) -> None:
    """Refuse a key that is there twice or is no text, and aliases that blow up."""
    stack: list[Any] = [item]  # Any: PyYAML's nodes have no types of their own content
    count = 0
    while stack:
        node = stack.pop()
        count += 1
        if count > MOST_NODES:
            raise LineError(item.start_mark.line + 1, "the case is too large", "use fewer aliases (*name)")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, child in node.value:
                line = key.start_mark.line + 1
                if key.tag != "tag:yaml.org,2002:str":
                    raise LineError(line, f'the key "{key.value}" is no text', "put it in quotes")
                if key.value in seen:
                    raise LineError(line, f'"{key.value}" stands there twice')
                seen.add(key.value)
                stack.append(child)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
