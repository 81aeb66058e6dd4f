"""Where advisories come from: an OSV service, or an OSV zip on disk (for sites without the internet)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread

from pipelines.scanners.port import CouldNotLookError

if TYPE_CHECKING:
    import httpx

    from pipelines.scanners.osv import Advisory

Package = tuple[str, str]
"""A name as PEP 503 normalises it, and a version."""

CONNECT_S = 3.0
READ_S = 20.0
ALL_S = 60.0
AT_ONCE = 10
BATCH = 500
KEPT = 3600
"""Seconds that a service's answer is believed."""

_NAME = re.compile(rb'"name"\s*:\s*"([^"]+)"')


class AdvisorySource(Protocol):
    """Gives the advisories on packages."""

    @property
    def title(self) -> str:
        """What it is called in the report, with its date if it has one."""
        ...

    @property
    def version(self) -> str:
        """Changes when its answers may."""
        ...

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """Every advisory that may concern each package. Raises CouldNotLookError: all of them or none."""
        ...


@dataclass(frozen=True, slots=True)
class OsvZip:
    """A zip of ``ID.json`` records, such as the ``all.zip`` that OSV offers for each ecosystem."""

    path: Path

    @property
    def title(self) -> str:
        """The file's name and date."""
        return f"{self.path.name} of {datetime.fromtimestamp(self.path.stat().st_mtime, UTC):%Y-%m-%d}"

    @property
    def version(self) -> str:
        """The file as it is now."""
        stat = self.path.stat()
        return f"{self.path} {stat.st_size} {stat.st_mtime_ns}"

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """Those that affect the packages, by the ranges in the records. Raises CouldNotLookError."""
        try:
            return await anyio.to_thread.run_sync(self._read, packages)
        except (OSError, zipfile.BadZipFile, ValueError) as err:
            raise CouldNotLookError(f"the OSV zip {self.path} can't be read: {err}") from err

    def _read(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        from pipelines.scanners.osv import affects  # noqa: PLC0415  not needed when the answer is remembered

        by_name: dict[str, list[Package]] = {}
        for package in packages:
            by_name.setdefault(package[0], []).append(package)
        found: dict[Package, list[Advisory]] = {package: [] for package in packages}
        records = 0
        with zipfile.ZipFile(self.path) as archive:
            for member in archive.namelist():
                if not member.endswith(".json"):
                    continue
                raw = archive.read(member)
                records += 1
                for name in {normalised(one.decode()) for one in _NAME.findall(raw)} & by_name.keys():
                    advisory = json.loads(raw)
                    for package in by_name[name]:
                        if affects(advisory, *package):
                            found[package].append(advisory)
        if not records:
            raise ValueError("it holds no advisories")
        return found


@dataclass(frozen=True, slots=True)
class OsvService:
    """OSV's API, version 1 (https://google.github.io/osv.dev/api/): its own service, or a mirror of it."""

    url: str
    transport: httpx.AsyncBaseTransport | None = None
    """None: the network, with the environment's proxies and certificates."""

    @property
    def title(self) -> str:
        """The service's address."""
        return f"OSV ({self.url.partition('://')[2].strip('/')})"

    @property
    def version(self) -> str:
        """The hour: its answers change at any time."""
        return f"{self.url} {int(datetime.now(UTC).timestamp()) // KEPT}"

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
            answer = await client.post("/v1/querybatch", json={"queries": [_query(*one) for one in batch]})
            results = answer.raise_for_status().json()["results"]
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results to {len(batch)} queries")
            for (package, _), result in zip(batch, results, strict=True):
                found[package] += [str(one["id"]) for one in result.get("vulns", ())]
                if token := result.get("next_page_token"):
                    pending.append((package, token))
        return found

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


def _query(package: Package, token: str) -> dict[str, Any]:
    query: dict[str, Any] = {"package": {"name": package[0], "ecosystem": "PyPI"}, "version": package[1]}
    return query | ({"page_token": token} if token else {})


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

    async def advisories(self, packages: Sequence[Package]) -> dict[Package, list[Advisory]]:
        """The remembered answer to the same question, else the inner source's. Only a whole one is kept."""
        question = json.dumps([1, self.version, sorted(packages)])
        file = self.directory / f"{hashlib.sha256(question.encode()).hexdigest()}.json"
        try:
            return {(name, version): found for name, version, found in json.loads(file.read_bytes())}
        except (OSError, ValueError):
            pass  # not asked yet, or not readable: ask
        answer = await self.inner.advisories(packages)
        self._keep(file, [[name, version, found] for (name, version), found in sorted(answer.items())])
        return answer

    def _keep(self, file: Path, answer: list[Any]) -> None:
        temporary = file.with_suffix(f".{os.getpid()}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(answer))
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)  # a full or read-only disk costs time, not the answer


def normalised(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def source_of(setting: str, directory: Path, environ: Mapping[str, str]) -> AdvisorySource:
    """The source that ``setting`` (of the policy) names; a path is relative to ``directory``.

    Raises:
        CouldNotLookError: there is no such file.
    """
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport" / "osv"
    if setting.startswith(("https://", "http://")):
        return Remembered(OsvService(setting), cache)
    path = (directory / setting).expanduser()
    if not path.is_file():
        raise CouldNotLookError(f"there is no OSV zip {path}")
    return Remembered(OsvZip(path), cache)
