"""The runtime's part of the state directory, and the configuration the tools read instead of the machine's.

Storage, networks and temporary files are the engine's own, so nothing of ours shows in the user's `podman
images`. What the site says of registries (registries.conf: mirrors, insecure hosts, short names), of
signatures (policy.json) and of credentials stays honoured: the tools find those files as always.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import resource
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedded_engine.runtime.port import RuntimeFailure, Snapshot
from embedded_engine.runtime.process_names import owner_name
from embedded_engine.storage_check import is_whole

OWNER_FILE = "state-directory"
"""In a run root: the state directory it belongs to, so that it can go when that is deleted."""
TEMPORARY = Path("/tmp")  # noqa: S108  # what is in it is believed only if it is ours
_NOFILE, _NPROC = 20_000, 4_096
_POLICY_FILES = ("/etc/containers/policy.json", "/usr/share/containers/policy.json")
_NO_LOGINS = "no-logins.json"


@dataclass(slots=True)
class State:
    """Where the runtime keeps what; all paths are absolute. ``driver`` is settled by the probe."""

    root: Path
    runroot: Path
    driver: str = "overlay"
    mount_program: str = ""  # fuse-overlayfs, where overlay needs it
    owner: str = field(default_factory=owner_name)
    _read: dict[Path, tuple[tuple[int, int], list[dict[str, Any]]]] = field(default_factory=dict)

    @property
    def storage(self) -> Path:
        """The graph root: images, layers, working containers."""
        return self.root / "storage"

    @property
    def blobs(self) -> Path:
        """Compressed layers and image configs by digest, laid out as in an OCI layout's ``blobs``."""
        return self.root / "blobs"

    @property
    def temp(self) -> Path:
        """For files that live as long as one call; this process's own, so that others can tell when it has
        died."""
        return self.temps / self.owner

    @property
    def builds_lock(self) -> Path:
        """Locked (shared) by every `buildah bud` for as long as it lives."""
        return self.root / "builds.lock"

    @property
    def temps(self) -> Path:
        """Where every process has its ``temp``."""
        return self.root / "tools"

    @property
    def policy(self) -> Path:
        """The signature policy used where the machine has none."""
        return self.root / "policy.json"

    def blob(self, digest: str) -> Path:
        """The file of the blob with this digest ("sha256:...")."""
        algorithm, _, value = digest.partition(":")
        return self.blobs / algorithm / value

    def present(self) -> frozenset[Snapshot]:
        """The ids of the images in storage, read from containers-storage's index without a process.

        Storage notes an image first and its manifest last: one without it was left half-made by a tool that
        was killed. Making it again completes it.
        """
        return frozenset(Snapshot(image["id"]) for image in self.index("images") if is_whole(image))

    def containers(self) -> tuple[tuple[str, str], ...]:
        """(id, name) of the working containers in storage."""
        return tuple((one["id"], (one.get("names") or [""])[0]) for one in self.index("containers"))

    def note_container(self, identity: str) -> None:
        """Give a working container the note that Buildah keeps of its own: without it, it removes none.

        Buildah's ``Builder`` as JSON; the two fields are all that ``buildah rm`` looks at.
        """
        note = self.storage / f"{self.driver}-containers" / identity / "userdata/buildah.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"type": "buildah 0.0.1", "container-id": identity}))

    def layer_digests(self) -> frozenset[str]:
        """The raw digests of the layers in storage."""
        return frozenset(str(layer.get("diff-digest", "")) for layer in self.index("layers"))

    def image_config(self, snapshot: Snapshot) -> dict[str, Any]:
        """The OCI config document of an image in storage. Raises FileNotFoundError if it is not there."""
        # containers-storage names a file "=" + base64(key) when the key has characters such as ":"
        name = "=" + base64.b64encode(f"sha256:{snapshot}".encode()).decode()
        text = (self.storage / f"{self.driver}-images" / snapshot / name).read_bytes()
        document: dict[str, Any] = json.loads(text)
        return document

    def index(self, kind: str) -> list[dict[str, Any]]:
        """What containers-storage has of one kind (layers, images, containers), from its index files."""
        found: list[dict[str, Any]] = []
        for name in (f"{kind}.json", f"volatile-{kind}.json"):
            file = self.storage / f"{self.driver}-{kind}" / name
            if file.exists():
                found += self._entries(file)
        return found

    def _entries(self, file: Path) -> list[dict[str, Any]]:
        """An index file's content, read again only when it changed: it is asked for at every cached
        operation."""
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if file not in self._read or self._read[file][0] != stamp:
            try:
                self._read[file] = (stamp, json.loads(file.read_bytes() or b"[]") or [])
            except ValueError as error:
                raise RuntimeFailure(
                    f"{file} is damaged ({error}): end this session and begin another, which sets it aside"
                ) from error
        return self._read[file][1]


def open_state(root: Path, environ: Mapping[str, str]) -> State:
    """The state in ``root``, its directories and configuration files made if they lack. Cheap when they are
    there."""
    state = known_state(root, environ)
    for directory in (state.storage, state.blobs / "sha256", state.temp, root / "networks"):
        directory.mkdir(parents=True, exist_ok=True)
    root.chmod(0o700)
    state.runroot.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_if_changed(state.runroot / OWNER_FILE, str(root))
    write_if_changed(root / "containers.conf", containers_conf(state, _limit("NOFILE"), _limit("NPROC")))
    write_if_changed(root / "storage.conf", storage_conf(state))
    write_if_changed(root / _NO_LOGINS, "{}")
    write_if_changed(state.policy, json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    return state


def known_state(root: Path, environ: Mapping[str, str]) -> State:
    """The state in ``root`` as it is, to look at: nothing is made."""
    return State(root, _runroot(root, environ), *_chosen_driver(root / "storage.conf"))


def tool_environ(state: State, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment Buildah, Podman and Skopeo run with."""
    ours = {
        "CONTAINERS_CONF": str(state.root / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(state.root / "storage.conf"),
        "TMPDIR": str(state.temp),
    }
    overriding = ("BUILDAH_", "STORAGE_", "CONTAINER_HOST", "CONTAINERS_CONF_OVERRIDE")
    kept = {name: value for name, value in environ.items() if not name.startswith(overriding)}
    if _named_logins_missing(environ):
        ours["REGISTRY_AUTH_FILE"] = str(state.root / _NO_LOGINS)
    return {**kept, **ours}


def _named_logins_missing(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a file of logins that isn't there: to Docker that means none, but Buildah
    and Skopeo refuse to do anything at all."""
    named = environ.get("REGISTRY_AUTH_FILE")
    if named:
        return not Path(named).exists()
    directory = environ.get("DOCKER_CONFIG")
    return bool(directory) and not Path(str(directory), "config.json").exists()


def tool_options(state: State, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Global options for what the tools do not take from the environment.

    Rootless, Buildah looks for its storage in the home directory whatever CONTAINERS_STORAGE_CONF says;
    Skopeo reads CONTAINERS_REGISTRIES_CONF only as a flag.
    """
    storage = [f"--root={state.storage}", f"--runroot={state.runroot}", f"--storage-driver={state.driver}"]
    if state.driver == "overlay":
        storage.append("--storage-opt=overlay.skip_mount_home=true")
        if state.mount_program:
            storage.append(f"--storage-opt=overlay.mount_program={state.mount_program}")
    registries = environ.get("CONTAINERS_REGISTRIES_CONF")
    return {"buildah": storage, "skopeo": [f"--registries-conf={registries}"] if registries else []}


def policy_needed(environ: Mapping[str, str]) -> bool:
    """Whether the machine has no signature policy of its own, without which the tools refuse every image."""
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/root")) / ".config")
    return not any(Path(file).exists() for file in (*_POLICY_FILES, home / "containers/policy.json"))


def containers_conf(state: State, nofile: int, nproc: int) -> str:
    """Our containers.conf: runc and cgroupfs, and limits no higher than this process may set.

    Past its own hard limits setrlimit would fail, and every container with it.
    """
    files, processes = min(_NOFILE, nofile), min(_NPROC, nproc)
    ulimits = f'"nofile={files}:{files}", "nproc={processes}:{processes}"'
    return f"""# made by the embedded engine
[containers]
default_ulimits = [{ulimits}]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
image_copy_tmp_dir = "{state.temps}"
[network]
network_backend = "netavark"
network_config_dir = "{state.root / "networks"}"
default_network = "embedded-engine"
default_subnet = "{subnet_of(state)}"
"""


def subnet_of(state: State) -> str:
    """A subnet of the state's own, so that its bridge meets neither Podman's nor another state's."""
    number = int(state.runroot.name, 16) % (64 * 256)
    return f"10.{160 + number // 256}.{number % 256}.0/24"


def storage_conf(state: State) -> str:
    """Our storage.conf. Without skip_mount_home the graph root stays mounted on itself and can't be
    deleted."""
    program = f'mount_program = "{state.mount_program}"\n' if state.mount_program else ""
    return f"""# made by the embedded engine
[storage]
driver = "{state.driver}"
graphroot = "{state.storage}"
runroot = "{state.runroot}"
[storage.options.overlay]
skip_mount_home = "true"
{program}"""


def use_driver(state: State, driver: str, mount_program: str = "") -> None:
    """Settle the storage driver."""
    state.driver, state.mount_program = driver, mount_program
    write_if_changed(state.root / "storage.conf", storage_conf(state))


def _chosen_driver(file: Path) -> tuple[str, str]:
    text = file.read_text() if file.exists() else ""
    program = re.search(r'^mount_program = "(.*)"$', text, re.MULTILINE)
    return "vfs" if 'driver = "vfs"' in text else "overlay", program[1] if program else ""


def write_if_changed(file: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old or the new file, never half of one."""
    if file.exists() and file.read_text() == text:
        return
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".new-", delete=False) as stream:
        stream.write(text)
    Path(stream.name).replace(file)


def _runroot(root: Path, environ: Mapping[str, str]) -> Path:
    """Short (socket paths have a limit of 108 bytes), on a tmpfs where there is one, and one for each
    state."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:10]
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run/embedded-engine") / name
    return runtime_base(root, environ) / "embedded-engine" / name


def runtime_base(root: Path, environ: Mapping[str, str]) -> Path:
    """XDG_RUNTIME_DIR, else a directory in /tmp that is this user's only, else (somebody has made that one)
    in the state directory."""
    user = environ.get("_CONTAINERS_ROOTLESS_UID") or os.getuid()  # in a user namespace everyone is 0
    given = environ.get("XDG_RUNTIME_DIR")
    if given and os.access(given, os.W_OK):
        return Path(given)
    base = TEMPORARY / f"embedded-engine-{user}"
    with contextlib.suppress(OSError):
        base.mkdir(mode=0o700)
    found = base.lstat() if base.exists() else None
    if found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        base.chmod(0o700)
        return base
    return root / "run"


def _limit(name: str) -> int:
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
    return 1 << 30 if hard == resource.RLIM_INFINITY else hard
