"""The installed packages of an image's distribution, by its own database: dpkg, apk, or rpm.

Each is a mapping with the same keys. What can't be read is a problem, never an empty list.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import tempfile
from pathlib import Path

from pipelines.in_engine.debian_copyright import licences_of
from pipelines.in_engine.rootfs import Problems, inside, read_text

APK = "lib/apk/db/installed"
APK_MERGED = "usr/lib/apk/db/installed"
RPM_DIRECTORIES = ("var/lib/rpm", "usr/lib/sysimage/rpm")
RPM_TAGS = {
    1000: "name",
    1001: "version",
    1002: "release",
    1003: "epoch",
    1011: "vendor",
    1014: "license",
    1022: "architecture",
    1044: "source",
}
"""Of rpm's header format (rpm: docs/manual/tags.md)."""
RPM_INT32 = 4
RPM_STRINGS = (6, 8, 9)
MOST_ENTRIES = 4096


def dpkg_packages(root: Path) -> list[dict[str, object]]:
    """The installed packages of dpkg's status file, and of distroless' ``status.d`` (deb822 stanzas)."""
    stanzas = [deb822(stanza) for text in dpkg_status(root) for stanza in text.split("\n\n")]
    return [_dpkg_package(root, stanza) for stanza in stanzas if _is_installed(stanza)]


def dpkg_status(root: Path) -> list[str]:
    """dpkg's status file and distroless' parts of it; empty where there are none."""
    texts = [read_text(root, "var/lib/dpkg/status")]
    parts = inside(root, "var/lib/dpkg/status.d")
    if parts and parts.is_dir():
        texts += [
            part.read_text("utf-8", "replace").strip()
            for part in sorted(parts.iterdir())
            if not part.name.endswith(".md5sums")
        ]
    return [text for text in texts if text.strip()]


def deb822(stanza: str) -> dict[str, str]:
    """The one-line fields of a deb822 stanza; continued lines (descriptions, conffiles) are left out."""
    lines = [line for line in stanza.splitlines() if ": " in line and not line.startswith((" ", "\t"))]
    return dict(line.split(": ", 1) for line in lines)


def _is_installed(stanza: dict[str, str]) -> bool:
    return (
        "Package" in stanza
        and "Version" in stanza
        and not stanza.get("Status", "installed").endswith(("not-installed", "config-files"))
    )


def _dpkg_package(root: Path, stanza: dict[str, str]) -> dict[str, object]:
    source, _, version = stanza.get("Source", stanza["Package"]).partition(" (")
    licences, file = licences_of(root, stanza["Package"])
    return {
        "kind": "deb",
        "name": stanza["Package"],
        "version": stanza["Version"],
        "architecture": stanza.get("Architecture", ""),
        "source": source,
        "source_version": version.rstrip(")") or stanza["Version"],
        "maintainer": stanza.get("Maintainer", ""),
        "licences": licences,
        "licence_file": file,
    }


def apk_packages(root: Path) -> list[dict[str, object]]:
    """The installed packages of Alpine and its kin (https://wiki.alpinelinux.org/wiki/Apk_spec)."""
    file = next((name for name in (APK, APK_MERGED) if inside(root, name)), "")
    stanzas = [_apk_fields(stanza) for stanza in read_text(root, file).split("\n\n")] if file else []
    return [
        {
            "kind": "apk",
            "name": one["P"],
            "version": one["V"],
            "architecture": one.get("A", ""),
            "source": one.get("o", one["P"]),
            "source_version": one["V"],
            "maintainer": one.get("m", ""),
            "licences": [one["L"]] if one.get("L") else [],
            "licence_file": f"/{file}",
        }
        for one in stanzas
        if "P" in one and "V" in one
    ]


def _apk_fields(stanza: str) -> dict[str, str]:
    return {line[0]: line[2:].strip() for line in stanza.splitlines() if line[1:2] == ":"}


def rpm_packages(root: Path, problems: Problems) -> list[dict[str, object]]:
    """The installed packages of an rpm database in SQLite, which Fedora, RHEL 9 and their kin have."""
    for directory in RPM_DIRECTORIES:
        file = inside(root, f"{directory}/rpmdb.sqlite")
        if file is None:
            continue
        name = f"/{directory}/rpmdb.sqlite"
        try:
            return [_rpm_package(header, name) for header in _rpm_headers(file)]
        except (sqlite3.Error, OSError, ValueError, struct.error, KeyError, UnicodeError) as err:
            problems.add(name, f"not readable as an rpm database: {err}")
            return []
    return []


def unread_database(root: Path) -> str:
    """The name of a package database that is there and is not read: said, never passed over."""
    for directory in RPM_DIRECTORIES:
        found = inside(root, directory)
        if found and found.is_dir() and not (found / "rpmdb.sqlite").exists():
            for name, kind in (("Packages.db", "rpm (ndb)"), ("Packages", "rpm (Berkeley DB)")):
                if (found / name).exists():
                    return kind
    return ""


def _rpm_headers(file: Path) -> list[dict[str, str]]:
    """The headers of all packages. A copy is read: what is in the write-ahead log counts as well."""
    with tempfile.TemporaryDirectory() as directory:
        for suffix in ("", "-wal"):
            part = file.with_name(file.name + suffix)
            if part.is_file():
                shutil.copyfile(str(part), os.path.join(directory, f"rpmdb.sqlite{suffix}"))  # noqa: PTH118
        connection = sqlite3.connect(os.path.join(directory, "rpmdb.sqlite"))  # noqa: PTH118
        try:
            rows = connection.execute("SELECT blob FROM Packages ORDER BY hnum").fetchall()
        finally:
            connection.close()
    return [rpm_header(bytes(row[0])) for row in rows]


def rpm_header(blob: bytes) -> dict[str, str]:
    """The fields of one package header: two counts, an index of 16-byte entries, the data.

    Raises:
        ValueError: it is cut off, or not a header.
    """
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * entries
    if entries > MOST_ENTRIES or start + size > len(blob):
        raise ValueError("a package header is cut off")
    found = {}
    for number in range(entries):
        tag, kind, offset, count = struct.unpack_from(">IIiI", blob, 8 + 16 * number)
        if tag not in RPM_TAGS or not 0 <= offset < size or not count:
            continue
        at = start + offset
        if kind == RPM_INT32:
            found[RPM_TAGS[tag]] = str(struct.unpack_from(">I", blob, at)[0])
        elif kind in RPM_STRINGS:
            found[RPM_TAGS[tag]] = blob[at : blob.index(b"\0", at)].decode("utf-8", "replace")
    if not found.get("name") or not found.get("version"):
        raise ValueError("a package header has no name or no version")
    return found


def _rpm_package(header: dict[str, str], file: str) -> dict[str, object]:
    release, epoch = header.get("release", ""), header.get("epoch", "0")
    version = header["version"] + (f"-{release}" if release else "")
    version = version if epoch == "0" else f"{epoch}:{version}"
    # NAME-VERSION-RELEASE.src.rpm
    source = header.get("source", "").rsplit("-", 2)[0] or header["name"]
    return {
        "kind": "rpm",
        "name": header["name"],
        "version": version,
        "architecture": header.get("architecture", ""),
        "source": source,
        "source_version": version,
        "maintainer": header.get("vendor", ""),
        "licences": [header["license"]] if header.get("license") else [],
        "licence_file": file,
    }
