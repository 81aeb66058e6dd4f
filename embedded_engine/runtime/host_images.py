"""The machine's own image store: Docker's where its daemon answers, else Podman's. Skopeo copies.

The engine's storage settings must not reach these calls, so they have a ``Runner`` of their own.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded_engine.runtime import oci
from embedded_engine.runtime.images import Images
from embedded_engine.runtime.port import OutImage, PulledImage, RuntimeFailure
from embedded_engine.runtime.process import CommandFailed, Runner
from embedded_engine.runtime.state import State

DOCKER_SOCKET = "unix:///var/run/docker.sock"
NO_STORE = (
    "needs Docker's daemon or Podman on this machine (neither answers): "
    "write an archive with Container.export"
)


@dataclass(frozen=True, slots=True)
class HostImages:
    """Reads from and writes to the store that people see with ``docker images`` or ``podman images``."""

    state: State
    runner: Runner
    images: Images
    environ: Mapping[str, str]
    policy: Sequence[str] = ()

    async def digest(self, name: str) -> str:
        """The digest of an image's manifest. Raises RuntimeFailure."""
        transport, options = self._store("Host.containerImage")
        argv = [
            "skopeo",
            *self.policy,
            "inspect",
            "--raw",
            *(f"--{option}" for option in options),
            transport + name,
        ]
        try:
            finished = await self.runner.run(argv)
        except CommandFailed as failure:
            raise RuntimeFailure(
                f"{name}: not found in this machine's image store: {failure}", detail=failure.detail
            ) from failure
        return oci.digest_of(finished.stdout)

    async def take(self, name: str) -> PulledImage:
        """Bring an image into the engine's storage. Raises RuntimeFailure."""
        transport, options = self._store("Host.containerImage")
        try:
            return await self.images.take(
                transport + name, options=[f"--src-{option}" for option in options], runner=self.runner
            )
        except CommandFailed as failure:
            raise RuntimeFailure(f"{name}: {failure}", detail=failure.detail) from failure

    async def give(self, image: OutImage, name: str) -> None:
        """Write an image under ``name``. Raises RuntimeFailure."""
        transport, options = self._store("Container.exportImage")
        for blob in (image.config, image.manifest):
            oci.put_blob(self.state.blobs, blob)
        with tempfile.TemporaryDirectory(dir=self.state.temp) as layout:
            oci.write_layout(Path(layout), image.manifest, image.media_type)
            shared = f"--src-shared-blob-dir={self.state.blobs}"
            argv = ["skopeo", *self.policy, "copy", "--quiet", shared]
            argv += [*(f"--dest-{option}" for option in options), f"oci:{layout}", transport + name]
            try:
                await self.runner.run(argv)
            except CommandFailed as failure:
                raise RuntimeFailure(f"{name}: {failure}", detail=failure.detail) from failure

    def _store(self, field: str) -> tuple[str, list[str]]:
        """Skopeo's transport and the options that go with it."""
        host = self.environ.get("DOCKER_HOST", "")
        if answers(host or DOCKER_SOCKET):
            return "docker-daemon:", [f"daemon-host={host or DOCKER_SOCKET}"]
        if shutil.which("podman", path=self.environ.get("PATH")):
            return "containers-storage:", []
        raise RuntimeFailure(f"{field} {NO_STORE}")


def answers(address: str) -> bool:
    """Whether a daemon listens at ``unix:///path``; one elsewhere (tcp) is believed."""
    scheme, _, path = address.partition("://")
    if scheme != "unix":
        return bool(path)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def host_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the user's own tools: without the engine's storage settings."""
    return {name: value for name, value in environ.items() if name != "CONTAINERS_STORAGE_CONF"}
