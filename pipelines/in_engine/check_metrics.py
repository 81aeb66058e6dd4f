"""Metrics of predictions against what was right. The standard library only, Python 3.8."""

from __future__ import annotations

import math
from typing import Callable, Sequence  # noqa: UP035  # Python 3.8 runs it

NUMERIC = ("mae", "rmse", "spearman")


class UndefinedMetricError(ValueError):
    """The data has no such metric."""


def accuracy(expected: Sequence[object], predicted: Sequence[object]) -> float:
    """The share of predictions that are right."""
    return sum(map(same, expected, predicted)) / len(expected)


def f1_macro(expected: Sequence[object], predicted: Sequence[object]) -> float:
    """The mean of each class's F1, over the classes that were expected or predicted."""
    true, said = [_key(value) for value in expected], [_key(value) for value in predicted]
    scores = []
    for label in set(true) | set(said):
        hits = sum(t == label and s == label for t, s in zip(true, said))  # noqa: B905
        scores.append(2 * hits / (true.count(label) + said.count(label)))
    return math.fsum(scores) / len(scores)


def mae(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """The mean absolute error."""
    return math.fsum(abs(e - p) for e, p in zip(expected, predicted)) / len(expected)  # noqa: B905


def rmse(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """The root of the mean squared error."""
    return math.sqrt(math.fsum((e - p) ** 2 for e, p in zip(expected, predicted)) / len(expected))  # noqa: B905


def spearman(expected: Sequence[float], predicted: Sequence[float]) -> float:
    """The correlation of the ranks; equal values share the mean of theirs. Raises UndefinedMetricError."""
    a, b = _ranks(expected), _ranks(predicted)
    middle = (len(a) + 1) / 2
    spread_a = math.fsum((x - middle) ** 2 for x in a)
    spread_b = math.fsum((x - middle) ** 2 for x in b)
    if not spread_a or not spread_b:
        which = "predictions" if spread_a else "expected values"
        raise UndefinedMetricError(f"spearman is not defined: the {which} are all the same")
    return math.fsum((x - middle) * (y - middle) for x, y in zip(a, b)) / math.sqrt(spread_a * spread_b)  # noqa: B905


METRICS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "f1_macro": f1_macro,
    "mae": mae,
    "rmse": rmse,
    "spearman": spearman,
}


def _key(value: object) -> tuple[str, object]:
    return ("bool" if isinstance(value, bool) else "other", value)


def same(a: object, b: object) -> bool:
    """Whether two classes are one: true is not 1, but 1.0 is."""
    return _key(a) == _key(b)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + 1 + end) / 2
        start = end
    return ranks
