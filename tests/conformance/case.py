"""What a case is: a short program or document with a name, and the JSON that comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .site import Site

Answer: TypeAlias = Any  # any JSON value
Program: TypeAlias = Callable[[Site], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Case:
    """One named program; ``alone`` when nothing else may run in its session meanwhile."""

    theme: str
    name: str
    program: Program
    alone: bool = False

    @property
    def id(self) -> str:
        """Its name among all cases."""
        return f"{self.theme}/{self.name}"


@dataclass(frozen=True, slots=True)
class Theme:
    """The cases of one module; they share a session."""

    name: str
    cases: list[Case] = field(default_factory=list)

    def case(self, program: Program) -> Program:
        """A program is a case under its own name."""
        return self._add(program, alone=False)

    def alone(self, program: Program) -> Program:
        """A case that runs when the others of its module are done."""
        return self._add(program, alone=True)

    def raw(self, name: str, document: str) -> None:
        """A GraphQL document is a case; BASE in it stands for a chain's start, ``from`` the base image.

        A document with BASE leaves the closing braces to us.
        """

        async def program(site: Site) -> Answer:
            return await site.ask(document)

        program.__name__ = name
        self._add(program, alone=False)

    def _add(self, program: Program, *, alone: bool) -> Program:
        name = program.__name__
        assert name not in {case.name for case in self.cases}, f"two cases {self.name}/{name}"
        self.cases.append(Case(self.name, name, program, alone))
        return program
