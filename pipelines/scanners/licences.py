"""The licences of what is in the image, held against the policy: the model's, Python's, the OS's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from pipelines.config_scan import ScanPolicy, Severity
from pipelines.scanners.port import Finding, ImageView, ScannerName, ScannerResult
from pipelines.scanners.programs import version_of

if TYPE_CHECKING:
    from pipelines.config import Model
    from pipelines.config_licences import Licences as LicencesSection
    from pipelines.scanners.contents import Contents, OsPackage, PythonPackage, WeightFile

_CONFIGURATION: Final = "modelport.yaml"
UNKNOWN: Final = "unknown"
"""The id of a finding on a package whose licence can't be told: what a waiver names."""


@dataclass(frozen=True, slots=True)
class Licensed:
    """One component with what it says of its licence."""

    kind: str
    """"model", "python" or "os", as ``scan.licences.judge`` has it."""
    name: str
    version: str
    expression: str
    """SPDX; "" where it can't be told."""
    said: str
    """Its own words, where they aren't the expression."""
    where: str
    """The file that says so: a path in the image, or modelport.yaml."""


@dataclass(frozen=True, slots=True)
class Licences:
    """Judges the components that the inventory lists. It needs no network, and no data but the SPDX list."""

    model: Model
    name: ScannerName = field(default="licences", init=False)
    network: str = field(default="", init=False)

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """What isn't allowed, and what can't be told. Not audited when part of the image was not read."""
        contents = await image.contents()
        components = [*of_model(self.model, contents.weights), *licensed(contents)]
        return await to_thread.run_sync(judged, components, contents, policy.licences)


def of_model(model: Model, weights: Sequence[WeightFile]) -> Iterator[Licensed]:
    """The model by ``license:`` of modelport.yaml; each weight file that has a licence of its own by that.

    A weight file's is what ``inventory: weights:`` says of it, else its header, else the card beside it.
    """
    from pipelines.inventory_model import fits  # noqa: PLC0415  as below
    from pipelines.scanners.licence_names import from_expression, from_names  # noqa: PLC0415  as below

    said = model.license or ""
    yield Licensed("model", model.name, "", from_expression(said), said, _CONFIGURATION)
    for file in weights:
        told = next((one.license for one in model.inventory.weights if fits(file.path, one.files)), None)
        own = told or str(file.facts.get("licence") or file.card.get("licence") or "")
        if own:
            yield Licensed(
                "model", file.path, "", from_names(own), own, _CONFIGURATION if told else file.path
            )


def licensed(contents: Contents) -> Iterator[Licensed]:
    """Every package of ``contents``, each name and version once."""
    seen = set()
    for package in contents.python:
        if not package.debian and (package.name, package.version) not in seen:
            seen.add((package.name, package.version))
            yield _python(package)
    for one in contents.os_packages:
        yield _os(one)


def _python(package: PythonPackage) -> Licensed:
    said = package.licence_expression or package.licence or ", ".join(package.licence_classifiers)
    where = package.path if package.path.endswith(".egg-info") else f"{package.path}/METADATA"
    return Licensed("python", package.name, package.version, python_expression(package), said, where)


def python_expression(package: PythonPackage) -> str:
    """By PEP 639's expression, else ``License``, else the classifiers, of which all are taken to hold.

    SPDX; "" where it can't be told.
    """
    from pipelines.scanners.licence_names import from_expression, from_names, joined  # noqa: PLC0415  700 names

    expression = from_expression(package.licence_expression) if package.licence_expression else ""
    return expression or from_names(package.licence) or joined(map(from_names, package.licence_classifiers))


def _os(package: OsPackage) -> Licensed:
    said = ", ".join(package.licences)
    return Licensed("os", package.name, package.version, os_expression(package), said, package.licence_file)


def os_expression(package: OsPackage) -> str:
    """All that the package names hold; a name that only its own copyright file explains is a LicenseRef.

    SPDX; "" where it can't be told.
    """
    from pipelines.scanners.licence_names import from_names, joined, name_or_reference  # noqa: PLC0415  as above

    return joined([from_names(name, name_or_reference) for name in package.licences])


def judged(components: Sequence[Licensed], contents: Contents, section: LicencesSection) -> ScannerResult:
    """The policy's word on ``components``, as a result. Without a policy they are counted."""
    from pipelines.scanners.licence_names import LIST_VERSION  # noqa: PLC0415  as above

    wanted = [one for one in components if one.kind in section.judge and not _ignored(one, section)]
    known = [one for one in (_with_declared(one, section) for one in wanted) if one.expression]
    unknown = len(wanted) - len(known)
    unread = [*contents.problems]
    if contents.other_package_database and "os" in section.judge:
        unread.append(f"the {contents.other_package_database} package database is not read")
    return ScannerResult(
        "licences",
        audited=not unread,
        reason=f"not read: {'; '.join(unread[:3])}" if unread else "",
        findings=tuple(_findings([_with_declared(one, section) for one in wanted], section)),
        looked_at=len(wanted),
        data=f"SPDX licence list {LIST_VERSION}",
        version=version_of(
            "collect", "debian_copyright", "os_package_lists", "licence_names", "licence_policy"
        ),
        note=f"{len({one.expression for one in known})} licences, {unknown} unknown",
    )


def _ignored(one: Licensed, section: LicencesSection) -> bool:
    return any(fnmatchcase(one.name.lower(), glob.lower()) for glob in section.ignore)


def _with_declared(one: Licensed, section: LicencesSection) -> Licensed:
    """A licence that somebody has looked up counts before the package's own word."""
    declared = section.declared.get(one.name)
    if declared is None:
        return one
    return Licensed(one.kind, one.name, one.version, declared, "", _CONFIGURATION)


def _findings(components: Sequence[Licensed], section: LicencesSection) -> Iterator[Finding]:
    from pipelines.scanners.licence_policy import LicencePolicy, Standing  # noqa: PLC0415  as above

    policy = LicencePolicy(section.allow, section.deny)
    has_policy = bool(section.allow or section.deny or section.unknown == "block")
    for one in components if has_policy else ():
        standing, because = policy.standing(one.expression) if one.expression else (Standing.UNKNOWN, "")
        if standing is Standing.UNKNOWN:
            yield _unknown(one, because, "high" if section.unknown == "block" else "low")
        elif standing is not Standing.ALLOWED:
            yield _refused(one, because, "denied" if standing is Standing.DENIED else "not in the allow list")


def _refused(one: Licensed, because: str, why: str) -> Finding:
    whole = "" if because == one.expression else f" (of {_short(one.expression)})"
    return Finding(
        scanner="licences",
        id=one.expression if len(one.expression) <= _LONGEST_ID else because,
        severity="high",
        subject=one.name,
        title=f"{because} is {why}{whole}",
        installed=one.version,
        where=one.where,
        file=_CONFIGURATION if one.where == _CONFIGURATION else "",
        aliases=(because,) if because != one.expression else (),
        hint=f"take {one.name} out, or use another one; whoever may decide it can add {because} to "
        "scan: licences: allow",
    )


def _unknown(one: Licensed, because: str, severity: Severity) -> Finding:
    said = because or one.said
    title = f"its licence can't be told: it says {_short(said)}" if said else "it names no licence"
    return Finding(
        scanner="licences",
        id=UNKNOWN,
        severity=severity,
        subject=one.name,
        title=title,
        installed=one.version,
        where=one.where,
        file=_CONFIGURATION if one.where == _CONFIGURATION else "",
        aliases=(because,) if because else (),
        hint="name it under license: in modelport.yaml"
        if one.kind == "model" and not one.where.startswith("/")
        else f"read what {one.name} says and write it down: `scan: licences: declared: {{{one.name}: …}}`",
    )


_LONGEST_ID: Final = 80
"""An expression longer than this, of a Debian package with many authors, is no name for a waiver."""


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_ID else f"{text[: _LONGEST_ID - 1]}…"
