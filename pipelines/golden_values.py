"""New expected values for a golden case: what differs is taken from the answer, all else stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.in_engine.check_cases import Case
from pipelines.in_engine.check_compare import covers, differences
from pipelines.values import JSON

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer that the model gave twice alike."""

    status: int
    json: JSON
    is_json: bool
    text: str
    headers: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Change:
    """``value`` is written where the case has ``path``."""

    path: Path
    value: JSON


def changes(
    case: Case,
    written: JSON,
    answer: Recorded,
    tolerances: Mapping[str, tuple[float, float]],
    ignore: Sequence[str],
) -> list[Change]:
    """What to write into ``case``, whose value as it is written is ``written``.

    A status is written only where it changes; the form of the expectation stays: JSON as the same subset of
    keys, text as text. An error body is recorded only where the case compared a body before.
    """
    assert isinstance(written, dict)  # noqa: S101  # a case that was read
    old = written["expected"]
    assert isinstance(old, dict)  # noqa: S101  # likewise
    if not case.expected.takes(answer.status):
        return [Change(("expected",), _anew(old, answer))]
    found: list[Change] = []
    for name, text in case.expected.headers:
        if (now := answer.headers.get(name)) is not None and now != text:
            found.append(Change(("expected", "headers", name), now))
    if "text" in old and old["text"] != answer.text:
        found.append(Change(("expected", "text"), answer.text))
    if "json" in old:
        if not answer.is_json:
            return [Change(("expected",), _anew(old, answer))]
        rules = _Rules({**tolerances, **case.tolerance}, (*ignore, *case.ignore))
        found += [
            Change(("expected", "json", *path), value)
            for path, value in rules.apart(old["json"], answer.json, ())
        ]
    return found


def _anew(old: dict[str, JSON], answer: Recorded) -> JSON:
    """A whole new expectation, as detailed as the old one was."""
    new: dict[str, JSON] = {} if answer.status == 200 and "status" not in old else {"status": answer.status}
    if "json" in old or "text" in old:
        new |= {"json": answer.json} if answer.is_json else {"text": answer.text}
    return new


@dataclass(frozen=True, slots=True)
class _Rules:
    tolerances: Mapping[str, tuple[float, float]]
    ignore: Sequence[str]

    def apart(self, old: JSON, new: JSON, path: Path) -> Iterator[tuple[Path, JSON]]:
        """The places whose value has to change, as deep as it can be told."""
        steps = tuple(str(step) for step in path)
        if any(covers(pattern, steps) for pattern in self.ignore) or self._same(old, new, path):
            return
        if isinstance(old, dict) and isinstance(new, dict):
            if missing := [key for key in old if key not in new and not self._ignored((*steps, key))]:
                yield path, {key: new.get(key, value) for key, value in old.items() if key not in missing}
                return
            for key, value in old.items():
                if key in new:
                    yield from self.apart(value, new[key], (*path, key))
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for index, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from self.apart(one, other, (*path, index))
        else:
            yield path, new

    def _ignored(self, steps: tuple[str, ...]) -> bool:
        return any(covers(pattern, steps) for pattern in self.ignore)

    def _same(self, old: JSON, new: JSON, path: Path) -> bool:
        """Whether the check itself sees no difference: within a tolerance a number stays as it is."""
        wrapped_old, wrapped_new = old, new
        for step in reversed(path):
            wrapped_old, wrapped_new = ({str(step): wrapped_old}, {str(step): wrapped_new})
        return not differences(wrapped_old, wrapped_new, self.tolerances, self.ignore)
