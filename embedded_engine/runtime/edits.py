"""Changes made to a mounted root file system from the host. Every path stays inside that root, whatever links
it holds."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from embedded_engine.paths import inside
from embedded_engine.runtime.port import Copy, Edit, Link, Remove, RuntimeFailure, Write

_GLOB = re.compile(r"[*?[]")


def apply_edits(root: Path, edits: Sequence[Edit]) -> None:
    """Apply ``edits`` in order. Raises RuntimeFailure in the user's words."""
    for edit in edits:
        try:
            _apply(root, edit)
        except OSError as error:
            raise RuntimeFailure(f"{edit.target}: {error.strerror or error}") from error


def _apply(root: Path, edit: Edit) -> None:
    match edit:
        case Copy():
            _copy(root, edit)
        case Write():
            target = _fresh_file(root, edit.target, name=PurePosixPath(edit.target).name)
            target.write_bytes(edit.data)
            target.chmod(edit.mode)
            os.chown(target, *owner_ids(root, edit.owner))
        case Link():
            _parents(root, edit.target)
            target = inside(root, edit.target, follow=False)
            if target.is_symlink() or target.is_file():
                target.unlink()
            target.symlink_to(edit.to)
        case Remove():
            for path in _matches(root, edit.target):
                _remove(path)


def _copy(root: Path, edit: Copy) -> None:
    owner = owner_ids(root, edit.owner) if edit.owner else None
    if not edit.source.is_dir() or edit.source.is_symlink():
        target = _fresh_file(root, edit.target, name=edit.name or edit.source.name)
        _copy_entry(edit.source, target, owner)
        if edit.mode is not None:
            target.chmod(edit.mode)
        return
    target = inside(root, edit.target)
    if target.is_file():
        target.unlink()  # as Dagger's engine does: the directory takes the file's place
    existed = target.is_dir()
    _directories(root, edit.target)
    merge(edit.source, target, owner, root)
    if not existed and target != root:
        shutil.copymode(edit.source, target)
        os.chown(target, *_owned(edit.source, owner))
    if edit.mode is not None:
        target.chmod(edit.mode)


def merge(source: Path, target: Path, owner: tuple[int, int] | None, root: Path) -> None:
    """Put what is in ``source`` into the directory ``target``; links in ``target`` are followed inside
    ``root``."""
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            path = target / entry.name
            if not entry.is_dir(follow_symlinks=False):
                _clear(path, directory=False)
                _copy_entry(Path(entry.path), path, owner)
                continue
            if path.is_symlink():  # a directory copied over a link to a directory goes where the link leads
                path = inside(root, "/" + str(path.relative_to(root)))
            _clear(path, directory=True)
            if not path.is_dir():
                path.mkdir(parents=True)
            merge(Path(entry.path), path, owner, root)
            shutil.copymode(entry.path, path)
            os.chown(path, *_owned(Path(entry.path), owner))


def _owned(source: Path, owner: tuple[int, int] | None) -> tuple[int, int]:
    """The owner to give: the one asked for, else the source's own (root's for what comes from the host)."""
    if owner is not None:
        return owner
    found = source.lstat()
    return found.st_uid, found.st_gid


def _copy_entry(source: Path, target: Path, owner: tuple[int, int] | None) -> None:
    ids = _owned(source, owner)
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
        os.lchown(target, *ids)
        return
    if not stat.S_ISREG(mode):
        raise RuntimeFailure(f"{source.name}: only files, directories and symbolic links can be copied")
    shutil.copyfile(source, target)
    os.chown(target, *ids)  # before chmod: a change of owner clears set-user-id
    target.chmod(stat.S_IMODE(mode))


def _clear(path: Path, *, directory: bool) -> None:
    """Make way: a file gives way to anything, a directory only to a directory."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.is_dir() and not directory:
        raise RuntimeFailure(f"{path.name}: is a directory, but a file was to be put there")


def _fresh_file(root: Path, target: str, *, name: str) -> Path:
    """The path for a file that replaces what is there (a link too), its parents made; in a directory it is
    put under ``name``."""
    _parents(root, target)
    path = inside(root, target, follow=False)
    if inside(root, target).is_dir():
        path = inside(root, f"{target}/{name}", follow=False)
        if path.is_dir() and not path.is_symlink():
            raise RuntimeFailure(f"{target}/{name}: is a directory, but a file was to be put there")
    path.unlink(missing_ok=True)  # a new inode: the old one may be shared with other names
    return path


def _parents(root: Path, target: str) -> None:
    _directories(root, str(PurePosixPath("/" + target).parent))


def _directories(root: Path, target: str) -> None:
    """Make a directory and its parents, 0755 and 0:0. Raises RuntimeFailure where a file is in the way."""
    current = root
    for part in inside(root, target).relative_to(root).parts:
        current = current / part
        if current.is_dir():
            continue
        if current.exists():
            raise RuntimeFailure(f"/{current.relative_to(root)}: not a directory")
        current.mkdir()
        current.chmod(0o755)


def _matches(root: Path, target: str) -> Iterator[Path]:
    if not _GLOB.search(target):
        path = inside(root, target, follow=False)
        if os.path.lexists(path) and path != root:
            yield path
        return
    yield from sorted(path for path in root.glob(target.strip("/")) if _contained(root, path))


def _contained(root: Path, path: Path) -> bool:
    """Whether no link on the way led out of the root (glob follows links)."""
    return inside(root, "/" + str(path.relative_to(root)), follow=False) == path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def owner_ids(root: Path, owner: str) -> tuple[int, int]:
    """(uid, gid) for "user[:group]", ids or names from the root's own passwd and group; "" is 0:0, "7" is
    7:7.

    Raises RuntimeFailure for a name that is not there.
    """
    user, colon, group = owner.partition(":")
    if not user:
        uid, primary = 0, 0
    elif user.isdecimal():
        uid = primary = int(user)
    else:
        uid, primary = _lookup(root, "etc/passwd", user, "user")
    if not colon or not group:
        return uid, primary
    return uid, int(group) if group.isdecimal() else _lookup(root, "etc/group", group, "group")[0]


def _lookup(root: Path, file: str, name: str, kind: str) -> tuple[int, int]:
    try:
        lines = inside(root, file).read_text(errors="replace").splitlines()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        lines = []
    for line in lines:
        fields = line.split(":")
        if fields[0] == name and len(fields) >= 4:
            first = int(fields[2])
            return first, int(fields[3]) if kind == "user" and fields[3].isdecimal() else first
    raise RuntimeFailure(f"unable to find {kind} {name}: no such entry in /{file}")
