"""Without root the engine lives in a user namespace, where it is root over its own files.

There `buildah mount`, owners of files and the engine's own edits work as they do for root, so nothing else in
the engine has to know of the difference. `buildah unshare` makes the namespace, with the user's subordinate
ids where there are any; where it can't (a user without a name, as OpenShift gives; root without
CAP_SYS_ADMIN) `unshare` makes one with a single id (single_id.py). Which one works is found by running it,
and remembered until the machine changes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, MutableMapping, Sequence
from pathlib import Path

from embedded_engine.runtime import notices, single_id
from embedded_engine.runtime.machine import free_start, machine_key, package_line
from embedded_engine.state import StartFailed, state_directory

INSIDE = "_CONTAINERS_USERNS_CONFIGURED"
REFUSED = "EMBEDDED_ENGINE_NO_NAMESPACE"
"""Set for `doctor` where no namespace can be had, so that it tells why instead of trying again."""
_CAP_SYS_ADMIN = 21
_TRY_LIMIT_S = 20


def enter(arguments: Sequence[str]) -> None:
    """Go on in a user namespace if need be: then this call does not return, but the process keeps its id and
    streams. Raises StartFailed with what to do where the machine allows none."""
    usable_runtime_directory(os.environ)
    if is_root():
        if single_id.is_single():
            _single(arguments)
        return
    if os.environ.get(INSIDE) or os.environ.get(REFUSED):
        return
    state = state_directory()
    try:
        way = _remembered(state) or _found(state)
    except StartFailed as failure:
        if arguments[:1] != ["doctor"]:
            raise
        os.environ[REFUSED] = str(failure)
        return
    program = [sys.executable, "-m", "embedded_engine", *arguments]
    argv = [*WAYS[way](state), *program]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(argv[0], argv, {**os.environ, **_told(way)})  # noqa: S606  # no shell


def is_root(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process may do what containers need: user 0 with CAP_SYS_ADMIN, here or in a namespace."""
    return os.geteuid() == 0 and bool(capabilities(status) >> _CAP_SYS_ADMIN & 1)


def capabilities(status: Path) -> int:
    """The effective capabilities as a bit set; all where the kernel doesn't tell."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return -1
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), -1)


def by_buildah(state: Path) -> list[str]:
    """The command that makes a namespace with the user's subordinate ids, or with one id."""
    storage = [f"--root={state / 'storage'}", "--storage-driver=vfs"]  # vfs: it isn't used, nor tried out
    return ["buildah", "--log-level=error", *storage, "unshare"]


def by_unshare(_: Path) -> list[str]:
    """The command that makes a namespace with one id, whoever the user is."""
    return ["unshare", "--user", "--map-root-user", "--mount", "--propagation=private"]


WAYS = {"buildah": by_buildah, "unshare": by_unshare}


def usable_runtime_directory(environ: MutableMapping[str, str]) -> None:
    """Forget an XDG_RUNTIME_DIR that is not there or not this user's (`su`, CI agents): the tools insist on
    it."""
    name = environ.get("XDG_RUNTIME_DIR")
    if name and not is_ours(Path(name)):
        del environ["XDG_RUNTIME_DIR"]


def is_ours(directory: Path) -> bool:
    """Whether this user owns the directory (not a link to one) and may write to it."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return directory.is_dir() and found.st_uid == os.geteuid() and os.access(directory, os.W_OK)


def refusals(state: Path) -> dict[str, str]:
    """Every way, tried now, and why it doesn't work ("" if it does)."""
    return {way: _tried(make(state), _told(way)) for way, make in WAYS.items()}


def _single(arguments: Sequence[str]) -> None:
    if not single_id.pretend():
        raise StartFailed(
            "this user namespace has one id, and images need more: "
            f"{subordinate_hint()} (on {os.uname().machine} the engine can't do without)"
        )
    if arguments[:1] != ["doctor"]:
        notices.once(state_directory(), "single-id", f"{single_id.COST}. {subordinate_hint().capitalize()}")


def subordinate_hint(name: str = "") -> str:
    """What gives a user subordinate ids."""
    user = name or os.environ.get("USER") or os.environ.get("LOGNAME") or "USER"
    first = max(free_start(Path("/etc/subuid")), free_start(Path("/etc/subgid")))
    ids = f"{first}-{first + 65535}"
    return (
        f"to mend it: install newuidmap ({package_line('newuidmap')}) and, as root, "
        f"`usermod --add-subuids {ids} --add-subgids {ids} {user}`"
    )


def _told(way: str) -> dict[str, str]:
    """What `buildah unshare` would have set."""
    if way == "buildah":
        return {}
    ids = {"_CONTAINERS_ROOTLESS_UID": str(os.geteuid()), "_CONTAINERS_ROOTLESS_GID": str(os.getegid())}
    return {INSIDE: "done", **ids}


def _remembered(state: Path) -> str:
    try:
        known = json.loads((state / "namespace.json").read_text())
        way = str(known["way"])
        return way if known["machine"] == machine_key() and way in WAYS else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _found(state: Path) -> str:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartFailed(
            f"cannot make the state directory {state}: {error.strerror}; set EMBEDDED_ENGINE_STATE"
        ) from error
    reasons = []
    for way, make in WAYS.items():
        reason = _tried(make(state), _told(way))
        if not reason:
            with contextlib.suppress(OSError):
                (state / "namespace.json").write_text(json.dumps({"machine": machine_key(), "way": way}))
            return way
        reasons.append(f"{way}: {reason}")
    raise StartFailed(
        f"this user is not root and can't make a user namespace ({'; '.join(reasons)}); "
        "`embedded-engine doctor` says what to do"
    )


def _tried(argv: Sequence[str], environ: dict[str, str]) -> str:
    """Run `true` that way; why it does not work, or ""."""
    import subprocess  # noqa: PLC0415  # only at the first start on a machine

    if shutil.which(argv[0]) is None:
        return f"{argv[0]} is not installed ({package_line(argv[0])})"
    try:
        done = subprocess.run(
            [*argv, "true"],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRY_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_TRY_LIMIT_S} s"
    except OSError as error:
        return str(error.strerror)
    return "" if done.returncode == 0 else last_line(done.stderr) or f"exit code {done.returncode}"


def last_line(text: str) -> str:
    """The last line that says something, without a tool's log decoration."""
    lines: Iterable[str] = (line.strip() for line in reversed(text.splitlines()))
    line = next((line for line in lines if line and "Unable to determine exit status" not in line), "")
    _, mark, message = line.partition("msg=")
    return message.strip().strip('"').replace('\\"', '"') if mark else line
