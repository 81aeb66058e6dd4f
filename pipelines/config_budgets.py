"""The section ``check: budgets:``: what the model may cost in time, memory and size."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipelines.config_values import Section, problem

Figure = Literal["cold_start_s", "p50_ms", "p95_ms", "memory_mb", "image_mb"]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _percent(value: object) -> object:
    """``20%`` is 20."""
    if isinstance(value, str) and value.strip().endswith("%"):
        text = value.strip().removesuffix("%").strip()
        try:
            return float(text)
        except ValueError:
            raise problem("percent", f'"{value}" is not a percentage', "write it like 20%") from None
    return value


Percent = Annotated[
    float,
    BeforeValidator(_percent, json_schema_input_type=float | str),
    Field(ge=0, allow_inf_nan=False),
]


class Load(Section):
    """The load under which latencies are measured: requests of the golden cases or the quality data."""

    concurrency: int = Field(default=4, ge=1, le=64)
    """How many requests run at once."""
    requests: int = Field(default=200, ge=1, le=100_000)
    """At most so many requests are sent."""
    seconds: float = Field(default=20.0, gt=0, le=600, allow_inf_nan=False)
    """After so many seconds no further request is sent."""
    warmup: int = Field(default=4, ge=0, le=1000)
    """The first requests, which count for no figure."""
    errors: int = Field(default=0, ge=0)
    """How many may fail: no answer, a status of 500 or more, or one that the case does not expect."""


class Budgets(Section):
    """Limits of time, memory and size ("at most"), each with its trend against the published version."""

    cold_start_s: Limit | None = None
    """Seconds from the start of the model's process until it is healthy."""
    p50_ms: Limit | None = None
    """Milliseconds within which half of the answers are there, under the load."""
    p95_ms: Limit | None = None
    """Milliseconds within which 95 of 100 answers are there, under the load."""
    memory_mb: Limit | None = None
    """The largest memory of all the model's processes together, in megabytes (1 000 000 bytes)."""
    image_mb: Limit | None = None
    """The size of the image in a registry: its layers as they are stored, in megabytes."""
    load: Load = Load()
    """The load under which the latencies are measured."""
    worse_than_published: dict[Figure, Percent] = Field(default_factory=dict)
    """How much worse than the published version's a figure may be, like {p95_ms: 20%}."""
    could_not_measure: Literal["fail", "warn"] = "fail"
    """What a limit does whose figure can't be measured: fail, or only be told."""

    @model_validator(mode="before")
    @classmethod
    def _short_names(cls, value: Any) -> Any:  # Any: what the YAML file has there
        """``worse_than_published: {p95: 20%}`` is short for p95_ms."""
        if not isinstance(value, dict) or not isinstance(value.get("worse_than_published"), dict):
            return value
        short = {name.rpartition("_")[0]: name for name in LIMITS}
        trends = {short.get(key, key): item for key, item in value["worse_than_published"].items()}
        return {**value, "worse_than_published": trends}

    @property
    def limits(self) -> dict[Figure, float]:
        """The limits that are set."""
        return {name: limit for name in LIMITS if (limit := getattr(self, name)) is not None}

    @property
    def wanted(self) -> tuple[Figure, ...]:
        """The figures that are judged, be it by a limit or by their trend."""
        return tuple(name for name in LIMITS if name in self.limits or name in self.worse_than_published)


LIMITS: tuple[Figure, ...] = ("cold_start_s", "p50_ms", "p95_ms", "memory_mb", "image_mb")
