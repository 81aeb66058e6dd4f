"""Where a weight file says that it comes from: what the Hugging Face hub's client leaves beside it.

Three places: its cache (``models--ORG--NAME/snapshots/REVISION``), a download to a directory
(``.cache/huggingface/download/FILE.metadata``), and ``config.json``. And the model card's licence and task.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REVISION = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
BLOB = re.compile(r"(.*/models--([^/]+))/blobs/[0-9a-f]{40,64}")
SNAPSHOT = re.compile(r".*/models--([^/]+)/snapshots/([0-9a-f]{40})/.+")
CARD = re.compile(r"(license|pipeline_tag|model_name):[ \t]*([A-Za-z0-9][A-Za-z0-9 .+_-]{0,80})[ \t]*")
LEVELS = 4
"""Directories above a file in which its download may have begun."""
LARGEST = 1 << 20


def cached_name(path: str, real: str) -> str:
    """The snapshot's name of a file in the hub's cache, whose own name is a digest; "" where it has none."""
    found = BLOB.fullmatch(path)
    if not found:
        return ""
    blob = real.rpartition("/")[2]
    home = Path(real).parent.parent / "snapshots"
    for link in _links(home):
        if os.readlink(str(link)).rpartition("/")[2] == blob:  # noqa: PTH115  Python 3.8 has no readlink()
            return f"{found[1]}/snapshots/{link.relative_to(home).as_posix()}"
    return ""


def _links(home: Path) -> Iterator[Path]:
    if home.is_dir() and not home.is_symlink():
        for directory, names, files in os.walk(str(home)):
            names.sort()
            for name in sorted(files):
                link = Path(directory, name)
                if link.is_symlink():
                    yield link


def origin_of(path: str, real: str) -> dict[str, str]:
    """``repository`` and ``revision`` of the hub, as far as they are told; empty without either."""
    if found := SNAPSHOT.fullmatch(path):
        return {"repository": found[1].replace("--", "/"), "revision": found[2]}
    told = _config(Path(real).parent / "config.json")
    if revision := _downloaded(Path(real)):
        told["revision"] = revision
    return told


def _downloaded(file: Path) -> str:
    """By the metadata that a download leaves: the first line is the commit."""
    parts: tuple[str, ...] = (file.name,)
    for above in list(file.parents)[:LEVELS]:
        metadata = above.joinpath(".cache", "huggingface", "download", *parts)
        text = _text(metadata.with_name(f"{metadata.name}.metadata"))
        first = text.partition("\n")[0].strip()
        if REVISION.fullmatch(first):
            return first
        parts = (above.name, *parts)
    return ""


def _config(file: Path) -> dict[str, str]:
    told = _json(file)
    found = {}
    name, revision = told.get("_name_or_path"), told.get("_commit_hash")
    if isinstance(name, str) and NAME.fullmatch(name) and "/" in name:
        found["repository"] = name
    if isinstance(revision, str) and REVISION.fullmatch(revision):
        found["revision"] = revision
    return found if "revision" in found else {}


def card_of(real: str) -> dict[str, str]:
    """What stands beside a weight file of what it is: licence and task of its model card, architecture."""
    beside = Path(real).parent
    front = _text(beside / "README.md")
    lines = front.split("\n---", 1)[0].splitlines() if front.startswith("---") else []
    found = {match[1]: match[2].strip() for line in lines if (match := CARD.fullmatch(line))}
    config = _json(beside / "config.json")
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    told = {
        "licence": found.get("license"),
        "task": found.get("pipeline_tag"),
        "family": config.get("model_type"),
        "architecture": architecture,
    }
    return {key: value[:100] for key, value in told.items() if isinstance(value, str) and value}


def _json(file: Path) -> dict[str, Any]:  # Any: from the image
    try:
        told = json.loads(_text(file) or "{}")
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _text(file: Path) -> str:
    """A small regular file's text. A link may lead out of the image: it is not followed."""
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
            return ""
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
