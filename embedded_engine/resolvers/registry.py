"""How a resolver is written down: one function per field, with the field's arguments as keywords.

    fields = Fields()

    @fields("Directory.withNewFile")
    def with_new_file(call: Call, parent: Directory, *, path: str, contents: str, ...) -> Directory: ...

Arguments come in snake_case with the schema's defaults filled in; an argument that was not given and has no
default is absent, so give it a Python default. Object arguments are id strings:
``call.session.objects.get(Directory, id)``. A resolver may be sync or async. A field of the schema that no
table has is refused by name before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from embedded_engine.session import Session

Resolver = Callable[..., Any]  # the arguments differ by field; the schema checks them
R = TypeVar("R", bound=Resolver)


@dataclass(frozen=True, slots=True)
class Call:
    """What every resolver gets beside its parent."""

    session: Session


class Fields(dict[str, Resolver]):
    """A table from "Type.field" to its resolver."""

    def __call__(self, *names: str) -> Callable[[R], R]:
        """Register the decorated function for each of ``names``."""

        def register(resolver: R) -> R:
            for name in names:
                if name in self:
                    raise ValueError(f"{name} has two resolvers")
                self[name] = resolver
            return resolver

        return register


class ApiError(Exception):
    """An error for the user of the API: its text is the message of the GraphQL error."""

    def __init__(self, message: str, *, extensions: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.extensions = extensions
