"""What the image's model files would run when they are loaded; none is (``in_engine/model_files.py``)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.config_scan import ModelFiles as Policy
from pipelines.config_scan import ScanPolicy, Severity
from pipelines.scanners.paths import matches
from pipelines.scanners.port import Finding, ImageView, ScannerName, ScannerResult
from pipelines.scanners.programs import version_of_program

SAFE = frozenset({"safetensors", "onnx", "numpy", "GGUF", "TensorFlow Lite"})
"""Formats that hold numbers and graphs, and no code."""
COMPUTED = "computed"
"""The id where what would be called can't be known without loading; no honest model needs that."""
PACKAGES_TEST_DATA = ("*/site-packages/*/tests/*", "*/site-packages/*/test/*", "*/dist-packages/*/tests/*")
"""Pickles that published packages (networkx, joblib) test themselves with: own classes are only reported."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Follows pickles in the tools container, and judges the names here, outside of the cache."""

    name: ScannerName = field(default="model_files", init=False)
    network: str = field(default="", init=False)

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """Callables outside of the allow-list are ``critical``; what can't be followed is ``high``."""
        return result_of(await image.run("model_files"), policy.model_files)


def result_of(told: dict[str, Any], policy: Policy) -> ScannerResult:  # Any: JSON of our own program
    """The program's answer as a result."""
    judged = [file for file in told["files"] if not matches(file["path"], policy.ignore)]
    problems = told["problems"]
    return ScannerResult(
        "model_files",
        audited=not problems,
        reason=f"not read: {'; '.join(problems[:3])}" if problems else "",
        findings=tuple(finding for file in judged for finding in _findings(file, policy)),
        looked_at=told["looked_at"],
        data="allow-list of this version",
        version=version_of_program("model_files"),
        note=_note(judged),
    )


def _findings(file: dict[str, Any], policy: Policy) -> Iterator[Finding]:
    test_data = matches(file["path"], PACKAGES_TEST_DATA)
    for call in file["calls"]:
        name = COMPUTED if call["module"] == "?" else f"{call['module']}.{call['name']}"
        if not _allowed(call["module"], call["name"], policy.allow):
            yield _finding(
                file,
                name,
                "medium" if test_data and not _of_python(call["module"]) else "critical",
                f"loading it would call {call['name'] if name == COMPUTED else name} ({_where(call)})",
                _UNREAD_HINT if name == COMPUTED else _what_to_do(call["module"], name),
            )
    for odd in file.get("odd", ()):
        if odd["id"] not in policy.allow:
            inside = f" (in {odd['inside']})" if odd["inside"] else ""
            yield _finding(file, odd["id"], odd["severity"], f"{odd['what']}{inside}", _ODD_HINT)
    for reason in file["unread"]:
        yield _finding(file, "unreadable", "medium" if test_data else "high", reason, _UNREAD_HINT)


_UNREAD_HINT = "save the model again, as safetensors or ONNX if it can be; or waive `unreadable` for it"
_ODD_HINT = (
    "don't load this file before you know where it comes from; if it is your own: `scan: model_files: allow:`"
)


def _finding(file: dict[str, Any], rule: str, severity: Severity, title: str, hint: str) -> Finding:
    return Finding(
        scanner="model_files",
        id=rule,
        severity=severity,
        subject=file["path"],
        title=title,
        where=file["path"],
        hint=hint,
    )


def _where(call: dict[str, Any]) -> str:
    """The byte of the opcode that names it, and in which member of the file that byte is."""
    return f"byte {call['at']} of {call['inside']}" if call["inside"] else f"byte {call['at']}"


def _of_python(module: str) -> bool:
    """Is it of the standard library, where the callables are that attacks use?"""
    return module.partition(".")[0] in sys.stdlib_module_names


def _what_to_do(module: str, name: str) -> str:
    if _of_python(module):
        return f"don't load this file, and find out where it comes from: no honest model calls {name}"
    return f"don't load this file; if {name} is your own code: `scan: model_files: allow: [{name}]`"


def _allowed(module: str, name: str, allow: tuple[str, ...]) -> bool:
    """``module.*`` allows what that module and those below it define; a dotted name may be anything."""
    packages = [one[:-2] for one in allow if one.endswith(".*")]
    below = any(module == package or module.startswith(f"{package}.") for package in packages)
    return f"{module}.{name}" in allow or (below and "." not in name)


def _note(files: list[dict[str, Any]]) -> str:
    """How many model files there are and in which kind of format; libraries' own test data is not counted."""
    known = [file for file in files if file["format"]]
    models = [file for file in known if "/tests/" not in file["path"] and "/test/" not in file["path"]]
    if not models:
        return "0"
    formats = Counter(file["format"] for file in models)
    number = str(len(models))
    if set(formats) <= SAFE:
        return f"{number}, safe format"
    return f"{number}: " + ", ".join(f"{count} {name}" for name, count in sorted(formats.items()))
