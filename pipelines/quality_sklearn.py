"""Functions of ``sklearn.metrics`` as metrics. scikit-learn is an extra, imported only to compute."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from pipelines.config_quality import Quality
from pipelines.in_engine.check_metrics import UndefinedMetricError
from pipelines.quality_metrics import Column, Metric, MetricProblem
from pipelines.quality_table import Answers

INSTALL: Final = "pip install 'modelport[metrics]'"


def hold_installed(quality: Quality) -> None:
    """Raise MetricProblem where scikit-learn is not installed; it is not imported."""
    if find_spec("sklearn") is None:
        raise MetricProblem(f"{quality.metric} is scikit-learn's, which is not installed", INSTALL)


def sklearn_metric(quality: Quality) -> Metric:
    """The function ``quality.metric`` with its options. Raises MetricProblem."""
    hold_installed(quality)
    module = import_module("sklearn.metrics")
    function = getattr(module, quality.metric, None)
    if not inspect.isfunction(function):
        near = get_close_matches(quality.metric, module.__all__, n=1)
        hint = (
            f"did you mean {near[0]}?" if near else "https://scikit-learn.org/stable/api/sklearn.metrics.html"
        )
        raise MetricProblem(f"sklearn.metrics has no function {quality.metric}", hint)
    parameters = inspect.signature(function).parameters
    for name in quality.options:
        if name not in parameters:
            known = ", ".join(list(parameters)[2:])
            raise MetricProblem(f'{quality.metric} has no option "{name}"', f"it takes {known}")
    prepare = _PREPARE[quality.compares]

    def compute(column: Column) -> float:
        true, said, more = prepare(column, quality, parameters)
        weights = {} if column.weights is None else {"sample_weight": list(column.weights)}
        return _called(quality, function, (true, said), {**more, **weights, **quality.options})

    own_weights = "sample_weight" in parameters and "sample_weight" not in quality.options
    return Metric(compute, weighted=own_weights and quality.compares is Answers.CLASSES)


def _called(
    quality: Quality, function: Callable[..., Any], both: tuple[Any, Any], options: dict[str, Any]
) -> float:
    """The function's value (Any: it has no types). Its warnings tell of undefined parts, as zeros or NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = function(*both, **options)
        except (ValueError, TypeError) as err:
            raise MetricProblem(
                f"{quality.metric} can't be computed: {_first(err)}",
                "see `options:`, and that the answers are what the metric compares",
            ) from err
    try:
        number = float(value)
    except (TypeError, ValueError) as err:
        raise MetricProblem(f"{quality.metric} gives {type(value).__name__}, not one number") from err
    if math.isnan(number):
        raise UndefinedMetricError(f"{quality.metric} is not defined for these rows")
    return number


def _first(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:300]


_Prepared = tuple[Any, Any, dict[str, Any]]  # Any: arrays for scikit-learn


def _classes(column: Column, quality: Quality, parameters: Any) -> _Prepared:
    del quality, parameters
    values = [*column.expected, *column.predicted]
    if _of_one_kind(values):
        return list(column.expected), list(column.predicted), {}
    return list(map(json.dumps, column.expected)), list(map(json.dumps, column.predicted)), {}


def _of_one_kind(values: Sequence[object]) -> bool:
    return len({type(one) for one in values}) == 1


def _numbers(column: Column, quality: Quality, parameters: Any) -> _Prepared:
    del quality, parameters
    return list(column.expected), list(column.predicted), {}


def _scores(column: Column, quality: Quality, parameters: Any) -> _Prepared:
    first = column.predicted[0]
    if isinstance(first, dict):
        # JSON's keys are texts, so the classes are compared as texts.
        labels = sorted({key for one in column.predicted for key in one})
        rows = [[float(one.get(label, 0.0)) for label in labels] for one in column.predicted]
        return _matrix([_text(one) for one in column.expected], rows, labels, parameters)
    if isinstance(first, list):
        labels = list(quality.options.get("labels") or sorted(set(column.expected), key=_order))
        return _matrix(list(column.expected), list(column.predicted), labels, parameters)
    return _binary(column, quality), list(column.predicted), {}


def _binary(column: Column, quality: Quality) -> list[int]:
    """1 for the class that the score stands for."""
    if quality.positive is not None:
        return [int(one == quality.positive) for one in column.expected]
    if set(column.expected) <= {0, 1}:
        return [int(one) for one in column.expected]
    raise MetricProblem(
        f"{quality.metric}: which class does the score stand for?", "name it: `quality: positive: spam`"
    )


def _matrix(true: list[Any], rows: list[Any], labels: list[Any], parameters: Any) -> _Prepared:
    if any(len(row) != len(labels) for row in rows):
        raise MetricProblem(
            f"an answer has {len(rows[0])} scores, and there are {len(labels)} classes",
            "name the classes in the order of the scores: `options: {labels: [...]}`",
        )
    if len(labels) == 2 and "multi_class" in parameters:
        return [int(one == labels[1]) for one in true], [row[1] for row in rows], {}
    if "labels" in parameters:
        return true, rows, {"labels": labels}
    return [[int(one == label) for label in labels] for one in true], rows, {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _order(value: object) -> tuple[str, Any]:
    return type(value).__name__, value


_PREPARE: Final = {
    Answers.CLASSES: _classes,
    Answers.NUMBERS: _numbers,
    Answers.SCORES: _scores,
    Answers.RANKING: _numbers,
}
