"""Metrics on our side of the engine: ours by name, and whatever ``sklearn.metrics`` has."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

from pipelines.config_quality import Quality
from pipelines.in_engine import check_metrics
from pipelines.in_engine.check_metrics import UndefinedMetricError, same
from pipelines.quality_table import METRICS


class MetricProblem(Exception):
    """The metric can't be computed from this data and these options at all; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Column:
    """What one version answered, as the metric takes it, beside what would be right."""

    expected: Sequence[Any]  # Any: classes, numbers, lists: what the metric compares
    predicted: Sequence[Any]
    weights: Sequence[int] | None = None
    """How often each row is there, for a metric that is ``weighted``; None: once."""


Compute = Callable[[Column], float]
"""The metric. Raises UndefinedMetricError where these rows have none, MetricProblem where no rows have."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, ready to be computed."""

    compute: Compute
    part: Callable[[Any, Any], float] | None = None  # Any: as in Column
    """What each row adds, where the metric is the mean of that."""
    finish: Callable[[float], float] = float
    """What is done with the mean."""
    weighted: bool = False
    """Whether it takes weights: then rows that repeat are looked at once."""


def metric_of(quality: Quality) -> Metric:
    """The metric of ``quality``.

    Raises:
        MetricProblem: there is none of this name, or scikit-learn is not installed.
    """
    known = METRICS.get(quality.metric)
    if known is not None and known.built_in:
        if quality.options:
            raise MetricProblem(
                f"{quality.metric} takes no options", f"scikit-learn's do, like {_LIKE[quality.metric]}"
            )
        return _OURS[quality.metric]
    from pipelines.quality_sklearn import sklearn_metric  # noqa: PLC0415  only where it is asked for

    return sklearn_metric(quality)


def _f1_macro(column: Column) -> float:
    """As check_metrics has it, in time that grows with the rows only."""
    expected: Counter[object] = Counter()
    predicted: Counter[object] = Counter()
    hits: Counter[object] = Counter()
    for true, said, weight in zip(
        map(_key, column.expected), map(_key, column.predicted), column.weights or repeat(1), strict=False
    ):
        expected[true] += weight
        predicted[said] += weight
        hits[true] += weight if true == said else 0
    labels = expected | predicted
    return math.fsum(2 * hits[one] / (expected[one] + predicted[one]) for one in labels) / len(labels)


def _key(value: object) -> tuple[bool, object]:
    return isinstance(value, bool), value


def _spearman(column: Column) -> float:
    return check_metrics.spearman(column.expected, column.predicted)


def _mean(part: Callable[[Any, Any], float], finish: Callable[[float], float] = float) -> Metric:
    def compute(column: Column) -> float:
        parts = list(map(part, column.expected, column.predicted))
        return finish(math.fsum(parts) / len(parts))

    return Metric(compute, part, finish)


_OURS: Final = {
    "accuracy": _mean(lambda true, said: float(same(true, said))),
    "f1_macro": Metric(_f1_macro, weighted=True),
    "mae": _mean(lambda true, said: abs(true - said)),
    "rmse": _mean(lambda true, said: (true - said) ** 2, math.sqrt),
    "spearman": Metric(_spearman),
}
_LIKE: Final = {
    "accuracy": "accuracy_score",
    "f1_macro": "f1_score",
    "mae": "mean_absolute_error",
    "rmse": "root_mean_squared_error",
    "spearman": "r2_score",
}


def as_text_says(expected: Sequence[object], predicted: Sequence[object]) -> list[object]:
    """The classes of a CSV file, which are all texts: "3" is 3 where every answer is a number."""
    if predicted and all(isinstance(one, int) for one in predicted):
        read = [_class(one) for one in expected]
        if all(isinstance(one, int) for one in read):
            return read
    return list(expected)


def _class(value: object) -> object:
    try:
        return json.loads(value.lower()) if isinstance(value, str) else value
    except ValueError:
        return value


def defined(compute: Compute, column: Column) -> float | None:
    """The metric of some of the rows; None where they have none, such as one class of two."""
    try:
        value = compute(column)
    except (UndefinedMetricError, MetricProblem):
        return None
    return value if math.isfinite(value) else None
