"""What the checkout says of weight files: DVC's files, Git LFS pointers, downloads of the Hugging Face hub.

Each is believed by content alone: a pointer counts for a file of the image only with the file's own digest.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread

MOST_FILES: Final = 50_000
"""Of a checkout; data that lies in one unpacked is not searched for ever."""
LARGEST: Final = 4 << 20
LEFT_OUT: Final = frozenset(
    {".git", ".modelport", ".venv", "venv", "node_modules", "__pycache__", "site-packages"}
)
DOWNLOADS: Final = "/.cache/huggingface/download"
GIT_S: Final = 30

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_OID = re.compile(rb"oid sha256:([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Pointers:
    """Names of files in the checkout, by the digest of what they point to."""

    dvc: Mapping[str, str] = field(default_factory=dict)
    """MD5 to the file of DVC that names it, with the path that it is of."""
    lfs: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 to the path."""
    hub: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 to the revision of the hub that it was downloaded from."""


def has_dvc(directory: Path) -> bool:
    """Whether the checkout has files of DVC: then the weights' MD5 is wanted."""
    return any(_is_dvc(file) for file in _files(directory))


async def pointers(directory: Path, environ: Mapping[str, str]) -> Pointers:
    """What the checkout at ``directory`` says. What can't be read says nothing."""
    found = await to_thread.run_sync(_on_disk, directory)
    return Pointers(found.dvc, await _lfs(directory, environ), found.hub)


def _on_disk(directory: Path) -> Pointers:
    dvc: dict[str, str] = {}
    hub: dict[str, str] = {}
    for file in _files(directory):
        name = file.relative_to(directory).as_posix()
        if _is_dvc(file):
            for digest, path in _dvc_outputs(file):
                dvc.setdefault(digest, f"{name} ({path})")
        elif file.suffix == ".metadata":
            revision, digest = _downloaded(file)
            if digest:
                hub.setdefault(digest, revision)
    return Pointers(dvc, {}, hub)


def _files(directory: Path) -> Iterator[Path]:
    """The files of DVC and the hub's notes, in a stable order."""
    seen = 0
    for where, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if name not in LEFT_OUT)
        downloads = DOWNLOADS in f"{where}/"
        for name in sorted(files):
            if name.endswith(".dvc") or name == "dvc.lock" or (downloads and name.endswith(".metadata")):
                yield Path(where, name)
        seen += len(files)
        if seen > MOST_FILES:
            return


def _is_dvc(file: Path) -> bool:
    return file.suffix == ".dvc" or file.name == "dvc.lock"


def _dvc_outputs(file: Path) -> Iterator[tuple[str, str]]:
    """MD5 and path of each output (https://dvc.org/doc/user-guide/project-structure/dvc-files)."""
    import yaml  # noqa: PLC0415  only where there is DVC

    text = _text(file)
    try:
        told = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return
    stages = told.get("stages") if isinstance(told, dict) and file.name == "dvc.lock" else {"": told}
    for stage in stages.values() if isinstance(stages, dict) else ():
        outputs = stage.get("outs") if isinstance(stage, dict) else ()
        for one in outputs if isinstance(outputs, list) else ():
            if isinstance(one, dict):
                yield from _dvc_output(one, file)


def _dvc_output(one: Mapping[str, Any], file: Path) -> Iterator[tuple[str, str]]:  # Any: from YAML
    digest, path = str(one.get("md5", "")), str(one.get("path", ""))
    if _MD5.fullmatch(digest):
        yield digest, path
    elif digest.endswith(".dir"):
        listing = _cached(file.parent, digest)
        for member in listing:
            if isinstance(member, dict) and _MD5.fullmatch(str(member.get("md5", ""))):
                yield str(member["md5"]), f"{path}/{member.get('relpath', '')}"


def _cached(directory: Path, digest: str) -> list[Any]:  # Any: JSON
    """The listing of a directory that DVC keeps in its cache, where the cache is here."""
    for above in (directory, *directory.parents):
        if (above / ".dvc").is_dir():
            cache = above / ".dvc" / "cache"
            for home in (cache / "files" / "md5", cache):
                try:
                    told = json.loads(_text(home / digest[:2] / digest[2:]) or "[]")
                except ValueError:
                    continue
                if told and isinstance(told, list):
                    return told
            break
    return []


def _downloaded(file: Path) -> tuple[str, str]:
    """Revision and SHA-256, as huggingface_hub notes a download: commit, ETag and time, a line each."""
    lines = [*_text(file).splitlines(), "", ""]
    revision, etag = lines[0].strip(), lines[1].strip().strip('"')
    return (
        (revision, etag) if _DIGEST.fullmatch(etag) and re.fullmatch(r"[0-9a-f]{40}", revision) else ("", "")
    )


async def _lfs(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The pointers of Git LFS in the commit, by gitattributes(5): the files themselves are checked out."""
    if not any(_names_lfs(above / ".gitattributes") for above in (directory, *directory.parents)):
        return {}
    listed = await _git(directory, environ, "ls-files", "-s", "-z", "--", ":(attr:filter=lfs)")
    entries = [entry.partition(b"\t") for entry in listed.split(b"\0") if b"\t" in entry]
    ids = [head.split()[1] for head, _, _ in entries]
    told = await _git(directory, environ, "cat-file", "--batch", stdin=b"".join(one + b"\n" for one in ids))
    found: dict[str, str] = {}
    for _, _, path in entries:
        head, _, told = told.partition(b"\n")
        parts = head.split()
        size = int(parts[2]) if len(parts) == 3 else 0
        body, told = told[:size], told[size + 1 :]
        if match := _OID.search(body):
            found.setdefault(match[1].decode(), path.decode("utf-8", "replace"))
    return found


def _names_lfs(file: Path) -> bool:
    return "filter=lfs" in _text(file)


async def _git(directory: Path, environ: Mapping[str, str], *arguments: str, stdin: bytes = b"") -> bytes:
    """What git prints; nothing where it has no answer."""
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(directory), "-c", "core.fsmonitor=false", *arguments]
    try:
        with anyio.fail_after(GIT_S):
            settings = {"PATH": os.defpath, **kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
            done = await anyio.run_process(command, input=stdin, env=settings, check=False)
    except (OSError, TimeoutError):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace") if file.stat().st_size <= LARGEST else ""
    except OSError:
        return ""
