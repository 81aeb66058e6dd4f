"""What a user can do about what ``doctor`` finds: commands to paste, as exact as the machine lets us be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from embedded_engine.runtime.machine import free_start, has_subordinate_ids, package_line, read_lines, sysctl

POD = """in a pod, one of (see docs/engine/rootless.md for whole specs):
  spec: {hostUsers: false}, and for the container securityContext: {capabilities: {add: [SYS_ADMIN]}}
  securityContext: {runAsUser: 1000, seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}}
OpenShift: a service account with an SCC that allows seccompProfiles: ["unconfined"] (restricted-v2 does not)
Docker: --security-opt seccomp=unconfined, and the same for apparmor and systempaths"""


def in_container() -> bool:
    """Whether this looks like the inside of a container or pod."""
    marks = ("/.dockerenv", "/run/.containerenv")
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(mark).exists() for mark in marks)


def namespace_advice() -> str:
    """What lets an ordinary user make user namespaces here."""
    lines = []
    if sysctl("kernel/unprivileged_userns_clone") == "0":
        lines.append(_set("kernel.unprivileged_userns_clone=1"))
    if sysctl("user/max_user_namespaces") == "0":
        lines.append(_set("user.max_user_namespaces=28633"))
    if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        lines.append(_set("kernel.apparmor_restrict_unprivileged_userns=0"))
        lines.append("or, for Buildah alone: Ubuntu 24.04 has a profile for it at /usr/bin/buildah")
    missing = [tool for tool in ("buildah", "skopeo", "unshare", "setpriv") if shutil.which(tool) is None]
    if missing:
        lines.append(package_line(*missing))
    if in_container() or not lines:
        lines.append(POD)
    return "\n".join(lines)


def single_id_advice(name: str, uid: int) -> str:
    """What gives this user subordinate ids."""
    lines = []
    if shutil.which("newuidmap") is None:
        lines.append(package_line("newuidmap"))
    for file in ("/etc/subuid", "/etc/subgid"):
        if not has_subordinate_ids(Path(file), name, uid):
            lines.append(f"as root: echo {name}:{free_start(Path(file))}:65536 >> {file}")
    if _no_new_privileges():
        lines.append(
            "no_new_privs is set, so newuidmap can't do its work; in a pod: "
            "securityContext: {allowPrivilegeEscalation: true, capabilities: {add: [SETUID, SETGID]}}"
        )
    if not lines:
        lines.append(
            "newuidmap and the ranges are there, but could not be used: it needs its set-user-id bit or file "
            "capabilities (getcap), a mount without nosuid, and in a container SETUID and SETGID"
        )
    return "\n".join(lines)


def tun_advice(access: str) -> str:
    """What gives runs a network of their own."""
    if access == "ok":
        return ""
    give = {"missing": "modprobe tun", "no access": "chmod 666 /dev/net/tun"}[access]
    return f"as root: {give} (in a pod by a device plugin); else runs use the host's network"


def network_advice() -> str:
    """What gives runs a network of their own where only the program is missing."""
    return package_line("slirp4netns") if shutil.which("slirp4netns") is None else ""


def storage_advice(state: Path, driver: str) -> str:
    """What gets overlay where layers are whole copies."""
    if driver != "vfs":
        return ""
    return (
        f"overlay in a user namespace needs Linux 5.13 and a state directory ({state}) that is not itself on "
        "overlay: in a container put EMBEDDED_ENGINE_STATE on a volume (in a pod an emptyDir)\n"
        f"or fuse-overlayfs ({package_line('fuse-overlayfs')}) with /dev/fuse\n"
        "a state that was begun with vfs stays so: `embedded-engine reset`, or choose another directory"
    )


def isolation_advice(kind: str) -> str:
    """What `chroot` costs and what gets `oci`."""
    if kind != "chroot":
        return ""
    return (
        "commands see the host's devices and kernel settings, and have no limits; for oci: runc or crun "
        f"({package_line('runc')}), and in a container an unmasked /proc (pod: securityContext: "
        "{procMount: Unmasked} with hostUsers: false)"
    )


def init_advice(program: str) -> str:
    """What makes commands ordinary processes of their containers; "" if ``program`` does."""
    if program:
        return ""
    return (
        "commands are the first process of their containers: no signal that they don't handle ends them, and "
        f"nobody waits for their orphans; for an init: {package_line('catatonit')}"
    )


def _set(setting: str) -> str:
    return f"as root: sysctl -w {setting} && echo {setting} > /etc/sysctl.d/99-userns.conf"


def _no_new_privileges() -> bool:
    return any(line.split() == ["NoNewPrivs:", "1"] for line in read_lines(Path("/proc/self/status")))
