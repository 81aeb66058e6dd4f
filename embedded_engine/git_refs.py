"""What `git ls-remote --symref` tells of a repository, and how names are looked up in it.

Pure text and values: no process runs here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from embedded_engine.entries import TreeError

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_VERSION = re.compile(r"v(\d+)(?:\.(\d+)(?:\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?)?)?")
_HEADS, _TAGS, _PEELED = "refs/heads/", "refs/tags/", "^{}"


class RefUnknown(TreeError):
    """A name that the repository has not."""


@dataclass(frozen=True, slots=True)
class Found:
    """A ref's full name ("" for a bare commit) and the commit it stands for."""

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class Refs:
    """All refs of a repository at one moment: names to object ids, and what the symbolic ones point to."""

    ids: Mapping[str, str] = field(default_factory=dict)
    symbolic: Mapping[str, str] = field(default_factory=dict)

    def lookup(self, name: str) -> Found:
        """The commit ``name`` means: a commit id, a full name, a branch, a tag. Raises RefUnknown."""
        if is_commit(name):
            return Found("", name)
        short = name.removeprefix("refs/")
        branch, tag = _HEADS + name.removeprefix(_HEADS), _TAGS + name.removeprefix(_TAGS)
        for full in (name, f"refs/{short}", branch, tag):
            if full in self.ids:
                commit = self.ids.get(full + _PEELED, self.ids[full])
                return Found(self.symbolic.get(full, full), commit)
        raise RefUnknown(f'repository does not contain ref "{name}"')

    def branches(self, patterns: Sequence[str] = ()) -> list[str]:
        """The branches' short names; only those one of ``patterns`` matches, as `git ls-remote` has it."""
        return self._short(_HEADS, patterns)

    def tags(self, patterns: Sequence[str] = ()) -> list[str]:
        """The tags' short names."""
        return self._short(_TAGS, patterns)

    def latest_version(self) -> Found:
        """The tag with the highest semantic version (``v`` and up to three numbers). Raises RefUnknown."""
        versions = [tag for tag in self.tags() if _VERSION.fullmatch(tag)]
        if not versions:
            raise RefUnknown("no valid semver tags found: a version's tag is called v1.2.3")
        return self.lookup(_TAGS + max(versions, key=version_key))

    def _short(self, prefix: str, patterns: Sequence[str]) -> list[str]:
        names = [name for name in self.ids if name.startswith(prefix) and not name.endswith(_PEELED)]
        wanted = [f"*/{pattern.replace('[^', '[!')}" for pattern in patterns]
        return [
            name.removeprefix(prefix)
            for name in names
            if not wanted or any(fnmatchcase(f"/{name}", pattern) for pattern in wanted)
        ]


def parse_refs(text: str) -> Refs:
    """The output of `git ls-remote --symref`, read."""
    ids: dict[str, str] = {}
    symbolic: dict[str, str] = {}
    for line in text.splitlines():
        what, tab, name = line.partition("\t")
        if not tab:
            continue
        if what.startswith("ref: "):
            symbolic[name] = what.removeprefix("ref: ")
        elif is_commit(what):
            ids[name] = what
    return Refs(ids, symbolic)


def is_commit(text: str) -> bool:
    """Whether ``text`` is a whole object id."""
    return _COMMIT.fullmatch(text) is not None


def version_key(tag: str) -> tuple[object, ...]:
    """What semantic versions are ordered by (semver.org 2.0.0, 11)."""
    match = _VERSION.fullmatch(tag)
    assert match is not None  # noqa: S101  # callers asked
    numbers = [int(part or 0) for part in match.group(1, 2, 3)]
    before = match[4]
    # a release comes after its pre-releases; numbers before words, compared as numbers
    parts = [(0, int(one), "") if one.isdecimal() else (1, 0, one) for one in (before or "").split(".")]
    return (*numbers, before is None, parts)
