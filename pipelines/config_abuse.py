"""The section ``check: abuse:``: requests that nobody should send, and a model that has to outlive them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipelines.config_values import Section

Attack = Literal[
    "empty",
    "huge",
    "malformed",
    "wrong_types",
    "missing_fields",
    "deep",
    "numbers",
    "text",
    "unknown_path",
    "unknown_method",
    "garbage",
    "lengths",
    "slow",
    "concurrent",
]


class Abuse(Section):
    """Hostile requests: none may be answered with 500 or hang, and the model has to answer afterwards."""

    skip: tuple[Attack, ...] = ()
    """Attacks that are left out."""
    refused: tuple[Attack, ...] = ()
    """Attacks that have to get a status of 400 to 499: being taken (200) is not enough."""
    huge_mb: int = Field(default=16, ge=1, le=1024)
    """The size of the huge body, in megabytes."""
    concurrent: int = Field(default=32, ge=2, le=256)
    """How many requests and half-open connections there are at once."""
    within_s: float = Field(default=10.0, gt=0, le=600, allow_inf_nan=False)
    """How long an answer to an attack may take, in seconds."""


def _on_or_off(value: Any) -> Any:  # Any: what the YAML file has there
    """``abuse: true`` is ``abuse: {}``, ``abuse: false`` switches it off."""
    if isinstance(value, bool):
        return {} if value else None
    return value


AbuseOrNot = Annotated[Abuse | None, BeforeValidator(_on_or_off, json_schema_input_type=Abuse | bool | None)]
"""The section, or true or false."""
