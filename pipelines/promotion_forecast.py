"""What a promotion would do in one registry. It is asked, and nothing is written there."""

from __future__ import annotations

from pipelines.promotion import Share
from pipelines.promotion_content import Part
from pipelines.registries.descriptors import Descriptor
from pipelines.registries.errors import NotFound, RepositoryMissing
from pipelines.registries.port import OpenRegistry, Registry
from pipelines.stages.copy import Promoting, cargo_of, steps
from pipelines.stages.delivery import Progress, each
from pipelines.stages.moving_tags import reason_to_stay
from pipelines.stages.naming import Naming


async def foresee(promoting: Promoting, target: Registry) -> Share:
    """One registry's share of ``promoting``, before it is run.

    Raises:
        RegistryError: it can't be asked, or (TagRefused) a release tag names another image there.
    """
    cargo, names, history = promoting.cargo, promoting.names, promoting.history
    async with target.open() as registry:
        naming = Naming(cargo.release, names, target, registry, Progress(), promoting.differences, history)
        await naming.look()
        missing = await _missing_blobs(registry, cargo.blobs)
        manifests = _manifests_to_send(promoting, missing, await _missing_manifests(registry, promoting.part))
        kept: dict[str, str] = {}
        for tag in names.moving_tags:
            held = await registry.tag_digest(tag)
            if held not in (None, promoting.digest):
                reason = await reason_to_stay(tag, promoting.release, names, registry, history)
                kept |= {tag: reason} if reason else {}
    blobs = sum(blob.size for blob in cargo.blobs if blob.digest in missing)
    mounts = bool(promoting.fetched.origins(target)(promoting.digest))
    return Share(
        repository=target.name,
        copied=manifests + (0 if mounts else blobs),
        mounted=blobs if mounts else 0,
        already=max(0, cargo.size - manifests - blobs),
        tags=tuple(tag for tag in names.tags if tag not in kept),
        kept=kept,
    )


def _manifests_to_send(promoting: Promoting, blobs: set[str], manifests: set[str]) -> int:
    """The bytes of manifests. As ``Delivering`` has it, one goes out again when any blob of it does."""
    size, blobs, manifests = 0, set(blobs), set(manifests)
    for part in steps(promoting.part):
        cargo = cargo_of(part, promoting.release)
        own = {blob.digest for blob in cargo.blobs}
        out = [part.manifest] if own & blobs or part.manifest.digest in manifests else []
        out += [one for one in cargo.referrers if one.digest in manifests]
        size += sum(len(one.body) for one in out)
        blobs -= own
        manifests -= {one.digest for one in out}
    return size


async def _missing_blobs(registry: OpenRegistry, blobs: tuple[Descriptor, ...]) -> set[str]:
    missing: set[str] = set()

    async def look(blob: Descriptor) -> None:
        if not await registry.has_blob(blob):
            missing.add(blob.digest)

    await each(blobs, look)
    return missing


async def _missing_manifests(registry: OpenRegistry, part: Part) -> set[str]:
    missing: set[str] = set()
    for digest in {one.manifest.digest for one in part.all()}:
        try:
            await registry.read_manifest(digest)
        except (NotFound, RepositoryMissing):
            missing.add(digest)
    return missing
