"""What a preflight found: a line for each check, and one error for all that would stop the run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipelines.errors import PipelineError, PushFailed
from pipelines.record import error_json
from pipelines.registries.errors import RegistryError, TagRefused
from pipelines.values import JSON


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: of the model, or of one registry."""

    name: str
    state: State
    text: str
    """What was found, for people; on a failure empty, for the error says it."""
    error: PipelineError | None = None
    short: str = ""
    """The finding in two or three words, for the line of a run."""

    @classmethod
    def ok(cls, name: str, text: str, *, short: str = "") -> Check:
        """It stands."""
        return cls(name, State.OK, text, short=short)

    @classmethod
    def failed(cls, name: str, error: PipelineError) -> Check:
        """It would stop the run."""
        return cls(name, State.FAILED, "", error)

    @classmethod
    def skipped(cls, name: str, why: str) -> Check:
        """It was not looked at."""
        return cls(name, State.SKIPPED, why)

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        return {
            "check": self.name,
            "state": self.state.value,
            "found": self.text or None,
            "error": error_json(self.error) if self.error else None,
        }

    def line(self, indent: str) -> str:
        """As a person reads it, with what to do where it failed."""
        word = "FAILED" if self.state is State.FAILED else self.state.value
        if self.error is None:
            return f"{indent}{self.name:<14} {word:<8} {self.text}".rstrip()
        hint = f"\n{indent}{'':<24}{self.error.hint}" if self.error.hint else ""
        return f"{indent}{self.name:<14} {word:<8} {self.error}{hint}"


@dataclass(frozen=True, slots=True)
class RegistryChecks:
    """The checks of one registry."""

    repository: str
    checks: tuple[Check, ...]
    is_directory: bool = False

    @property
    def errors(self) -> tuple[PipelineError, ...]:
        """What stands against a push to it."""
        return tuple(one.error for one in self.checks if one.error is not None)

    def short(self, name: str) -> str:
        """The finding of its check ``name``."""
        return next((one.short for one in self.checks if one.name == name), "")

    def to_json(self) -> dict[str, JSON]:
        """For the run record."""
        return {
            "repository": self.repository,
            "ready": not self.errors,
            "checks": [one.to_json() for one in self.checks],
        }


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """All checks of one model; a Report of the run's first stage."""

    model: str
    checks: tuple[Check, ...]
    registries: tuple[RegistryChecks, ...] = ()
    enough: int | None = None
    """How many registries have to be ready; None: all of them."""

    @property
    def asked(self) -> int:
        """How many registries have to be ready."""
        count = len(self.registries)
        return count if self.enough is None else min(self.enough, count)

    @property
    def ready(self) -> tuple[RegistryChecks, ...]:
        """The registries that nothing stands against."""
        return tuple(one for one in self.registries if not one.errors)

    @property
    def problems(self) -> tuple[PipelineError, ...]:
        """What would stop the run, the model's own first.

        A registry that is not needed is no problem, unless a release tag is taken there: a tag means one
        image everywhere, so the push would refuse.
        """
        own = tuple(one.error for one in self.checks if one.error is not None)
        of_registries = tuple(error for one in self.registries for error in one.errors)
        if len(self.ready) >= self.asked:
            return own + tuple(error for error in of_registries if isinstance(error, TagRefused))
        return own + of_registries

    def summary(self) -> str:
        """``2 registries ready · tag 8f3c2a1b9d04 free · 41 GB free``."""
        parts = [self._registries(), self._tags(), *(one.short for one in self.checks)]
        return " · ".join(part for part in parts if part)

    def _registries(self) -> str:
        count = len(self.registries)
        if not count or all(one.is_directory for one in self.registries):
            return ""
        noun = "registry" if count == 1 else "registries"
        if len(self.ready) == count:
            return f"{count} {noun} ready"
        missing = ", ".join(one.repository for one in self.registries if one.errors)
        return f"{len(self.ready)} of {count} {noun} ready (not {missing})"

    def _tags(self) -> str:
        found = {one.short("tags"): None for one in self.ready if one.short("tags")}
        return next(iter(found)) if len(found) == 1 else "released in some registries" if found else ""

    def to_json(self) -> dict[str, JSON]:
        """For the run record and ``modelport preflight --json``."""
        return {
            "model": self.model,
            "ready": not self.problems,
            "checks": [one.to_json() for one in self.checks],
            "registries": [one.to_json() for one in self.registries],
            "registries_asked": self.asked,
        }

    def text(self) -> str:
        """The table for people: a line a check."""
        lines = [self.model, *(one.line("  ") for one in self.checks)]
        for registry in self.registries:
            lines += [f"  {registry.repository}", *(one.line("    ") for one in registry.checks)]
        return "\n".join(lines)

    def verify(self) -> None:
        """Raise the first problem, with the others in its detail and this report.

        Raises:
            UsageError: the configuration, the commit or the disk.
            EngineUnavailable: no engine can run here.
            PushFailed: fewer registries are ready than the release rule asks for.
        """
        if not self.problems:
            return
        first, *others = self.problems
        told = [f"{one}{f' ({one.hint})' if one.hint else ''}" for one in others]
        detail = "\n".join([*([first.detail] if first.detail else []), *told])
        if isinstance(first, RegistryError):
            more = f" (and {len(others)} more, above)" if others else ""
            error = PushFailed(f"{self._policy()}{first}{more}", hint=first.hint, detail=detail)
            error.report = self
            raise error from first
        first.detail, first.report = detail, self
        raise first

    def _policy(self) -> str:
        if self.enough is None or len(self.ready) >= self.asked:
            return ""
        return f"{len(self.ready)} of {len(self.registries)} registries ready, at least {self.asked} asked: "
