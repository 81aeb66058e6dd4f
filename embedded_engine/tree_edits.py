"""Pure changes of a tree: each takes a directory and gives a new one that shares all it did not touch.

Paths are inside the tree: ``/a``, ``a`` and ``./a`` are the same, ``..`` ends at the root, and links on the
way are followed inside the tree as a container would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from posixpath import normpath

from embedded_engine.entries import DirEntry, Entry, FileEntry, LinkEntry, TreeError, walk
from embedded_engine.filters import Filter, Glob, Rules, Selection, has_wildcard, ignore_file

MAX_LINKS = 40  # as Linux


@dataclass(frozen=True, slots=True)
class Stamp:
    """Owner and permissions to give to what is copied; None leaves what it has."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None

    def on(self, entry: Entry) -> Entry:
        """``entry`` (and all below it) with these."""
        uid = entry.uid if self.uid is None else self.uid
        gid = entry.gid if self.gid is None else self.gid
        if isinstance(entry, LinkEntry):
            return replace(entry, uid=uid, gid=gid)
        mode = entry.mode if self.mode is None else self.mode
        if isinstance(entry, FileEntry):
            return replace(entry, uid=uid, gid=gid, mode=mode)
        return replace(
            entry, uid=uid, gid=gid, mode=mode, children={n: self.on(c) for n, c in entry.children.items()}
        )


NO_STAMP = Stamp()


def parts_of(path: str) -> list[str]:
    """The names of a path, cleaned: never "", "." or ".."."""
    cleaned = normpath("/" + path)
    return [part for part in cleaned.split("/") if part]


def resolve(root: DirEntry, path: str, *, follow: bool = True) -> list[str]:
    """The names from the root to ``path`` with links followed; parts that do not exist stay as they are.

    ``follow`` False keeps a link in the last place. Raises TreeError for a loop of links.
    """
    todo, done, links = parts_of(path)[::-1], list[str](), 0
    while todo:
        name = todo.pop()
        if name == "..":
            done = done[:-1]
            continue
        entry = _at(root, [*done, name])
        if isinstance(entry, LinkEntry) and (todo or follow):
            links += 1
            if links > MAX_LINKS:
                raise TreeError(f"{path}: too many levels of symbolic links")
            if entry.target.startswith("/"):
                done = []
            todo += [part for part in entry.target.split("/") if part not in ("", ".")][::-1]
            continue
        done.append(name)
    return done


def _at(root: DirEntry, names: list[str]) -> Entry | None:
    entry: Entry | None = root
    for name in names:
        if not isinstance(entry, DirEntry):
            return None
        entry = entry.children.get(name)
    return entry


def find(root: DirEntry, path: str, *, follow: bool = True) -> Entry | None:
    """What is at ``path``, or None."""
    return _at(root, resolve(root, path, follow=follow))


def find_directory(root: DirEntry, path: str) -> DirEntry:
    """The directory at ``path``. Raises TreeError."""
    entry = find(root, path)
    if entry is None:
        raise TreeError(f"stat {path}: no such file or directory")
    if not isinstance(entry, DirEntry):
        raise TreeError(f"{path}: not a directory")
    return entry


def find_file(root: DirEntry, path: str) -> FileEntry:
    """The regular file at ``path``. Raises TreeError."""
    entry = find(root, path)
    if entry is None:
        raise TreeError(f"stat {path}: no such file or directory")
    if not isinstance(entry, FileEntry):
        raise TreeError(f"{path}: is a directory, not a file")
    return entry


def change(root: DirEntry, names: list[str], edit: Callable[[Entry | None], Entry | None]) -> DirEntry:
    """``root`` with ``edit`` applied at ``names`` (None removes); parents are made. Raises TreeError where a
    file is in the way."""
    if not names:
        changed = edit(root)
        return changed if isinstance(changed, DirEntry) else DirEntry()
    name, rest = names[0], names[1:]
    old = root.children.get(name)
    if rest:
        if old is not None and not isinstance(old, DirEntry):
            raise TreeError(f"{name}: not a directory")
        inner = old if isinstance(old, DirEntry) else DirEntry()
        new: Entry | None = change(inner, rest, edit)
    else:
        new = edit(old)
    children = dict(root.children)
    if new is None:
        children.pop(name, None)
    else:
        children[name] = new
    return replace(root, children=children)


def put(root: DirEntry, path: str, entry: Entry) -> DirEntry:
    """``entry`` at ``path``, in place of what was there; a link in the last place is itself replaced."""
    names = resolve(root, path, follow=False)
    if not names:
        raise TreeError(f"{path}: is a directory")
    return change(root, names, lambda _: entry)


def write(root: DirEntry, path: str, file: Entry) -> DirEntry:
    """A file's new content at ``path``; a link in the last place is followed. Raises TreeError for a
    directory."""
    names = resolve(root, path)
    if not names or isinstance(_at(root, names), DirEntry):
        raise TreeError(f"{path}: is a directory")
    return change(root, names, lambda _: file)


def link(root: DirEntry, path: str, entry: LinkEntry) -> DirEntry:
    """A symbolic link at ``path``. Raises TreeError if something is there."""
    if find(root, path, follow=False) is not None:
        raise TreeError(f"symlink {path}: file exists")
    return put(root, path, entry)


def put_file(root: DirEntry, path: str, file: Entry, name: str) -> DirEntry:
    """A file at ``path``, or as ``name`` inside it when ``path`` ends in "/" or is a directory."""
    target = find(root, path)
    inside = path.endswith(("/", "/.")) or isinstance(target, DirEntry)
    return put(root, f"{path}/{name}" if inside else path, file)


def make_directory(root: DirEntry, path: str, mode: int) -> DirEntry:
    """A directory at ``path``; one that is there keeps its content and gets the mode. Raises TreeError for a
    file."""

    def edit(old: Entry | None) -> Entry:
        if isinstance(old, FileEntry):
            raise TreeError(f"{path}: not a directory")
        return replace(old, mode=mode) if isinstance(old, DirEntry) else DirEntry(mode=mode)

    return change(root, resolve(root, path), edit)


def merge(root: DirEntry, path: str, source: DirEntry, stamp: Stamp = NO_STAMP) -> DirEntry:
    """The content of ``source`` into the directory ``path``.

    Directories merge, anything else is replaced. ``path`` itself keeps its mode and owner when it exists,
    unless ``stamp`` says otherwise.
    """
    stamped = stamp.on(source)
    assert isinstance(stamped, DirEntry)  # noqa: S101 - a directory stays one

    def edit(old: Entry | None) -> Entry:
        if not isinstance(old, DirEntry):
            return stamped
        kept = stamped if stamp != NO_STAMP else replace(stamped, mode=old.mode, uid=old.uid, gid=old.gid)
        return _overlay(old, kept)

    return change(root, resolve(root, path), edit)


def _overlay(lower: DirEntry, upper: DirEntry) -> DirEntry:
    children = dict(lower.children)
    for name, entry in upper.children.items():
        below = children.get(name)
        both = isinstance(entry, DirEntry) and isinstance(below, DirEntry)
        children[name] = _overlay(below, entry) if both else entry  # type: ignore[arg-type]  # both: checked above
    return replace(upper, children=children)


def remove(root: DirEntry, path: str) -> DirEntry:
    """``root`` without ``path`` (a pattern is allowed); one that is not there is no error."""
    if has_wildcard(path) and find(root, path, follow=False) is None:
        glob = Glob("/".join(parts_of(path)))
        matches = [p for p, _ in walk(root) if glob.match(p)]
        for match in matches:
            root = _remove_one(root, match.split("/"))
        return root
    return _remove_one(root, resolve(root, path, follow=False))


def _remove_one(root: DirEntry, names: list[str]) -> DirEntry:
    if not names:
        return replace(root, children={})
    return change(root, names, lambda _: None) if _at(root, names) is not None else root


def stamped_at(root: DirEntry, path: str, stamp: Stamp) -> DirEntry:
    """``stamp`` on what is at ``path`` and all below it. Raises TreeError if nothing is there."""
    names = resolve(root, path)
    if _at(root, names) is None:
        raise TreeError(f"stat {path}: no such file or directory")
    return change(root, names, lambda old: stamp.on(old) if old else None)


def with_mtime(entry: Entry, mtime: int) -> Entry:
    """``entry`` and everything below it with this time."""
    if isinstance(entry, DirEntry):
        children = {name: with_mtime(child, mtime) for name, child in entry.children.items()}
        return replace(entry, mtime=mtime, children=children)
    return replace(entry, mtime=mtime)


def filtered(root: DirEntry, wanted: Filter, read_text: Callable[[FileEntry], str]) -> DirEntry:
    """What ``wanted`` takes of ``root``; ``read_text`` reads .gitignore files. Raises PatternError."""
    if not wanted:
        return root
    return replace(root, children=_filter_children(root, "", wanted.compiled(), (), read_text))


def _filter_children(
    directory: DirEntry,
    prefix: str,
    selection: Selection,
    rules: Rules,
    read_text: Callable[[FileEntry], str],
) -> dict[str, Entry]:
    listed = directory.children.get(".gitignore")
    if selection.gitignore and isinstance(listed, FileEntry):
        rules = (*rules, ignore_file(read_text(listed), directory=prefix.rstrip("/")))
    children: dict[str, Entry] = {}
    for name, entry in directory.children.items():
        path = prefix + name
        kept = selection.keeps(path, rules, directory=isinstance(entry, DirEntry))
        if not isinstance(entry, DirEntry):
            if kept:
                children[name] = entry
        elif selection.enters(path, rules):
            inner = _filter_children(entry, path + "/", selection, () if name == ".git" else rules, read_text)
            if kept or inner:
                children[name] = replace(entry, children=inner)
    return children


def difference(lower: DirEntry, upper: DirEntry) -> DirEntry:
    """What ``upper`` has that ``lower`` has not, or has otherwise."""
    children: dict[str, Entry] = {}
    for name, entry in upper.children.items():
        old = lower.children.get(name)
        if isinstance(entry, DirEntry) and isinstance(old, DirEntry):
            if entry.digest != old.digest:
                children[name] = difference(old, entry)
        elif entry != old:
            children[name] = entry
    return replace(upper, children=children)


def listing(directory: DirEntry) -> list[str]:
    """The names in a directory, sorted, directories with a trailing "/"."""
    return [
        name + "/" if isinstance(directory.children[name], DirEntry) else name
        for name in sorted(directory.children)
    ]


def glob(directory: DirEntry, pattern: str) -> list[str]:
    """The relative paths below that match, directories with a trailing "/". Raises PatternError."""
    wanted = Glob(pattern)
    found = [
        path + "/" if isinstance(e, DirEntry) else path for path, e in walk(directory) if wanted.match(path)
    ]
    return sorted(found)
