"""Opaque ids: base64 of a type name and a recipe's hash. The values themselves stay in the session."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TypeVar

from embedded_engine.values import Value

V = TypeVar("V")


class UnknownId(Exception):
    """An id that is not of this session, or of another type."""


@dataclass(slots=True)
class Objects:
    """The values that ids were handed out for."""

    by_id: dict[str, Value] = field(default_factory=dict)

    def put(self, value: Value) -> str:
        """The id of ``value``: the same for the same recipe."""
        text = f"{type(value).__name__}:{value.digest}"
        identity = base64.urlsafe_b64encode(text.encode()).decode()
        self.by_id[identity] = value
        return identity

    def any(self, identity: str) -> Value:
        """The value with this id. Raises UnknownId."""
        value = self.by_id.get(identity)
        if value is None:
            raise UnknownId(
                f"unknown id ({_described(identity)}): ids are valid in the session that gave them"
            )
        return value

    def get(self, kind: type[V], identity: str) -> V:
        """The value with this id, which must be a ``kind``. Raises UnknownId."""
        value = self.any(identity)
        if not isinstance(value, kind):
            raise UnknownId(f"expected the id of a {kind.__name__}, got one of a {type(value).__name__}")
        return value


def _described(identity: str) -> str:
    try:
        name, _, digest = base64.urlsafe_b64decode(identity).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        return "not one of this engine's"
    return f"{name} {digest[:12]}" if name.isidentifier() else "not one of this engine's"
