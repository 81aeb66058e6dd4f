"""What the engine asks of a container runtime, and the values that travel.

The engine (evaluator, resolvers) knows only this module; Buildah, Podman and Skopeo are behind it.
Nothing here holds a secret in its ``repr``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NewType, Protocol, TypeAlias

from embedded_engine.masking import Hidden

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

Snapshot = NewType("Snapshot", str)
"""The id of an image in the engine's containers-storage."""
Compression = Literal["", "gzip", "zstd", "uncompressed"]
"""How layers are to be compressed; "" leaves each as it is."""
SCRATCH = Snapshot("")
"""The empty file system: every call that takes a parent takes it."""


class RuntimeFailure(Exception):
    """The runtime could not do what was asked: user's words, no traceback; ``detail`` is the end of its
    log."""

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class SetupFailure(RuntimeFailure):
    """An exec that could not be set up (unknown user, missing redirect directory): exit code -1."""


class BuildStepFailed(RuntimeFailure):
    """A RUN of a Dockerfile exited non-zero."""

    def __init__(
        self, message: str, *, args: Sequence[str], exit_code: int, stdout: str, stderr: str
    ) -> None:
        super().__init__(message, detail=stderr)
        self.step_args = tuple(args)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class ServiceFailed(RuntimeFailure):
    """A service ended early (``exit_code`` is set) or never became ready (None)."""

    def __init__(
        self,
        message: str,
        *,
        exit_code: int | None,
        stdout: str = "",
        stderr: str = "",
        args: Sequence[str] = (),
    ) -> None:
        super().__init__(message, detail=stderr)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.step_args = tuple(args)


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials for one registry host. ``is_token``: the password is an identity (refresh) token."""

    username: str
    password: str = field(repr=False)
    is_token: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """Something put in an exec's way for its duration; it never becomes part of a layer.

    ``bind``: ``source`` is a host path (file or directory). ``tmpfs``: an empty directory in memory of at
    most ``size`` bytes. ``owner`` ("uid:gid", names allowed, "" = leave) applies to the top of the mount.
    """

    target: str
    kind: Literal["bind", "tmpfs"] = "bind"
    source: Path | None = None
    read_only: bool = False
    size: int | None = None
    owner: str = ""
    origin: Path | None = None  # what ``source`` is a private copy of


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret as a file: in memory only, mode 0400 and root's unless told otherwise."""

    target: str
    value: bytes = field(repr=False)
    owner: str = ""
    mode: int = 0o400


@dataclass(frozen=True, slots=True)
class ExecStep:
    """One command on one snapshot. ``env`` is complete except HOME (from passwd) and the host's CA and index
    settings.

    Redirects are paths in the container (relative to ``workdir``), *tee'd*: the result has the output too.
    What it says is masked by ``hidden`` before anything else sees it, also ``watch`` (1 or 2 for the stream).
    ``hosts`` are lines for /etc/hosts; ``network`` says which services' network it must share, if the runtime
    has no bridges. ``init``: an init is the first process, not the command, if the machine has one.
    """

    parent: Snapshot
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    secret_env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secret_files: tuple[SecretFile, ...] = ()
    workdir: str = "/"
    user: str = ""
    mounts: tuple[Mount, ...] = ()
    stdin: bytes = field(default=b"", repr=False)
    redirect_stdin: str = ""
    redirect_stdout: str = ""
    redirect_stderr: str = ""
    hosts: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (ip, names)
    services: tuple[RunningService, ...] = ()
    name: str = ""
    init: bool = True
    hidden: Hidden = field(default_factory=Hidden, repr=False, compare=False)
    watch: Callable[[int, bytes], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How an exec ended. ``snapshot`` is None when it was not kept. Outputs are masked, not
    decoded."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    combined: bytes = b""
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Put a host file or directory tree at ``target``; a directory's *contents* merge into ``target``.

    ``mode`` None keeps the source's modes (else it applies to the file, or to the directory itself);
    ``owner`` "" keeps the source's; parents are made (0755, 0:0).
    """

    source: Path
    target: str
    owner: str = ""
    mode: int | None = None
    name: str = ""  # a file's, should ``target`` be a directory


@dataclass(frozen=True, slots=True)
class Write:
    """A small file with these bytes."""

    target: str
    data: bytes = field(repr=False)
    owner: str = ""
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link at ``target`` that holds ``to``."""

    target: str
    to: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Take away a file or a whole directory (glob patterns allowed); a missing one is no error."""

    target: str


Edit: TypeAlias = Copy | Write | Link | Remove
"""One change to a file system. Paths are followed inside the container's root, never out of it."""


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image from a registry or archive: its own layers' blobs and digests are kept as they came."""

    snapshot: Snapshot
    config: Mapping[str, JSON]  # the whole OCI image config document
    steps: int = 0  # of a Dockerfile build: its steps after FROM, and those answered from the layer cache
    cached_steps: int = 0


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A Dockerfile build. ``context`` is a host directory that .dockerignore was already applied to."""

    context: Path
    dockerfile: str = "Dockerfile"  # relative to the context
    target: str = ""
    args: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)  # (id, value)
    platform: str = ""
    pins: tuple[tuple[str, str], ...] = ()  # FROM address -> address@digest, as resolved in this session
    logins: tuple[tuple[str, Login], ...] = field(default=(), repr=False)  # by pinned address
    hidden: Hidden = field(default_factory=Hidden, repr=False, compare=False)
    watch: Callable[[int, bytes], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """One layer, compressed, in the engine's blob directory."""

    diff_id: str
    digest: str
    size: int
    path: Path
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class OutImage:
    """An image ready to leave: the manifest and config are exact bytes; blobs are read from their paths."""

    manifest: bytes = field(repr=False)
    config: bytes = field(repr=False)
    layers: tuple[LayerBlob, ...] = ()
    digest: str = ""  # of the manifest
    media_type: str = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class OutIndex:
    """Images of several platforms and the index that names them, as exact bytes."""

    index: bytes = field(repr=False)
    images: tuple[OutImage, ...] = ()
    digest: str = ""  # of the index
    media_type: str = "application/vnd.oci.image.index.v1+json"


Outgoing: TypeAlias = OutImage | OutIndex


class RunningService(Protocol):
    """A service that answers. ``address`` is its IP as seen by execs bound to it."""

    @property
    def hostname(self) -> str:
        """Its stable name for execs."""
        ...

    @property
    def address(self) -> str:
        """Its IP for /etc/hosts of the execs bound to it."""
        ...

    def reach(self, port: int) -> tuple[str, int]:
        """Where this process can connect to the service's ``port``."""
        ...

    def exit_code(self) -> int | None:
        """The exit code if it has ended, else None."""
        ...

    def logs(self) -> tuple[str, str]:
        """The tails of its stdout and stderr so far, masked."""
        ...

    async def stop(self, *, kill: bool = False) -> None:
        """TERM, then KILL after ten seconds (at once with ``kill``). Twice is fine."""
        ...


@dataclass(frozen=True, slots=True)
class ServicePort:
    """An exposed port of a service; ``probe``: it must accept before the service is ready."""

    port: int
    protocol: Literal["TCP", "UDP"] = "TCP"
    probe: bool = True


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A command in a service's container that exits 0 when it is ready (Docker's HEALTHCHECK)."""

    args: tuple[str, ...]
    timeout_s: float = 30
    start_period_s: float = 0  # failures before this has passed don't count
    pause_s: float = 5
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Readiness:
    """When a service is ready: its health check passes, or without one its probed TCP ports accept."""

    ports: tuple[ServicePort, ...] = ()
    health: HealthCheck | None = None
    timeout_s: float = 120


class Runtime(Protocol):
    """Everything that touches containers. Every method may be cancelled: processes it started are then
    dead."""

    async def resolve(self, address: str, login: Login | None) -> str:
        """The digest ``address`` names now ("sha256:..."), asked of the registry. Raises RuntimeFailure."""
        ...

    def short_names(self, name: str) -> tuple[str, ...]:
        """What an image name without a registry stands for, in the order to try. Raises RuntimeFailure."""
        ...

    async def pull(self, address: str, digest: str, platform: str, login: Login | None) -> PulledImage:
        """Fetch ``address``@``digest`` into storage. Raises RuntimeFailure."""
        ...

    async def import_archive(self, path: Path, tag: str, platform: str) -> PulledImage:
        """Take an OCI or Docker archive (a tar file) into storage. Raises RuntimeFailure."""
        ...

    def present(self) -> frozenset[Snapshot]:
        """The snapshots in storage now; cheap (milliseconds, no process), may be stale for images it made
        itself."""
        ...

    async def execute(self, step: ExecStep, keep: Callable[[int], bool]) -> ExecResult:
        """Run ``step``; its file system is committed only if ``keep(exit code)``. Raises SetupFailure."""
        ...

    async def edit(self, parent: Snapshot, edits: Sequence[Edit]) -> Snapshot:
        """Apply ``edits`` in order as one layer on ``parent``. Raises RuntimeFailure."""
        ...

    async def docker_build(self, step: BuildStep) -> PulledImage:
        """Build; the config is the image's. Raises BuildStepFailed or RuntimeFailure."""
        ...

    def mounted(self, snapshot: Snapshot) -> AbstractAsyncContextManager[Path]:
        """A read-only host view of a snapshot's root file system; nested and parallel uses share one
        mount."""
        ...

    async def layers(self, snapshot: Snapshot, forced: Compression = "") -> tuple[LayerBlob, ...]:
        """The layers of ``snapshot`` as blobs, base first; made once, then answered from memory.

        Those that came from elsewhere are as they came, unless another compression is ``forced``.
        """
        ...

    async def start_service(self, step: ExecStep, hostname: str, wanted: Readiness) -> RunningService:
        """Start and wait until it is ready. Raises ServiceFailed with its log tail."""
        ...

    async def host_service(
        self, hostname: str, host: str, forwards: tuple[tuple[int, int], ...]
    ) -> RunningService:
        """Ports of ``host`` as seen from this machine, as a service: (port seen, port there) pairs."""
        ...

    async def publish(self, image: Outgoing, address: str, login: Login | None) -> None:
        """Send blobs, configs and manifests to ``address`` (host/path:tag). Raises RuntimeFailure."""
        ...

    async def write_tarball(self, image: Outgoing, target: Path, name: str = "") -> None:
        """An OCI layout as one tar file, with docker's manifest.json if it is one image: byte-stable, times
        0."""
        ...

    async def host_image(self, name: str) -> str:
        """The digest of an image in the machine's own store (Docker's or Podman's). Raises RuntimeFailure."""
        ...

    async def take_host_image(self, name: str) -> PulledImage:
        """Bring an image of the machine's own store into ours. Raises RuntimeFailure."""
        ...

    async def give_host_image(self, image: OutImage, name: str) -> None:
        """Put an image into the machine's own store. Raises RuntimeFailure."""
        ...

    async def remove(self, snapshot: Snapshot) -> None:
        """Forget a snapshot. A missing one is no error."""
        ...

    async def close(self) -> None:
        """Stop what is still running and unmount: nothing is left behind."""
        ...


class Facts(Protocol):
    """A small persistent memory a runtime may use: (kind, key) -> JSON, in the engine's SQLite file."""

    def fact(self, kind: str, key: str) -> JSON:
        """What was remembered, or None."""
        ...

    def remember(self, kind: str, key: str, value: JSON) -> None:
        """Store (replace) at once and for good."""
        ...
