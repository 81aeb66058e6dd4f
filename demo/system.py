"""The system packages that Modelport needs, on Debian and its relatives: says what is missing and why,
installs it.

    python3 demo/system.py engine test      ensure these groups, installing with apt-get what is missing

Where apt-get is not there, or this user may not install, it prints what to install and ends with exit code 8.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
MISSING = 8
"""The exit code of "engine unavailable" (README, "Exit codes")."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package: how to see that it is there, and what it is for."""

    name: str
    files: tuple[str, ...]
    """Programs on PATH or absolute paths, any of which is enough; none: only asked for when it is missing."""
    why: str

    def installed(self) -> bool:
        """Whether one of its files is there."""
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        return any(
            Path(file).exists() if "/" in file else shutil.which(file, path=path) for file in self.files
        )


GROUPS: dict[str, tuple[Package, ...]] = {
    "engine": (
        Package("git", ("git",), "the commit that an image comes from"),
        Package("buildah", ("buildah",), "builds images without a daemon"),
        Package("podman", ("podman",), "runs services beside a build"),
        Package("skopeo", ("skopeo",), "moves images between registries and files"),
        Package("runc", ("runc",), "starts containers where the default runtime can't"),
        Package("slirp4netns", ("slirp4netns",), "gives a container a network of its own"),
        Package("catatonit", ("catatonit",), "lets a container's command end by a signal"),
        Package("iproute2", ("ip",), "gives a service an address of its own"),
    ),
    "registry": (),  # unpacked by ensure_registry(): the package would start a service of its own
    "base": (
        Package("mmdebstrap", ("mmdebstrap",), "makes the base image where no public registry is reached"),
    ),
    "venv": (
        Package("python3-venv", ("/usr/share/doc/python3-venv",), "the project's own Python environment"),
    ),
    "test": (
        Package("groovy", ("groovy",), "runs the Jenkinsfile against a stub of Jenkins"),
        Package("default-jre-headless", ("java", "/usr/lib/jvm/default-java/bin/java"), "runs Groovy"),
    ),
}


class NotInstalled(Exception):
    """Something is missing and can't be installed from here; the text says what to do."""


def ensure(groups: Iterable[str]) -> None:
    """Have every package of ``groups`` installed.

    Raises:
        NotInstalled: with the command that would do it.
    """
    missing = [package for group in groups for package in GROUPS[group] if not package.installed()]
    if not missing:
        return
    for package in missing:
        say(f"missing: {package.name:<12} {package.why}")
    names = [package.name for package in missing]
    as_root = _as_root()
    if not shutil.which("apt-get") or as_root is None:
        raise NotInstalled(
            f"install by hand: {' '.join(names)} (on Debian: sudo apt-get install {' '.join(names)})"
        )
    say(f"installing with apt-get: {' '.join(names)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _apt([*as_root, "apt-get", "update", "-q"], environment)
    _apt([*as_root, "apt-get", "install", "-q", "-y", "--no-install-recommends", *names], environment)


def ensure_registry() -> None:
    """Have ``docker-registry``; where it is missing its package is unpacked under ``.cache/``, not installed.

    Installing it would start a registry on port 5000 of every network interface.
    """
    if shutil.which("docker-registry") or (CACHE / "bin" / "docker-registry").exists():
        return
    if not shutil.which("apt-get"):
        raise NotInstalled("install by hand: docker-registry (the CNCF distribution's `registry` program)")
    say("unpacking Debian's docker-registry under .cache/ (a registry for this demo; nothing is installed)")
    with tempfile.TemporaryDirectory(prefix="registry-") as work:
        # apt's own download user can't write to a private directory, which it would warn about.
        _apt(["apt-get", "download", "-q", "docker-registry"], dict(os.environ), directory=work)
        package = next(Path(work).glob("docker-registry_*.deb"))
        _apt(["dpkg-deb", "-x", str(package), f"{work}/root"], dict(os.environ))
        target = CACHE / "bin" / "docker-registry"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(work) / "root/usr/bin/docker-registry", target.with_suffix(".part"))
        target.with_suffix(".part").rename(target)


def say(text: str) -> None:
    """Talk, on standard error."""
    print(f"demo: {text}", file=sys.stderr, flush=True)


def _as_root() -> list[str] | None:
    """What to put before a command that needs root; None where this user can't be."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    if sys.stdin.isatty():
        return ["sudo"]  # it may ask for the password
    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n"] if allowed.returncode == 0 else None


def _apt(command: list[str], environment: dict[str, str], *, directory: str | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-8:])
        raise NotInstalled(f"`{' '.join(command)}` failed:\n{tail}")


def main(groups: list[str]) -> int:
    """Ensure the groups named on the command line; the exit code."""
    try:
        ensure(group for group in groups if group != "registry")
        if "registry" in groups:
            ensure_registry()
    except NotInstalled as error:
        print(f"error: {error}", file=sys.stderr)
        return MISSING
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
