"""What differs between the image under a release tag and the one that was built: for the conflict's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.registries.port import OpenRegistry

if TYPE_CHECKING:
    from pipelines.release_image import ReleaseImage


@dataclass(slots=True)
class Differences:
    """What differs, told once for each image that is met."""

    async def told(self, registry: OpenRegistry, held: str, release: ReleaseImage) -> str:
        """A few words."""
        return "another image"
