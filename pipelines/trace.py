"""Trace: from a tag to the commit, by the registry or layout alone; each hop held against the local clone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipelines.errors import TraceFailed
from pipelines.git_history import GitHistory
from pipelines.registries.descriptors import (
    CONFIG_LIMIT,
    is_digest,
    json_object,
    short,
)
from pipelines.registries.errors import RegistryError
from pipelines.registries.platforms import image_of
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.registries.targets import find
from pipelines.statements import GateVerdict, recorded_gates
from pipelines.trace_hops import OCI, Hop, TracedImage, Verdict, commit_hops, gates_hop, labels_hop
from pipelines.values import JSON


@dataclass(frozen=True, slots=True)
class Trace:
    """Where an image comes from, hop by hop."""

    reference: str
    digest: str
    labels: Mapping[str, str]
    hops: tuple[Hop, ...]

    @property
    def revision(self) -> str:
        """The commit that the image says it is of; "" where it says nothing."""
        return self.labels.get(f"{OCI}.revision", "")

    @property
    def verdict(self) -> Verdict:
        """Failed when a hop did, unknown when one could not be checked."""
        found = {hop.verdict for hop in self.hops}
        return next((one for one in (Verdict.FAILED, Verdict.UNKNOWN) if one in found), Verdict.OK)

    def verify(self) -> None:
        """Hold that no hop failed. One that could not be checked is told, and is no failure.

        Raises:
            TraceFailed: naming the first hop that does not verify.
        """
        for hop in self.hops:
            if hop.verdict is Verdict.FAILED:
                raise TraceFailed(f"{self.reference}: {hop.name}: {hop.text}", hint=hop.hint)

    def text(self) -> str:
        """The trace for people, a line per hop."""
        marks = {Verdict.OK: "ok", Verdict.FAILED: "FAILED", Verdict.UNKNOWN: "?"}
        lines = [self.reference]
        lines += [f"  {hop.name:<9} {marks[hop.verdict]:<7} {hop.text}" for hop in self.hops]
        unknown = [hop for hop in self.hops if hop.verdict is Verdict.UNKNOWN]
        if self.verdict is Verdict.OK:
            lines.append("verified  every hop")
        elif self.verdict is Verdict.UNKNOWN:
            names = ", ".join(hop.name for hop in unknown)
            lines.append(f"verified  all that can be from here; not checked: {names}")
            lines += [f"hint: {hint}" for hint in dict.fromkeys(hop.hint for hop in unknown) if hint]
        return "\n".join(lines)

    def to_json(self) -> dict[str, JSON]:
        """For ``--json``."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "revision": self.revision or None,
            "verdict": self.verdict.value,
            "labels": dict(self.labels),
            "hops": [hop.to_json() for hop in self.hops],
        }


async def trace(reference: str, repository: Path, environ: Mapping[str, str] | None = None) -> Trace:
    """Follow ``reference`` to its commit and hold every hop against the clone at ``repository``.

    Raises:
        UsageError: it is no reference.
        TraceFailed: the registry can't be read, or it has no such image. (A hop that fails is in the result.)
    """
    environ = os.environ if environ is None else environ
    registry, wanted = find(reference, Path.cwd(), environ)
    try:
        async with registry.open() as opened:
            image = await _read(opened, registry, wanted)
    except RegistryError as err:
        raise TraceFailed(f"{reference} can't be read: {err}", hint=err.hint or _READ_HINT) from err
    clone = GitHistory(repository, environ)
    hops = [*image.hops, *await commit_hops(image, wanted, clone)]
    return Trace(reference, image.digest, image.labels, tuple(hops))


_READ_HINT: Final = "check the repository and the tag; `skopeo list-tags` shows what is there"


async def _read(opened: OpenRegistry, registry: Registry, wanted: str) -> TracedImage:
    named = await opened.read_manifest(wanted)
    where = "given" if is_digest(wanted) else f"{registry.name}:{wanted}"
    hops = [Hop("tag", Verdict.OK, f"{where} is {named.digest}")]
    manifest, platform = await image_of(opened, named)
    if platform:
        hops.append(Hop("platform", Verdict.OK, f"{platform} is {manifest.digest}"))
    image = manifest.image()
    config = json_object(await opened.read_blob(image.config.digest, CONFIG_LIMIT), "the image's config")
    size = f"{image.size / 1e6:.0f} MB in {len(image.layers)} layers"
    hops.append(Hop("image", Verdict.OK, f"config {short(image.config.digest)}, {size}"))
    found = TracedImage(manifest.digest, registry.name.rpartition("/")[2], config)
    digests = dict.fromkeys((manifest.digest, named.digest))  # of an index: what is recorded of either
    return replace(found, hops=(*hops, await _gates(opened, tuple(digests)), labels_hop(found)))


async def _gates(opened: OpenRegistry, digests: tuple[str, ...]) -> Hop:
    gates: dict[str, GateVerdict] = {}
    try:
        for digest in digests:
            gates |= await recorded_gates(opened, digest)
    except RegistryError as err:  # a registry may let one read images, and not list what refers to them
        return Hop("gates", Verdict.UNKNOWN, f"what is recorded of them can't be read: {err}", err.hint)
    return gates_hop(gates)
