"""The ``check:`` part of ``modelport.yaml``: what the image must do before it gets a name (design, section 6)."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Metric = Literal["accuracy", "f1_macro", "mae", "rmse", "spearman"]
SMALLER_IS_BETTER: frozenset[str] = frozenset({"mae", "rmse"})

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tolerance(BaseModel):
    """How far a number may be from the expected one: within ``absolute`` or within ``relative`` × expected."""

    model_config = _FROZEN

    absolute: float = Field(default=0.0, ge=0)
    relative: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.absolute and not self.relative:
            raise ValueError(
                "a tolerance needs absolute: or relative: above 0; leave it out for an exact match"
            )
        return self


def _number_is_absolute(value: object) -> object:
    """``score: 0.01`` is short for ``score: {absolute: 0.01}``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"absolute": value}
    return value


Tolerances = dict[str, Annotated[Tolerance, BeforeValidator(_number_is_absolute)]]


class UnitTests(BaseModel):
    """Tests of the model's own code, run in the image. ``files`` are mounted at the same place under the image's
    working directory, read-only; they never enter the image."""

    model_config = _FROZEN

    command: tuple[str, ...] = Field(
        default=("python", "-m", "unittest", "discover", "-s", "tests"), min_length=1
    )
    files: tuple[str, ...] = Field(default=("tests",), min_length=1)
    timeout_s: float = Field(default=300.0, gt=0)

    @field_validator("files")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(relative_path(file) for file in files)


class Quality(BaseModel):
    """A metric over a data file, computed from the model's real answers, with the limit it must keep.

    ``data`` is JSONL: ``{"request": {...}, "expected": value}``. ``answer`` is the dotted path of the prediction
    in the answer's JSON.
    """

    model_config = _FROZEN

    data: str
    metric: Metric
    answer: str = Field(min_length=1)
    path: str | None = None  # of requests that do not name theirs; check.path otherwise
    at_least: float | None = None
    at_most: float | None = None
    concurrency: int = Field(default=4, ge=1, le=64)

    @field_validator("data")
    @classmethod
    def _inside(cls, data: str) -> str:
        return relative_path(data)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        needed, other = (
            ("at_most", "at_least") if self.metric in SMALLER_IS_BETTER else ("at_least", "at_most")
        )
        if getattr(self, needed) is None:
            raise ValueError(f"{self.metric} needs {needed}: the limit that the model must keep")
        if getattr(self, other) is not None:
            raise ValueError(f"{self.metric} takes {needed}:, not {other}:")
        return self

    @property
    def limit(self) -> float:
        """The number on the other side of ≥ or ≤."""
        limit = self.at_most if self.metric in SMALLER_IS_BETTER else self.at_least
        return math.nan if limit is None else limit


class Check(BaseModel):
    """What the built image must do: start, become healthy, give the golden answers, reach the quality."""

    model_config = _FROZEN

    port: int = Field(default=8080, ge=1, le=65535)
    health: str = "/healthz"
    path: str = "/predict"  # of golden requests that do not name theirs
    start_timeout_s: float = Field(default=60.0, gt=0)
    request_timeout_s: float = Field(default=30.0, gt=0)
    unit: UnitTests | None = None
    golden: str | None = None
    tolerance: Tolerances = Field(default_factory=dict)  # for every golden case; a case's own come on top
    ignore: tuple[str, ...] = ()
    quality: Quality | None = None

    @field_validator("golden")
    @classmethod
    def _inside(cls, golden: str | None) -> str | None:
        return None if golden is None else relative_path(golden)

    @field_validator("health", "path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not path.startswith("/") or any(c.isspace() for c in path):
            raise ValueError(f"{path!r} is not a URL path: write it with a leading / and without spaces")
        return path


def relative_path(text: str) -> str:
    """``text`` as a plain path inside the model's directory.

    Raises:
        ValueError: it is empty, absolute, or leaves the directory.
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or text.startswith("/") or ".." in parts:
        raise ValueError(f"{text!r} is not a path inside the model's directory")
    return "/".join(parts)
