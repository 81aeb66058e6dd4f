"""Where the embedded engine answers otherwise than Dagger's, on purpose, and why: the only such table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One place of one case's answer, what the embedded engine says there (a pattern), and the reason."""

    case: str
    at: str
    ours: str
    reason: str

    def holds(self, ours: Any) -> bool:
        """Whether this is what the embedded engine is expected to say."""
        return re.search(self.ours, ours if isinstance(ours, str) else repr(ours), re.DOTALL) is not None


DIFFERENCES: tuple[Difference, ...] = ()
