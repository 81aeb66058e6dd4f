"""What a command says, with secrets hidden from the moment it comes: nobody after this sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from embedded_engine.masking import Hidden, Masker, mask_bytes
from embedded_engine.runtime.outcome import Ending, without_noise
from embedded_engine.runtime.process import Finished

Watch = Callable[[int, bytes], None]
"""Told each piece of output as it comes: 1 or 2 for the stream, and the bytes, masked."""


@dataclass(slots=True)
class Said:
    """Both streams of one process. A value split over two writes, or by the other stream, is hidden too."""

    hidden: Hidden
    watches: tuple[Watch, ...] = ()
    _maskers: dict[int, Masker] = field(init=False, repr=False)
    _pieces: list[tuple[int, bytes]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._maskers = {stream: Masker(self.hidden) for stream in (1, 2)}

    def take(self, stream: int, piece: bytes) -> None:
        """What the process just said."""
        self._give(stream, self._maskers[stream].feed(piece))

    def finish(self) -> None:
        """The process has ended: what was held back is told."""
        for stream, masker in self._maskers.items():
            self._give(stream, masker.finish())

    def _give(self, stream: int, piece: bytes) -> None:
        if not piece:
            return
        if self.hidden:
            self._pieces.append((stream, piece))
        for watch in self.watches:
            watch(stream, piece)

    def outputs(self, finished: Finished, ended: Ending) -> tuple[bytes, bytes, bytes]:
        """stdout, stderr and both as they came, masked, without the tool's own last words."""
        if not self.hidden:
            return finished.stdout, ended.stderr, without_noise(finished.combined, ended.noise)
        stdout = b"".join(piece for stream, piece in self._pieces if stream == 1)
        combined = b"".join(piece for _, piece in self._pieces)
        stderr = mask_bytes(ended.stderr, self.hidden)
        return stdout, stderr, without_noise(combined, mask_bytes(ended.noise, self.hidden))
