"""What a rescan found: which live tags, in which registries, have what, and since which release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipelines.errors import Place as FilePlace
from pipelines.errors import ScanBlocked
from pipelines.registries.descriptors import short
from pipelines.scanners.policy import Verdict
from pipelines.scanners.port import Finding, ScannerResult
from pipelines.values import JSON
from pipelines.versions import ParsedVersion

if TYPE_CHECKING:
    from pipelines.config import Model

TITLES: Final = {"os_packages": "os", "python_packages": "python", "licences": "licences"}
MOST_FINDINGS: Final = 50
"""Told in the text for one model; all of them are in the JSON."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image is live."""

    registry: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.registry}: {', '.join(self.tags)}"


@dataclass(frozen=True, slots=True)
class Rejudged:
    """One live digest and what today's data and policy say of it."""

    digest: str
    places: tuple[Place, ...]
    released: str
    """The time of its commit, by its SBOM; "" where that isn't known."""
    results: tuple[ScannerResult, ...]
    verdict: Verdict
    since: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By id and package of a finding: the oldest live release that has it."""

    @property
    def tags(self) -> tuple[str, ...]:
        """All of its tags, wherever they are."""
        return tuple(sorted({tag for place in self.places for tag in place.tags}))

    @property
    def name(self) -> str:
        """What people call it: its version, else a tag, with its digest."""
        versions = [(found.order, tag) for tag in self.tags if (found := ParsedVersion.of_tag(tag))]
        return min(versions)[1] if versions else self.tags[0]

    @property
    def silent(self) -> tuple[ScannerResult, ...]:
        """The scanners that could not look."""
        return tuple(one for one in self.results if not one.audited)

    def standing(self, finding: Finding) -> str:
        """What becomes of a finding."""
        if finding in self.verdict.blocking:
            return "blocks"
        waiver = next((waiver for one, waiver in self.verdict.waived if one == finding), None)
        if waiver:
            return f"waived until {waiver.expires}"
        return "no fix is known" if finding in self.verdict.unfixed else "below the limit"


@dataclass(frozen=True, slots=True)
class Affected:
    """One finding with all live images that have it."""

    finding: Finding
    since: str
    images: tuple[Rejudged, ...]

    @property
    def standing(self) -> str:
        """What becomes of it: the worst of what becomes of it in each image."""
        told = [image.standing(one) for image in self.images for one in _same(image, self.finding)]
        return "blocks" if "blocks" in told else told[0]

    def lines(self) -> list[str]:
        """For people."""
        one = self.finding
        fixed = f" → {one.fixed_in}" if one.fixed_in else ""
        lines = [f"  {one.severity} {one.id} {one.subject} {one.installed}{fixed}: {self.standing}"]
        lines.append(f"    {one.title}" if one.title else "    (no title)")
        lines.append(f"    since {self.since}; {one.hint}" if one.hint else f"    since {self.since}")
        lines += [f"    {short(image.digest)}  {place}" for image in self.images for place in image.places]
        return lines

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            **self.finding.to_json(),
            "standing": self.standing,
            "since": self.since,
            "images": [image.digest for image in self.images],
            "tags": [
                {"registry": place.registry, "digest": image.digest, "tags": list(place.tags)}
                for image in self.images
                for place in image.places
            ],
        }


@dataclass(frozen=True, slots=True)
class RescannedModel:
    """One model in all of its registries."""

    model: Model
    images: tuple[Rejudged, ...]
    unread: tuple[tuple[str, str], ...]
    """Registries that could not be asked, each with the reason."""
    registries: int

    def affected(self) -> tuple[Affected, ...]:
        """Every finding once, worst first, with the images that have it."""
        images: dict[tuple[str, str], list[Rejudged]] = {}
        findings: dict[tuple[str, str], Finding] = {}
        for image in self.images:
            for one in image.verdict.findings:
                key = (one.id, one.subject)
                findings.setdefault(key, one)
                if image not in images.setdefault(key, []):
                    images[key].append(image)
        made = [Affected(one, images[key][0].since[key], tuple(images[key])) for key, one in findings.items()]
        return tuple(sorted(made, key=lambda one: (one.standing != "blocks", one.finding.rank)))

    @property
    def blocking(self) -> tuple[Rejudged, ...]:
        """The images that today's policy would hold back."""
        return tuple(image for image in self.images if image.verdict.blocks)

    def text(self) -> str:
        """For people."""
        tags = sum(len(place.tags) for image in self.images for place in image.places)
        lines = [
            f"{self.model.name}: {_count(tags, 'live tag')} of {_count(len(self.images), 'digest')} in "
            f"{_count(self.registries, 'registry', 'registries')}"
        ]
        found = self.affected()
        for one in found[:MOST_FINDINGS]:
            lines += one.lines()
        if len(found) > MOST_FINDINGS:
            lines.append(f"  and {len(found) - MOST_FINDINGS} more (--json has all of them)")
        for image in self.images:
            lines += self._silence(image)
        lines += [f"  could not look: {name}: {why}" for name, why in self.unread]
        lines.append(f"  {self._outcome(found)}")
        return "\n".join(lines)

    @staticmethod
    def _silence(image: Rejudged) -> list[str]:
        reasons: dict[str, list[str]] = {}
        for one in image.silent:
            reasons.setdefault(one.reason, []).append(TITLES.get(one.scanner, one.scanner))
        places = "; ".join(map(str, image.places))
        lines = [
            f"  could not look: {', '.join(names)} of {short(image.digest)} ({places}): {why}"
            for why, names in reasons.items()
        ]
        lines += [
            f"  stale: {TITLES.get(one.scanner, one.scanner)} of {short(image.digest)}: {one.stale}"
            for one in image.results
            if one.stale
        ]
        return lines

    def _outcome(self, found: Sequence[Affected]) -> str:
        if not self.registries:
            return "no registry and no image layout: nothing is released"
        if self.blocking or self.unread:
            names = [f"{image.name} ({short(image.digest)})" for image in self.blocking]
            return f"blocked by today's policy: {', '.join(names) or 'not everything could be looked at'}"
        return "nothing blocks" + (f", {_count(len(found), 'finding')} told" if found else "")

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "model": self.model.name,
            "verdict": "blocked" if self.blocking or self.unread else "passed",
            "affected": [one.to_json() for one in self.affected()],
            "images": [
                {
                    "digest": image.digest,
                    "released": image.released or None,
                    "places": [{"registry": one.registry, "tags": list(one.tags)} for one in image.places],
                    "verdict": "blocked" if image.verdict.blocks else "passed",
                    "scanners": [
                        {key: value for key, value in one.to_json().items() if key != "findings"}
                        for one in image.results
                    ],
                }
                for image in self.images
            ],
            "could_not_ask": [{"registry": name, "reason": why} for name, why in self.unread],
        }


@dataclass(frozen=True, slots=True)
class RescanReport:
    """All models of a rescan."""

    models: tuple[RescannedModel, ...]

    def text(self) -> str:
        """For people."""
        return "\n\n".join(one.text() for one in self.models)

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {"models": [one.to_json() for one in self.models]}

    def verify(self) -> None:
        """Hold that nothing live is blocked by today's policy.

        Raises:
            ScanBlocked: naming the first that is, or what could not be looked at.
        """
        for one in self.models:
            place = FilePlace(one.model.file)
            if one.blocking:
                image = one.blocking[0]
                raise ScanBlocked(
                    f"{one.model.name}: {_first(image)} in {image.places[0]}",
                    place=place,
                    hint=_hint(image),
                )
            if one.unread:
                name, why = one.unread[0]
                raise ScanBlocked(
                    f"{one.model.name}: {name} could not be asked: {why}",
                    place=place,
                    hint="what is live there is not known; log in there, or leave it out with --registry",
                )


def _first(image: Rejudged) -> str:
    verdict = image.verdict
    if verdict.blocking:
        worst, more = verdict.blocking[0], len(verdict.blocking) - 1
        return f"{worst}" + (f" (and {more} more)" if more else "")
    silent = (*verdict.not_audited, *verdict.stale)[0]
    return f"{TITLES.get(silent.scanner, silent.scanner)} not audited: {silent.reason or silent.stale}"


def _hint(image: Rejudged) -> str:
    verdict = image.verdict
    if verdict.blocking:
        worst = verdict.blocking[0]
        waiver = f"scan: waivers: [{{id: {worst.id}, reason: …, owner: …, expires: …}}]"
        return f"{worst.hint}, release anew and remove the tags; or accept it until a date: `{waiver}`"
    if verdict.not_audited:
        silent = verdict.not_audited[0]
        way = "release it anew, which records one" if not image.released else "make it possible to ask"
        return f"{way}; or accept it: `scan: could_not_look: {{{silent.scanner}: warn}}`"
    return "renew the data, or accept it: `scan: stale_data: {answer: warn}`"


def _same(image: Rejudged, finding: Finding) -> list[Finding]:
    return [one for one in image.verdict.findings if (one.id, one.subject) == (finding.id, finding.subject)]


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
