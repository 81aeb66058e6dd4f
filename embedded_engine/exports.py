"""Writing directories and files of the engine to the host. Nothing written shares an inode with the store."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedded_engine.blobs import copy_file
from embedded_engine.entries import EPOCH, TreeError
from embedded_engine.host_import import told
from embedded_engine.trees import remove_tree


@dataclass(frozen=True, slots=True)
class Export:
    """How to write. ``times``: whether times that someone set are kept; all else is written "now"."""

    times: bool = False

    def directory(self, source: Path, target: Path, *, wipe: bool = False) -> None:
        """Merge the content of ``source`` into ``target``, which is made; ``wipe`` empties it first.

        Raises TreeError: a file of the export never takes the place of a directory of the host.
        """
        if not source.is_dir():
            raise TreeError(f"{target}: what is exported is not a directory")
        if wipe and target.parent == target:
            raise TreeError(f"export to {target}: the root of the host is not wiped")
        with told(str(target), "write"):
            target.mkdir(parents=True, exist_ok=True)
            if wipe:
                _empty(target)
            self._merge(source, target)

    def file(self, source: Path, target: Path, name: str, *, into_directory: bool = False) -> Path:
        """Write ``source`` to ``target``, or as ``name`` into it when it is a directory and that is allowed.

        Gives the file's path. Raises TreeError.
        """
        if target.is_dir():
            if not into_directory:
                raise TreeError(
                    f"destination {target} is a directory: name a file, or set allowParentDirPath"
                )
            target /= name
        with told(str(target), "write"):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise TreeError(f"destination {target} is a directory")
            self._file(source, target)
        return target

    def _merge(self, source: Path, target: Path) -> None:
        for item in _items(source):
            here, there = Path(item.path), target / item.name
            if item.is_symlink():
                self._link(here, there)
            elif item.is_dir():
                if there.is_symlink() or (there.exists() and not there.is_dir()):
                    there.unlink()
                there.mkdir(exist_ok=True)
                self._merge(here, there)
                _mode(here, there)
            elif item.is_file():
                self._file(here, there)

    def _file(self, source: Path, target: Path) -> None:
        if target.is_dir() and not target.is_symlink():
            raise TreeError(f"{target} is a directory on the host but a file in the export")
        fresh = target.with_name(f".export-{secrets.token_hex(6)}")
        try:
            copy_file(source, fresh)
            _mode(source, fresh)
            if self.times and (seconds := int(source.stat().st_mtime)) != EPOCH:
                os.utime(fresh, (seconds, seconds))
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)

    def _link(self, source: Path, target: Path) -> None:
        if target.is_dir() and not target.is_symlink():
            raise TreeError(f"{target} is a directory on the host but a link in the export")
        target.unlink(missing_ok=True)
        target.symlink_to(os.readlink(source))  # noqa: PTH115 - as text, untouched


def _items(directory: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as scan:
        yield from sorted(scan, key=lambda item: item.name)


def _mode(source: Path, target: Path) -> None:
    target.chmod(stat.S_IMODE(source.stat().st_mode) & 0o777)


def _empty(directory: Path) -> None:
    for item in _items(directory):
        if item.is_dir(follow_symlinks=False):
            remove_tree(Path(item.path))
        else:
            Path(item.path).unlink()
