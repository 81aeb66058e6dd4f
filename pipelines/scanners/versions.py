"""How versions are ordered: PEP 440, dpkg, apk and rpm, each by its own rules. For ranges in offline data."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Final

from packaging.version import InvalidVersion, Version

Key = Any
"""A version as it is compared. Any: each order has a type of its own, and the two are never mixed."""


class NotComparableError(ValueError):
    """A version that isn't one by its ecosystem's rules can't be compared with an advisory's ranges."""


def order_of(ecosystem: str) -> Callable[[str], Key]:
    """What turns a version of ``ecosystem``, as OSV calls it, into something that can be compared.

    Raises:
        NotComparableError: no order is known for that ecosystem; by the result: the version isn't one.
    """
    family = ecosystem.partition(":")[0]
    if family not in _ORDERS:
        raise NotComparableError(f"the order of versions of {family} is not known")
    return _ORDERS[family]


def _pep440(text: str) -> Key:
    try:
        return Version("0.dev0" if text == "0" else text)
    except InvalidVersion as err:
        raise NotComparableError(f"version {text} can't be compared") from err


# --- dpkg: deb-version(7), "Sorting algorithm" ---


def compare_dpkg(one: str, other: str) -> int:
    """Less than, equal to or greater than 0, as ``dpkg --compare-versions`` orders them."""
    for mine, theirs in zip(_dpkg_parts(one), _dpkg_parts(other), strict=True):
        order = _compare_dpkg_part(mine, theirs)
        if order:
            return order
    return 0


def _dpkg_parts(text: str) -> tuple[str, str, str]:
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "0", text
    upstream, dash, revision = rest.rpartition("-")
    return epoch, upstream if dash else rest, revision if dash else "0"


def _compare_dpkg_part(one: str, other: str) -> int:
    """Alternately by what isn't digits ("~" is before the end, letters before the rest) and by numbers."""
    mine, theirs = _runs(one), _runs(other)
    for (text, number), (text_, number_) in zip_longest(mine, theirs, fillvalue=("", 0)):
        for letter, letter_ in zip_longest(text, text_, fillvalue=""):
            order = _dpkg_letter(letter) - _dpkg_letter(letter_)
            if order:
                return order
        if number != number_:
            return number - number_
    return 0


def _runs(text: str) -> list[tuple[str, int]]:
    return [(letters, int(digits or 0)) for letters, digits in re.findall(r"([^\d]*)(\d*)", text)]


def _dpkg_letter(letter: str) -> int:
    if letter == "~":
        return -1
    if not letter:
        return 0
    return ord(letter) if letter.isalpha() else ord(letter) + 256


# --- apk: https://wiki.alpinelinux.org/wiki/Package_policies, apk-package(5) "Package version" ---

_APK = re.compile(
    r"(?P<numbers>\d+(?:\.\d+)*)(?P<letter>[a-z]?)"
    r"(?P<suffixes>(?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*)(?:~[0-9a-f]+)?(?:-r(?P<revision>\d+))?"
)
_APK_SUFFIXES: Final = {
    "alpha": -4,
    "beta": -3,
    "pre": -2,
    "rc": -1,
    "cvs": 1,
    "svn": 2,
    "git": 3,
    "hg": 4,
    "p": 5,
}


def compare_apk(one: str, other: str) -> int:
    """Less than, equal to or greater than 0, as ``apk version -t`` orders them.

    Raises:
        NotComparableError: one of them is no version of apk's.
    """
    mine, theirs = _apk(one), _apk(other)
    order = _compare_apk_numbers(mine["numbers"].split("."), theirs["numbers"].split("."))
    order = order or _sign(mine["letter"], theirs["letter"])
    order = order or _compare_apk_suffixes(mine["suffixes"], theirs["suffixes"])
    return order or int(mine["revision"] or 0) - int(theirs["revision"] or 0)


def _apk(text: str) -> re.Match[str]:
    match = _APK.fullmatch(text)
    if match is None:
        raise NotComparableError(f"version {text} can't be compared")
    return match


def _compare_apk_numbers(one: list[str], other: list[str]) -> int:
    """Numbers; after the first, one with a leading zero is compared as a fraction's digits are."""
    for position, (mine, theirs) in enumerate(zip_longest(one, other)):
        if mine is None or theirs is None:
            return 1 if theirs is None else -1
        if position and (mine.startswith("0") or theirs.startswith("0")):
            order = _sign(mine.rstrip("0") or "0", theirs.rstrip("0") or "0")
        else:
            order = int(mine) - int(theirs)
        if order:
            return order
    return 0


def _compare_apk_suffixes(one: str, other: str) -> int:
    """``_rc1`` is before none at all, ``_p1`` after."""
    mine, theirs = _apk_suffixes(one), _apk_suffixes(other)
    for pair, pair_ in zip_longest(mine, theirs, fillvalue=(0, 0)):
        if pair != pair_:
            return 1 if pair > pair_ else -1
    return 0


def _apk_suffixes(text: str) -> list[tuple[int, int]]:
    return [(_APK_SUFFIXES[name], int(number or 0)) for name, number in re.findall(r"_([a-z]+)(\d*)", text)]


# --- rpm: https://rpm-software-management.github.io/rpm/man/rpm-version.7 ---


def compare_rpm(one: str, other: str) -> int:
    """Less than, equal to or greater than 0: epoch, version, release, each by rpmvercmp."""
    (epoch, version, release), (epoch_, version_, release_) = _rpm_parts(one), _rpm_parts(other)
    order = epoch - epoch_ or rpmvercmp(version, version_)
    # An advisory's version without a release is about all of its releases.
    return order or (rpmvercmp(release, release_) if release and release_ else 0)


def _rpm_parts(text: str) -> tuple[int, str, str]:
    epoch, colon, rest = text.partition(":")
    if colon and not epoch.isdigit():
        raise NotComparableError(f"version {text} can't be compared")
    version, _, release = (rest if colon else text).partition("-")
    return int(epoch) if colon else 0, version, release


def rpmvercmp(one: str, other: str) -> int:
    """Segment by segment: "~" is before everything, "^" after the end only, numbers after letters."""
    mine, theirs = _segments(one), _segments(other)
    for segment, segment_ in zip_longest(mine, theirs, fillvalue=""):
        if segment == segment_:
            continue
        order = _rpm_rank(segment) - _rpm_rank(segment_)
        if order:
            return order
        return int(segment) - int(segment_) if segment.isdigit() else _sign(segment, segment_)
    return 0


def _segments(text: str) -> list[str]:
    found = re.findall(r"[0-9]+|[a-zA-Z]+|~|\^", text)
    return [one.lstrip("0") or "0" if one.isdigit() else one for one in found]


def _rpm_rank(segment: str) -> int:
    """Of the kinds of segments; the end of the version is the empty one."""
    if segment in ("~", "", "^"):
        return {"~": 0, "": 1, "^": 2}[segment]
    return 4 if segment.isdigit() else 3


def _sign(one: str, other: str) -> int:
    return (one > other) - (one < other)


def _ordered(compare: Callable[[str, str], int]) -> Callable[[str], Key]:
    key = cmp_to_key(compare)

    def order(text: str) -> Key:
        compare(text, text)  # so that what can't be compared is refused here, and not while sorting
        return key(text)

    return order


_DPKG: Final = _ordered(compare_dpkg)
_APK_ORDER: Final = _ordered(compare_apk)
_RPM: Final = _ordered(compare_rpm)
_ORDERS: Final[dict[str, Callable[[str], Key]]] = {
    "PyPI": _pep440,
    "Debian": _DPKG,
    "Ubuntu": _DPKG,
    "Alpine": _APK_ORDER,
    "Wolfi": _APK_ORDER,
    "Chainguard": _APK_ORDER,
    "AlmaLinux": _RPM,
    "Rocky Linux": _RPM,
    "Red Hat": _RPM,
    "openSUSE": _RPM,
    "SUSE": _RPM,
    "Azure Linux": _RPM,
    "openEuler": _RPM,
    "Mageia": _RPM,
}
