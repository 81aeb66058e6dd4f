"""What was computed once, kept under ``.modelport/quality`` by the digest of all that went into it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipelines.config import repository_root
from pipelines.registries.descriptors import canonical_json, sha256
from pipelines.state import state_directory

_KEPT_S: Final = 60 * 24 * 3600


def quality_directory(model_directory: Path) -> Path:
    """``.modelport/quality`` of the repository of ``model_directory``. Raises UsageError."""
    return state_directory(repository_root(model_directory)) / "quality"


@dataclass(frozen=True, slots=True)
class Memo:
    """Results by key. One that can't be read is computed again; one that can't be kept is not."""

    directory: Path

    def of(self, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:  # Any: JSON in, JSON out
        """What is kept for ``key``, else what ``compute`` gives, kept from now on."""
        name = sha256(canonical_json(key)).removeprefix("sha256:")
        path = self.directory / f"{name}.json"
        with suppress(OSError, ValueError):
            return json.loads(path.read_text("utf-8"))
        value = compute()
        self.keep(path, value)
        return value

    def recall(self, key: Mapping[str, Any]) -> Any:  # Any: JSON
        """What is kept for ``key``; None where nothing is."""
        with suppress(OSError, ValueError):
            return json.loads(self._path(key).read_text("utf-8"))
        return None

    def remember(self, key: Mapping[str, Any], value: Any) -> None:  # Any: JSON
        """Keep ``value`` for ``key``."""
        self.keep(self._path(key), value)

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.directory / f"{sha256(canonical_json(key)).removeprefix('sha256:')}.json"

    def keep(self, path: Path, value: Any) -> None:  # Any: JSON
        """Write ``value``, and remove what nobody read for two months."""
        with suppress(OSError):
            replace_file(path, json.dumps(value))
            for old in self.directory.iterdir():
                if time.time() - old.stat().st_mtime > _KEPT_S:
                    old.unlink()


def replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part-{secrets.token_hex(4)}")
    try:
        part.write_text(text, "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
