"""The base image ``python:3.11-slim`` where no public registry is reached: made once from Debian packages.

``provide(address)`` is all that callers need: it returns the environment that makes ``FROM python:3.11-slim``
work unchanged, with the stand-in pushed to the loopback registry at ``address`` and a ``registries.conf``
naming it as docker.io's mirror; or an empty environment where the real image is reached. ``ensure(cache)``
gives the image alone, as an OCI layout (``skopeo copy oci:DIR:python-3.11-slim …``).

The stand-in behaves like the real one: ``python`` and ``pip`` on PATH, pip not refused as "externally
managed", Debian's own package sources with the three suites of Debian 12 (whose Python is 3.11), ``CMD
python3``. Nothing of the machine it was made on is in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "docker.io/library/python:3.11-slim"
PATH_IN_REGISTRY = "library/python:3.11-slim"
LAYOUT_TAG = "python-3.11-slim"
CACHE = Path(__file__).resolve().parent.parent / ".cache"
REACH_TIMEOUT_S = 3.0
MAKE_TIMEOUT_S = 900.0
MAX_AGE_S = 7 * 24 * 3600.0
"""An older stand-in is made again: it lacks a week of security updates, and the scan would say so."""

EPOCH = 1686355200
"""Debian 12's release, 2023-06-10: later file times become this, so that a rebuild gives the same layer."""

PACKAGES = (
    "usr-is-merged", "ca-certificates", "netbase", "tzdata",
    "python3", "python3-pip", "python3-venv", "python-is-python3",
)  # fmt: skip
_LEFT_OUT = ("man", "doc", "locale", "info", "lintian", "i18n", "groff")
_SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_FILES = {
    "etc/apt/sources.list.d/debian.sources": _SOURCES,
    # As in Debian's own container images: packages start no service, downloaded packages are not kept.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/apt/apt.conf.d/docker-clean": (
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    ),
    "etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
}
_FINISH = """\
set -eu
chmod 755 "$1"/usr/sbin/policy-rc.d
rm -f "$1"/etc/apt/sources.list "$1"/etc/resolv.conf "$1"/etc/hostname
rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
mv "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/docker
rm -rf "$1"/var/log/*.log "$1"/var/log/apt "$1"/var/cache/ldconfig/aux-cache "$1"/var/cache/debconf/*-old
rm -f "$1"/var/cache/apt/*.bin
"""


class BaseImageError(Exception):
    """The stand-in could not be made; the text holds the reason as the failing program gave it."""


def provide(address: str, *, cache: Path = CACHE) -> dict[str, str]:
    """What to add to the environment so that ``FROM python:3.11-slim`` works, with a registry at ``address``.

    Raises:
        BaseImageError: no public registry and no Debian packages were reached, or a program is missing.
    """
    if not made(cache) and reached():
        return {}
    layout = ensure(cache)
    push(layout, address)
    return {"CONTAINERS_REGISTRIES_CONF": str(mirror_configuration(address, cache))}


def reached(timeout_s: float = REACH_TIMEOUT_S) -> bool:
    """Whether the real image answers within ``timeout_s``, by whatever mirror or proxy is set here."""
    if not shutil.which("skopeo"):
        return False
    try:
        result = subprocess.run(
            ["skopeo", "inspect", "--raw", f"docker://{NAME}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0


def made(cache: Path = CACHE) -> Path | None:
    """The layout of a stand-in that was made earlier and is not too old."""
    layout = cache / f"base-image-{_recipe_digest()[:12]}"
    try:
        age = time.time() - (layout / "index.json").stat().st_mtime
    except FileNotFoundError:
        return None
    return layout if age < MAX_AGE_S else None


def ensure(cache: Path = CACHE) -> Path:
    """The stand-in as an OCI layout: an earlier one, or made now (20 to 60 s), once for all callers."""
    with _only_one(cache / "base-image.lock"):
        if layout := made(cache):
            return layout
        layout = cache / f"base-image-{_recipe_digest()[:12]}"
        with tempfile.TemporaryDirectory(prefix="base-image-", dir=cache) as work:
            fresh = Path(work) / "layout"
            _make_layout(fresh, Path(work))
            for old in cache.glob("base-image-*/index.json"):  # of an earlier recipe, or too old
                shutil.rmtree(old.parent)
            fresh.rename(layout)
        return layout


def push(layout: Path, address: str) -> None:
    """Push the stand-in to the loopback registry at ``address``; blobs that it has are not sent again."""
    command = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    _run([*command, f"oci:{layout}:{LAYOUT_TAG}", f"docker://{address}/{PATH_IN_REGISTRY}"])


def mirror_configuration(address: str, cache: Path = CACHE) -> Path:
    """A ``registries.conf`` in which the registry at ``address`` is asked before docker.io."""
    conf = cache / f"registries-{address.rpartition(':')[2]}.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(
        'unqualified-search-registries = ["docker.io"]\n\n'
        '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n\n'
        f'[[registry.mirror]]\nlocation = "{address}"\ninsecure = true\n'
    )
    return conf


def _make_layout(layout: Path, work: Path) -> None:
    environment = {
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "HOME": str(work),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
        "SOURCE_DATE_EPOCH": str(EPOCH),
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
    }
    tar = work / "root.tar"
    _run(_mmdebstrap(work, tar), environment=environment)
    (layout / "blobs" / "sha256").mkdir(parents=True)
    diff_id, layer = _compressed(tar, layout)
    _write_index(layout, diff_id, layer)


def _mmdebstrap(work: Path, tar: Path) -> list[str]:
    uploads = []
    for number, (name, text) in enumerate(_FILES.items()):
        source = work / f"file-{number}"
        source.write_text(text)
        uploads.append(f"--customize-hook=upload {source} /{name}")
    excludes = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    hook = "/usr/share/mmdebstrap/hooks/merged-usr"  # else usrmerge brings 50 MB of Perl
    return [
        "mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--hook-dir={hook}",
        f"--include={','.join(PACKAGES)}", *excludes, "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        *uploads, f"--customize-hook={_FINISH}", "bookworm", str(tar),
        "deb http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb http://deb.debian.org/debian-security bookworm-security main",
    ]  # fmt: skip


def _compressed(tar: Path, layout: Path) -> tuple[str, dict[str, object]]:
    """Gzip ``tar`` into the layout's blobs, without name and time; its diff id and its descriptor."""
    raw, packed = hashlib.sha256(), hashlib.sha256()
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
    part = layout / "blobs" / "layer.part"
    with tar.open("rb") as source, part.open("wb") as target:
        for chunk in iter(lambda: source.read(1 << 20), b""):
            raw.update(chunk)
            data = compressor.compress(chunk)
            packed.update(data)
            target.write(data)
        data = compressor.flush()
        packed.update(data)
        target.write(data)
    digest = packed.hexdigest()
    size = part.stat().st_size
    part.rename(layout / "blobs" / "sha256" / digest)
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    return f"sha256:{raw.hexdigest()}", {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _write_index(layout: Path, diff_id: str, layer: dict[str, object]) -> None:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "created": created,
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
            "Cmd": ["python3"],
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "mmdebstrap bookworm"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(layout, "application/vnd.oci.image.config.v1+json", config),
        "layers": [layer],
    }
    entry = _blob(layout, "application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": LAYOUT_TAG}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps(index))


def _blob(layout: Path, media_type: str, value: object) -> dict[str, object]:
    data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _recipe_digest() -> str:
    recipe = [PACKAGES, _LEFT_OUT, _FILES, _FINISH, EPOCH, _architecture()]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def _run(command: list[str], *, environment: dict[str, str] | None = None) -> None:
    if not shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        raise BaseImageError(f"{command[0]} is not installed")
    try:
        result = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MAKE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BaseImageError(f"{command[0]} did not end within {MAKE_TIMEOUT_S:.0f} s") from error
    if result.returncode != 0:
        raise BaseImageError(f"{command[0]} failed:\n" + "\n".join(result.stderr.strip().splitlines()[-8:]))


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
