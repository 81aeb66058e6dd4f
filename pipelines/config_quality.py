"""The section ``check: quality:``: a metric over data, its limits and slices, what it is compared with."""

from __future__ import annotations

import keyword
import math
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipelines.config_check_paths import CheckFile, UrlPath
from pipelines.config_values import Section, problem
from pipelines.quality_table import METRICS, Answers


def _metric(name: str) -> str:
    if name in METRICS or (name.isidentifier() and not name.startswith("_") and not keyword.iskeyword(name)):
        return name
    raise problem("metric", f'"{name}" is not the name of a metric', "like accuracy, or f1_score")


def _one_is_a_list(value: object) -> object:
    """``by: language`` is short for ``by: [language]``."""
    return [value] if isinstance(value, str) else value


Columns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_one_is_a_list, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]
_BODIES: Final = ("json", "text", "body_file", "multipart")
_REQUEST_KEYS: Final = ("method", "path", "headers", *_BODIES)
Limit = Annotated[float, Field(allow_inf_nan=False)]


class Slices(Section):
    """The metric on parts of the data, so that a good average hides no bad part."""

    by: Columns
    """The column (or columns) whose values make the slices: rows with the same values are one."""
    at_least: Limit | None = None
    """The least value of every slice."""
    at_most: Limit | None = None
    """The largest value of every slice, where smaller is better."""
    minimum_rows: int = Field(default=20, ge=1)
    """A slice with fewer rows is shown, and not held to the limit."""


def _template(request: dict[str, Any]) -> dict[str, Any]:
    for key in request:
        if key not in _REQUEST_KEYS:
            near = get_close_matches(key, _REQUEST_KEYS, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(_REQUEST_KEYS)}"
            raise problem("request", f'unknown key "{key}"', hint)
    if len(bodies := [key for key in _BODIES if key in request]) > 1:
        raise problem("request", f'it has both "{bodies[0]}" and "{bodies[1]}"', "keep one of them")
    return request


RequestTemplate = Annotated[dict[str, Any], Field(min_length=1), AfterValidator(_template)]  # Any: JSON


class Quality(Section):
    """A metric over a data file, computed from the model's real answers, and the limits that it must keep."""

    data: CheckFile
    """A JSONL, CSV or Parquet file. A row of JSONL may hold its whole request, see docs/check.md."""
    metric: Annotated[str, AfterValidator(_metric)]
    """accuracy, f1_macro, mae, rmse, spearman, or any function of sklearn.metrics, like f1_score."""
    options: dict[str, Any] = Field(default_factory=dict)  # Any: whatever the metric takes
    """Arguments of the metric, like {average: weighted}."""
    answers: Answers | None = None
    """What the metric compares; needed only for a metric that Modelport does not know."""
    positive: str | int | bool | None = None
    """The class that a single score stands for, as in roc_auc_score; without it 1 or true."""
    answer: str = Field(min_length=1)
    """Where the prediction is in the answer's JSON, like "language" or "results.0.score"."""
    request: RequestTemplate | None = None
    """The request of a row; "{column}" stands for the row's value: {json: {text: "{text}"}}."""
    expected: str = Field(default="expected", min_length=1)
    """The column with the prediction that would be right."""
    path: UrlPath | None = None
    """The URL path of requests that do not name theirs; without it the path of the section check."""
    at_least: Limit | None = None
    """The least value, for a metric where larger is better."""
    at_most: Limit | None = None
    """The largest value, for a metric where smaller is better."""
    slices: Slices | None = None
    """The metric on parts of the data, with limits of their own."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """How sure the bootstrap intervals are."""
    no_worse_than: Literal["published"] | None = None
    """Compare with the version now under the tag `check: published:`, on the same data, row by row."""
    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How much worse than the published version is accepted."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """How many requests run at once."""

    @model_validator(mode="after")
    def _limits(self) -> Quality:
        if self.metric not in METRICS and self.answers is None:
            raise problem(
                "metric",
                f'Modelport does not know what "{self.metric}" compares',
                f"add `answers:`, one of {', '.join(Answers)}; known are {', '.join(METRICS)}",
            )
        if self.at_least is not None and self.at_most is not None:
            raise problem("limit", 'only one of "at_least" and "at_most" fits a metric')
        if self.metric not in METRICS and self.at_least is None and self.at_most is None:
            raise problem(
                "limit", f'"{self.metric}" needs "at_least" or "at_most": they tell which values are better'
            )
        needed, other = ("at_most", "at_least") if self.smaller_is_better else ("at_least", "at_most")
        if getattr(self, other) is not None:
            raise problem("limit", f'{self.metric} takes "{needed}", not "{other}"')
        if getattr(self, needed) is None and self.no_worse_than is None:
            raise problem(
                "limit",
                f'{self.metric} needs "{needed}", the limit that the model must keep',
                "or `no_worse_than: published`",
            )
        if self.slices is not None and getattr(self.slices, other) is not None:
            raise problem("limit", f'the slices of {self.metric} take "{needed}", not "{other}"')
        return self

    @property
    def smaller_is_better(self) -> bool:
        """Whether a smaller value of the metric is a better one."""
        known = METRICS.get(self.metric)
        return known.smaller_is_better if known is not None else self.at_most is not None

    @property
    def compares(self) -> Answers:
        """What the metric compares."""
        return self.answers or METRICS[self.metric].answers

    @property
    def limit(self) -> float:
        """The number on the other side of ≥ or ≤; NaN where there is none."""
        limit = self.at_most if self.smaller_is_better else self.at_least
        return math.nan if limit is None else limit
