"""The licences that a Debian package's copyright file names, where it is machine-readable (DEP-5).

https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ : the first line of each ``License`` field
is a short name or an expression of them. They are told as they are written; what they mean is decided
outside.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.in_engine.rootfs import inside

FORMAT = re.compile(r"^Format(?:-Specification)?:.*(?:copyright-format|dep-?5)", re.IGNORECASE | re.MULTILINE)
PARAGRAPHS = re.compile(r"\n(?:[ \t]*\n)+")
FILES = re.compile(r"^Files[ \t]*:", re.IGNORECASE | re.MULTILINE)
LARGEST = 4 << 20


def licences_of(root: Path, package: str) -> tuple[list[str], str]:
    """The licences of an installed package, and the file that says so; ([], "") where none does."""
    name = f"/usr/share/doc/{package}/copyright"
    file = inside(root, name)
    if file is None or not file.is_file() or file.stat().st_size > LARGEST:
        return [], ""
    return licences(file.read_text("utf-8", "replace")), name


def licences(text: str) -> list[str]:
    """The licences of the files paragraphs, each once; [] where the file is not machine-readable.

    Debian's own packaging (``debian/*``) is not in the binary package. Without any files paragraph the
    header's licence counts.
    """
    header, *rest = PARAGRAPHS.split(text.lstrip(), maxsplit=1)
    if not FORMAT.search(header):
        return []
    found = []
    for paragraph in filter(FILES.search, PARAGRAPHS.split("".join(rest))):
        fields = _fields(paragraph)
        if not _is_packaging(fields["files"]):
            found.append(fields.get("license", ""))
    names = found or [_fields(header).get("license", "")]
    # A files paragraph without a licence is one that doesn't say: the whole file doesn't then.
    return sorted(set(names)) if all(names) else []


def _fields(paragraph: str) -> dict[str, str]:
    """Each field's first line; of ``Files`` all of it."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line[:1] in (" ", "\t"):
            if name == "files":
                fields[name] += f" {line.strip()}"
        elif ":" in line and not line.startswith("#"):
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _is_packaging(files: str) -> bool:
    return all(part.startswith("debian/") for part in files.split())
