"""How far a number may be from the expected one, as several sections of ``check:`` have it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from pipelines.config_values import Section


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
