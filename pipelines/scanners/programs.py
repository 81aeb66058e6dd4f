"""The version of our own scanners: what their programs are made of."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

_HERE = Path(__file__).parent
_IN_ENGINE = _HERE.parent / "in_engine"

_IMPORT = re.compile(r"^\s*from pipelines\.in_engine\.(\w+) import", re.MULTILINE)


def version_of(*names: str) -> str:
    """Twelve digits that change with any of the named modules: ``in_engine/NAME.py``, or this package's.

    A release's record then tells which rules judged it, whatever the version in pyproject.toml says.
    """
    digest = sha256()
    for name in sorted(names):
        file = _IN_ENGINE / f"{name}.py"
        text = (file if file.is_file() else _HERE / f"{name}.py").read_bytes()
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()[:12]


def version_of_program(program: str) -> str:
    """``version_of`` the program ``in_engine/PROGRAM.py`` and all that it is made of there."""
    found, waiting = set[str](), [program]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _IMPORT.findall((_IN_ENGINE / f"{name}.py").read_text("utf-8"))
    return version_of(*found)
