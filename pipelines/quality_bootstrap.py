"""Bootstrap intervals: how far a metric may be off by the luck of which rows are in the data.

The percentile method (Efron, 1979): the metric of many samples of as many rows, drawn with replacement; the
interval is what the middle of them spans. The draws are seeded: the same answers have the same interval.
Two versions are compared on the same draws (paired), so what is hard for both cancels out.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

DRAWS: Final = 1000
FEWEST: Final = 200
WORK: Final = 2_000_000
"""Rows that are drawn altogether without numpy, where there are too many for all draws."""
NUMPY_WORK: Final = 20_000_000
"""The same with numpy, for a metric that has to see every row of every draw."""
_SEED: Final = 20240229
_DEFINED: Final = 0.9
"""A metric that is undefined on more of the draws than the rest of this has no interval."""
_CHUNK: Final = 4_000_000

Statistic = Callable[[Sequence[int]], "tuple[float, ...] | None"]
"""The metric (of one or two versions) on the rows with these numbers; None where it is not defined."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The metric on every draw: a row for each, a column for each version."""

    values: tuple[tuple[float, ...], ...]
    draws: int
    by: str
    """numpy or stdlib: they draw differently."""

    def interval(self, of: Callable[[tuple[float, ...]], float], confidence: float) -> list[float] | None:
        """The percentile interval of a figure of each draw; None where too few draws have one."""
        if len(self.values) < self.draws * _DEFINED:
            return None
        found = sorted(map(of, self.values))
        outside = (1 - confidence) / 2
        return [_quantile(found, outside), _quantile(found, 1 - outside)]


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def draw(rows: int, statistic: Statistic) -> Samples:
    """``statistic`` on samples of ``rows`` rows: 1000, or fewer where there is no numpy and many rows."""
    numpy = _numpy(rows)
    draws = max(FEWEST, min(DRAWS, (WORK if numpy is None else NUMPY_WORK) // rows))
    indexes = _with_numpy(numpy, rows, draws) if numpy is not None else _without(rows, draws)
    values = tuple(found for one in indexes if (found := statistic(one)) is not None)
    return Samples(values, draws, "stdlib" if numpy is None else "numpy")


def draw_counts(
    counts: Sequence[int], statistic: Callable[[Sequence[int]], tuple[float, ...] | None]
) -> Samples:
    """The same where rows repeat: ``statistic`` is given how often each different one is drawn.

    As many draws of single rows have the multinomial distribution, so the time depends on no number of rows.
    """
    rows = sum(counts)
    numpy = _numpy(rows)
    if numpy is None:
        owner = [kind for kind, count in enumerate(counts) for _ in range(count)]

        def of_rows(index: Sequence[int]) -> tuple[float, ...] | None:
            drawn = Counter(map(owner.__getitem__, index))
            return statistic([drawn[kind] for kind in range(len(counts))])

        return draw(rows, of_rows)
    generator = numpy.random.default_rng(_SEED)
    shares = numpy.asarray(counts, dtype=float) / rows
    drawn = (generator.multinomial(rows, shares).tolist() for _ in range(DRAWS))
    values = tuple(found for one in drawn if (found := statistic(one)) is not None)
    return Samples(values, DRAWS, "numpy")


def draw_means(
    columns: Sequence[Sequence[float]], finish: Callable[[float], float] = lambda mean: mean
) -> Samples:
    """The same for what is a mean over the rows; a column of each row's part for each version."""
    rows = len(columns[0])
    numpy = _numpy(rows)
    if numpy is None:

        def statistic(index: Sequence[int]) -> tuple[float, ...]:
            return tuple(finish(math.fsum(map(column.__getitem__, index)) / rows) for column in columns)

        return draw(rows, statistic)
    parts = numpy.asarray(columns, dtype=float)
    generator = numpy.random.default_rng(_SEED)
    found: list[tuple[float, ...]] = []
    at_once = max(1, min(DRAWS, _CHUNK // rows))
    for start in range(0, DRAWS, at_once):
        index = generator.integers(0, rows, size=(min(at_once, DRAWS - start), rows))
        means = parts[:, index].mean(axis=2)
        found.extend(tuple(finish(float(mean)) for mean in one) for one in means.T)
    return Samples(tuple(found), DRAWS, "numpy")


def _numpy(rows: int) -> Any:  # Any: numpy is no dependency of ours
    """numpy, where it is there and needed: importing it takes longer than a thousand small samples."""
    if rows * DRAWS <= WORK or find_spec("numpy") is None:
        return None
    return import_module("numpy")


def _with_numpy(numpy: Any, rows: int, draws: int) -> Iterator[Sequence[int]]:  # Any: see _numpy
    generator = numpy.random.default_rng(_SEED)
    for _ in range(draws):
        yield generator.integers(0, rows, size=rows)


def _without(rows: int, draws: int) -> Iterator[Sequence[int]]:
    generator = random.Random(_SEED)  # noqa: S311  no secret: it has to be the same each time
    everything = range(rows)
    for _ in range(draws):
        yield generator.choices(everything, k=rows)
