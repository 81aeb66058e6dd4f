"""Where advisories come from: an OSV service, or an OSV zip on disk; and that an answer is remembered."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from pipelines.scanners.advisories import AdvisoryData, AdvisorySource, Package, normalised
from pipelines.scanners.osv_zip import PYPI, OsvZip
from pipelines.scanners.port import CouldNotLookError

if TYPE_CHECKING:
    import httpx

    from pipelines.scanners.osv import Advisory

__all__ = ["AdvisorySource", "OsvService", "OsvZip", "Package", "Remembered", "normalised", "source_of"]

CONNECT_S = 3.0
READ_S = 20.0
ALL_S = 60.0
AT_ONCE = 10
BATCH = 500
KEPT = 3600
"""Seconds that a service's answer is believed."""


@dataclass(frozen=True, slots=True)
class OsvService:
    """OSV's API, version 1 (https://google.github.io/osv.dev/api/): its own service, or a mirror of it."""

    url: str
    transport: httpx.AsyncBaseTransport | None = None
    """None: the network, with the environment's proxies and certificates."""
    ecosystem: str = PYPI
    """As OSV calls it; of a distribution with its release: ``Alpine:v3.19``."""

    @property
    def title(self) -> str:
        """The service's address."""
        return f"OSV ({self.url.partition('://')[2].strip('/')})"

    @property
    def version(self) -> str:
        """The hour: its answers change at any time."""
        return f"{self.ecosystem} {self.url} {int(datetime.now(UTC).timestamp()) // KEPT}"

    @property
    def network(self) -> str:
        """Its address."""
        return f"advisories on what is installed, from {self.url}"

    async def data(self) -> AdvisoryData:
        """The day: it answers by what it knows when it is asked."""
        return AdvisoryData(f"{datetime.now(UTC):%Y-%m-%d}")

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """What the service says. A part of an answer is no answer: raises CouldNotLookError."""
        import httpx  # noqa: PLC0415  a fifth of a second, not needed when the answer is remembered

        timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
        try:
            with anyio.fail_after(ALL_S):
                async with httpx.AsyncClient(
                    base_url=self.url, timeout=timeout, transport=self.transport
                ) as client:
                    ids = await self._ids(client, packages)
                    records = await self._records(
                        client, sorted({one for found in ids.values() for one in found})
                    )
        except httpx.TransportError as err:
            reason = re.sub(r"^\[Errno -?\d+\] ", "", str(err)) or type(err).__name__
            raise CouldNotLookError(f"OSV unreachable: {reason}") from err
        except httpx.HTTPStatusError as err:
            raise CouldNotLookError(f"OSV answered {err.response.status_code}") from err
        except TimeoutError as err:
            raise CouldNotLookError(f"OSV took more than {ALL_S:.0f} seconds") from err
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise CouldNotLookError(f"OSV's answer is not as its API says: {err}") from err
        return {package: [records[one] for one in found] for package, found in ids.items()}

    async def _ids(self, client: httpx.AsyncClient, packages: Sequence[Package]) -> dict[Package, list[str]]:
        """The ids per package, with every page of them."""
        found: dict[Package, list[str]] = {package: [] for package in packages}
        pending: list[tuple[Package, str]] = [(package, "") for package in packages]
        while pending:
            batch, pending = pending[:BATCH], pending[BATCH:]
            answer = await client.post(
                "/v1/querybatch", json={"queries": [self._query(*one) for one in batch]}
            )
            results = answer.raise_for_status().json()["results"]
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results to {len(batch)} queries")
            for (package, _), result in zip(batch, results, strict=True):
                found[package] += [str(one["id"]) for one in result.get("vulns", ())]
                if token := result.get("next_page_token"):
                    pending.append((package, token))
        return found

    def _query(self, package: Package, token: str) -> dict[str, Any]:
        about = {"name": package[0], "ecosystem": self.ecosystem}
        query: dict[str, Any] = {"package": about, "version": package[1]}
        return query | ({"page_token": token} if token else {})

    async def _records(self, client: httpx.AsyncClient, ids: Sequence[str]) -> dict[str, Advisory]:
        records: dict[str, Advisory] = {}
        limit = anyio.CapacityLimiter(AT_ONCE)

        async def fetch(one: str) -> None:
            async with limit:
                answer = await client.get(f"/v1/vulns/{one}")
            record: dict[str, Any] = answer.raise_for_status().json()
            if record["id"] != one:
                raise ValueError(f"asked for {one}, got {record['id']}")
            records[one] = record

        try:
            async with anyio.create_task_group() as tasks:
                for one in ids:
                    tasks.start_soon(fetch, one)
        except BaseExceptionGroup as group:
            # The first is enough: any missing record makes the whole answer one that we don't have.
            raise group.exceptions[0] from group
        return records


@dataclass(frozen=True, slots=True)
class Remembered:
    """A source whose answers are kept in a directory, so that an unchanged image is not looked up again."""

    inner: AdvisorySource
    directory: Path

    @property
    def title(self) -> str:
        """As the inner source's."""
        return self.inner.title

    @property
    def version(self) -> str:
        """As the inner source's."""
        return self.inner.version

    @property
    def network(self) -> str:
        """As the inner source's."""
        return self.inner.network

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """The remembered answer to the same question, else the inner source's. Only a whole one is kept."""
        file = self._file([2, self.version, sorted(packages)])
        try:
            return {(name, version): found for name, version, found in json.loads(file.read_bytes())}
        except (OSError, ValueError):
            pass  # not asked yet, or not readable: ask
        answer = await self.inner.advisories(packages)
        self._keep(file, [[name, version, found] for (name, version), found in sorted(answer.items())])
        return answer

    async def data(self) -> AdvisoryData:
        """Of an unchanged file it is remembered: to tell it, all of it is read."""
        file = self._file([2, self.version, "data"])
        try:
            date, digest = json.loads(file.read_bytes())
            return AdvisoryData(str(date), str(digest))
        except (OSError, ValueError):
            pass  # as above
        data = await self.inner.data()
        self._keep(file, [data.date, data.digest])
        return data

    def _file(self, question: list[Any]) -> Path:
        return self.directory / f"{hashlib.sha256(json.dumps(question).encode()).hexdigest()}.json"

    def _keep(self, file: Path, answer: list[Any]) -> None:
        temporary = file.with_suffix(f".{os.getpid()}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(answer))
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)  # a full or read-only disk costs time, not the answer


def source_of(
    setting: str, directory: Path, environ: Mapping[str, str], ecosystem: str = PYPI
) -> AdvisorySource:
    """The source on ``ecosystem`` that the policy's ``setting`` names; a path is relative to ``directory``.

    Raises:
        CouldNotLookError: there is no such file.
    """
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport" / "osv"
    if setting.startswith(("https://", "http://")):
        return Remembered(OsvService(setting, ecosystem=ecosystem), cache)
    path = (directory / setting).expanduser()
    if not path.is_file():
        raise CouldNotLookError(f"there is no OSV zip {path}")
    return Remembered(OsvZip(path, ecosystem), cache)
