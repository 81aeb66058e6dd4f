"""The ``check:`` section: what the built image must do before it gets a name (design, section 6)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipelines.config_values import NamedFile, NamedPath, Section, problem

Metric = Literal["accuracy", "f1_macro", "mae", "rmse", "spearman"]
SMALLER_IS_BETTER: frozenset[str] = frozenset({"mae", "rmse"})


def _below(path: str) -> str:
    """Only what is below the model's directory can be handed to the engine for a check."""
    if ".." in path.split("/") or path.startswith("/"):
        raise problem("path", f'"{path}" is not below the model\'s directory', "move the file there")
    return path.removeprefix("./").rstrip("/")


def _url_path(path: str) -> str:
    if not path.startswith("/") or any(c.isspace() for c in path):
        raise problem(
            "url", f'"{path}" is not the path of a URL', 'write it with a leading "/", like /predict'
        )
    return path


def _number_is_absolute(value: object) -> object:
    """``score: 0.01`` is short for ``score: {absolute: 0.01}``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"absolute": value}
    return value


CheckFile = Annotated[NamedFile, AfterValidator(_below)]
UrlPath = Annotated[str, AfterValidator(_url_path)]


class Tolerance(Section):
    """How far a number may be from the expected one: within the larger of the two."""

    absolute: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The difference that is accepted."""
    relative: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The difference that is accepted, as a part of the expected number: 0.01 is one percent."""


Tolerances = dict[
    str, Annotated[Tolerance, BeforeValidator(_number_is_absolute, json_schema_input_type=Tolerance | float)]
]


class UnitTests(Section):
    """Tests of the model's own code, run in the image."""

    command: tuple[str, ...] = Field(
        default=("python", "-m", "unittest", "discover", "-s", "tests"), min_length=1
    )
    """Run in the image's working directory, with the image's user and environment."""
    files: tuple[Annotated[NamedPath, AfterValidator(_below)], ...] = Field(default=("tests",), min_length=1)
    """Mounted at the same place below the image's working directory, read-only; never part of the image."""
    timeout_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """How long they may take, in seconds."""


class Quality(Section):
    """A metric over a data file, computed from the model's real answers, and the limit that it must keep."""

    data: CheckFile
    """A JSONL file; each line is {"request": {...}, "expected": value}."""
    metric: Metric
    """What is computed from the answers and the expected values."""
    answer: str = Field(min_length=1)
    """Where the prediction is in the answer's JSON, like "language" or "results.0.score"."""
    path: UrlPath | None = None
    """The URL path of requests that do not name theirs; without it the path of the section check."""
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    """The least value of accuracy, f1_macro and spearman."""
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    """The largest value of mae and rmse."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """How many requests run at once."""

    @model_validator(mode="after")
    def _one_limit(self) -> Quality:
        needed, other = (
            ("at_most", "at_least") if self.metric in SMALLER_IS_BETTER else ("at_least", "at_most")
        )
        if getattr(self, other) is not None:
            raise problem("limit", f'{self.metric} takes "{needed}", not "{other}"')
        if getattr(self, needed) is None:
            raise problem("limit", f'{self.metric} needs "{needed}": the limit that the model must keep')
        return self

    @property
    def limit(self) -> float:
        """The number on the other side of ≥ or ≤."""
        limit = self.at_most if self.metric in SMALLER_IS_BETTER else self.at_least
        return math.nan if limit is None else limit


class Check(Section):
    """What the built image must do: start, become healthy, give the golden answers, reach the quality."""

    port: int = Field(default=8080, ge=1, le=65535)
    """The port that the model listens on."""
    health: UrlPath = "/healthz"
    """The URL path that answers 200 once the model is ready."""
    path: UrlPath = "/predict"
    """The URL path of requests that do not name theirs."""
    start_timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """How long the model may take until it is healthy, in seconds."""
    request_timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """How long one answer may take, in seconds."""
    unit: UnitTests | None = None
    """Unit tests of the model's own code, run in the image beside the other checks."""
    golden: CheckFile | None = None
    """A JSONL file of requests and the answers that must come, see docs/check.md."""
    tolerance: Tolerances = Field(default_factory=dict)
    """How far the numbers at a path (and below it) of an answer may be off. A case's own come on top."""
    ignore: tuple[str, ...] = ()
    """Paths of the answer that no golden case compares, like "took_ms"."""
    quality: Quality | None = None
    """A metric over a data file, with its limit."""
