"""The section ``check: schema:``: the form of what the model takes and gives, and what may change in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.config_check_paths import CheckFile, UrlPath
from pipelines.config_values import Section, problem


class SchemaCheck(Section):
    """The model's OpenAPI document or the JSON Schema of its answer; real answers have to conform."""

    openapi: UrlPath | None = None
    """The URL path at which the running model gives its OpenAPI document, like /openapi.json."""
    file: CheckFile | None = None
    """An OpenAPI document in the repository, JSON or YAML."""
    answer: CheckFile | None = None
    """A JSON Schema of the answers with status 200 of the path of the section check."""
    compare: Literal["published"] | None = None
    """Compare with the version that is published under the tag latest."""
    breaking: Literal["fail", "warn"] = "fail"
    """What a change does that breaks callers: fail, or only be told."""
    samples: int = Field(default=10, ge=1, le=100)
    """How many of the golden cases' requests are sent, and their answers held against the schema."""

    @model_validator(mode="after")
    def _one_source(self) -> SchemaCheck:
        named = [name for name in ("openapi", "file", "answer") if getattr(self, name) is not None]
        if len(named) != 1:
            told = " and ".join(f'"{name}"' for name in named) or "none"
            raise problem(
                "schema",
                f'the schema comes from one of "openapi", "file" and "answer", not from {told}',
                "openapi: /openapi.json asks the running model; file: and answer: name a file",
            )
        return self
