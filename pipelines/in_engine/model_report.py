"""What one file of the image gave, and how much may be spent on it."""

from pipelines.in_engine.bounded import Budget
from pipelines.in_engine.rootfs import File

MOST_TOLD = 50
"""Findings of one kind in one file; the first are enough to refuse it."""


class Report:
    """Collects what is found in one file."""

    def __init__(self, file: File, budget: Budget) -> None:
        self.file = file
        self.budget = budget
        self.format = ""
        self.calls: dict[tuple[str, str, str], int] = {}
        """(module, name, inside what) with the byte in that."""
        self.odd: dict[tuple[str, str, str, str], None] = {}
        """(id, severity, what, inside what): what isn't a call."""
        self.unread: dict[str, None] = {}

    @property
    def found(self) -> bool:
        """Is there anything to tell?"""
        return bool(self.format or self.calls or self.odd or self.unread)

    def call(self, module: str, name: str, inside: str, at: int) -> None:
        """Loading the file names this callable."""
        if len(self.calls) < MOST_TOLD:
            self.calls.setdefault((_safe(module), _safe(name), _safe(inside)), at)

    def note(self, rule: str, severity: str, what: str, inside: str) -> None:
        """Something else that the policy judges."""
        if len(self.odd) < MOST_TOLD:
            self.odd[_safe(rule), severity, _safe(what), _safe(inside)] = None

    def cant_read(self, inside: str, reason: str) -> None:
        """A part that can't be followed to its end."""
        if len(self.unread) < MOST_TOLD:
            self.unread[_safe(f"{inside}: {reason}" if inside else reason)] = None

    def json(self) -> dict[str, object]:
        """As the pipeline reads it."""
        return {
            "path": self.file.path,
            "format": self.format,
            "calls": [
                {"module": module, "name": name, "inside": inside, "at": at}
                for (module, name, inside), at in self.calls.items()
            ],
            "odd": [
                {"id": rule, "severity": severity, "what": what, "inside": inside}
                for rule, severity, what, inside in self.odd
            ],
            "unread": list(self.unread),
        }


def _safe(text: str) -> str:
    """Names come from the file: bounded, and without what moves a terminal's cursor."""
    return "".join(one if one.isprintable() else "?" for one in text[:300])
