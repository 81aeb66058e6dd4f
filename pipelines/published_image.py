"""The published version as a container of the engine that runs us: pulled by it, or brought to it."""

from __future__ import annotations

import json
import secrets
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import dagger
from anyio import to_thread
from dagger import dag

from pipelines.published import CouldNotTell, Published
from pipelines.registries.credentials import LoginSource
from pipelines.registries.descriptors import OCI_INDEX, Descriptor, short
from pipelines.registries.errors import RegistryError
from pipelines.registries.layout import TEMPORARY

DIRECTORY: Final = ".published"
"""Where an archive is kept for the engine, below the layout's directory. One: the latest."""
_REFRESH: Final = "00000000-0000-0000-0000-000000000000"  # the user name of a refresh token


@runtime_checkable
class LogsIn(Protocol):
    """A registry that has a login to give to somebody else's connection."""

    def login_source(self) -> LoginSource:
        """The login of one connection."""
        ...


async def container(published: Published) -> dagger.Container:
    """The published image, ready to run.

    The engine pulls it with the registry's own login. Where it can't (a private authority, a registry on our
    loopback, an engine elsewhere), and for a layout, it is brought to the engine as an archive.

    Raises:
        CouldNotTell: it can't be read where it is, or the engine does not take it.
    """
    if published.reference:
        try:
            return await _pulled(published)
        except (dagger.QueryError, RegistryError):
            pass  # the archive's error, if it fails too, tells what is wrong
    try:
        archive = await _archive(published)
        return await dag.container().import_(dag.host().file(str(archive))).sync()
    except (RegistryError, OSError, dagger.QueryError) as err:
        what = f"{published.name}@{short(published.digest)}"
        raise CouldNotTell(f"the published version {what} can't be run: {err}") from err


async def _pulled(published: Published) -> dagger.Container:
    asking = dag.container()
    if isinstance(published.registry, LogsIn) and (login := await published.registry.login_source()()):
        host = published.reference.partition("/")[0]
        secret = dag.set_secret(
            f"published-{host}-{published.digest}", login.password or login.identity_token
        )
        asking = asking.with_registry_auth(host, login.username or _REFRESH, secret)
    return await asking.from_(published.reference).sync()


async def _archive(published: Published) -> Path:
    """A tar of an image layout with this one image; the same bytes each time."""
    directory = published.store.directory / DIRECTORY
    archive = (directory / f"{published.manifest.digest.removeprefix('sha256:')}.tar").absolute()
    if archive.is_file():
        return archive
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    part = directory / f"{TEMPORARY}{secrets.token_hex(4)}"
    try:
        async with published.registry.open() as opened:
            with tarfile.open(part, "w") as tar:
                _head(tar, published)
                for blob in published.image.blobs:
                    if published.store.has_blob(blob):
                        await to_thread.run_sync(_add, tar, blob, published.store.path(blob.digest))
                        continue
                    fetched = directory / f"{TEMPORARY}{secrets.token_hex(4)}"
                    try:
                        await opened.download_blob(blob, fetched)
                        await to_thread.run_sync(_add, tar, blob, fetched)
                    finally:
                        fetched.unlink(missing_ok=True)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)
    return archive


def _head(tar: tarfile.TarFile, published: Published) -> None:
    manifest = published.manifest
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [manifest.descriptor.to_json()],
    }
    for name, body in (
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ("index.json", json.dumps(index).encode()),
        (_name(manifest.digest), manifest.body),
    ):
        member = tarfile.TarInfo(name)
        member.size = len(body)
        tar.addfile(member, BytesIO(body))


def _add(tar: tarfile.TarFile, blob: Descriptor, path: Path) -> None:
    member = tarfile.TarInfo(_name(blob.digest))
    member.size = blob.size
    with path.open("rb") as file:
        tar.addfile(member, file)


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
