"""A base image of a few megabytes for engine tests: a shell, core tools and Perl, taken from the machine.

Nothing is downloaded. It stands in for a distribution's image: /etc/passwd, a PATH, shared libraries.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

PROGRAMS = (
    *("cat", "chmod", "chown", "cp", "echo", "env", "false", "find", "grep", "head", "hostname", "id", "ln"),
    *(
        "ls",
        "mkdir",
        "mv",
        "perl",
        "printenv",
        "printf",
        "pwd",
        "rm",
        "sed",
        "seq",
        "sh",
        "sha256sum",
        "sleep",
    ),
    *("sort", "stat", "tail", "tee", "test", "touch", "tr", "true", "umask", "uname", "wc"),
)
PASSWD = """root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
app:x:1000:1000::/home/app:/bin/sh
"""
DIRECTORIES = (
    *("usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"),
    *("etc", "root", "tmp", "home", "home/app", "dev", "proc", "sys"),
)
GROUP = "root:x:0:\nnogroup:x:65534:\napp:x:1000:\n"
PERL_LIBRARY = "/usr/lib/x86_64-linux-gnu/perl-base"


def write_layout(directory: Path, *, env: tuple[str, ...] = ("PATH=/usr/bin:/bin", "BASE=tiny")) -> None:
    """An OCI layout with the image in ``directory``."""
    layer = _layer()
    raw = gzip.decompress(layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": {"Env": list(env), "Cmd": ["/bin/sh"], "Labels": {"base": "tiny"}},
        "rootfs": {"type": "layers", "diff_ids": [_digest(raw)]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "tiny base"}],
    }
    config_text = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config_text),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
    }
    manifest_text = json.dumps(manifest).encode()
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for data in (layer, config_text, manifest_text):
        (blobs / _digest(data).removeprefix("sha256:")).write_bytes(data)
    index = {"schemaVersion": 2, "manifests": [_descriptor(manifest["mediaType"], manifest_text)]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def push(layout: Path, address: str) -> None:
    """Send the layout's image to a loopback registry."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
    subprocess.run([*command, f"oci:{layout}", f"docker://{address}"], check=True, timeout=60)


def _layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("bin", "sbin", "lib", "lib64"):
            _link(archive, name, f"usr/{name}")
        for name in DIRECTORIES:
            _directory(archive, name, 0o1777 if name == "tmp" else 0o755)
        _file(archive, "etc/passwd", PASSWD.encode())
        _file(archive, "etc/group", GROUP.encode())
        for path in sorted(_needed()):
            _file(archive, _usr(path), Path(path).resolve().read_bytes(), 0o755)
        for path in sorted(Path(PERL_LIBRARY).rglob("*")):
            if path.is_file():
                _file(archive, str(path).lstrip("/"), path.read_bytes())
    return gzip.compress(out.getvalue(), 1, mtime=0)


def _needed() -> set[str]:
    programs = {found for name in PROGRAMS if (found := shutil.which(name, path="/usr/bin:/bin"))}
    libraries: set[str] = set()
    shared = [str(path) for path in Path(PERL_LIBRARY).rglob("*.so")]
    for path in (*programs, *shared):
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        libraries.update(re.findall(r"(/\S+) \(0x", listed))
    return programs | libraries


def _usr(path: str) -> str:
    return path.lstrip("/") if path.startswith("/usr/") else f"usr{path}"


def _file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def _directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    archive.addfile(member)


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    archive.addfile(member)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(media_type: object, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}
