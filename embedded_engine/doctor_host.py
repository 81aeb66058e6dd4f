"""What ``doctor`` reads of the machine: tools, user, settings, files. No secret is shown."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedded_engine.doctor_advice import namespace_advice, single_id_advice, tun_advice
from embedded_engine.findings import Finding
from embedded_engine.runtime.host_settings import ca_bundle, pip_settings
from embedded_engine.runtime.machine import SYSCTLS, device_access, package_line, sysctl
from embedded_engine.runtime.rootless import INSIDE, REFUSED
from embedded_engine.runtime.single_id import COST, is_single

# The oldest versions that the engine's tests ran with (Debian 12).
TOOLS = {
    "buildah": ("1.28.2", "runs commands and Dockerfiles", True),
    "skopeo": ("1.9.3", "pulls images", True),
    "runc": ("1.1.5", "isolates", False),
    "crun": ("1.8.1", "isolates", False),
    "slirp4netns": ("1.2.0", "gives each run a network of its own", False),
    "ip": ("", "gives each service an address of its own (as root)", False),
    "fuse-overlayfs": ("1.10", "stores layers where the kernel's overlay refuses", False),
    "newuidmap": ("", "gives ordinary users more than one id", False),
    "git": ("", "reads git repositories", False),
    "catatonit": ("", "is the first process of each run (or tini-static, or docker-init)", False),
}
_VERSION_LIMIT_S = 20
_SIZE_LIMIT_S = 5


def tools() -> Iterator[Finding]:
    """Each program with its version, or how to install it."""
    for name, (minimum, purpose, required) in TOOLS.items():
        path = shutil.which(name)
        if path is None:
            remedy = package_line(name)
            yield Finding("tools", name, "no" if required else "info", f"not installed: {purpose}", remedy)
            continue
        version = version_of(path) if minimum else ""
        if version and is_older(version, minimum):
            text = f"{version} ({path}) is older than {minimum}, the oldest the engine is tested with"
            yield Finding("tools", name, "warning", text, package_line(name))
        else:
            yield Finding(
                "tools", name, "ok", f"{version or path}{f' ({path})' if version else ''}: {purpose}"
            )


def version_of(program: str) -> str:
    """What it says of its version; "" if that isn't told."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d[\w.+~-]*", done.stdout)
    return found[0] if found else ""


def is_older(version: str, minimum: str) -> bool:
    """Whether a version comes before another, by its leading numbers."""
    return _numbers(version) < _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def user() -> Iterator[Finding]:
    """Who runs the engine, in what namespace, and what keeps an ordinary user from having one."""
    uid = int(os.environ.get("_CONTAINERS_ROOTLESS_UID") or os.getuid())
    name = user_name(uid)
    refused = os.environ.get(REFUSED)
    if refused:
        yield Finding("user", name, "no", refused, namespace_advice())
    elif is_single():
        yield Finding(
            "user", name, "warning", f"in a user namespace with one id: {COST}", single_id_advice(name, uid)
        )
    elif os.environ.get(INSIDE):
        yield Finding("user", name, "ok", f"uid {uid}, in a user namespace: {id_ranges()}")
    else:
        yield Finding("user", name, "ok", f"uid {uid}, root on this machine: no user namespace is needed")
    told = [f"{setting.replace('/', '.')} = {sysctl(setting)}" for setting in SYSCTLS if sysctl(setting)]
    yield Finding("kernel", os.uname().release, "info", "; ".join(told) or "no settings of user namespaces")


def user_name(uid: int) -> str:
    """The user's name, or the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def id_ranges() -> str:
    """How many ids this namespace maps."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return f"{sum(int(line.split()[2]) for line in lines)} ids"


def devices() -> Iterator[Finding]:
    """The devices that better ways need, and the kind of cgroups."""
    tun, fuse = device_access("/dev/net/tun"), device_access("/dev/fuse")
    yield Finding("devices", "/dev/net/tun", "ok" if tun == "ok" else "warning", tun, tun_advice(tun))
    yield Finding("devices", "/dev/fuse", "info", fuse)
    yield Finding("cgroups", cgroup_kind(), "info", "runs have no limits of their own, so either will do")


def cgroup_kind(base: Path = Path("/sys/fs/cgroup")) -> str:
    """The cgroup hierarchy as it is mounted."""
    if (base / "cgroup.controllers").exists():
        return "v2"
    if (base / "unified").is_dir():
        return "hybrid (v1, and v2 without controllers)"
    return "v1" if base.is_dir() and any(base.iterdir()) else "none"


def site(environ: Mapping[str, str], auth: list[Path], configuration: list[Path]) -> Iterator[Finding]:
    """Files and variables of the site that the engine honours: paths and names only."""
    yield Finding("registries", "registries.conf", "info", _there(configuration) or "none found")
    yield Finding("registries", "logins", "info", _there(auth) or "no auth file found")
    bundle = ca_bundle(environ)
    yield Finding("site", "CA bundle", "info", str(bundle) if bundle else "none found")
    names = ", ".join(pip_settings(environ)) or "none"
    yield Finding("site", "pip settings given to runs", "info", names)
    proxies = [
        name for name in environ if name.upper() in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
    ]
    yield Finding("site", "proxy variables", "info", ", ".join(sorted(proxies)) or "none")


def _there(files: list[Path]) -> str:
    found = []
    for file in files:
        if file.is_file():
            found.append(str(file) if os.access(file, os.R_OK) else f"{file} (can't be read)")
    return ", ".join(found)


def disk(state: Path) -> Iterator[Finding]:
    """Free space and what the state takes."""
    usage = shutil.disk_usage(state)
    free = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    yield Finding(
        "state", str(state), "warning" if usage.free < 2e9 else "ok", f"{size_told(state)} used, {free}"
    )


def size_told(directory: Path) -> str:
    """The disk space of all files below, each inode once; a lower bound if counting takes too long."""
    end, total, seen = time.monotonic() + _SIZE_LIMIT_S, 0, set()
    waiting = [directory]
    while waiting:
        if time.monotonic() > end:
            return f"more than {total / 1e9:.1f} GB"
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
            if entry.is_dir(follow_symlinks=False) and entry.name != "merged":  # a mounted view
                waiting.append(Path(entry.path))
    return f"{total / 1e9:.2f} GB"
