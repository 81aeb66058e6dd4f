"""What answers are worth: the metric with its interval, on slices too, and beside the published version's.

``measure`` finds the figures, which depend on nothing but data and answers, so they are kept and not computed
again. ``decide`` applies the limits: a changed limit computes nothing anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipelines.config_quality import Quality
from pipelines.quality_bootstrap import Samples, draw, draw_counts, draw_means
from pipelines.quality_memo import Memo
from pipelines.quality_metrics import Column, Metric, as_text_says, defined, metric_of
from pipelines.quality_table import Answers
from pipelines.values import JSON

_FORM: Final = 2
"""Raised with each change of what is computed, so that nothing older is believed."""
MOST_SLICES: Final = 500


@dataclass(frozen=True, slots=True)
class Given:
    """Everything that the figures depend on."""

    quality: Quality
    expected: Sequence[Any]  # Any: classes, numbers, lists
    predicted: Sequence[Any]
    slices: Sequence[tuple[str, ...]] = ()
    """Of each row the values of the columns that make the slices."""
    published: Sequence[Any] | None = None
    """What the published version predicted."""
    texts_only: bool = False

    def key(self) -> dict[str, Any]:
        """For the memo."""
        quality = self.quality
        return {
            "form": _FORM,
            "metric": quality.metric,
            "options": quality.options,
            "compares": quality.compares.value,
            "positive": quality.positive,
            "smaller_is_better": quality.smaller_is_better,
            "confidence": quality.confidence,
            "expected": list(self.expected),
            "predicted": list(self.predicted),
            "slices": [list(one) for one in self.slices],
            "published": None if self.published is None else list(self.published),
            "texts_only": self.texts_only,
        }


def measure(given: Given, memo: Memo) -> dict[str, Any]:
    """The figures (Any: JSON), from ``memo`` where they are known.

    Raises:
        UndefinedMetricError, MetricProblem: the metric has no value on these rows.
    """
    found: dict[str, Any] = memo.of(given.key(), lambda: _measured(given))
    return found


def _measured(given: Given) -> dict[str, Any]:
    quality = given.quality
    metric = metric_of(quality)
    expected: Sequence[Any] = given.expected
    if given.texts_only and quality.compares is Answers.CLASSES:
        expected = as_text_says(expected, given.predicted)
    own = Column(expected, given.predicted)
    other = None if given.published is None else Column(expected, given.published)
    value = metric.compute(own)
    samples = _samples(metric, own, other)
    figures: dict[str, Any] = {
        "value": value,
        "interval": samples.interval(lambda one: one[0], quality.confidence),
        "draws": samples.draws,
        "drawn_by": samples.by,
        "slices": _slices(metric, own, given.slices),
    }
    if other is None:
        return figures
    sign = -1.0 if quality.smaller_is_better else 1.0
    before = metric.compute(other)
    same = list(own.predicted) == list(other.predicted)
    figures["before"] = {
        "value": before,
        "better_by": 0.0 if same else sign * (value - before),
        "interval": [0.0, 0.0]
        if same
        else samples.interval(lambda one: sign * (one[0] - one[1]), quality.confidence),
        "differ": sum(one != two for one, two in zip(own.predicted, other.predicted, strict=True)),
    }
    return figures


def _samples(metric: Metric, own: Column, other: Column | None) -> Samples:
    """Both versions on the same draws."""
    columns = [own] if other is None else [own, other]
    if metric.part is not None:
        parts = [list(map(metric.part, one.expected, one.predicted)) for one in columns]
        return draw_means(parts, metric.finish)

    if metric.weighted:
        return _samples_of_kinds(metric, columns)

    def statistic(index: Sequence[int]) -> tuple[float, ...] | None:
        return _values(metric, [_picked(one, index) for one in columns])

    return draw(len(own.expected), statistic)


def _samples_of_kinds(metric: Metric, columns: Sequence[Column]) -> Samples:
    """Rows with the same expectation and the same answers are one kind, and a draw says how many of each."""
    rows = zip(columns[0].expected, *(one.predicted for one in columns), strict=True)
    kinds = Counter(tuple((type(value), value) for value in row) for row in rows)
    values = [[value for _, value in kind] for kind in kinds]

    def statistic(counts: Sequence[int]) -> tuple[float, ...] | None:
        drawn = [(kind, count) for kind, count in zip(values, counts, strict=True) if count]
        expected, weights = [kind[0] for kind, _ in drawn], [count for _, count in drawn]
        return _values(
            metric,
            [Column(expected, [kind[at] for kind, _ in drawn], weights) for at in range(1, len(columns) + 1)],
        )

    return draw_counts(list(kinds.values()), statistic)


def _values(metric: Metric, columns: Sequence[Column]) -> tuple[float, ...] | None:
    """The metric of every version; None where one of them has none."""
    values = [defined(metric.compute, one) for one in columns]
    return tuple(one for one in values if one is not None) if None not in values else None


def _picked(column: Column, index: Sequence[int]) -> Column:
    return Column([column.expected[one] for one in index], [column.predicted[one] for one in index])


def _slices(metric: Metric, column: Column, slices: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Rows and value of each slice; null where these rows have none."""
    members: dict[tuple[str, ...], list[int]] = {}
    for number, one in enumerate(slices):
        if one:
            members.setdefault(one, []).append(number)
    return [
        {"of": list(one), "rows": len(rows), "value": defined(metric.compute, _picked(column, rows))}
        for one, rows in sorted(members.items())
    ]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the limits are kept; of each that is not a sentence, the most general first."""

    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all are kept."""
        return not self.reasons


def decide(quality: Quality, figures: Mapping[str, Any], rows: int, published: str = "") -> Decision:
    """Apply the limits. ``published`` is what people call the version that it is compared with."""
    return Decision(
        tuple(
            one
            for one in (
                _limit_reason(quality, figures, rows),
                _slices_reason(quality, figures),
                _worse_reason(quality, figures, rows, published),
            )
            if one
        )
    )


def _limit_reason(quality: Quality, figures: Mapping[str, Any], rows: int) -> str:
    short = shortfall(figures["value"], quality.at_least, quality.at_most)
    if short <= 0:
        return ""
    limit, side = _limit(quality.at_least, quality.at_most)
    return f"{quality.metric} {distinct(figures['value'], limit)} over {rows} rows is {side} {limit:g}"


def _slices_reason(quality: Quality, figures: Mapping[str, Any]) -> str:
    """The worst slice by name."""
    rule = quality.slices
    if rule is None or (rule.at_least is None and rule.at_most is None):
        return ""
    judged = [one for one in figures["slices"] if one["rows"] >= rule.minimum_rows]
    silent = next((one for one in judged if one["value"] is None), None)
    if silent is not None:
        return f"{quality.metric} is not defined for {named(quality, silent)} ({silent['rows']} rows)"
    failed = [one for one in judged if shortfall(one["value"], rule.at_least, rule.at_most) > 0]
    if not failed:
        return ""
    worst = max(failed, key=lambda one: shortfall(one["value"], rule.at_least, rule.at_most))
    limit, side = _limit(rule.at_least, rule.at_most)
    more = f" (and {len(failed) - 1} more slices)" if len(failed) > 1 else ""
    return (
        f"{quality.metric} {distinct(worst['value'], limit)} over the {worst['rows']} rows of "
        f"{named(quality, worst)} is {side} {limit:g}{more}"
    )


def _worse_reason(quality: Quality, figures: Mapping[str, Any], rows: int, published: str) -> str:
    """Worse only where even the good end of the interval is: so noise stops no release."""
    before = figures.get("before")
    if before is None:
        return ""
    better_by, interval = before["better_by"], before["interval"]
    if interval is None:
        if better_by >= -quality.margin:
            return ""
        interval_told = "with no interval, for most samples of these rows have no such metric"
    elif interval[1] >= -quality.margin:
        return ""
    else:
        worse = sorted((abs(interval[0]), abs(interval[1])))
        interval_told = f"[{worse[0]:.3f}, {worse[1]:.3f}]"
    allowed = f", more than {quality.margin:g}" if quality.margin else ""
    return (
        f"{quality.metric} {figures['value']:.3f} is worse than {before['value']:.3f} "
        f"of the published {published} by {-better_by:.3f} {interval_told}{allowed}, on the same {rows} rows"
    )


def shortfall(value: float, at_least: float | None, at_most: float | None) -> float:
    """How far ``value`` is on the wrong side of its limit; 0 or less where it keeps it, or has none."""
    if at_least is not None:
        return at_least - value
    return value - at_most if at_most is not None else 0.0


def _limit(at_least: float | None, at_most: float | None) -> tuple[float, str]:
    return (at_least, "below") if at_least is not None else (at_most or 0.0, "above")


def named(quality: Quality, one: Mapping[str, Any]) -> str:
    """A slice as people call it: ``language=nl``."""
    by = quality.slices.by if quality.slices else ()
    return ", ".join(f"{name}={value}" for name, value in zip(by, one["of"], strict=False))


def distinct(value: float, limit: float) -> str:
    """``value`` with as many digits as tell it from ``limit``."""
    return next(
        (text for digits in range(3, 16) if float(text := f"{value:.{digits}f}") != limit), repr(value)
    )


def told(quality: Quality, figures: Mapping[str, Any], nothing_published: bool = False) -> str:
    """On one line: "accuracy 0.964 [0.941, 0.983] (≥ 0.95; published 0.961)"."""
    interval = figures["interval"]
    span = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval is not None else ""
    notes = []
    if quality.at_least is not None or quality.at_most is not None:
        sign, limit = ("≥", quality.at_least) if quality.at_least is not None else ("≤", quality.at_most)
        notes.append(f"{sign} {limit:g}")
    if "before" in figures:
        notes.append(f"published {figures['before']['value']:.3f}")
    elif nothing_published:
        notes.append("nothing published to compare with")
    beside = f" ({'; '.join(notes)})" if notes else ""
    slices = f" · worst slice {worst}" if (worst := _worst(quality, figures)) else ""
    return f"{quality.metric} {figures['value']:.3f}{span}{beside}{slices}"


def _worst(quality: Quality, figures: Mapping[str, Any]) -> str:
    least = quality.slices.minimum_rows if quality.slices else 0
    known = [one for one in figures["slices"] if one["value"] is not None and one["rows"] >= least]
    if not known:
        return ""
    worst = (max if quality.smaller_is_better else min)(known, key=lambda one: one["value"])
    return f"{named(quality, worst)} {worst['value']:.3f}"


def recorded(quality: Quality, figures: Mapping[str, Any], rows: int) -> dict[str, JSON]:
    """What the run's record has of it."""
    return {
        "metric": quality.metric,
        "rows": rows,
        "at_least": quality.at_least,
        "at_most": quality.at_most,
        "value": figures["value"],
        "interval": figures["interval"],
        "confidence": quality.confidence,
        "interval_of": f"{figures['draws']} draws, {figures['drawn_by']}",
        "slices": [
            {"slice": named(quality, one), "rows": one["rows"], "value": one["value"]}
            for one in figures["slices"][:MOST_SLICES]
        ],
    }
