"""What goes wrong with a registry or a layout: each kind a class, in plain words, with the place named.

Push and trace catch ``RegistryError`` at their border and turn it into their own kind with its exit code.
"""

from __future__ import annotations

from pipelines.errors import PushFailed


class RegistryError(PushFailed):
    """Something about one registry. The message names its host and never holds a secret.

    Where nobody turns it into another kind, it ends the run as a failed push does.
    """


class Unreachable(RegistryError):
    """Nothing answered: the connection was refused or cut, the name is unknown, TLS failed, time ran out."""


class AccessRefused(RegistryError):
    """The registry wants another login (401), or this login may not do that (403)."""


class RepositoryMissing(RegistryError):
    """The registry has no such repository and doesn't make one."""


class NotFound(RegistryError):
    """No such tag, manifest or blob."""


class Busy(RegistryError):
    """The registry asks for patience (429), for longer than a push waits."""


class ServerFault(RegistryError):
    """The registry failed by itself (5xx), or answered what the distribution specification doesn't know."""


class BrokenContent(RegistryError):
    """What was read is not what its digest or size says, or is no image at all."""


class TagRefused(RegistryError):
    """A tag was not moved: it is immutable, and it holds another digest."""
