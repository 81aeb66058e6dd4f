"""The ``check:`` section: what the built image must do before it gets a name (design, section 6)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from pipelines.config_abuse import Abuse, AbuseOrNot
from pipelines.config_batch import Batch
from pipelines.config_budgets import Budgets
from pipelines.config_check_paths import CheckFile, UrlPath, below
from pipelines.config_quality import Quality
from pipelines.config_schema_check import SchemaCheck
from pipelines.config_tolerance import Tolerance, Tolerances
from pipelines.config_values import NamedPath, Section, problem

__all__ = ["Check", "GpuCheck", "Tolerance", "UnitTests"]

CheckFiles = tuple[Annotated[NamedPath, AfterValidator(below)], ...]


class UnitTests(Section):
    """Tests of the model's own code, run in the image."""

    command: tuple[str, ...] = Field(
        default=("python", "-m", "unittest", "discover", "-s", "tests"), min_length=1
    )
    """Run in the image's working directory, with the image's user and environment."""
    files: CheckFiles = Field(default=("tests",), min_length=1)
    """Mounted at the same place below the image's working directory, read-only; never part of the image."""
    requirements: CheckFile | None = None
    """What the tests need beside the model, for pip: installed beside the image, never part of it."""
    python: str = Field(default="python3", min_length=1)
    """The image's Python, for which the requirements are installed."""
    timeout_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """How long they may take, in seconds."""


class GpuCheck(Section):
    """A command that needs a GPU: run in the image where the engine has one, else skipped aloud."""

    command: tuple[str, ...] = Field(min_length=1)
    """Run in the image's working directory, with all GPUs; it has to end with 0."""
    files: CheckFiles = ()
    """Mounted at the same place below the image's working directory, read-only; never part of the image."""
    required: bool = False
    """Whether the check fails where there is no GPU."""
    timeout_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """How long it may take, in seconds."""


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
    schema_: SchemaCheck | None = Field(default=None, alias="schema")
    """The form of what the model takes and gives, and what changed in it since the published version."""
    golden: CheckFile | None = None
    """A JSONL or YAML file of requests and the answers that must come, see docs/check.md."""
    tolerance: Tolerances = Field(default_factory=dict)
    """How far the numbers at a path (and below it) of an answer may be off. A case's own come on top."""
    ignore: tuple[str, ...] = ()
    """Paths of the answer that no golden case compares, like "took_ms"."""
    quality: Quality | None = None
    """A metric over a data file, with its limits."""
    budgets: Budgets | None = None
    """What the model may cost in time, memory and size."""
    abuse: AbuseOrNot = Field(default_factory=Abuse)
    """Hostile requests that the model has to outlive: on for every model with a server; false is none."""
    batch: Batch | None = None
    """For a model without a server: a command that makes files out of files."""
    gpu: GpuCheck | None = None
    """A command that needs a GPU, for where there is one."""
    published: str = Field(default="latest", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
    """The tag of the published version that this one is compared with, in the first registry that answers."""

    @model_validator(mode="before")
    @classmethod
    def _nobody_to_abuse(cls, section: Any) -> Any:  # Any: what the YAML file has there
        """A model without a server is sent no requests, unless the file asks for them: that is told below."""
        if isinstance(section, dict) and section.get("batch") is not None:
            return {"abuse": False, **section}
        return section

    @model_validator(mode="after")
    def _no_server(self) -> Check:
        served = ("schema_", "golden", "quality", "budgets", "abuse")
        named = [name.rstrip("_") for name in served if getattr(self, name) is not None]
        if self.batch is not None and named:
            raise problem(
                "batch",
                f'"batch" is for a model without a server, and "{named[0]}" asks one',
                "keep one of them; a batch run's time and files are judged by `batch:` itself",
            )
        return self
