"""The objects of the API about git, as immutable values. Class names are the GraphQL type names."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedded_engine.operations import digest_of
from embedded_engine.values import Directory, Secret, Service, Socket


@dataclass(frozen=True, slots=True)
class GitRepository:
    """A remote by URL with what it is reached by, or a directory that holds a repository."""

    url: str = ""
    directory: Directory | None = None
    known_hosts: str = ""
    socket: Socket | None = None
    username: str = ""
    token: Secret | None = None
    header: Secret | None = None
    service: Service | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.directory, self.socket, self.token, self.header, self.service)
        reached = [part.digest if part is not None else "" for part in parts]
        place = [self.url, self.known_hosts, self.username]
        object.__setattr__(self, "digest", digest_of("GitRepository", *place, *reached))

    @property
    def shown(self) -> str:
        """How people know it."""
        return self.url or "the directory's git repository"


@dataclass(frozen=True, slots=True)
class GitRef:
    """A commit of a repository, and the full name it was found by ("" if by its id)."""

    repository: GitRepository
    name: str
    commit: str

    @property
    def digest(self) -> str:
        """Identity by repository, name and commit."""
        return digest_of("GitRef", self.repository.digest, self.name, self.commit)
