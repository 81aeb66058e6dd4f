"""Figures against their limits and against the published version's: plain numbers, no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.config_budgets import Budgets, Figure

UNITS: Mapping[str, tuple[str, str]] = {
    "cold_start_s": ("cold start", "s"),
    "p50_ms": ("p50", "ms"),
    "p95_ms": ("p95", "ms"),
    "memory_mb": ("memory", "MB"),
    "image_mb": ("image", "MB"),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of the figures. ``over`` are sentences about broken limits, each by its figure."""

    over: Mapping[Figure, str]
    unknown: Mapping[Figure, str]
    told: tuple[str, ...]

    @property
    def detail(self) -> str:
        """On one line."""
        return " · ".join(self.told) or "nothing was asked for"


def rounded(value: float) -> float:
    """Two significant digits: what is recorded of a figure that differs from run to run."""
    return float(f"{value:.2g}")


def judge_figures(
    budgets: Budgets,
    figures: Mapping[str, float],
    missing: Mapping[str, str],
    published: Mapping[str, float],
) -> Judged:
    """Hold ``figures`` to the limits; ``missing`` says why some are not known.

    ``published`` are the recorded figures of the published version, rounded to two digits: so a trend is
    judged by the figure rounded in the same way.
    """
    over: dict[Figure, str] = {}
    unknown: dict[Figure, str] = {}
    told = []
    for name in budgets.wanted:
        label, unit = UNITS[name]
        if name not in figures:
            unknown[name] = f"{label} not measured: {missing.get(name, 'it is not known why')}"
            told.append(unknown[name])
            continue
        value, limit, before = figures[name], budgets.limits.get(name), published.get(name)
        bounds = [f"≤ {limit:g}"] if limit is not None else []
        bounds += [f"published {before:g}"] if before is not None else []
        told.append(f"{label} {shown(value)} {unit}" + (f" ({'; '.join(bounds)})" if bounds else ""))
        wrong = _wrong(value, limit, before, budgets.worse_than_published.get(name))
        if wrong:
            over[name] = f"{label} {shown(value)} {unit} is above {wrong}"
    return Judged(over, unknown, tuple(told))


def _wrong(value: float, limit: float | None, before: float | None, percent: float | None) -> str:
    if limit is not None and value > limit:
        return f"its limit of {limit:g}"
    if percent is not None and before is not None and rounded(value) > before * (1 + percent / 100):
        return f"the published version's {before:g} by more than {percent:g} %"
    return ""


def shown(value: float) -> str:
    """Three significant digits, no exponent."""
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e" in text else text


def better(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Of two measurements the smaller figure each: noise only ever adds."""
    names = [*one, *(name for name in other if name not in one)]
    return {name: min(side[name] for side in (one, other) if name in side) for name in names}


def recorded_figures(facts: object) -> dict[str, float]:
    """The figures in the facts that a check statement has of its budgets."""
    figures = facts.get("figures") if isinstance(facts, dict) else None
    if not isinstance(figures, dict):
        return {}
    found = {}
    for name, text in figures.items():
        if name in UNITS and isinstance(text, str):
            try:
                found[name] = float(text)
            except ValueError:
                continue
    return found
