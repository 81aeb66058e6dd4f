"""Advisories from an OSV zip on disk, for sites without the internet."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from pipelines.scanners.advisories import AdvisoryData, Package, normalised
from pipelines.scanners.port import CouldNotLookError

if TYPE_CHECKING:
    from pipelines.scanners.osv import Advisory

PYPI: Final = "PyPI"
_NAME = re.compile(rb'"name"\s*:\s*"([^"]+)"')
_MODIFIED = re.compile(rb'"modified"\s*:\s*"(\d{4}-\d\d-\d\dT[^"]+)"')


@dataclass(frozen=True, slots=True)
class OsvZip:
    """A zip of ``ID.json`` records, such as the ``all.zip`` that OSV offers for each ecosystem."""

    path: Path
    ecosystem: str = PYPI
    """As OSV calls it; of a distribution with its release: ``Alpine:v3.19``."""

    @property
    def title(self) -> str:
        """The file's name and date."""
        return f"{self.path.name} of {datetime.fromtimestamp(self.path.stat().st_mtime, UTC):%Y-%m-%d}"

    @property
    def version(self) -> str:
        """The file as it is now."""
        stat = self.path.stat()
        return f"{self.ecosystem} {self.path} {stat.st_size} {stat.st_mtime_ns}"

    @property
    def network(self) -> str:
        """None."""
        return ""

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """Those that affect the packages, by the ranges in the records. Raises CouldNotLookError."""
        with self._readable():
            return await anyio.to_thread.run_sync(self._read, packages)

    async def data(self) -> AdvisoryData:
        """The newest change that a record names, and the file's SHA-256. Raises CouldNotLookError."""
        with self._readable():
            return await anyio.to_thread.run_sync(self._newest)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, zipfile.BadZipFile, ValueError) as err:
            raise CouldNotLookError(f"the OSV zip {self.path} can't be read: {err}") from err

    def _read(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        from pipelines.scanners.osv import affects  # noqa: PLC0415  not needed when the answer is remembered

        spelt = normalised if self.ecosystem == PYPI else str
        by_name: dict[str, list[Package]] = {}
        for package in packages:
            by_name.setdefault(package[0], []).append(package)
        found: dict[Package, list[Advisory]] = {package: [] for package in packages}
        for raw in self._records():
            for name in {spelt(one.decode()) for one in _NAME.findall(raw)} & by_name.keys():
                advisory = json.loads(raw)
                for package in by_name[name]:
                    if affects(advisory, *package, self.ecosystem):
                        found[package].append(advisory)
        return found

    def _newest(self) -> AdvisoryData:
        dates = [max(found) for raw in self._records() if (found := _MODIFIED.findall(raw))]
        with self.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return AdvisoryData(max(dates, default=b"").decode(), f"sha256:{digest}")

    def _records(self) -> Iterator[bytes]:
        """The records as they are. Raises ValueError when there are none for this ecosystem and release."""
        wanted, records = self.ecosystem.encode(), 0
        with zipfile.ZipFile(self.path) as archive:
            for member in archive.namelist():
                if member.endswith(".json"):
                    raw = archive.read(member)
                    records += wanted in raw
                    yield raw
        if not records:
            raise ValueError(f"it holds no advisories on {self.ecosystem}")
