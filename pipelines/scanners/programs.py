"""The version of our own scanners: what their programs are made of."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

_HERE = Path(__file__).parent
_IN_ENGINE = _HERE.parent / "in_engine"


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
