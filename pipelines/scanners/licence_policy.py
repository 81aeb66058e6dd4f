"""What a policy says of an SPDX licence expression (SPDX 2.3, annex D)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase


class Standing(IntEnum):
    """How a licence stands with the policy, from best to worst."""

    ALLOWED = 0
    UNKNOWN = 1
    """A LicenseRef that the policy doesn't name: what it says is in some file."""
    NOT_LISTED = 2
    """There is a list of the allowed ones, and it isn't in it."""
    DENIED = 3


@dataclass(frozen=True, slots=True)
class LicencePolicy:
    """Allowed and denied licences: SPDX ids, ids with an exception, LicenseRefs, or globs of them."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def standing(self, expression: str) -> tuple[Standing, str]:
        """How ``expression``, as ``packaging.licenses`` spells it, stands; and which licence decides it.

        Of an OR the best branch decides: whoever distributes may choose it. Of an AND the worst does, for all
        of them hold at once.
        """
        return _Expression(_tokens(expression), self).whole()

    def of_one(self, licence: str) -> Standing:
        """How one licence stands, with its exception if it has one.

        An exception only adds permissions, so what is allowed or denied without it is so with it; the list
        may name both together, and that counts first.
        """
        for name in dict.fromkeys((licence, licence.partition(" WITH ")[0])):
            for listed, standing in (
                (_exact(self.deny), Standing.DENIED),
                (_exact(self.allow), Standing.ALLOWED),
                (self.deny, Standing.DENIED),
                (self.allow, Standing.ALLOWED),
            ):
                if any(fnmatchcase(name.lower(), one.lower()) for one in listed):
                    return standing
        if licence.startswith(("LicenseRef-", "DocumentRef-")):
            return Standing.UNKNOWN
        return Standing.NOT_LISTED if self.allow else Standing.ALLOWED


def _exact(listed: Sequence[str]) -> list[str]:
    """Those that name one licence: they count before globs."""
    return [one for one in listed if "*" not in one]


def _tokens(expression: str) -> list[str]:
    return re.findall(r"\(|\)|[^\s()]+", expression)


class _Expression:
    """Recursive descent: OR binds least, then AND, then WITH."""

    def __init__(self, tokens: list[str], policy: LicencePolicy) -> None:
        self._tokens = tokens
        self._policy = policy

    def whole(self) -> tuple[Standing, str]:
        result = self._alternatives()
        if self._tokens:
            raise ValueError(f"licence expression: {self._tokens[0]!r} is not expected")
        return result

    def _next(self) -> str:
        if not self._tokens:
            raise ValueError("licence expression: it ends too early")
        return self._tokens.pop(0)

    def _follows(self, word: str) -> bool:
        if self._tokens and self._tokens[0].upper() == word:
            self._tokens.pop(0)
            return True
        return False

    def _alternatives(self) -> tuple[Standing, str]:
        branches = [self._all()]
        while self._follows("OR"):
            branches.append(self._all())
        return min(branches, key=lambda branch: branch[0])

    def _all(self) -> tuple[Standing, str]:
        parts = [self._one()]
        while self._follows("AND"):
            parts.append(self._one())
        return max(parts, key=lambda part: part[0])

    def _one(self) -> tuple[Standing, str]:
        if self._follows("("):
            inner = self._alternatives()
            if not self._follows(")"):
                raise ValueError("licence expression: a parenthesis is not closed")
            return inner
        licence = self._next()
        if self._follows("WITH"):
            licence = f"{licence} WITH {self._next()}"
        return self._policy.of_one(licence), licence
