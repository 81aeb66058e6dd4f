"""Which paths of a directory are meant: patterns as in .dockerignore, and .gitignore files.

Include and exclude together are "include minus exclude". The last pattern that matches decides, ``!`` turns
one around, and a pattern that matches a directory holds for everything below it. Unlike in .gitignore files a
pattern without a slash means the top level only (``**/x`` means x anywhere).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from posixpath import normpath

from pathspec import GitIgnoreSpec

from embedded_engine.entries import TreeError
from embedded_engine.runtime.port import JSON

Rules = tuple["IgnoreFile", ...]
"""The .gitignore files that apply in a directory, outermost first."""


class PatternError(TreeError):
    """A pattern that cannot be read; the text names it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One cleaned pattern."""

    text: str
    negated: bool = False

    @classmethod
    def parse(cls, text: str) -> Pattern | None:
        """Clean ``text`` as Docker does; None for an empty one. Raises PatternError."""
        stripped = text.strip()
        negated = stripped.startswith("!")
        body = stripped[1:].strip() if negated else stripped
        if not body:
            if negated:
                raise PatternError(f'illegal exclusion pattern: "{text}"')
            return None
        cleaned = normpath(body).lstrip("/")
        return cls("**" if cleaned in ("", ".") else cleaned, negated)

    def may_match_below(self, directory: str) -> bool:
        """Whether a path inside ``directory`` could match."""
        wanted = self.text.split("/")
        for have, want in zip(directory.split("/"), wanted, strict=False):
            if "**" in want:
                return True
            if not re.fullmatch(translate(want), have):
                return False
        return True


@lru_cache(maxsize=4096)
def translate(pattern: str) -> str:
    """The regular expression for a cleaned pattern. Raises PatternError."""
    out: list[str] = []
    i = 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            out.append("(?:.*/)?")
            i += 3
        elif pattern.startswith("**", i):
            out.append(".*")
            i += 2
        elif pattern[i] == "[":
            text, i = _character_class(pattern, i)
            out.append(text)
        elif pattern[i] == "\\":
            if i + 1 == len(pattern):
                raise PatternError(f'syntax error in pattern: "{pattern}"')
            out.append(re.escape(pattern[i + 1]))
            i += 2
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(pattern[i]) or re.escape(pattern[i]))
            i += 1
    return "".join(out)


def _character_class(pattern: str, start: int) -> tuple[str, int]:
    end = pattern.find("]", start + 2)
    if end < 0:
        raise PatternError(f'syntax error in pattern: "{pattern}"')
    body = pattern[start + 1 : end]
    negated = body[0] in "^!"
    inner = body[1:] if negated else body
    text = "[" + ("^/" if negated else "") + inner.replace("\\", r"\\").replace("[", r"\[") + "]"
    try:
        re.compile(text)
    except re.error as err:
        raise PatternError(f'syntax error in pattern: "{pattern}"') from err
    return text, end + 1


class PatternList:
    """Patterns in order, compiled: runs of the same sign are one regular expression."""

    def __init__(self, texts: Iterable[str]) -> None:
        parsed = [pattern for text in texts if (pattern := Pattern.parse(text))]
        self._patterns = tuple(parsed)
        self._runs = _runs(parsed)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, path: str) -> bool:
        """Whether ``path`` (or a directory it is in) is meant."""
        return next((not negated for negated, regex in self._runs if regex.fullmatch(path)), False)

    def may_match_below(self, directory: str, *, negated: bool) -> bool:
        """Whether one of the plain (or of the ``!``) patterns could match inside ``directory``."""
        return any(p.negated is negated and p.may_match_below(directory) for p in self._patterns)


def _runs(patterns: Sequence[Pattern]) -> tuple[tuple[bool, re.Pattern[str]], ...]:
    runs: list[tuple[bool, list[str]]] = []
    for pattern in patterns:
        if not runs or runs[-1][0] is not pattern.negated:
            runs.append((pattern.negated, []))
        runs[-1][1].append(translate(pattern.text))
    return tuple(
        (negated, re.compile(f"(?:{'|'.join(texts)})(?:/.*)?", re.DOTALL))
        for negated, texts in reversed(runs)
    )


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """One .gitignore: ``below`` is how much to cut off a path of the tree, ``above`` what to put there."""

    spec: GitIgnoreSpec = field(compare=False)
    below: int = 0
    above: str = ""

    def verdict(self, path: str) -> bool | None:
        """True: ignored; False: kept by a ``!`` rule; None: not mentioned."""
        return self.spec.check_file(self.above + path[self.below :]).include


def ignore_file(text: str, *, directory: str = "", above: str = "") -> IgnoreFile:
    """The rules of a .gitignore in ``directory`` of the tree, or above it (``above``: the way down to it)."""
    below = len(directory) + 1 if directory else 0
    return IgnoreFile(GitIgnoreSpec.from_lines(text.splitlines()), below, f"{above}/" if above else "")


@dataclass(frozen=True, slots=True)
class Filter:
    """What to take of a directory, as the API says it."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = False

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude or self.gitignore)

    def recipe(self) -> JSON:
        """What of it counts for a digest: all."""
        return [list(self.include), list(self.exclude), self.gitignore]

    def compiled(self) -> Selection:
        """Ready for use. Raises PatternError."""
        return Selection(PatternList(self.include), PatternList(self.exclude), self.gitignore)


@dataclass(frozen=True, slots=True)
class Selection:
    """A compiled filter. Paths are relative to the directory, with "/" and without a leading one."""

    include: PatternList
    exclude: PatternList
    gitignore: bool

    def keeps(self, path: str, rules: Rules = (), *, directory: bool) -> bool:
        """Whether the entry at ``path`` is taken for its own sake."""
        if self.include and not self.include.match(path):
            return False
        if not self.exclude and not rules:
            return True
        return not self.exclude.match(path) and not ignored(path, rules, directory=directory)

    def enters(self, path: str, rules: Rules = ()) -> bool:
        """Whether something inside the directory ``path`` could be taken; if not, it need not be read."""
        included = self.include.match(path) or self.include.may_match_below(path, negated=False)
        if self.include and not included:
            return False
        if self.exclude.match(path) and not self.exclude.may_match_below(path, negated=True):
            return False
        return not ignored(path, rules, directory=True)


def ignored(path: str, rules: Rules, *, directory: bool) -> bool:
    """Whether .gitignore files say that ``path`` is not wanted; ``.git`` itself is always kept."""
    if not rules or path.rpartition("/")[2] == ".git":
        return False
    asked = path + "/" if directory else path
    return next((verdict for rule in reversed(rules) if (verdict := rule.verdict(asked)) is not None), False)


class Glob:
    """One pattern for ``glob``: the whole path must match (parents do not count)."""

    def __init__(self, pattern: str) -> None:
        parsed = Pattern.parse(pattern)
        self._regex = re.compile(translate(parsed.text), re.DOTALL) if parsed else None

    def match(self, path: str) -> bool:
        """Whether ``path`` is meant."""
        return bool(self._regex and self._regex.fullmatch(path))


def has_wildcard(path: str) -> bool:
    """Whether ``path`` reads as a pattern."""
    return any(mark in path for mark in "*?[")
