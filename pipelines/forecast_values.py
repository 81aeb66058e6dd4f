"""What a push would send, as values: by kind of content, for each registry, and for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipelines.built_images import KnownBuild
from pipelines.errors import PipelineError
from pipelines.layer_classes import LayerClass
from pipelines.registries.descriptors import Descriptor
from pipelines.values import JSON


class Kind(StrEnum):
    """The classes of layers, and what else travels."""

    BASE = LayerClass.BASE
    SYSTEM = LayerClass.SYSTEM
    DEPENDENCIES = LayerClass.DEPENDENCIES
    WEIGHTS = LayerClass.WEIGHTS
    CODE = LayerClass.CODE
    OTHER = LayerClass.OTHER
    CONFIG = "config"
    """The image's configuration and its manifest."""
    ATTESTATIONS = "attestations"
    """What refers to the image: verdicts of the gates, the SBOM."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A blob or a manifest of the release."""

    kind: Kind
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Freight:
    """All that a registry without any of it would be sent."""

    manifest: Descriptor
    blobs: tuple[Piece, ...]
    referrers: tuple[Descriptor, ...]
    """Their manifests; their blobs are among ``blobs``."""

    def sizes(
        self, blobs: Collection[str], *, manifest: bool = False, referrers: Iterable[Descriptor] = ()
    ) -> dict[Kind, int]:
        """The bytes of some of it by kind: of ``blobs`` (digests), the manifest, and referrers' manifests."""
        parts = [(one.kind, one.descriptor.size) for one in self.blobs if one.descriptor.digest in blobs]
        parts += [(Kind.CONFIG, self.manifest.size)] if manifest else []
        parts += [(Kind.ATTESTATIONS, one.size) for one in referrers]
        sums = {kind: sum(size for its, size in parts if its is kind) for kind in Kind}
        return {kind: size for kind, size in sums.items() if size}

    @property
    def all_sizes(self) -> dict[Kind, int]:
        """The bytes of all of it by kind."""
        blobs = {one.descriptor.digest for one in self.blobs}
        return self.sizes(blobs, manifest=True, referrers=self.referrers)

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(self.all_sizes.values())


@dataclass(frozen=True, slots=True)
class RegistryForecast:
    """What one registry would be sent."""

    repository: str
    upload: Mapping[Kind, int]
    mountable: Mapping[Kind, int]
    total: int
    error: PipelineError | None = None
    """Why it can't be told; then nothing of the above is known."""
    is_directory: bool = False
    goes_on: bool = False
    """An upload that an earlier run began may go on: then it is less."""

    @property
    def upload_bytes(self) -> int:
        """What will be sent."""
        return sum(self.upload.values())

    @property
    def mountable_bytes(self) -> int:
        """What another repository of the registry holds, so that it need not be sent."""
        return sum(self.mountable.values())

    @property
    def there_bytes(self) -> int:
        """What it has already."""
        return self.total - self.upload_bytes - self.mountable_bytes

    def to_json(self) -> dict[str, JSON]:
        """For ``modelport plan --json``."""
        known = self.error is None
        return {
            "repository": self.repository,
            "upload_bytes": self.upload_bytes if known else None,
            "there_bytes": self.there_bytes if known else None,
            "mountable_bytes": self.mountable_bytes if known else None,
            "unfinished_upload": self.goes_on,
            "upload_by_class": {kind.value: size for kind, size in self.upload.items()} if known else None,
            "error": str(self.error) if self.error else None,
        }

    def line(self) -> str:
        """For people."""
        if self.error is not None:
            return f"can't be told: {self.error}"
        if self.is_directory:
            return "on this machine: nothing is uploaded"
        parts = [f"{size_text(self.upload_bytes)} to upload"]
        if 0 < self.upload_bytes < self.total:
            parts[0] += f" ({', '.join(f'{kind} {size_text(size)}' for kind, size in self.upload.items())})"
        parts += ["less where an earlier upload goes on"] if self.goes_on else []
        parts += [f"{size_text(self.mountable_bytes)} can be mounted"] if self.mountable_bytes else []
        return " · ".join([*parts, f"{size_text(self.there_bytes)} there"])


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the push of a plan would send; ``build`` None: nothing was built yet, so nothing is known."""

    build: KnownBuild | None = None
    sizes: Mapping[Kind, int] = field(default_factory=dict)
    registries: tuple[RegistryForecast, ...] = ()

    @property
    def total(self) -> int:
        """All bytes of the release."""
        return sum(self.sizes.values())

    @property
    def upload_bytes(self) -> int:
        """The most that is sent to one of the registries."""
        return max((one.upload_bytes for one in self.registries if one.error is None), default=0)

    @property
    def is_exact(self) -> bool:
        """Whether it is of the image that this commit gives, and not of an earlier one."""
        return self.build is not None and self.build.is_current

    def to_json(self) -> dict[str, JSON]:
        """For ``modelport plan --json``."""
        return {
            "built": self.build is not None,
            "exact": self.is_exact,
            "built_commit": (self.build.commit or None) if self.build else None,
            "total_bytes": self.total if self.build else None,
            "by_class": {kind.value: size for kind, size in self.sizes.items()},
            "registries": [one.to_json() for one in self.registries],
        }

    def lines(self) -> list[str]:
        """For people: the sum, the classes, and each registry."""
        if self.build is None:
            return ["not known before the first build: `modelport run --no-push` builds and sends nothing"]
        kinds = [f"{kind} {size_text(size)}" for kind, size in self.sizes.items()]
        if Kind.ATTESTATIONS not in self.sizes:
            kinds.append("without attestations")
        width = max((len(one.repository) for one in self.registries), default=0)
        registries = [f"{one.repository:<{width}}  {one.line()}" for one in self.registries]
        return [self._headline(), f"{size_text(self.total)}: {' · '.join(kinds)}", *registries]

    def _headline(self) -> str:
        asked = [one for one in self.registries if one.error is None]
        amount = f"{size_text(self.upload_bytes)} of {size_text(self.total)}"
        where = f"{len(asked)} {'registry' if len(asked) == 1 else 'registries'}"
        if len(asked) < len(self.registries):
            where += f" ({len(self.registries) - len(asked)} can't be asked)"
        if asked and all(one.is_directory for one in asked):
            amount, where = "nothing", "a registry: the image stays on this machine"
        if self.is_exact:
            return f"{amount} will be uploaded to {where}"
        commit = self.build.commit[:12] if self.build else ""
        last = f"the last build{f' ({commit})' if commit else ''}"
        changes = "what this commit changes comes on top"
        return f"not built yet at this commit; {last} would upload {amount} to {where}, {changes}"


def size_text(count: int) -> str:
    """``0``, ``812 B``, ``12 kB``, ``1.2 MB``, ``2.1 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            number = count / size
            return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"
    return f"{count} B" if count else "0"
