"""When to try again, how soon, and when to give up (RFC 9110, 10.2.3 ``Retry-After``)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pipelines.registries.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient to be: waits of about 0.25, 0.5, 1, 2 … seconds, or what the registry asks for."""

    attempts: int = 5
    first_wait_s: float = 0.25
    longest_wait_s: float = 30.0
    longest_asked_s: float = 120.0
    """The longest ``Retry-After`` that is waited for."""
    silence_s: float = 120.0
    """How long nothing may come from the registry, or nothing be taken by it, before an attempt ends."""

    def wait_s(self, attempt: int, asked_s: float | None) -> float | None:
        """The wait after the ``attempt``-th failure (from 1), or None to give up."""
        if attempt >= self.attempts or (asked_s is not None and asked_s > self.longest_asked_s):
            return None
        own: float = self.first_wait_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311  jitter, not a secret
        return max(min(self.longest_wait_s, own), asked_s or 0.0)


class TryAgain(Exception):
    """An attempt failed in a way that may pass. Only inside this package: ``retrying`` raises ``error``."""

    def __init__(
        self, error: RegistryError, *, asked_s: float | None = None, attempts: int | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.asked_s = asked_s
        self.attempts = attempts
        """Fewer than usual, where another attempt hardly helps."""


def retry_after_s(header: str) -> float | None:
    """The seconds of a Retry-After header, which holds a number or a date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
