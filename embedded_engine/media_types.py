"""The names of the parts of an image: OCI's, and those Docker used before.

https://github.com/opencontainers/image-spec/blob/main/media-types.md; zstd in Docker's form is BuildKit's.
"""

from __future__ import annotations

from dataclasses import dataclass

_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker."
_LAYERS = {
    f"{_OCI}layer.v1.tar+gzip": f"{_DOCKER}image.rootfs.diff.tar.gzip",
    f"{_OCI}layer.v1.tar+zstd": f"{_DOCKER}image.rootfs.diff.tar.zstd",
    f"{_OCI}layer.v1.tar": f"{_DOCKER}image.rootfs.diff.tar",
}
_TO_OCI = {docker: oci for oci, docker in _LAYERS.items()}


@dataclass(frozen=True, slots=True)
class MediaTypes:
    """Of manifest, config and index."""

    manifest: str
    config: str
    index: str

    @classmethod
    def oci(cls) -> MediaTypes:
        """OCI's."""
        return cls(f"{_OCI}manifest.v1+json", f"{_OCI}config.v1+json", f"{_OCI}index.v1+json")

    @classmethod
    def docker(cls) -> MediaTypes:
        """Docker's image manifest, version 2, schema 2."""
        manifest = f"{_DOCKER}distribution.manifest"
        return cls(f"{manifest}.v2+json", f"{_DOCKER}container.image.v1+json", f"{manifest}.list.v2+json")


def layer_type(media_type: str, *, docker: bool) -> str:
    """A layer's media type in one of both forms; one that neither knows stays."""
    return (_LAYERS if docker else _TO_OCI).get(media_type, media_type)
