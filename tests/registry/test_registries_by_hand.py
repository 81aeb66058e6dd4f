"""``python -m tests.registries``: each kind takes a push as its introduction says, with a fault."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import yaml
from images import names, release_image
from registry_process import need_registry

from pipelines.config_registries import RegistryTarget
from pipelines.receipt import State
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.registries.targets import registries_of
from pipelines.stages.push import push
from tests.registries.kinds import KINDS

pytestmark = pytest.mark.registry
START_S = 40


def introduction(process: subprocess.Popen[str]) -> str:
    """What it says until the configuration has come."""
    assert process.stdout is not None
    text = ""
    while line := process.stdout.readline():
        text += line
        if "registries:" in text and not line.strip():
            break
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_a_push_as_the_introduction_says(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_registry()
    command = [sys.executable, "-m", "tests.registries", "--kind", kind, "--fault", "503@3"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            told = introduction(process)
            environ = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", told, re.MULTILINE))
            for name, value in environ.items():
                monkeypatch.setenv(name, value)
            configured = yaml.safe_load(told.partition("# modelport.yaml\n")[2])["registries"]
            targets = [RegistryTarget.model_validate(one) for one in configured]
            layout = LayoutRegistry(ImageLayout.create(tmp_path / "none"), "none")
            wanted = names()
            release = release_image(tmp_path / "image", wanted)
            there = registries_of(targets, "langid", layout, environ)
            receipt = anyio.run(push, release, wanted, there)
            assert receipt.deliveries[0].state is State.PUSHED
        finally:
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=START_S)
    assert process.returncode == 0
    assert re.search(r"^ +3 .*<- 503", log, re.MULTILINE)
    assert re.search(r"\d+ requests, 1 of them struck", log)


def test_a_wrong_fault_is_explained() -> None:
    command = [sys.executable, "-m", "tests.registries", "--fault", "600@1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 2
    assert '"600" is no fault: there are 401' in done.stderr
