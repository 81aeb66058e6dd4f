"""An ordinary user of this machine for a test: made by useradd, gone afterwards with all that was theirs.

The program under test need not be readable to them (a clone in /root, an interpreter of pyenv's): in a mount
namespace of the command's own, this interpreter, its packages and the sources are bound below their home.
Nobody's permissions change.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parents[1]
NEEDED = ("useradd", "userdel", "usermod", "setpriv", "unshare", "newuidmap", "buildah", "skopeo")
_LIMIT_S = 180
_BIND = 'for at in python packages sources; do mount --bind "$1" "$0/$at"; shift; done; '
# What a container runtime's default takes away: devices, settings that can be written, an unmasked /proc
# (so that no new one can be mounted), CAP_SYS_ADMIN, and with no_new_privs the work of newuidmap.
_LIKE_A_POD = """
mkdir -p "$0/dev"; mount -t tmpfs dev "$0/dev"
for one in null zero full random urandom tty; do
  : > "$0/dev/$one"; mount --bind "/dev/$one" "$0/dev/$one"
done
mkdir "$0/dev/shm" "$0/dev/pts"; mount -t tmpfs -o mode=1777 shm "$0/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 pts "$0/dev/pts"; ln -s pts/ptmx "$0/dev/ptmx"
ln -s /proc/self/fd "$0/dev/fd"; mount --rbind "$0/dev" /dev
mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o ro masked /proc/fs
mount -o remount,bind,ro /sys
"""


@dataclass(frozen=True)
class OrdinaryUser:
    """Someone with a home and nothing else."""

    name: str
    uid: int
    home: Path
    like_a_pod: bool = False

    def command(self, *arguments: str, **environ: str) -> list[str]:
        """The command line, for root, that runs the engine's Python as this user with ``arguments``."""
        paths = [sys.base_prefix, sysconfig.get_path("purelib"), str(SOURCES)]
        python = self.home / "python/bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        own = {
            "HOME": str(self.home),
            "USER": self.name,
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": f"{self.home / 'packages'}:{self.home / 'sources'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_LIBRARY_PATH": str(self.home / "python/lib"),  # libpython is where the link says, unreadable
            **environ,
        }
        ids = [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        if self.like_a_pod:
            ids += ["--bounding-set=-sys_admin,-net_admin,-sys_module", "--no-new-privs"]
        script = f'set -e; {_BIND}{_LIKE_A_POD if self.like_a_pod else ""}\nexec "$@"'
        enclosed = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, str(self.home), *paths]
        return [
            *enclosed,
            *("setpriv", *ids, "env", "-i", *(f"{name}={value}" for name, value in own.items())),
            *(str(python), *arguments),
        ]

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the engine's Python as this user, in their home."""
        return subprocess.run(
            self.command(*arguments, **environ),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
        )

    def processes(self) -> list[str]:
        """What runs as this user or as one of their subordinate ids."""
        ranges = [(self.uid, self.uid + 1), *self.subordinate_ids()]
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                lines = dict(line.partition(":")[::2] for line in status.read_text().splitlines())
                if any(first <= int(lines["Uid"].split()[0]) < end for first, end in ranges):
                    found.append(f"{status.parent.name} {lines['Name'].strip()}")
        return found

    def subordinate_ids(self) -> list[tuple[int, int]]:
        """The user's ranges, each with its end."""
        lines = [line.split(":") for line in Path("/etc/subuid").read_text().splitlines()]
        return [(int(start), int(start) + int(count)) for name, start, count in lines if name == self.name]


def why_not() -> str:
    """Why no user can be made here; "" if one can."""
    if os.geteuid() != 0:
        return "needs root, to make an ordinary user"
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""


@contextlib.contextmanager
def ordinary_user(*, subordinate_ids: bool, like_a_pod: bool = False) -> Iterator[OrdinaryUser]:
    """A new user, with or without subordinate ids."""
    home = Path(tempfile.mkdtemp(prefix="ee-user-", dir="/var/tmp"))  # pytest's is root's only
    name = f"eetest{os.getpid()}"
    made = ["useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", name]
    subprocess.run(made, check=True, timeout=30, capture_output=True)
    entry = pwd.getpwnam(name)
    try:
        user = OrdinaryUser(name, entry.pw_uid, home, like_a_pod)
        if not subordinate_ids:
            for start, end in user.subordinate_ids():
                taken = [f"--del-subuids={start}-{end - 1}", f"--del-subgids={start}-{end - 1}"]
                subprocess.run(["usermod", *taken, name], check=True, timeout=30)
        for directory in ("python", "packages", "sources"):
            (home / directory).mkdir()
        home.chmod(0o755)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        yield user
    finally:
        subprocess.run(["userdel", name], check=False, timeout=30, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(f"/tmp/embedded-engine-{entry.pw_uid}", ignore_errors=True)
