"""Operations that bring a file system *and* a config: an image pulled, imported or built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from embedded_engine.masking import Hidden, encoded, mask_text
from embedded_engine.op_exec import ExecFailed, failure_message, readable_tail
from embedded_engine.operations import Outcome, Work, digest_of
from embedded_engine.paths import inside
from embedded_engine.runtime.port import JSON, BuildStep, BuildStepFailed, Login, RuntimeFailure
from embedded_engine.values import Directory, File, Secret


@dataclass(frozen=True, slots=True)
class From:
    """An image by digest. ``login`` says how to fetch it and is no part of what it is."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "from"
    address: str
    image: str  # sha256:...
    platform: str
    login: Login | None = field(default=None, compare=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of("from", self.image, self.platform))

    @property
    def name(self) -> str:
        """The address as the user wrote it."""
        return self.address

    async def run(self, work: Work) -> Outcome:
        """Pull it. Raises RuntimeFailure."""
        async with work.slot():
            pulled = await work.runtime.pull(self.address, self.image, self.platform, self.login)
        return Outcome(snapshot=pulled.snapshot, config=pulled.config)


@dataclass(frozen=True, slots=True)
class Import:
    """An image from an OCI or Docker archive; ``platform`` chooses among several."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "import"
    source: File
    tag: str = ""
    platform: str = ""
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of("import", self.source.digest, self.tag, self.platform))

    @property
    def name(self) -> str:
        """The archive's file name."""
        return self.source.path.rsplit("/", 1)[-1]

    async def run(self, work: Work) -> Outcome:
        """Take it into storage. Raises RuntimeFailure."""
        async with work.view(self.source.source) as root, work.slot():
            image = await work.runtime.import_archive(inside(root, self.source.path), self.tag, self.platform)
        return Outcome(snapshot=image.snapshot, config=image.config)


@dataclass(frozen=True, slots=True)
class HostImage:
    """An image of the machine's own store, by the digest of its manifest."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "host-image"
    name: str
    image: str  # sha256:...
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of("host-image", self.image))

    async def run(self, work: Work) -> Outcome:
        """Take it into storage. Raises RuntimeFailure."""
        async with work.slot():
            image = await work.runtime.take_host_image(self.name)
        return Outcome(snapshot=image.snapshot, config=image.config)


@dataclass(frozen=True, slots=True)
class DockerBuild:
    """A Dockerfile build of ``context``, which .dockerignore was applied to already."""

    keep: ClassVar[bool] = True
    kind: ClassVar[str] = "docker-build"
    context: Directory
    dockerfile: str
    target: str = ""
    args: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, Secret], ...] = ()  # (id, secret)
    platform: str = ""
    pins: tuple[tuple[str, str], ...] = ()  # FROM address -> address@digest
    logins: tuple[tuple[str, Login], ...] = field(default=(), compare=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        secrets: JSON = [[name, secret.digest] for name, secret in self.secrets]
        args: JSON = [list(pair) for pair in self.args]
        pins: JSON = [list(pair) for pair in self.pins]
        where = [self.context.digest, self.dockerfile, self.target, self.platform]
        object.__setattr__(self, "digest", digest_of("docker-build", *where, args, secrets, pins))

    @property
    def name(self) -> str:
        """The Dockerfile and its target."""
        return f"{self.dockerfile} ({self.target})" if self.target else self.dockerfile

    async def run(self, work: Work) -> Outcome:
        """Build. Raises ExecFailed when a RUN fails, RuntimeFailure for anything else."""
        values = [(name, await work.secrets.value(secret)) for name, secret in self.secrets]
        masks = work.secrets.hidden_in(value for _, value in values)
        async with work.view(self.context.source) as root, work.slot():
            step = BuildStep(
                context=inside(root, self.context.path),
                dockerfile=self.dockerfile,
                target=self.target,
                args=self.args,
                secrets=tuple((name, encoded(value)) for name, value in values),
                platform=self.platform,
                pins=self.pins,
                logins=self.logins,
                hidden=masks,
                watch=work.watch(),
            )
            try:
                image = await work.runtime.docker_build(step)
            except BuildStepFailed as failure:
                raise _step_failed(failure, masks) from failure
            except RuntimeFailure as failure:
                raise RuntimeFailure(
                    mask_text(str(failure), masks), detail=mask_text(failure.detail, masks)
                ) from None
        steps: JSON = {"steps": image.steps, "cached_steps": image.cached_steps}
        return Outcome(snapshot=image.snapshot, config=image.config, data=steps)


def _step_failed(failure: BuildStepFailed, masks: Hidden) -> ExecFailed:
    stdout, stderr = readable_tail(failure.stdout.encode()), readable_tail(failure.stderr.encode())
    message = failure_message(mask_text(str(failure), masks), " ".join(failure.step_args), stderr or stdout)
    return ExecFailed(
        message, args=failure.step_args, exit_code=failure.exit_code, stdout=stdout, stderr=stderr
    )


def config_of(outcome: Outcome) -> Mapping[str, JSON]:
    """The image config document of one of the operations above."""
    return outcome.config or {}
