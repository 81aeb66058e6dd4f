"""The hops of a trace: each holds one thing that an image says of itself against the local clone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pipelines.git_history import Commit, GitHistory
from pipelines.registries.descriptors import is_digest, text_mapping
from pipelines.source import browser_address
from pipelines.statements import GATES, GateVerdict, Result
from pipelines.values import JSON
from pipelines.versions import ParsedVersion

OCI: Final = "org.opencontainers.image"
_DIRTY: Final = "-dirty"
_COMMIT_TAG = re.compile(r"[0-9a-f]{7,40}")


class Verdict(StrEnum):
    """How a hop ended."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "could not check"


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a trace, and what it was held against."""

    name: str
    verdict: Verdict
    text: str
    hint: str = ""

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "text": self.text,
            "hint": self.hint or None,
        }


@dataclass(frozen=True, slots=True)
class TracedImage:
    """What the registry told, verified by digest."""

    digest: str
    model_name: str
    config: Mapping[str, Any] = field(repr=False)
    hops: tuple[Hop, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its config."""
        inner = self.config.get("config")
        return text_mapping(inner.get("Labels")) if isinstance(inner, dict) else {}

    def label(self, name: str) -> str:
        """One of the OCI labels, safe to print; "" where it is missing."""
        return printable(self.labels.get(f"{OCI}.{name}", ""))


def gates_hop(gates: Mapping[str, GateVerdict]) -> Hop:
    """What is recorded of the gates that the image went through. It is not signed: the pusher's word."""
    if not gates:
        return Hop(
            "gates",
            Verdict.UNKNOWN,
            "nothing is recorded of them beside the image",
            "it was released before that was done, or not by Modelport: release its commit again",
        )
    told = [_gate(gates[name]) for name in (*GATES, *gates) if name in gates]
    failed = [one for one in gates.values() if not one.holds]
    hint = "it should not be used: see what failed, and release again" if failed else ""
    verdict = Verdict.FAILED if failed else Verdict.OK
    return Hop("gates", verdict, f"{' · '.join(dict.fromkeys(told))} (recorded, not signed)", hint)


def _gate(verdict: GateVerdict) -> str:
    """``scan passed with warnings``; an inventory is told as what it is."""
    if verdict.gate == "inventory" and verdict.holds:
        return "SBOM"
    failed = f" ({printable(_shortened(verdict.failed))})" if verdict.failed else ""
    words = {Result.PASSED: "passed", Result.WARNED: "passed with warnings", Result.FAILED: "failed"}
    return f"{verdict.gate} {words[verdict.result]}{failed}"


def labels_hop(image: TracedImage) -> Hop:
    """What the image says of itself. Without a revision there is nothing to follow."""
    told = [
        f"{name} {image.label(name)}" for name in ("version", "created", "base.name") if image.label(name)
    ]
    if not image.label("revision"):
        return Hop(
            "labels",
            Verdict.FAILED,
            f"the image names no commit ({OCI}.revision is missing)",
            "it was not released by Modelport, or its labels were removed: release it again",
        )
    source = image.label("source") or "an unnamed repository"
    return Hop("labels", Verdict.OK, ", ".join([f"commit {image.label('revision')} of {source}", *told]))


async def commit_hops(image: TracedImage, wanted: str, clone: GitHistory) -> list[Hop]:
    """Commit, tag text, version, source: what the labels say against what the clone knows."""
    revision = image.label("revision")
    if not revision:
        return []
    hops: list[Hop] = []
    if not is_digest(wanted):
        hops.append(_tag_text_hop(wanted, image))
    if not await clone.exists():
        hint = "run it inside a clone of the repository, or name one with --repository"
        return [*hops, Hop("commit", Verdict.UNKNOWN, f"{clone.directory} is no git clone", hint)]
    remotes = await clone.remotes()
    source = _source_hop(image, remotes)
    commit = await clone.commit(revision.removesuffix(_DIRTY))
    hops.append(await _commit_hop(image, commit, clone, source))
    if commit is not None:
        hops.append(_created_hop(image, commit))
    if version := image.label("version"):
        hops += await _version_hop(image, version, wanted, clone)
    return [*hops, source]


def _tag_text_hop(tag: str, image: TracedImage) -> Hop:
    """Does the tag's own text say the same as the labels?"""
    revision, version = image.label("revision"), image.label("version")
    if revision.endswith(_DIRTY):
        return (
            Hop("name", Verdict.OK, f"{tag} is a build with uncommitted changes, and says so")
            if (tag.endswith(_DIRTY))
            else Hop(
                "name",
                Verdict.FAILED,
                f"{tag} names a build with uncommitted changes",
                "release a clean commit",
            )
        )
    if revision[:7] in tag:
        return Hop("name", Verdict.OK, f"{tag} names the commit")
    if _COMMIT_TAG.fullmatch(tag) and not tag.isdigit():
        return Hop(
            "name",
            Verdict.FAILED,
            f"{tag} looks like a commit, and the image is of {revision[:12]}",
            "somebody moved the tag: trace by digest, and push the right image again",
        )
    parsed = ParsedVersion.parse(tag)
    if parsed is not None:
        own = ParsedVersion.parse(version)
        if own is not None and own.text != parsed.text:
            return Hop("name", Verdict.FAILED, f"{tag} is a version, and the image says it is {own.text}")
        return Hop("name", Verdict.OK, f"{tag} is a version; see below which commit has it")
    return Hop("name", Verdict.OK, f"{tag} moves: it says nothing of the commit")


async def _commit_hop(image: TracedImage, commit: Commit | None, clone: GitHistory, source: Hop) -> Hop:
    revision = image.label("revision")
    if revision.endswith(_DIRTY):
        return Hop(
            "commit",
            Verdict.FAILED,
            f"built from {revision[:12]} with uncommitted changes: no commit has these files",
            "commit, and release again",
        )
    if commit is not None:
        where = _shortened(commit.branches) or (
            f"tags {_shortened(commit.tags)}" if commit.tags else "no branch"
        )
        text = f'{revision[:12]} "{printable(commit.subject)}" by {printable(commit.author)}, on {where}'
        return Hop("commit", Verdict.OK, text)
    if source.verdict is Verdict.FAILED:
        hint = f"run it in a clone of {image.label('source') or 'its repository'}"
        return Hop(
            "commit", Verdict.UNKNOWN, f"{revision[:12]} is not in this clone, which is another's", hint
        )
    if await clone.is_shallow():
        return Hop(
            "commit",
            Verdict.UNKNOWN,
            f"{revision[:12]} is not in this shallow clone",
            "git fetch --unshallow",
        )
    return Hop(
        "commit",
        Verdict.FAILED,
        f"{revision[:40]} is not in the history of this clone",
        "`git fetch --all --tags` and trace again; if it stays so, the commit was removed or never pushed",
    )


def _created_hop(image: TracedImage, commit: Commit) -> Hop:
    """The image says its commit's time; another time means that the label, or the commit, was made up."""
    told = image.label("created") or str(image.config.get("created", ""))
    try:
        same = datetime.fromisoformat(told) == commit.committed_at
    except (ValueError, TypeError):
        same = False
    when = f"{commit.committed_at:%Y-%m-%d %H:%M:%S} UTC"
    if same:
        return Hop("time", Verdict.OK, f"committed {when}, as the image says")
    return Hop("time", Verdict.FAILED, f"committed {when}, and the image says {printable(told) or 'nothing'}")


async def _version_hop(image: TracedImage, version: str, wanted: str, clone: GitHistory) -> list[Hop]:
    """The version tag in git, of the tag's text or the label, points to this commit. No version: no hop."""
    parsed = ParsedVersion.parse(wanted) or ParsedVersion.parse(version)
    if parsed is None:
        return []
    revision = image.label("revision").removesuffix(_DIRTY)
    found = await clone.commit_of_version(image.model_name, parsed.text)
    if found is None:
        text = f"this clone has no tag for {parsed.text}"
        return [
            Hop(
                "version", Verdict.UNKNOWN, text, "git fetch --tags (a version may also be set without a tag)"
            )
        ]
    tag, commit = found
    if commit == revision:
        return [Hop("version", Verdict.OK, f"the tag {tag} points to this commit")]
    hint = "the tag was moved after the release, or the image was tagged by hand"
    return [
        Hop("version", Verdict.FAILED, f"the tag {tag} points to {commit[:12]}, not to {revision[:12]}", hint)
    ]


def _source_hop(image: TracedImage, remotes: tuple[str, ...]) -> Hop:
    source = image.label("source")
    if not source:
        return Hop(
            "source", Verdict.UNKNOWN, "the image names no repository", "it was built without a git remote"
        )
    if not remotes:
        return Hop(
            "source",
            Verdict.UNKNOWN,
            f"{source}; this clone has no remote to compare",
            "git remote add origin …",
        )
    if _same_address(source, remotes):
        return Hop("source", Verdict.OK, f"{source} is a remote of this clone")
    return Hop(
        "source",
        Verdict.FAILED,
        f"the image is of {source}, and this clone of {_shortened(remotes)}",
        "a fork or a mirror? Run it in a clone of the image's repository, or add that as a remote",
    )


def _same_address(source: str, remotes: tuple[str, ...]) -> bool:
    return (browser_address(source) or source).casefold() in {remote.casefold() for remote in remotes}


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def printable(text: str) -> str:
    """Foreign text that can't steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])
