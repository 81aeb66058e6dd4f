"""What `buildah bud` says while it builds: which step runs, which were cached, what the failing one
printed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

_STEP = re.compile(rb"^(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)$", re.MULTILINE)
_CACHED = re.compile(rb"^--> Using cache ", re.MULTILINE)
_FAILED = re.compile(
    r'building at STEP "RUN .*": (?:while running runtime: )?exit status \d+\s*\Z', re.DOTALL
)
_NOISE = re.compile(
    r'(?:subprocess exited with status \d+\n)*Error: building at STEP ".*": .*\Z', re.DOTALL | re.MULTILINE
)
_RUN_FLAGS = re.compile(r"^(?:--\w+(?:=\S+)?\s+)+")


@dataclass(slots=True)
class BuildLog:
    """Follows the output piece by piece. ``hidden_args``: each FROM is followed by an ARG step of ours."""

    hidden_args: bool
    step: str = ""
    steps: int = 0
    cached: int = 0
    _hidden: bool = False
    _line: bytes = b""
    _stdout: list[bytes] = field(default_factory=list)
    _stderr: list[bytes] = field(default_factory=list)

    def add(self, stream: int, piece: bytes) -> None:
        """Take in what the build just said."""
        if stream == 2:
            self._stderr.append(piece)
            return
        *lines, self._line = (self._line + piece).split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        step = _STEP.match(line)
        if step is not None:
            text = step[1].decode("utf-8", "replace")
            self._hidden = self.hidden_args and self.step.startswith("FROM ") and text.startswith("ARG ")
            self.step = text
            self.steps += not self._hidden and not text.startswith("FROM ")
            self._stdout.clear()
            self._stderr.clear()
        elif _CACHED.match(line):
            self.cached += not self._hidden
        else:
            self._stdout.append(line + b"\n")

    def stdout(self) -> str:
        """What the last step said on stdout."""
        return b"".join([*self._stdout, self._line]).decode("utf-8", "replace")

    def stderr(self) -> str:
        """What the last step said on stderr, without Buildah's own last words."""
        return _NOISE.sub("", b"".join(self._stderr).decode("utf-8", "replace"))

    def failed_command(self, said: str) -> tuple[str, ...] | None:
        """The command of the RUN that failed; None if the build failed for another reason."""
        if not self.step.startswith("RUN ") or not _FAILED.search(said):
            return None
        text = _RUN_FLAGS.sub("", self.step.removeprefix("RUN ").strip())
        try:
            parsed = json.loads(text)
        except json.JSONDecodeError:
            parsed = None
        if isinstance(parsed, list):
            return tuple(str(part) for part in parsed)
        return ("/bin/sh", "-c", text)
