"""Building a Dockerfile with `buildah bud`, its layer cache in the engine's own storage.

How RUNs get the host's CA and index settings, found by experiment with Buildah 1.28: `[containers] env` of
CONTAINERS_CONF does not reach a RUN; `--env` reaches those of the last stage only and stays in the image's
config; `--build-arg` reaches a RUN only after an ARG of that name, and leaves nothing in the config. So the
Dockerfile that Buildah reads has an ARG line after each FROM, naming variables whose values are paths under
the directory mounted by `--volume`; the paths are the same on every machine, which keeps the layer cache and
the digests alike. What is left in the history is taken out again here, the empty mount points by
``tar_filter``.

FROM images are pulled beforehand with their original blobs and handed to Buildah by id (`--build-context`),
so nothing is fetched behind the engine's back and two sessions never fight over what a tag means.
"""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from embedded_engine.dockerfile import from_words, numbered
from embedded_engine.runtime import oci
from embedded_engine.runtime.build_log import BuildLog
from embedded_engine.runtime.buildah import Isolation
from embedded_engine.runtime.by_hand import ByHand, build_lines
from embedded_engine.runtime.enclosure import Enclosures
from embedded_engine.runtime.host_settings import HostSettings
from embedded_engine.runtime.images import Images
from embedded_engine.runtime.logins import private_directory
from embedded_engine.runtime.networks import dns_args, run_networked
from embedded_engine.runtime.port import (
    BuildStep,
    BuildStepFailed,
    PulledImage,
    RuntimeFailure,
    Snapshot,
)
from embedded_engine.runtime.process import Finished, Hooks, Runner
from embedded_engine.runtime.said import Said
from embedded_engine.runtime.state import State
from embedded_engine.runtime.working import EPOCH

_INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
_BASE = "embedded-engine base "
_HEREDOC = re.compile(r"<<-?[\"']?\w")
_MISSING = re.compile(
    r'building at STEP "(.*)": checking on sources under ".*": copier: stat: ("[^"]*"): no such file'
)
_DYING_S = 2.0
_ARGS_PREFIX = re.compile(r"^\|(\d+) ")


@dataclass(frozen=True, slots=True)
class Builder:
    """Runs Dockerfile builds."""

    state: State
    runner: Runner
    images: Images
    enclosures: Enclosures
    clear_containers: Callable[[float], Awaitable[None]]
    policy: Sequence[str] = ()

    async def build(self, step: BuildStep, isolation: Isolation, settings: HostSettings) -> PulledImage:
        """Build. Raises BuildStepFailed for a RUN that fails, RuntimeFailure for anything else."""
        text = await anyio.to_thread.run_sync(read_dockerfile, step)
        bases = {name: await self._base(address, step) for name, address in step.pins}
        with tempfile.TemporaryDirectory(dir=self.state.temp) as name:
            directory = Path(name)
            (directory / "Dockerfile").write_text(with_args(text, [name for name, _ in settings.env]))
            (directory / "ignore").touch()  # .dockerignore was applied when the context was made
            with private_directory(self.state.temp) as private:
                secrets = secret_args(private, step.secrets)
                options = [
                    *dns_args(isolation.network),
                    *base_args(text, step.args, bases),
                    *secrets,
                    *self.policy,
                ]
                log = BuildLog(len(settings.env) > 0)
                said = Said(step.hidden, (log.add, step.watch) if step.watch else (log.add,))
                async with self.enclosures.one(isolation.runtime) as enclosure:
                    options += [*isolation.args(), *enclosure.runtime_args(isolation.kind)]
                    argv = enclosure.argv(build_argv(step, directory, settings, options))
                    if self.runner.log is not None:
                        self._by_hand(
                            step, directory, private, build_argv(step, directory, settings, options)
                        )
                    finished = await self._run(isolation.network, argv, Hooks(said.take))
                    said.finish()
            if finished.exit_code != 0:
                raise _failed(text, log, finished.exit_code, finished.said)
            built = Snapshot((directory / "id").read_text().strip().removeprefix("sha256:"))
        document = cleaned_config(self.state.image_config(built), [name for name, _ in settings.env])
        snapshot = await self.images.bare(document, document["rootfs"]["diff_ids"])
        return PulledImage(snapshot, document, steps=log.steps, cached_steps=log.cached)

    def _by_hand(self, step: BuildStep, directory: Path, private: Path, argv: Sequence[str]) -> None:
        """Tell how to repeat the build."""
        hand = ByHand(self.runner, f"by-hand-{directory.name}")
        places = {str(directory): str(hand.place), str(private): str(hand.place)}
        words = [_replaced(word, places) for word in argv if not word.startswith("--runtime-flag=root=")]
        title = f"docker-build {step.dockerfile}, to repeat by hand"
        hand.tell(title, build_lines(hand, step, words, (directory / "Dockerfile").read_text()))

    async def _run(self, network: str, argv: Sequence[str], hooks: Hooks) -> Finished:
        """Run ``argv``. It names its containers itself: those of one that was killed go after its last
        process."""
        locked = ["flock", "--shared", "--no-fork", str(self.state.builds_lock)]
        wait_s = _DYING_S
        try:
            finished = await run_networked(self.runner, network, [*locked, *argv], hooks=hooks)
            wait_s = _DYING_S if finished.exit_code > 128 else 0
        finally:
            with anyio.CancelScope(shield=True):
                await self.clear_containers(wait_s)
        return finished

    async def _base(self, address: str, step: BuildStep) -> str:
        """The id, in storage, of a base image with its whole config."""
        name, _, digest = address.partition("@")
        pulled = await self.images.pull(name, digest, step.platform, dict(step.logins).get(address))
        config = oci.encoded(told_apart(pulled.config))
        identity = oci.digest_of(config).removeprefix("sha256:")
        if identity not in self.state.present():
            layers = oci.raw_layers(pulled.config["rootfs"]["diff_ids"])  # type: ignore[index, call-overload, arg-type]  # OCI
            await self.images.store(config, layers, f"containers-storage:@{identity}")
        return identity


def _replaced(word: str, places: Mapping[str, str]) -> str:
    for old, new in places.items():
        word = word.replace(f"{old}/", f"{new}/")
    return word


def read_dockerfile(step: BuildStep) -> str:
    """The Dockerfile's text, checked for what Buildah reports badly. Raises RuntimeFailure."""
    file = step.context / step.dockerfile
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RuntimeFailure(f"{step.dockerfile}: cannot be read: {error}") from error
    found = False
    for number, word, _ in numbered(text):
        found = found or word == "FROM"
        if word not in _INSTRUCTIONS:
            near = difflib.get_close_matches(word, _INSTRUCTIONS, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise RuntimeFailure(f"{step.dockerfile}:{number}: unknown instruction: {word}{hint}")
    if not found:
        raise RuntimeFailure(f"{step.dockerfile}: there is no FROM in it")
    return text


def with_args(text: str, names: Sequence[str]) -> str:
    """``text`` with a line after each FROM that declares the arguments ``names``."""
    if not names:
        return text
    ends = {number for number, word, _ in numbered(text) if word == "FROM"}
    lines = text.splitlines()
    out: list[str] = []
    for number, line in enumerate(lines, 1):
        out.append(line)
        if number in ends:
            out.append("ARG " + " ".join(names))
    return "\n".join(out) + "\n"


def base_args(text: str, args: Iterable[tuple[str, str]], bases: Mapping[str, str]) -> list[str]:
    """The options that say which image in storage each name stands for.

    Buildah 1.28 looks a FROM's word up as it is written, before it fills in ARGs; COPY --from is looked up by
    name.
    """
    words = {word: bases[image] for word, image in from_words(text, dict(args)).items() if image in bases}
    return [f"--build-context={name}=container-image://{image}" for name, image in {**bases, **words}.items()]


def secret_args(private: Path, secrets: Iterable[tuple[str, bytes]]) -> list[str]:
    """Write the secrets to private files; the options that name them."""
    options = []
    for number, (name, value) in enumerate(secrets):
        file = private / f"secret-{number}"
        file.touch(mode=0o600)
        file.write_bytes(value)
        options.append(f"--secret=id={name},src={file}")
    return options


def build_argv(
    step: BuildStep,
    directory: Path,
    settings: HostSettings,
    options: Sequence[str],
) -> list[str]:
    """The ``buildah bud`` command line for ``step``; ``directory`` has the Dockerfile as Buildah is to read
    it."""
    own = {name for name, _ in step.args}
    args = [*((name, value) for name, value in settings.env if name not in own), *step.args]
    return [
        *(
            "buildah",
            "bud",
            "--layers",
            "--force-rm",
            "--pull-never",
            "--format=oci",
            "--identity-label=false",
        ),
        *(
            f"--timestamp={EPOCH}",
            f"--file={directory / 'Dockerfile'}",
            f"--ignorefile={directory / 'ignore'}",
        ),
        f"--iidfile={directory / 'id'}",
        *(f"--build-arg={name}={value}" for name, value in args),
        *(f"--volume={source}:{target}:ro" for source, target in settings.mounts()),
        *([f"--target={step.target}"] if step.target else []),
        *options,
        str(step.context),
    ]


def told_apart(config: Mapping[str, Any]) -> dict[str, Any]:
    """A base's config with its own digest in its history.

    Buildah's cache compares bases by layers and history alone: of two that differ only in settings it would
    take what was built on the other.
    """
    entry = {"created_by": f"{_BASE}{oci.digest_of(oci.encoded(config))}", "empty_layer": True}
    return {**config, "history": [*(config.get("history") or []), entry]}


def cleaned_config(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A built image's config without the traces of our arguments, of ``told_apart`` and of Buildah's ids."""
    history = []
    for entry in document.get("history", []):
        created_by = str(entry.get("created_by", ""))
        if created_by.startswith(_BASE):
            continue
        nop, mark, declared = created_by.partition("#(nop) ARG ")
        if mark and names:  # Buildah repeats all arguments of the stage at each ARG
            own = [word for word in declared.split(" ") if word.partition("=")[0] not in names]
            created_by = f"{nop}{mark}{' '.join(own)}"
            if not own:
                continue
        kept = {name: value for name, value in entry.items() if name != "comment"}
        if created_by:
            kept["created_by"] = without_args(created_by, names)
        history.append(kept)
    return {**document, "history": history}


def without_args(created_by: str, names: Sequence[str]) -> str:
    """Buildah writes a RUN's arguments before it: "|2 A=x B=y /bin/sh -c ..."; ours are taken out."""
    match = _ARGS_PREFIX.match(created_by)
    if match is None:
        return created_by
    parts = created_by[match.end() :].split(" ")
    count = int(match[1])
    kept = [part for part in parts[:count] if part.partition("=")[0] not in names]
    rest = " ".join(parts[count:])
    return f"|{len(kept)} {' '.join(kept)} {rest}" if kept else rest


def _failed(text: str, log: BuildLog, exit_code: int, said: str) -> RuntimeFailure:
    command = log.failed_command(said)
    if command is not None:
        return BuildStepFailed(
            f"{log.step}: exit code: {exit_code}",
            args=command,
            exit_code=exit_code,
            stdout=log.stdout(),
            stderr=log.stderr(),
        )
    if _HEREDOC.search(text) and "nknown instruction" in said:
        return RuntimeFailure(
            "the Dockerfile has a heredoc (<<): Buildah 1.33 or newer is needed", detail=said
        )
    lines = [line for line in said.splitlines() if line.strip()] or ["buildah bud failed"]
    return RuntimeFailure(_readable(lines[-1]), detail="" if _MISSING.search(lines[-1]) else said)


def _readable(line: str) -> str:
    """Buildah's last line without its own wrapping, and without a host path the user never saw."""
    missing = _MISSING.search(line)
    if missing is not None:
        return f"{missing[1]}: {missing[2]}: no such file or directory in the build context"
    return line.removeprefix("Error: ").replace("building at STEP ", "", 1)
