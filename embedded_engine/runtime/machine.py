"""What of a machine decides how containers can run on it, read without starting a process."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
from pathlib import Path

from embedded_engine.runtime.init import init_program

PACKAGES = {  # program: Debian and Ubuntu, Fedora and RHEL, Alpine
    "buildah": ("buildah", "buildah", "buildah"),
    "skopeo": ("skopeo", "skopeo", "skopeo"),
    "runc": ("runc", "runc", "runc"),
    "crun": ("crun", "crun", "crun"),
    "slirp4netns": ("slirp4netns", "slirp4netns", "slirp4netns"),
    "fuse-overlayfs": ("fuse-overlayfs", "fuse-overlayfs", "fuse-overlayfs"),
    "newuidmap": ("uidmap", "shadow-utils", "shadow-uidmap"),
    "newgidmap": ("uidmap", "shadow-utils", "shadow-uidmap"),
    "ip": ("iproute2", "iproute", "iproute2"),
    "unshare": ("util-linux", "util-linux", "util-linux-misc"),
    "setpriv": ("util-linux", "util-linux", "setpriv"),
    "nsenter": ("util-linux", "util-linux", "util-linux-misc"),
    "iptables": ("iptables", "iptables-nft", "iptables"),
    "git": ("git", "git", "git"),
    "catatonit": ("catatonit", "catatonit", "catatonit"),
}
_TOOLS = (*PACKAGES, "podman")
SYSCTLS = (
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "user/max_user_namespaces",
)
_FILES = ("/etc/subuid", "/etc/subgid")
_DEVICES = ("/dev/net/tun", "/dev/fuse")
_STATUS = ("CapEff:", "CapBnd:", "NoNewPrivs:")


def package_line(*tools: str) -> str:
    """How to install programs, in one line for the three families of distributions."""
    by_family = zip(*(PACKAGES.get(tool, (tool,) * 3) for tool in tools), strict=True)
    names = [" ".join(dict.fromkeys(family)) for family in by_family]
    return f"apt-get install {names[0]} | dnf install {names[1]} | apk add {names[2]}"


def machine_key() -> str:
    """What an answer found by trying depends on, as a digest: kernel, user, capabilities, tools as files,
    devices, settings."""
    parts = [os.uname().release, f"{os.geteuid()}:{os.getegid()}"]
    parts += [_text(f"/proc/self/{name}") for name in ("uid_map", "gid_map", "attr/current")]
    parts += [line for line in _text("/proc/self/status").splitlines() if line.startswith(_STATUS)]
    parts += [f"{name}={_text(f'/proc/sys/{name}')}" for name in SYSCTLS]
    parts += [_stamp(file) for file in _FILES]
    parts += [f"{device}:{device_access(device)}" for device in _DEVICES]
    parts += [f"{limit}" for limit in (_limit("NOFILE"), _limit("NPROC"))]
    parts += [f"{name}={os.access(name, os.W_OK)}" for name in ("/proc/sys/net", "/sys/fs/cgroup")]
    for path in (*(shutil.which(tool) for tool in _TOOLS), init_program()):
        if path:
            parts.append(_stamp(path))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def sysctl(name: str) -> str:
    """A kernel setting, "" if this kernel has none of that name."""
    return _text(f"/proc/sys/{name}")


def device_access(path: str) -> str:
    """Whether a device can be opened: "ok", "missing" or "no access"."""
    if not Path(path).exists():
        return "missing"
    return "ok" if os.access(path, os.R_OK | os.W_OK) else "no access"


def has_subordinate_ids(file: Path, name: str, uid: int) -> bool:
    """Whether a range is set aside for this user, by subuid(5)."""
    return any(line.split(":")[0] in (name, str(uid)) for line in read_lines(file) if line.count(":") == 2)


def free_start(file: Path) -> int:
    """Where a range that meets no other can begin."""
    ends = [100_000]
    for line in read_lines(file):
        parts = line.split(":")
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            ends.append(int(parts[1]) + int(parts[2]))
    return max(ends)


def read_lines(file: Path) -> list[str]:
    """The lines of a file, none if it can't be read."""
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _stamp(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError:
        return f"{path}:none"
    return f"{path}:{status.st_size}:{status.st_mtime_ns}"


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip().strip("\0")
    except OSError:
        return ""


def _limit(name: str) -> int:
    return resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
