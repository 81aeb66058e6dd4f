"""An answer against what was expected: the differences, in words that say what to look at.

Objects are compared as subsets (more keys in the answer are allowed, so a service may grow), lists whole and
in order, everything else exactly; numbers within a tolerance where the case or the configuration names one.
The standard library only, Python 3.8.
"""

from __future__ import annotations

import json
import math
from typing import Iterator, Mapping, Sequence  # noqa: UP035  # Python 3.8 runs it

from pipelines.in_engine.check_cases import Case, kind
from pipelines.in_engine.check_http import Answer

Tolerances = Mapping[str, "tuple[float, float]"]
LONGEST = 120


def case_differences(
    case: Case, answer: Answer, tolerances: Tolerances, ignore: Sequence[str], body: bytes | None = None
) -> list[str]:
    """What of ``answer`` is not as ``case`` says. The case's own tolerances come on top of ``tolerances``.

    ``body`` is the content of the file that is expected, where the case names one.
    """
    expected = case.expected
    if not expected.takes(answer.status):
        said = shown(answer.body.decode("utf-8", "replace").strip())
        return [f"status is {answer.status}, expected {expected.shown_status}; the answer was {said}"]
    found = [
        f'header "{name}" is {shown(answer.header(name))}, expected {shown(text)} (exact)'
        for name, text in expected.headers
        if answer.header(name) != text
    ]
    if expected.text is not None:
        text = answer.body.decode("utf-8", "replace")
        if text != expected.text:
            found.append(f"the answer is {shown(text)}, expected {shown(expected.text)} (exact)")
    if body is not None and answer.body != body:
        found.append(f"the answer {bytes_apart(answer.body, body)} {shown(expected.body_file)}")
    if expected.has_json:
        try:
            actual = answer.json()
        except ValueError as err:
            return [*found, str(err)]
        found.extend(
            differences(expected.json, actual, {**tolerances, **case.tolerance}, [*ignore, *case.ignore])
        )
    return found


def differences(
    expected: object, actual: object, tolerances: Tolerances, ignore: Sequence[str] = ()
) -> list[str]:
    """Every difference of two JSON values, in the order of ``expected``."""
    return list(_different(expected, actual, (), tolerances, ignore))


def _different(
    expected: object, actual: object, path: tuple[str, ...], tolerances: Tolerances, ignore: Sequence[str]
) -> Iterator[str]:
    if any(covers(pattern, path) for pattern in ignore):
        return
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            below = (*path, key)
            if key in actual:
                yield from _different(value, actual[key], below, tolerances, ignore)
            elif not any(covers(pattern, below) for pattern in ignore):
                yield f"{_at(below)} is missing, expected {shown(value)}"
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield f"{_at(path)} has {_items(len(actual))}, expected {len(expected)}"
        for index in range(min(len(expected), len(actual))):
            yield from _different(expected[index], actual[index], (*path, str(index)), tolerances, ignore)
    elif _is_number(expected) and _is_number(actual):
        absolute, relative = _tolerance(path, tolerances)
        if not close(expected, actual, absolute, relative):  # type: ignore[arg-type]
            yield f"{_at(path)} is {shown(actual)}, expected {shown(expected)}{_allowed(absolute, relative)}"
    elif type(expected) is not type(actual):
        yield f"{_at(path)} is {_with_kind(actual)}, expected {_with_kind(expected)}"
    elif expected != actual:
        yield f"{_at(path)} is {shown(actual)}, expected {shown(expected)} (exact)"


def bytes_apart(actual: bytes, expected: bytes) -> str:
    """How two different contents differ: "has 5 bytes, expected 7 as in"."""
    if len(actual) != len(expected):
        return f"has {len(actual)} bytes, expected {len(expected)} as in"
    first = next(index for index in range(len(actual)) if actual[index] != expected[index])
    return f"differs from byte {first} on from"


def close(expected: float, actual: float, absolute: float = 0.0, relative: float = 0.0) -> bool:
    """Equal, or not farther apart than the larger of the two tolerances. NaN is close to nothing."""
    if expected == actual:
        return True
    try:
        gap = abs(expected - actual)
        allowed = max(absolute, relative * abs(expected))
    except OverflowError:  # a whole number that no float can hold
        return False
    # 0.75 ± 0.01 takes 0.76, though in binary the gap is a little more than 0.01.
    return math.isfinite(gap) and gap <= allowed * (1 + 1e-9)


def shown(value: object) -> str:
    """``value`` as short JSON."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _tolerance(path: tuple[str, ...], tolerances: Tolerances) -> tuple[float, float]:
    """That of the longest pattern that covers the path."""
    covering = [pattern for pattern in tolerances if covers(pattern, path)]
    return tolerances[max(covering, key=lambda pattern: pattern.count("."))] if covering else (0.0, 0.0)


def covers(pattern: str, path: tuple[str, ...]) -> bool:
    """A pattern covers the place it names and all below it; ``*`` is any one key or index."""
    wanted, steps = pattern.split("."), ".".join(path).split(".") if path else []
    if pattern in ("", "*"):
        return True
    return len(wanted) <= len(steps) and all(w in ("*", s) for w, s in zip(wanted, steps))  # noqa: B905


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _at(path: tuple[str, ...]) -> str:
    return f'"{".".join(path)}"' if path else "the answer"


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _allowed(absolute: float, relative: float) -> str:
    if absolute and relative:
        return f" ± {absolute:g} or {relative:.6g} of it"
    if relative:
        return f" ± {relative * 100:.6g} %"
    return f" ± {absolute:g}" if absolute else " (exact)"


def _with_kind(value: object) -> str:
    return shown(value) if value is None or isinstance(value, bool) else f"{shown(value)} ({kind(value)})"
