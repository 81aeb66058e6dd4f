"""The rules of hygiene over the files of the final image: by path, mode, owner and kind."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from pipelines.scanners.layers import ImageLayers, LayerEntry

VERSION: Final = 1
"""Of the rules: what is kept of another version is not believed."""
SETUID: Final = 0o4000
SETGID: Final = 0o2000
STICKY: Final = 0o1000
ANYONE_WRITES: Final = 0o0002
ANYONE_RUNS: Final = 0o0111
MANY: Final = 3
"""More findings of one rule below one directory are told as one."""
_DPKG: Final = "/var/lib/dpkg/info/"

_USUAL: Final = re.compile(
    r"(?:/usr)?/s?bin/(?:passwd|su|sudo|mount|umount|chsh|chfn|newgrp|sg|gpasswd|chage|expiry|unix_chkpwd|wall|write"
    r"|bsd-write|write\.ul|ssh-agent|newuidmap|newgidmap|crontab|fusermount3?|dotlockfile|pam_extrausers_chkpwd)"
    r"|/usr/lib(?:exec)?/(?:openssh/ssh-keysign|dbus-1\.0/dbus-daemon-launch-helper|utempter/utempter)"
    r"|/usr/lib/x86_64-linux-gnu/utempter/utempter"
)
"""What distributions install setuid or setgid (Debian's base, sudo, OpenSSH, D-Bus), owned by root."""
_USUAL_CAPABILITIES: Final = re.compile(
    r"(?:/usr)?/s?bin/(?:ping6?|arping|clockdiff|newuidmap|newgidmap|mtr-packet)"
)
_DEVICES: Final = re.compile(
    r"/dev/(?:null|zero|full|u?random|tty\d*|console|ptmx|pts/.*|ram\d*|loop\d*|fd|std(?:in|out|err)|kmsg)"
)
"""The container's runtime puts its own /dev over these."""
_SYSTEM: Final = re.compile(r"/(?:etc|usr|bin|sbin|lib\w*|root|boot)(?:/|$)")
_KEYS: Final = re.compile(r".*/\.ssh/authorized_keys2?|/etc/ssh/authorized_keys/.*")
_ENV_FILE: Final = re.compile(r".*/\.env(?:\.(?!example|sample|template|dist|schema)[^/]+)?")
_GIT: Final = re.compile(r"(.*/\.git)/HEAD")
_SHARED: Final = re.compile(r"(?:/tmp|/var/tmp|/dev/shm|/run/shm)/.*")
_CACHES: Final = (
    (re.compile(r"/var/cache/apt/archives/.+\.deb"), "/var/cache/apt/archives", "apt-get clean"),
    (
        re.compile(r"/var/lib/apt/lists/(?!lock$|partial|auxfiles).+"),
        "/var/lib/apt/lists",
        "rm -rf /var/lib/apt/lists/*",
    ),
    (re.compile(r"(/[^/]+(?:/[^/]+)?)/\.cache/pip/.+"), "pip's cache", "pip install --no-cache-dir"),
    (re.compile(r"(/[^/]+(?:/[^/]+)?)/\.cache/uv/.+"), "uv's cache", "uv pip install --no-cache"),
    (re.compile(r"(/[^/]+(?:/[^/]+)?)/\.npm/_cacache/.+"), "npm's cache", "npm cache clean --force"),
    (re.compile(r"/var/cache/apk/.+"), "/var/cache/apk", "apk add --no-cache"),
    (re.compile(r"/var/cache/(?:dnf|yum)/.+"), "/var/cache/dnf", "dnf clean all"),
    (re.compile(r".*/conda/pkgs/.+\.(?:conda|tar\.bz2)"), "conda's packages", "conda clean -afy"),
)
_HOST: Final = re.compile(
    r".*/(?:docker|containerd|podman|crio)\.sock|/proc/(?:1|\d+|\*)/(?:root|cwd)(?:/.*)?|/host(?:/.*)?"
)

Told = dict[str, Any]
"""A finding as it is kept. (Any: JSON.)"""


def files_of(layers: ImageLayers) -> Told:
    """The findings, how many entries were looked at, how many usual setuid files there are. Blocks.

    Raises:
        CouldNotLookError: a layer can't be read.
    """
    stack = hashlib.sha256(" ".join(layer.diff_id for layer in layers.layers).encode()).hexdigest()
    name = f"hygiene-v{VERSION}-{stack[:32]}"
    if (kept := layers.recall(name)) is not None:
        return kept
    found: list[Told] = []
    privileged: list[LayerEntry] = []
    caches: dict[str, Told] = {}
    looked_at = usual = 0
    for entry in layers.entries():
        if entry.deleted_by is not None:
            continue
        looked_at += 1
        if _is_privileged(entry):
            is_usual = _is_usual(entry)
            usual += is_usual
            if not is_usual:
                privileged.append(entry)
        found += _judged(entry)
        _count_cache(entry, caches)
    found += _privileged(privileged, layers)
    answer: Told = {
        "found": [*_grouped(found), *map(_told_cache, caches.values())],
        "looked_at": looked_at,
        "usual": usual,
    }
    layers.remember(name, answer)
    return answer


def _is_privileged(entry: LayerEntry) -> bool:
    is_set = entry.mode & (SETUID | SETGID) and entry.mode & ANYONE_RUNS
    return entry.kind == "file" and bool(is_set or entry.capabilities)


def _is_usual(entry: LayerEntry) -> bool:
    known = _USUAL_CAPABILITIES if entry.capabilities else _USUAL
    return entry.uid == 0 and known.fullmatch(entry.path) is not None


def _privileged(entries: list[LayerEntry], layers: ImageLayers) -> Iterator[Told]:
    """Setuid, setgid and capabilities: how bad depends on who brought the file."""
    owners = _owners({entry.path for entry in entries}, layers) if entries else {}
    for entry in entries:
        bits = {SETUID: "setuid", SETGID: "setgid"}
        words = [word for bit, word in bits.items() if entry.mode & bit] + [
            "has capabilities"
        ] * entry.capabilities
        rule = "file-capabilities" if entry.capabilities else "setuid-file"
        package = owners.get(entry.path)
        by = f"from the package {package}" if package else "brought by no package"
        yield _told(
            entry,
            rule,
            "medium" if package else "high",
            f"{' and '.join(words)}, {by}: whoever runs it gets the rights of {entry.uid}:{entry.gid}",
            "take the bit away (`chmod ug-s`, `setcap -r`) or remove the file",
        )


def _owners(paths: set[str], layers: ImageLayers) -> dict[str, str]:
    """The Debian package that installed each path, by dpkg's lists in the final file system."""
    spelled = {other: path for path in paths for other in (path, path.removeprefix("/usr"))}
    lists: dict[int, dict[int, str]] = {}
    for entry in layers.entries():
        if entry.deleted_by is None and entry.path.startswith(_DPKG) and entry.path.endswith(".list"):
            package = entry.path.removeprefix(_DPKG).removesuffix(".list").partition(":")[0]
            lists.setdefault(entry.index, {})[entry.number] = package
    owners: dict[str, str] = {}
    for index, packages in lists.items():
        for number, content in layers.read(index, packages):
            for line in content.read(16 << 20).decode("utf-8", "replace").splitlines():
                if line in spelled:
                    owners[spelled[line]] = packages[number]
    return owners


def _judged(entry: LayerEntry) -> Iterator[Told]:
    rules = {"file": _file, "directory": _directory, "link": _link}
    yield from rules.get(entry.kind, _device)(entry)


def _file(entry: LayerEntry) -> Iterator[Told]:
    path = entry.path
    if entry.mode & ANYONE_WRITES and not entry.mode & STICKY:
        level = "high" if _SYSTEM.match(path) else "medium"
        yield _told(entry, "world-writable-file", level, "anyone may change it", "`chmod o-w`")
    if entry.size and _KEYS.fullmatch(path):
        hint = "take it out: whoever holds the key may log in to every container"
        yield _told(entry, "authorized-keys", "high", "lets somebody log in over SSH", hint)
    if entry.size and _ENV_FILE.fullmatch(path):
        hint = "name it in .dockerignore; give its values at run time"
        yield _told(entry, "env-file", "medium", "an environment file, made for one place", hint)
    if found := _GIT.fullmatch(path):
        hint = "name .git in .dockerignore: every version of every file is in it, deleted secrets too"
        yield {
            **_told(entry, "git-directory", "medium", "the repository's whole history", hint),
            "path": found[1],
        }
    if entry.mode & ANYONE_RUNS and _SHARED.fullmatch(path):
        hint = "install programs where only root writes"
        yield _told(entry, "executable-in-tmp", "medium", "a program where anyone may put one", hint)


def _directory(entry: LayerEntry) -> Iterator[Told]:
    if entry.mode & ANYONE_WRITES and not entry.mode & STICKY:
        level = "high" if _SYSTEM.match(entry.path) else "medium"
        hint = "`chmod o-w`, or `chmod +t` where it has to be shared"
        yield _told(entry, "world-writable-directory", level, "anyone may replace what is in it", hint)


def _link(entry: LayerEntry) -> Iterator[Told]:
    climbs = entry.target.startswith("..") and _climbs(entry)
    if climbs or _HOST.fullmatch(entry.target):
        hint = "remove the link: it means something else where the image's files are mounted or copied"
        yield _told(entry, "link-out", "medium", f"links out of the image, to {entry.target[:80]}", hint)


def _climbs(entry: LayerEntry) -> bool:
    """Does the target go above the root?"""
    depth = entry.path.count("/") - 1
    for part in entry.target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _device(entry: LayerEntry) -> Iterator[Told]:
    if entry.kind.endswith("device") and not _DEVICES.fullmatch(entry.path):
        hint = "remove it: a runtime that allows it gives the container that device"
        yield _told(entry, "device-node", "high", f"a {entry.kind}, {entry.target}", hint)


def _count_cache(entry: LayerEntry, caches: dict[str, Told]) -> None:
    if entry.kind != "file" or not entry.size or "/" not in entry.path[1:]:
        return
    for pattern, place, remedy in _CACHES:
        if found := pattern.fullmatch(entry.path):
            path = f"{found[1]}: {place}" if pattern.groups else place
            told = caches.setdefault(
                path,
                {
                    **_told(entry, "package-cache", "low", "", f"`{remedy}` in the same RUN"),
                    "path": path,
                    "size": 0,
                },
            )
            told["size"] += entry.size
            return


def _told_cache(told: Told) -> Told:
    size = told.pop("size")
    return {**told, "title": f"a package manager's cache, {max(1, size >> 20)} MiB that nothing reads"}


def _told(entry: LayerEntry, rule: str, severity: str, title: str, hint: str) -> Told:
    return {
        "rule": rule,
        "severity": severity,
        "path": entry.path,
        "title": title,
        "hint": hint,
        "layer": entry.layer,
    }


def _grouped(found: list[Told]) -> Iterator[Told]:
    """One finding for many alike below one directory: `chmod -R 777` is one mistake."""
    yield from _merged(
        found, lambda one: (one["rule"], one["severity"], "/".join(one["path"].split("/")[:4]))
    )


def _merged(found: list[Told], key: Callable[[Told], tuple[str, str, str]]) -> Iterator[Told]:
    groups: dict[tuple[str, str, str], list[Told]] = {}
    for one in sorted(found, key=lambda one: (one["path"], one["rule"])):
        groups.setdefault(key(one), []).append(one)
    for (_, _, directory), members in groups.items():
        if len(members) <= MANY:
            yield from members
        else:
            title = f"{members[0]['title']} ({len(members)} such paths, like {members[0]['path']})"
            yield {**members[0], "path": directory, "title": title}
