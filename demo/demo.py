"""``make demo``: a real model from its commit to a registry on this machine, and traced back.

python demo/demo.py [MODEL]     run examples/MODEL (langid) and trace what was pushed
python demo/demo.py --clean     end the registry, remove everything that the demo stored
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from demo import base_image, registry, system  # noqa: E402

STATE = ROOT / ".modelport" / "demo"
ENGINE_STATE = base_image.CACHE / "demo-engine"
"""The demo's own engine cache, so that `make clean-demo` leaves nothing and takes nothing of anybody
else's."""


def main(arguments: list[str]) -> int:
    """Run the demo or clean up after it; the exit code is the pipeline's own."""
    parser = argparse.ArgumentParser(description="A model from its commit to a registry on this machine.")
    parser.add_argument("model", nargs="?", default="langid", choices=_models())
    parser.add_argument("--clean", action="store_true", help="end the registry and remove what was stored")
    options = parser.parse_args(arguments)
    try:
        return clean() if options.clean else run(options.model)
    except system.NotInstalled as error:
        return _failed(str(error), system.MISSING)
    except (base_image.BaseImageError, registry.RegistryError) as error:
        return _failed(str(error), 1)
    except KeyboardInterrupt:
        return 130


def run(model: str) -> int:
    """Prepare the machine, run ``examples/MODEL`` against the loopback registry, trace what was pushed."""
    system.ensure(["engine"])
    system.ensure_registry()
    local = registry.start(STATE)
    system.say(f"registry on {local.address} (its data: {STATE.relative_to(ROOT)})")
    environment = {
        **os.environ,
        **_base_image(local.address),
        "MODELPORT_REGISTRY": f"{local.address}/models",
        "EMBEDDED_ENGINE_STATE": str(ENGINE_STATE),
    }
    code, output = _told(["run", f"examples/{model}"], environment)
    references = [line.split()[-1] for line in output if line.startswith("trace it")]
    if code != 0 or not references:
        return code
    if references[0].endswith("-dirty"):
        system.say("not traced: the checkout has uncommitted changes, and no commit has these files")
        return code
    traced, _ = _told(["trace", references[0]], environment)
    system.say("`make demo` again takes seconds; `make clean-demo` ends the registry and removes everything")
    return traced


def clean() -> int:
    """End the registry and remove the demo's registry data, images, run records, caches and base image."""
    ended = registry.stop(STATE)
    system.say("registry ended" if ended else "no registry of the demo was running")
    for directory in (ROOT / ".modelport", base_image.CACHE):
        if directory.exists():
            _remove(directory)
            system.say(f"removed {directory.relative_to(ROOT)}")
    system.say("what stays: installed packages, and .venv (`make clean` removes that too)")
    return 0


def _models() -> list[str]:
    return sorted(file.parent.name for file in (ROOT / "examples").glob("*/modelport.yaml"))


def _base_image(address: str) -> dict[str, str]:
    layout = base_image.made()
    if layout is None:
        if base_image.reached():
            system.say(f"base image: {base_image.NAME}, from the public registry")
            return {}
        system.ensure(["base"])
        system.say(
            "base image: the public registry is not reached; making one from Debian packages, once (a minute)"
        )
        layout = base_image.ensure()
    system.say(f"base image: made from Debian packages ({layout.relative_to(ROOT)}), served by {address}")
    return base_image.provide(address)


def _told(words: list[str], environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run ``python ci/main.py WORDS``, showing what it says as it says it; exit code and standard output."""
    command = ["ci/main.py", *words]
    system.say(f"python {' '.join(command)}")
    lines = []
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, lines


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists() and os.geteuid() != 0:
        # Files of a rootless container belong to other user ids of this user's own range.
        subprocess.run(["buildah", "unshare", "rm", "-rf", str(directory)], check=False)
    if directory.exists():
        raise registry.RegistryError(f"{directory} could not be removed: is something of it still in use?")


def _failed(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
