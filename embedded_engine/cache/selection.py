"""What to keep under a bound: pure arithmetic over what rows need. Least recently used goes first.

What a later operation was built on is as recent as that operation: its layers could not be freed anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is kept or dropped as a whole, and the parts (layers, contents) it needs.

    ``chain``: its layers, base first; what is built on it has a longer chain that begins with these.
    """

    name: str
    used: float
    chain: tuple[str, ...] = ()
    contents: frozenset[str] = field(default=frozenset())


def kept(
    items: Iterable[Item], sizes: Mapping[str, int], *, max_size: float, oldest: float, now: float
) -> set[str]:
    """The names of the items to keep: the most recently used that fit, none used before ``oldest``."""
    recent = _recency(items := list(items))
    total, have, names = 0, set[str](), set[str]()
    for item in sorted(items, key=lambda one: (-recent[one.name], len(one.chain), one.name)):
        if recent[item.name] < oldest:
            continue
        needs = {*item.chain, *item.contents} - have
        cost = sum(sizes.get(part, 0) for part in needs)
        if cost and total + cost > max_size:
            continue
        total += cost
        have |= needs
        names.add(item.name)
    return names


def _recency(items: Sequence[Item]) -> dict[str, float]:
    newest: dict[str, float] = {}  # by layer: the last use of anything that contains it
    for item in items:
        for layer in item.chain:
            newest[layer] = max(newest.get(layer, 0.0), item.used)
    return {item.name: max(item.used, newest[item.chain[-1]] if item.chain else 0.0) for item in items}


def parse_size(text: str) -> int:
    """Bytes of "20GB", "512MiB" or "1000". Raises ValueError."""
    whole = text.strip()
    number = whole.rstrip("BbIiKkMmGgTt")
    unit = whole[len(number) :].strip().upper().removesuffix("B")
    table = _BINARY if unit.endswith("I") else _UNITS
    unit = unit.removesuffix("I")
    if unit not in table:
        raise ValueError(f"{text!r} is no size: write 20GB, 512MiB or a number of bytes")
    try:
        value = float(number)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text!r} is no size: write 20GB, 512MiB or a number of bytes")
    return int(value * table[unit])


def parse_age(text: str) -> float:
    """Seconds of "14d", "12h" or "90m". Raises ValueError."""
    number, unit = text.strip()[:-1], text.strip()[-1:]
    if unit not in _AGES or not number.isascii() or not number.isdigit():
        raise ValueError(f"{text!r} is no age: write 14d, 12h or 90m")
    return int(number) * float(_AGES[unit])


def shown_size(size: float) -> str:
    """For people: "1.5 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
