"""What goes wrong, and at which request: values, read from texts like ``503@7`` or ``429:2@*``.

A fault is ``KIND[:VALUE]@WHEN``. WHEN counts requests from 1, or says which ones:

    503@7            the seventh request
    cut-body@3-5     the third to the fifth; 3- is the third and all after it
    500@%4           every fourth
    429:2@*          all of them, with Retry-After: 2
    416@PATCH        every PATCH
    503@PUT/manifests/        every PUT whose path holds /manifests/
    lost@PUT/blobs/#2         the second of those; #2- is the second and all after it
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Where(Enum):
    """The moment of a request at which a fault strikes, and so what it needs."""

    INSTEAD = "the registry never sees the request"
    BODY = "on the way to the registry; needs a request with a body"
    ANSWER = "the registry did it, and its answer is lost"
    REPLY = "on the way back; needs an answer with a body"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it is called, when it strikes, and what is seen of it."""

    name: str
    where: Where
    text: str
    only: str = ""
    """A pattern of ``METHOD path`` outside of which the fault makes no sense; "" for none."""
    status: int = 0
    code: str = ""


_UPLOAD: Final = r"(PATCH|PUT) .*/blobs/uploads/"
KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("401", Where.INSTEAD, "401: the token has expired", status=401, code="UNAUTHORIZED"),
        Kind("403", Where.INSTEAD, "403: as ECR says that the token has expired", status=403, code="DENIED"),
        Kind("408", Where.INSTEAD, "408", status=408, code="UNKNOWN"),
        Kind("429", Where.INSTEAD, "429 with Retry-After: VALUE (1)", status=429, code="TOOMANYREQUESTS"),
        Kind("500", Where.INSTEAD, "500", status=500, code="UNKNOWN"),
        Kind("502", Where.INSTEAD, "502 with a web page", status=502),
        Kind("503", Where.INSTEAD, "503, with Retry-After: VALUE if given", status=503, code="UNAVAILABLE"),
        Kind("504", Where.INSTEAD, "504 with a web page", status=504),
        Kind("416", Where.INSTEAD, "416 on a part of an upload", _UPLOAD, 416, "BLOB_UPLOAD_INVALID"),
        Kind("name-unknown", Where.INSTEAD, "404 NAME_UNKNOWN: no such repository", "", 404, "NAME_UNKNOWN"),
        Kind(
            "immutable",
            Where.INSTEAD,
            "400 TAG_INVALID, as ECR says that a tag is taken",
            r"PUT .*/manifests/(?!sha256:)",
            400,
            "TAG_INVALID",
        ),
        Kind("cut", Where.INSTEAD, "the connection is cut before the registry sees anything"),
        Kind("stall", Where.INSTEAD, "nothing is answered, and the connection stays"),
        Kind("cut-body", Where.BODY, "the connection is cut in the middle of the request's body"),
        Kind("stall-body", Where.BODY, "the request's body is no longer read from its middle on"),
        Kind("short-body", Where.BODY, "the registry gets half of the request's body, as if that were all"),
        Kind("flip-body", Where.BODY, "one bit of the request's body is flipped"),
        Kind("lost", Where.ANSWER, "the registry does it; the connection is cut instead of its answer"),
        Kind("stall-answer", Where.ANSWER, "the registry does it; its answer never comes"),
        Kind("cut-reply", Where.REPLY, "the connection is cut in the middle of the answer's body"),
        Kind("stall-reply", Where.REPLY, "the answer's body stops in its middle"),
        Kind("short-reply", Where.REPLY, "half of the answer's body, with a Content-Length that says so"),
        Kind("flip-reply", Where.REPLY, "one bit of the answer's body is flipped"),
    )
}


@dataclass(frozen=True, slots=True)
class When:
    """Which requests: by number, or by method and a part of the path, counted among those."""

    first: int = 1
    last: int | None = None
    every: int = 1
    method: str = ""
    part: str = ""

    _NUMBERS = re.compile(r"(\d+)(-(\d*))?")
    _PLACE = re.compile(r"([A-Z]*)(/[^#]*)?(?:#(.+))?")

    @classmethod
    def parse(cls, text: str) -> When:
        """Read what stands behind the ``@``. Raises ValueError."""
        if text == "*":
            return cls()
        if text.startswith("%"):
            return cls(every=_positive(text[1:]))
        if text[:1].isdigit():
            return cls(*cls._range(text))
        place = cls._PLACE.fullmatch(text)
        if not text or place is None:
            raise ValueError(f'"{text}" is no moment: write 7, 3-5, 3-, %4, *, PATCH or PUT/manifests/#2')
        numbers = cls._range(place[3]) if place[3] else (1, None)
        return cls(*numbers, method=place[1], part=place[2] or "")

    @classmethod
    def _range(cls, text: str) -> tuple[int, int | None]:
        found = cls._NUMBERS.fullmatch(text)
        if found is None:
            raise ValueError(f'"{text}" is no number and no range: write 7, 3-5 or 3-')
        first = _positive(found[1])
        if found[2] is None:
            return first, first
        return first, _positive(found[3]) if found[3] else None

    @property
    def by_place(self) -> bool:
        """Whether only requests of a method or path are counted."""
        return bool(self.method or self.part)

    def is_counted(self, method: str, path: str) -> bool:
        """Whether a request is one of those that are counted."""
        return self.method in ("", method) and self.part in path

    def holds(self, number: int) -> bool:
        """Whether the ``number``-th counted request is meant."""
        upto = number if self.last is None else self.last
        return self.first <= number <= upto and number % self.every == 0


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault at some requests."""

    kind: Kind
    when: When = field(default_factory=When)
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``KIND[:VALUE]@WHEN``. Raises ValueError, which says what is wrong."""
        what, at, when = text.partition("@")
        name, _, value = what.partition(":")
        if name not in KINDS:
            raise ValueError(f'"{name}" is no fault: there are {", ".join(KINDS)}')
        if not at:
            raise ValueError(f'"{text}" says no moment: write {what}@7, {what}@* …')
        return cls(KINDS[name], When.parse(when), value)

    def fits(self, method: str, path: str) -> bool:
        """Whether it can strike such a request at all, as far as that is known before its body."""
        return not self.kind.only or re.match(self.kind.only, f"{method} {path}") is not None


@dataclass(slots=True)
class Seen:
    """One request that a proxy saw, and what was done to it."""

    number: int
    method: str
    path: str
    place: str = ""
    """Which proxy saw it."""
    received: int = 0
    """Bytes of the body that came from the client."""
    status: int = 0
    """What the client was answered; 0: nothing."""
    injected: str = ""
    """The fault that really struck; a fault that needs a body doesn't strike where there is none."""


class Script:
    """The faults of one or several proxies, which count their requests together."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.seen: list[Seen] = []
        self._only = ""
        self._faults: tuple[Fault, ...] = ()
        self._counts: list[int] = []
        self.begin(faults)

    def begin(self, faults: Iterable[Fault] = (), only: str = "") -> None:
        """Forget what was seen and count anew, with other faults; ``only`` at the proxy of that place."""
        self.seen = []
        self._only = only
        self._faults = tuple(faults)
        self._counts = [0] * len(self._faults)

    def next(self, method: str, path: str, place: str = "") -> tuple[Seen, Fault | None]:
        """Note a request; the first fault that is meant for it, if any."""
        seen = Seen(len(self.seen) + 1, method, path, place)
        self.seen.append(seen)
        found = None
        for index, fault in enumerate(self._faults):
            if self._only not in ("", place) or not fault.when.is_counted(method, path):
                continue
            self._counts[index] += 1
            if found is None and fault.when.holds(self._counts[index]) and fault.fits(method, path):
                found = fault
        return seen, found

    @property
    def injected(self) -> tuple[Seen, ...]:
        """The requests that a fault really struck."""
        return tuple(seen for seen in self.seen if seen.injected)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f'"{text}" is no number from 1 on')
    return int(text)
