"""How far the upload of one blob is, and how registries tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipelines.registries.blob_source import BlobSource
from pipelines.registries.descriptors import Descriptor

_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")
_EXPECTED: Final = re.compile(r"First byte of the layer part is \d+ instead of (\d+)")


@dataclass(slots=True)
class UploadState:
    """One blob on its way."""

    source: BlobSource
    part: int
    location: str = ""
    offset: int = 0
    begun: int = 0
    """How often an upload was begun; there is an end to it."""
    resumed_at: int = 0
    in_doubt: bool = False
    """The last request had no good answer: what it did is to be found out."""
    closing: bool = False
    """The last request would have ended the upload."""
    stored: bool = False

    @property
    def blob(self) -> Descriptor:
        """What is sent."""
        return self.source.blob

    @property
    def is_small(self) -> bool:
        """One request holds it all: beginning anew is cheaper than asking."""
        return self.blob.size <= self.part

    def goes_on_at(self, offset: int) -> None:
        """The registry told how much it has; what it had before this run was not sent now."""
        if not self.begun:
            self.begun, self.resumed_at = 1, offset
        self.offset, self.in_doubt, self.closing = offset, False, False

    def forget(self) -> None:
        """There is no upload (any more)."""
        self.location, self.offset, self.resumed_at = "", 0, 0
        self.in_doubt = self.closing = False


def told_offset(headers: Mapping[str, str]) -> int | None:
    """How many bytes a ``Range`` header tells of; an upload without any is ``0-0`` in practice."""
    found = _RANGE.fullmatch(headers.get("Range", "").strip())
    if found is None:
        return None
    last = int(found[1])
    return last + 1 if last else 0


def expected_offset(said: str) -> int | None:
    """Where a refusal says that the next part has to begin; ECR has no other way to tell."""
    found = _EXPECTED.search(said)
    return int(found[1]) if found else None
