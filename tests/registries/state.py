"""What is really in a registry, read from its disk: nothing of the client or the proxy is trusted here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.registry_process import RegistryProcess

_FALLBACK = re.compile(r"sha256-[0-9a-f]{64}")


def is_fallback(tag: str) -> bool:
    """Whether a tag is no name but a list of referrers (distribution specification 1.1, "Referrers")."""
    return _FALLBACK.fullmatch(tag) is not None


def named(registry: RegistryProcess, path: str) -> list[str]:
    """The tags of a repository that name a release."""
    return [tag for tag in registry.tags(path) if not is_fallback(tag)]


def unfinished(registry: RegistryProcess, path: str) -> list[str]:
    """Every tag that names something that is not whole, and what it lacks."""
    found: list[str] = []
    for tag in registry.tags(path):
        try:
            digest = registry.tag_digest(path, tag)
        except FileNotFoundError:
            found.append(f"{tag}: a tag without a digest")
            continue
        found += [f"{tag}: {lack}" for lack in lacks(registry, path, digest)]
    return found


def lacks(registry: RegistryProcess, path: str, digest: str) -> list[str]:
    """What a repository lacks of a manifest and all that it needs, or has damaged; nothing if it is whole."""
    return list(_lacks(registry, path, digest))


def is_final(registry: RegistryProcess, path: str, digest: str, tags: Collection[str]) -> list[str]:
    """How a repository differs from one that holds the release whole, under exactly ``tags``."""
    found = lacks(registry, path, digest) + unfinished(registry, path)
    if set(named(registry, path)) != set(tags):
        found.append(f"tags are {named(registry, path)} instead of {sorted(tags)}")
    else:
        found += [
            f"{tag} is {registry.tag_digest(path, tag)[:19]} instead of {digest[:19]}"
            for tag in tags
            if registry.tag_digest(path, tag) != digest
        ]
    return found


def _lacks(registry: RegistryProcess, path: str, digest: str) -> Iterator[str]:
    if not _link(registry, path, "_manifests/revisions", digest).is_file():
        yield f"manifest {digest[:19]} is not in the repository"
        return
    if not _is_sound(registry, digest):
        yield f"manifest {digest[:19]} is missing or damaged"
        return
    content = json.loads(registry.blob(digest).read_bytes())
    blobs = [content["config"], *content["layers"]] if "config" in content else []
    for blob in blobs:
        if not _link(registry, path, "_layers", blob["digest"]).is_file():
            yield f"blob {blob['digest'][:19]} is not in the repository"
        elif not _is_sound(registry, blob["digest"], blob["size"]):
            yield f"blob {blob['digest'][:19]} is missing or damaged"
    for child in content.get("manifests", []):
        yield from _lacks(registry, path, child["digest"])


def _link(registry: RegistryProcess, path: str, kind: str, digest: str) -> Path:
    algorithm, _, code = digest.partition(":")
    return registry.repository(path) / kind / algorithm / code / "link"


def _is_sound(registry: RegistryProcess, digest: str, size: int | None = None) -> bool:
    try:
        with registry.blob(digest).open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            return found == digest and size in (None, file.tell())
    except FileNotFoundError:
        return False
