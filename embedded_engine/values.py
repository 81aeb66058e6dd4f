"""The objects of the API as immutable values. Class names are the GraphQL type names.

Every value has a ``digest``: its identity by recipe, which its opaque id is made of. Nothing here is a
secret's value, a running process or a host path.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from embedded_engine.operations import Operation, digest_of
from embedded_engine.runtime.port import JSON

if TYPE_CHECKING:
    from embedded_engine.image_config import ImageConfig

Sharing = Literal["SHARED", "PRIVATE", "LOCKED"]
T = TypeVar("T")


class Value(Protocol):
    """Anything the API hands out an id for."""

    @property
    def digest(self) -> str:
        """Identity by recipe."""
        ...


def digest_or_none(operation: Operation | None) -> str:
    """The digest of ``operation``, or "" for nothing (an empty file system)."""
    return operation.digest if operation is not None else ""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory inside the file system that ``source`` gives (None: empty)."""

    source: Operation | None = None
    path: str = "/"  # absolute, normalised, inside the source

    @property
    def digest(self) -> str:
        """Identity by recipe; for host directories that is by content."""
        return digest_of("Directory", digest_or_none(self.source), self.path)


@dataclass(frozen=True, slots=True)
class File:
    """One file inside the file system that ``source`` gives; ``source`` None never happens in practice."""

    source: Operation | None
    path: str

    @property
    def digest(self) -> str:
        """Identity by recipe."""
        return digest_of("File", digest_or_none(self.source), self.path)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by name or URI; ``key`` is what goes into cache keys, the value is kept by the session."""

    name: str
    key: str  # "name:..." for setSecret, a salted hash or the caller's cacheKey for URIs
    uri: str = ""

    @property
    def digest(self) -> str:
        """Identity without the value."""
        return digest_of("Secret", self.name, self.key, self.uri)


@dataclass(frozen=True, slots=True)
class CacheVolume:
    """A directory that outlives execs and sessions; its content is in no cache key."""

    key: str
    source: Directory | None = None
    sharing: Sharing = "SHARED"
    owner: str = ""

    @property
    def digest(self) -> str:
        """Identity: key, seed, sharing and owner, as in Dagger."""
        seed = self.source.digest if self.source else ""
        return digest_of("CacheVolume", self.key, seed, self.sharing, self.owner)


@dataclass(frozen=True, slots=True)
class DirectoryMount:
    """A directory (or file) over a path of the container: not part of its image."""

    target: str
    source: Directory | File
    read_only: bool = False
    owner: str = ""

    def recipe(self) -> JSON:
        """What of it is in an exec's key."""
        return ["mount", self.target, self.source.digest, self.read_only, self.owner]


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A cache volume at a path."""

    target: str
    volume: CacheVolume
    owner: str = ""

    def recipe(self) -> JSON:
        """What of it is in an exec's key."""
        return ["cache", self.target, self.volume.digest, self.owner]


@dataclass(frozen=True, slots=True)
class TempMount:
    """An empty directory in memory."""

    target: str
    size: int | None = None

    def recipe(self) -> JSON:
        """What of it is in an exec's key."""
        return ["temp", self.target, self.size]


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A secret as a file."""

    target: str
    secret: Secret
    owner: str = ""
    mode: int = 0o400

    def recipe(self) -> JSON:
        """What of it is in an exec's key: never the value."""
        return ["secret", self.target, self.secret.digest, self.owner, self.mode]


ContainerMount = DirectoryMount | CacheMount | TempMount | SecretMount


@dataclass(frozen=True, slots=True)
class Socket:
    """A Unix socket of the host, by its (absolute) path."""

    path: str

    @property
    def digest(self) -> str:
        """Identity: the path, nothing of who listens there."""
        return digest_of("Socket", self.path)


@dataclass(frozen=True, slots=True)
class SocketMount:
    """A socket in the way of execs."""

    target: str
    socket: Socket
    owner: str = ""

    def recipe(self) -> JSON:
        """What of it is in an exec's key."""
        return ["socket", self.target, self.socket.digest, self.owner]


@dataclass(frozen=True, slots=True)
class Container:
    """A file system, an image config, and what an exec on it gets beside these."""

    platform: str
    config: ImageConfig
    rootfs: Operation | None = None
    image_ref: str = ""  # address@digest, only directly after `from`
    last_exec: Operation | None = None
    mounts: tuple[ContainerMount, ...] = ()
    secret_env: tuple[tuple[str, Secret], ...] = ()
    volatile: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    services: tuple[tuple[str, Service], ...] = ()  # (alias, service)
    sockets: tuple[SocketMount, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self._identity())

    def _identity(self) -> str:
        return digest_of(
            "Container",
            self.platform,
            self.config.recipe(),
            digest_or_none(self.rootfs),
            self.image_ref,
            digest_or_none(self.last_exec),
            [mount.recipe() for mount in (*self.mounts, *self.sockets)],
            [[name, secret.digest] for name, secret in self.secret_env],
            [list(pair) for pair in self.volatile],
            [[alias, service.digest] for alias, service in self.services],
        )

    def having(self, **changes: object) -> Container:
        """A copy with these fields changed; ``image_ref`` is lost, since it is not that image any more."""
        changes.setdefault("image_ref", "")
        return replace(self, **changes)  # type: ignore[arg-type]  # dataclass fields by name


@dataclass(frozen=True, slots=True)
class Service:
    """A container started by need; or the host's ports (``host``), or a tunnel to another (``target``)."""

    container: Container | None = None
    args: tuple[str, ...] = ()
    hostname: str = ""
    host: str = ""
    target: Service | None = None
    forwards: tuple[tuple[int, int, str], ...] = ()  # (frontend, backend, protocol)
    init: bool = True
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        container = self.container.digest if self.container else ""
        target = self.target.digest if self.target else ""
        forwards: JSON = [list(forward) for forward in self.forwards]
        parts: tuple[JSON, ...] = (container, list(self.args), self.hostname, self.host, target, forwards)
        parts += () if self.init else ("no init",)
        object.__setattr__(self, "digest", digest_of("Service", *parts))


@dataclass(frozen=True, slots=True)
class Host:
    """The machine the session runs on."""

    digest: str = "host"
