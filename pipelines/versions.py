"""Versions as tags write them, of PEP 440 and of SemVer 2.0.0, in one order; and which tags are versions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from packaging.version import InvalidVersion, Version

Order: TypeAlias = tuple[Any, ...]
"""How versions compare. (Any: tuples in tuples, of one shape; only compared with each other.)"""

_VERSION = re.compile(r"v?(?P<version>(?P<release>\d+\.\d+(\.\d+)*)(?P<rest>[-+._a-zA-Z0-9]*))", re.ASCII)
_SEMVER_REST = re.compile(r"-(?P<pre>[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
_COUNTED = re.compile(r"(a|alpha|b|beta|c|rc|pre|preview|dev)(\d+)")
_POST = re.compile(r"-post", re.IGNORECASE)

_PHASES: Final = {"a": "alpha", "b": "beta", "rc": "rc"}
"""The pre-releases of PEP 440 in its normal form, as words that SemVer sorts in the same order."""
_DEV, _PRE, _FINAL = 0, 1, 2
_NONE: Final = -1
_NO_DEV: Final = float("inf")


@dataclass(frozen=True, slots=True)
class ParsedVersion:
    """A version as it is written, and how it compares."""

    text: str
    order: Order
    release: tuple[int, ...]
    """(1, 2, 0); at least three numbers."""
    is_final: bool
    """Not a pre-release: 1.2.0, not 1.2.0-rc.1. A post release is final."""

    @classmethod
    def parse(cls, text: str) -> ParsedVersion | None:
        """``text`` as a version, or None. ``v1`` or ``2024`` alone is not: it needs major and minor.

        A hyphen begins SemVer's pre-release, compared as SemVer item 11 has it; ``-post1`` is PEP 440's post
        release, and a counted word (``-rc10``) compares by its number, as PEP 440 has it. What follows a "+"
        does not count: SemVer ignores build metadata, and PEP 440's local versions are of the same release.
        """
        found = _VERSION.fullmatch(text)
        if found is None:
            return None
        numbers = tuple(int(number) for number in found["release"].split("."))
        order = _semver(numbers, found["rest"]) or _pep440(found["version"])
        if order is None:
            return None
        return cls(found["version"], order, (*numbers, 0, 0)[: max(3, len(numbers))], _is_final(order))

    @classmethod
    def of_tag(cls, tag: str) -> ParsedVersion | None:
        """The version that a registry's tag says; there the "+" of a version is written "_"."""
        return cls.parse(tag) or cls.parse(tag.replace("_", "+", 1))


def _semver(numbers: tuple[int, ...], rest: str) -> Order | None:
    """The order of a SemVer pre-release; None for anything else."""
    found = _SEMVER_REST.fullmatch(rest)
    if found is None or _POST.match(rest):
        return None
    identifiers = tuple(one for text in found["pre"].split(".") for one in _identifier(text))
    return (_without_zeros(numbers), _PRE, identifiers, _NONE, _NO_DEV)


def _identifier(text: str) -> tuple[tuple[int, int, str], ...]:
    """SemVer item 11.4: numbers by value and before words, words by their ASCII letters."""
    if text.isdigit():
        return ((0, int(text), ""),)
    counted = _COUNTED.fullmatch(text)
    return ((1, 0, counted[1]), (0, int(counted[2]), "")) if counted else ((1, 0, text),)


def _pep440(text: str) -> Order | None:
    """The order of a PEP 440 version ("Summary of permitted suffixes and relative ordering")."""
    try:
        version = Version(text)
    except InvalidVersion:
        return None
    stage, identifiers = _FINAL, ()
    if version.pre is not None:
        word, number = version.pre
        return _order(version, _PRE, ((1, 0, _PHASES[word]), (0, number, "")))
    if version.dev is not None and version.post is None:
        stage = _DEV
    return _order(version, stage, identifiers)


def _order(version: Version, stage: int, identifiers: tuple[tuple[int, int, str], ...]) -> Order:
    post = _NONE if version.post is None else version.post
    dev = _NO_DEV if version.dev is None else version.dev
    return (_without_zeros(version.release), stage, identifiers, post, dev)


def _without_zeros(release: tuple[int, ...]) -> tuple[int, ...]:
    """1.2 and 1.2.0 are the same."""
    end = len(release)
    while end and not release[end - 1]:
        end -= 1
    return release[:end]


def _is_final(order: Order) -> bool:
    _, stage, _, _, dev = order
    return bool(stage == _FINAL and dev == _NO_DEV)


def version_of_tag(model_name: str, tag: str) -> ParsedVersion | None:
    """The version that ``tag`` gives to a model: ``v1.2.0``, ``name-v1.2.0``, ``name/1.2.0``; else None."""
    return ParsedVersion.parse(_own(model_name, tag) or tag)


def _own(model_name: str, tag: str) -> str | None:
    """The rest of a tag that begins with the model's name."""
    for separator in ("-", "/", "@", "_"):
        if tag.startswith(model_name + separator):
            return tag.removeprefix(model_name + separator)
    return None


def highest(model_name: str, tags: Iterable[str]) -> str | None:
    """The highest version among ``tags`` for a model: its own tags count before those without a name."""
    tags = tuple(tags)
    own = [
        version for tag in tags if (rest := _own(model_name, tag)) and (version := ParsedVersion.parse(rest))
    ]
    shared = [version for tag in tags if (version := ParsedVersion.parse(tag))]
    candidates = own or shared
    return max(candidates, key=lambda version: (version.order, version.text)).text if candidates else None
