"""``modelport registry apply``: repositories as the configuration says; never widened silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.config import find_models, load
from pipelines.config_clouds import Kind, RepositorySettings
from pipelines.errors import PartialPush, PushFailed, UsageError
from pipelines.managed_repositories import Managed, managed
from pipelines.registries.administration import Administration, Change
from pipelines.registries.errors import RegistryError
from pipelines.registries.reference import Repository
from pipelines.values import JSON


class NothingApplied(PushFailed):
    """No repository was changed, and some have to be."""


class AppliedInPart(PartialPush):
    """Some changes were made and some were not; the detail tells which."""


@dataclass(frozen=True, slots=True)
class RepositoryChanges:
    """What has to be done to one repository, or why that can't be told."""

    name: str
    kind: Kind
    changes: tuple[Change, ...] = ()
    problem: RegistryError | None = None

    def told(self) -> str:
        """Like a difference of files, for people."""
        lines = [f"{self.name} ({self.kind})"]
        if self.problem is not None:
            lines.append(f"  error: {self.problem}")
            lines += [f"  hint: {self.problem.hint}"] if self.problem.hint else []
        elif not self.changes:
            lines.append("  nothing to manage" if self.kind is Kind.OCI else "  as it should be")
        return "\n".join([*lines, *(line for change in self.changes for line in _lines(change))])

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "repository": self.name,
            "kind": str(self.kind),
            "changes": [_change_json(change) for change in self.changes],
            "error": str(self.problem) if self.problem else None,
        }


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done to one repository."""

    name: str
    made: tuple[Change, ...] = ()
    left: tuple[Change, ...] = ()
    """Not made: the first of them failed, or nothing could be told of this repository."""
    problem: RegistryError | None = None

    def told(self) -> str:
        """For people."""
        done = ", ".join(change.what for change in self.made) or "nothing"
        text = f"{self.name}: {done} changed"
        if self.problem is None:
            return text
        left = ", ".join(change.what for change in self.left)
        return f"{text}; {f'not {left}: ' if left else ''}{self.problem}"

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "repository": self.name,
            "changed": [change.what for change in self.made],
            "not_changed": [change.what for change in self.left],
            "error": str(self.problem) if self.problem else None,
        }


async def registry_changes(where: Path, environ: Mapping[str, str]) -> tuple[RepositoryChanges, ...]:
    """What has to be done to every repository that the models at ``where`` name, ``environments:`` included.

    Only reads. A repository that nothing can be told of says why; the others are told all the same.

    Raises:
        ConfigError: the configuration is wrong, or contradicts itself about a repository.
    """
    models = [load(file, environ) for file in find_models(where)]
    return tuple([await _changes(one, environ) for one in managed(models)])


async def apply(changes: Sequence[RepositoryChanges], *, widen: bool) -> tuple[Applied, ...]:
    """Make the changes, repository by repository. The failure of one does not stop the others.

    Raises:
        UsageError: somebody would get more access, and ``widen`` does not say that this is meant; nothing was
            changed.
        NothingApplied, AppliedInPart: not all could be done; ``report`` holds what was.
    """
    if not widen:
        refuse_widening(changes)
    done = tuple([await _apply(one) for one in changes])
    failed = [one for one in done if one.problem is not None]
    if failed:
        raise _failure(done, failed)
    return done


def refuse_widening(changes: Sequence[RepositoryChanges]) -> None:
    """Raise UsageError where a change would give more access, each named."""
    wider = [(one.name, change) for one in changes for change in one.changes if change.widens]
    if wider:
        what = "; ".join(f"{change.what} of {name}" for name, change in wider)
        raise UsageError(
            f"{len(wider)} of the changes would widen access: {what}",
            hint="look at the difference; if it is meant, add --widen. Nothing was changed",
        )


def hold_told(changes: Sequence[RepositoryChanges]) -> None:
    """For ``--dry-run``: raise NothingApplied where a repository's difference could not be told."""
    failed = [one for one in changes if one.problem is not None]
    if failed:
        problem = failed[0].problem
        raise NothingApplied(
            f"the difference of {len(failed)} of {len(changes)} repositories can't be told: {problem}",
            hint=problem.hint if problem else "",
        )


def told(changes: Sequence[RepositoryChanges]) -> str:
    """All differences, for people."""
    if not changes:
        return "no registry is configured: nothing to manage"
    return "\n".join(one.told() for one in changes)


def to_json(changes: Sequence[RepositoryChanges]) -> list[JSON]:
    """All differences, for ``--json``."""
    return [one.to_json() for one in changes]


async def _changes(one: Managed, environ: Mapping[str, str]) -> RepositoryChanges:
    name, kind = str(one.repository), one.target.registry_kind
    try:
        found = await _administration(one, environ).differences(one.settings, one.moving_tags)
    except RegistryError as err:
        return RepositoryChanges(name, kind, problem=err)
    return RepositoryChanges(name, kind, found)


def _administration(one: Managed, environ: Mapping[str, str]) -> Administration:
    """The management of its kind; a cloud's SDK is imported only for its own."""
    match one.target.registry_kind:
        case Kind.ECR:
            from pipelines.registries.ecr_administration import administration as ecr  # noqa: PLC0415

            return ecr(one.target, one.repository, environ)
        case Kind.ACR:
            from pipelines.registries.acr_administration import administration as acr  # noqa: PLC0415

            return acr(one.target, one.repository, environ)
        case Kind.GAR:
            from pipelines.registries.gar_administration import administration as gar  # noqa: PLC0415

            return gar(one.target, one.repository, environ)
        case _:
            return Unmanaged(one.repository)


@dataclass(frozen=True, slots=True)
class Unmanaged:
    """A plain OCI registry: the distribution API can't manage repositories."""

    repository: Repository

    async def differences(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...]
    ) -> tuple[Change, ...]:
        """None; but settings that nobody would see to are an error."""
        given = sorted(
            key for key in settings.model_fields_set if key != "create" and getattr(settings, key) is not None
        )
        if given:
            raise RegistryError(
                f"oci: {self.repository} can't be managed from here, so nothing would see to "
                + ", ".join(f"settings.{key}" for key in given),
                hint="remove it and set it in the registry's own interface; or say kind: ecr, acr or gar",
            )
        return ()


async def _apply(one: RepositoryChanges) -> Applied:
    made: list[Change] = []
    try:
        if one.problem is not None:
            raise one.problem
        for change in one.changes:
            await change.apply()
            made.append(change)
    except RegistryError as err:
        return Applied(one.name, tuple(made), one.changes[len(made) :], err)
    return Applied(one.name, tuple(made))


def _failure(done: Sequence[Applied], failed: Sequence[Applied]) -> NothingApplied | AppliedInPart:
    made = sum(len(one.made) for one in done)
    first = failed[0].problem
    kind = AppliedInPart if made else NothingApplied
    error = kind(
        f"{len(failed)} of {len(done)} repositories are not as they should be: {first}",
        hint=(first.hint if first else "") or "run it again: what is done is not done twice",
        detail="\n".join(one.told() for one in done),
    )
    error.report = done
    return error


def _lines(change: Change) -> list[str]:
    sign = "~" if change.before and change.after else "-" if change.before else "+"
    text = " -> ".join(part for part in (change.before, change.after or "nothing") if part)
    lines = [f"  {sign} {change.what}: {text}"]
    lines += ["    ! widens access"] if change.widens else []
    return [*lines, *([f"    ! may delete {change.removes}"] if change.removes else [])]


def _change_json(change: Change) -> dict[str, JSON]:
    return {
        "what": change.what,
        "before": change.before,
        "after": change.after,
        "widens": change.widens,
        "removes": change.removes,
    }
