"""The GPU's rung: a command in the image where the engine has a GPU, and said aloud where it has none."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import anyio
import dagger
from dagger import dag

from pipelines.config import Model
from pipelines.config_check import GpuCheck
from pipelines.stages.check_report import Rung
from pipelines.stages.engine_errors import first_line, tail
from pipelines.stages.unit_tests import with_files

PROBE = "for one in /dev/nvidia[0-9]* /dev/dxg /dev/kfd; do if [ -e $one ]; then echo $one; fi; done"
"""Prints the devices of GPUs: NVIDIA's, those of WSL, AMD's."""


async def gpu_rung(image: dagger.Container, model: Model, gpu: GpuCheck) -> Rung:
    """Run the command with all GPUs; without one the rung is skipped, or fails where it is required."""
    devices, why = await devices_of(dag.container().from_(model.tools.image))
    if not devices:
        return without_gpu(why, required=gpu.required)
    container = await with_files(with_gpus(image, why), model, gpu.files)
    try:
        with anyio.fail_after(gpu.timeout_s):
            await container.with_exec(list(gpu.command)).sync()
    except TimeoutError:
        return Rung("gpu", ok=False, detail=f"the GPU's command took more than {gpu.timeout_s:g} s")
    except dagger.ExecError as err:
        said = tail(f"{err.stdout}\n{err.stderr}".strip(), 40)
        return Rung(
            "gpu", ok=False, detail=f"the GPU's command ended with exit code {err.exit_code}", log=said
        )
    return Rung("gpu", ok=True, detail=f"gpu ({', '.join(devices)})", facts={"devices": list(devices)})


def without_gpu(why: str, *, required: bool) -> Rung:
    """Never a pass."""
    facts = {"reason": "no GPU here", "engine": why}
    if required:
        hint = "run where there is a GPU, or leave out `check: gpu: required:`"
        detail = f"the check asks for a GPU, and there is none here{f' ({why})' if why else ''}"
        return Rung("gpu", ok=False, detail=detail, facts={**facts, "hint": hint})
    return Rung("gpu", ok=True, detail="gpu skipped: no GPU here", skipped=True, facts=facts)


def with_gpus(container: dagger.Container, why: str) -> dagger.Container:
    """All GPUs, where the engine has a way of its own to give them; else it shows its machine's devices."""
    return container if why else container.experimental_with_all_gp_us()


async def devices_of(tools: dagger.Container) -> tuple[tuple[str, ...], str]:
    """The GPUs that a container sees; and why the engine gives it none by itself, where it says so.

    What a machine has may change, so its devices and the day are in the key of the engine's cache.
    """
    here = sorted(str(one) for one in Path("/dev").glob("nvidia*"))
    key = hashlib.sha256(" ".join([f"{datetime.now(UTC):%F}", *here]).encode()).hexdigest()[:16]
    tools = tools.with_env_variable("CHECK_DEVICES", key)
    try:
        said, why = await tools.experimental_with_all_gp_us().with_exec(["sh", "-c", PROBE]).stdout(), ""
    except dagger.ExecError as err:
        return (), first_line(err)
    except dagger.QueryError as err:
        said, why = await tools.with_exec(["sh", "-c", PROBE]).stdout(), first_line(err)
    return tuple(said.split()), why
