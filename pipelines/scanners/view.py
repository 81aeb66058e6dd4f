"""The built image as the scanners see it: mounted read-only into the tools container, never run itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import dagger
from anyio import to_thread
from dagger import dag

from pipelines.config import Model
from pipelines.errors import PipelineError
from pipelines.inventory_model import weight_globs
from pipelines.scanners.contents import Contents
from pipelines.scanners.layers import ImageLayers
from pipelines.scanners.port import CouldNotLookError, Tool
from pipelines.stages.engine_errors import first_line, tail
from pipelines.values import JSON
from pipelines.weight_pointers import has_dvc

if TYPE_CHECKING:
    from pipelines.release_image import BuiltImage

PROGRAMS = Path(__file__).parent.parent / "in_engine"
OTHERS = ["__init__.py", "check_*", "**/__pycache__"]
"""Of the check stage: a change there is no reason to scan again."""
PUBLIC_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "PYTHON_VERSION", "PYTHON_SHA256"})
"""Set by nearly every base image and never a secret: their values aren't asked for, each is a question."""
CONFINED = ["python3", "-B", "-m", "pipelines.in_engine.confined"]
MD5 = "--md5"
PROGRAM_LIMIT_S = 900.0
"""No scan of an image takes longer; one that does has not looked."""


class EngineView:
    """``ImageView`` over dagger-io. A program is one exec: the cache answers for an unchanged image."""

    def __init__(
        self,
        image: dagger.Container,
        model: Model,
        exported: Callable[[], Awaitable[BuiltImage]] | None = None,
    ) -> None:
        self._image = image
        self._model = model
        self._exported = exported
        self._mounted: dagger.Container | None = None
        self._mounting = anyio.Lock()
        self._layers: ImageLayers | None = None
        self._opening = anyio.Lock()

    async def _tools(self) -> dagger.Container:
        """The tools container with the image in it, asked for once: the SDK sends the recipe each time."""
        async with self._mounting:
            if self._mounted is None:
                programs = dag.host().directory(str(PROGRAMS), exclude=OTHERS)
                self._mounted = await (
                    dag.container()
                    .from_(self._model.tools.image)
                    .with_mounted_directory("/modelport/pipelines/in_engine", programs, read_only=True)
                    .with_mounted_directory("/image", self._image.rootfs(), read_only=True)
                    .with_workdir("/modelport")
                    .sync()
                )
            return self._mounted

    async def run(
        self, program: str, *arguments: str, env: Mapping[str, str] | None = None, network: str = ""
    ) -> dict[str, JSON]:
        """Run one program over the image. Raises CouldNotLookError when it ends without an answer."""
        confined = [*CONFINED, "--network"] if network else CONFINED
        command = [*confined, program, "/image", *arguments]
        try:
            with anyio.fail_after(PROGRAM_LIMIT_S):
                tools = await self._tools()
                for name, value in (env or {}).items():
                    tools = tools.with_env_variable(name, value)
                return answer_of(await tools.with_exec(command).stdout())
        except dagger.ExecError as err:
            # It ends with 1 when it did not see everything, so that no engine keeps the answer: still one.
            if err.exit_code == 1 and err.stdout.startswith("{"):
                return answer_of(err.stdout)
            raise CouldNotLookError(
                f"{program} failed: {tail(err.stderr, 1) or f'exit code {err.exit_code}'}"
            ) from err
        except TimeoutError as err:
            raise CouldNotLookError(f"{program} took more than {PROGRAM_LIMIT_S:.0f} seconds") from err
        except dagger.QueryError as err:
            raise CouldNotLookError(f"{program}: {first_line(err)}") from err

    async def run_tool(self, tool: Tool) -> str:
        """Run a program of others over the image. Raises CouldNotLookError when it ends without an answer."""
        name = Path(tool.command[0]).name
        try:
            with anyio.fail_after(PROGRAM_LIMIT_S):
                container = (
                    dag.container()
                    .from_(tool.image)
                    .with_mounted_directory("/image", self._image.rootfs(), read_only=True)
                )
                for path, directory in tool.directories.items():
                    data = dag.host().directory(str(directory))
                    # Not read-only: trivy opens its database for writing. It writes into the exec's own copy.
                    container = container.with_mounted_directory(path, data)
                for variable, value in tool.env.items():
                    container = container.with_env_variable(variable, value)
                return await container.with_exec(list(tool.command)).stdout()
        except dagger.ExecError as err:
            said = tail(err.stderr, 1) or f"exit code {err.exit_code}"
            raise CouldNotLookError(f"{name} failed: {said}") from err
        except TimeoutError as err:
            raise CouldNotLookError(f"{name} took more than {PROGRAM_LIMIT_S:.0f} seconds") from err
        except dagger.QueryError as err:
            raise CouldNotLookError(f"{name}: {first_line(err)}") from err

    async def exported(self) -> BuiltImage:
        """The image in the layout. Raises CouldNotLookError when it could not be exported."""
        if self._exported is None:
            raise CouldNotLookError("the image is not in the layout")
        try:
            return await self._exported()
        except PipelineError as err:
            raise CouldNotLookError(f"the image's export failed: {err}") from err

    async def layers(self) -> ImageLayers:
        """The layers of the image in the layout, opened once. Raises CouldNotLookError."""
        async with self._opening:
            if self._layers is None:
                self._layers = await to_thread.run_sync(ImageLayers, await self.exported())
            return self._layers

    async def contents(self) -> Contents:
        """What is in the image: the same exec for whoever asks, so an engine runs it once."""
        return Contents.parse(await self.run("collect", *collect_arguments(self._model)))

    async def environment(self) -> dict[str, str]:
        """The image's environment variables; one question for each name and value, asked at once."""
        found: dict[str, str] = {}

        async def ask(variable: dagger.EnvVariable) -> None:
            name = await variable.name()
            found[name] = "" if name in PUBLIC_VARIABLES else await variable.value()

        try:
            async with anyio.create_task_group() as tasks:
                for variable in await self._image.env_variables():
                    tasks.start_soon(ask, variable)
        except* dagger.QueryError as errors:
            raise CouldNotLookError(
                f"the image's environment: {first_line(errors.exceptions[0])}"
            ) from errors
        return dict(sorted(found.items()))


def collect_arguments(model: Model) -> tuple[str, ...]:
    """Of ``in_engine/collect.py``: the weight files that the configuration names; MD5 where DVC is used."""
    return (*((MD5,) if has_dvc(model.directory) else ()), *weight_globs(model))


def answer_of(text: str) -> dict[str, JSON]:
    """The one line of JSON that a program prints. Raises CouldNotLookError when it is none."""
    try:
        answer = json.loads(text)
    except ValueError as err:
        raise CouldNotLookError(f"the scan's answer is no JSON: {text.strip()[:80]!r}") from err
    if not isinstance(answer, dict):
        raise CouldNotLookError("the scan's answer is no JSON object")
    return answer
