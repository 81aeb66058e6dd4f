"""Paths inside a container's root, found on the host without ever leaving that root."""

from __future__ import annotations

from pathlib import Path

from embedded_engine.runtime.port import RuntimeFailure

_LINK_LIMIT = 40


def inside(root: Path, path: str, *, follow: bool = True) -> Path:
    """The host path of ``path`` as a process whose root is ``root`` would find it.

    Every symbolic link is read against ``root``; ``..`` stops there. With ``follow`` False the last part is
    left as it is. The result need not exist. Raises RuntimeFailure for a circle of links.
    """
    waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    found: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del found[-1:]
            continue
        here = root.joinpath(*found, part)
        if (follow or waiting) and here.is_symlink():
            links += 1
            if links > _LINK_LIMIT:
                raise RuntimeFailure(f"{path}: too many levels of symbolic links")
            target = str(here.readlink())
            if target.startswith("/"):
                found.clear()
            waiting.extend(one for one in reversed(target.split("/")) if one not in ("", "."))
            continue
        found.append(part)
    return root.joinpath(*found)
