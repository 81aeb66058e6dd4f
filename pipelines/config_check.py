"""The ``check:`` section: what the built image must do before it gets a name (design, section 6)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from pipelines.config_check_values import CheckFile, UrlPath, below
from pipelines.config_quality import Quality
from pipelines.config_values import NamedPath, Section


def _number_is_absolute(value: object) -> object:
    """``score: 0.01`` is short for ``score: {absolute: 0.01}``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"absolute": value}
    return value


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
    files: tuple[Annotated[NamedPath, AfterValidator(below)], ...] = Field(default=("tests",), min_length=1)
    """Mounted at the same place below the image's working directory, read-only; never part of the image."""
    timeout_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """How long they may take, in seconds."""


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
    """A metric over a data file, with its limits."""
    published: str = Field(default="latest", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
    """The tag of the published version that this one is compared with, in the first registry that answers."""
