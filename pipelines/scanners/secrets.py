"""Passwords, tokens and private keys, in the image's files and in its environment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio
from anyio import to_thread

from pipelines.config_scan import ScanPolicy
from pipelines.in_engine.secret_formats import MORE_RULES
from pipelines.in_engine.secret_rules import (
    CONTENT_RULES,
    FILE_RULES,
    is_placeholder,
    is_secret_name,
    masked,
)
from pipelines.scanners.paths import matches
from pipelines.scanners.port import CouldNotLookError, Finding, ImageView, ScannerName, ScannerResult
from pipelines.scanners.programs import version_of_program

KNOWN_HARMLESS = (
    # Keys and certificates that libraries test themselves with (tornado, twisted, aiohttp…).
    "*/site-packages/*/test/*",
    "*/site-packages/*/tests/*",
    "*/site-packages/*/testing/*",
    "*/dist-packages/*/test/*",
    "*/dist-packages/*/tests/*",
    # Python's own test suite has keys for its TLS tests.
    "/usr/lib/python3*/test/*",
    "/usr/local/lib/python3*/test/*",
    "*/site-packages/*/examples/*",
    # A published package's README.
    "*/site-packages/*.dist-info/METADATA",
    # Manuals show what keys look like.
    "/usr/share/doc/*",
    "/usr/share/man/*",
)
"""Paths of published packages whose "secrets" everybody has. What is found there is counted, not judged."""
RULES: Final = (*CONTENT_RULES, *MORE_RULES)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Searches files in the tools container (``in_engine/find_secrets.py``), the environment here."""

    name: ScannerName = field(default="secrets", init=False)
    network: str = field(default="", init=False)

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """What looks like a usable secret, in deleted files too; values are masked where they are found."""
        layers: list[ScannerResult] = []

        async def in_layers() -> None:
            layers.append(await _in_layers(image, policy.secrets.ignore))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_layers)
            result = await _in_files(image, policy.secrets.ignore)
        hidden = layers[0]
        return replace(
            result,
            audited=result.audited and hidden.audited,
            reason="; ".join(filter(None, (result.reason, hidden.reason))),
            findings=(*result.findings, *hidden.findings),
            looked_at=result.looked_at + hidden.looked_at,
            note=", ".join(filter(None, (result.note, hidden.note))),
            version=version_of_program("find_secrets"),
        )


async def _in_files(image: ImageView, ignore: tuple[str, ...]) -> ScannerResult:
    """The final file system and the environment."""
    try:
        environment = await image.environment()
        return result_of(await image.run("find_secrets"), environment, ignore)
    except CouldNotLookError as err:
        return ScannerResult("secrets", audited=False, reason=str(err))


async def _in_layers(image: ImageView, ignore: tuple[str, ...]) -> ScannerResult:
    """What the layers and the configuration tell beyond that."""
    from pipelines.scanners.config_secrets import secrets_in_config  # noqa: PLC0415  with the layers only
    from pipelines.scanners.deleted_secrets import secrets_of_deleted  # noqa: PLC0415  likewise

    try:
        layers = await image.layers()
        told = await to_thread.run_sync(secrets_of_deleted, layers, abandon_on_cancel=True)
    except CouldNotLookError as err:
        reason = f"deleted files and the history not searched: {err}"
        return ScannerResult("secrets", audited=False, reason=reason)
    judged = [one for one in told["found"] if not matches(one["path"], (*KNOWN_HARMLESS, *ignore))]
    in_config = secrets_in_config(layers.config, tuple(layer.digest for layer in layers.layers))
    problems = told["problems"]
    return ScannerResult(
        "secrets",
        audited=not problems,
        reason=f"not read in a layer: {'; '.join(problems[:3])}" if problems else "",
        findings=(*map(_in_deleted, judged), *in_config),
        looked_at=told["looked_at"],
        note=f"{told['looked_at']} deleted or replaced files searched too" if told["looked_at"] else "",
    )


def result_of(told: dict[str, Any], environment: dict[str, str], ignore: tuple[str, ...]) -> ScannerResult:
    """The program's answer and the environment as a result."""  # Any: JSON of our own program
    judged = [one for one in told["found"] if not matches(one["path"], (*KNOWN_HARMLESS, *ignore))]
    passed_over = len(told["found"]) - len(judged)
    problems = told["problems"]
    return ScannerResult(
        "secrets",
        audited=not problems,
        reason=f"not read: {'; '.join(problems[:3])}" if problems else "",
        findings=(*map(_in_file, judged), *_in_environment(environment)),
        looked_at=told["looked_at"],
        data=f"{len(RULES) + len(FILE_RULES)} rules, {told['bytes'] >> 20} MiB",
        note=f"{passed_over} in known test data" if passed_over else "",
    )


def _in_file(one: dict[str, Any]) -> Finding:
    more = f", and {one['more']} more in this file" if one["more"] else ""
    return Finding(
        scanner="secrets",
        id=one["rule"],
        severity=one["severity"],
        subject=one["path"],
        title=f"{one['title']} {one['masked']}{more}",
        where=f"{one['path']}:{one['line']}",
        line=one["line"],
        hint="take it out of the image and replace it where it is valid; give it at run time, as a secret",
    )


def _in_deleted(one: dict[str, Any]) -> Finding:
    finding = _in_file(one)
    return replace(
        finding,
        title=f"{finding.title}, in layer {one['index']}; {one['fate']}, still in the image",
        layer=one["layer"],
        hint=f"do not bring it into layer {one['index']} at all (a secret mount: `RUN --mount=type=secret`): "
        "what a later layer deletes is still pulled. Replace the secret where it is valid",
    )


def _in_environment(environment: dict[str, str]) -> list[Finding]:
    return [
        Finding(
            scanner="secrets",
            id="environment",
            severity="critical",
            subject=f"ENV {name}",
            title=f"{title} {masked(value)}",
            where=f"ENV {name}",
            hint=f"take {name} out of the image's environment and replace the secret; set it at run time",
        )
        for name, text in sorted(environment.items())
        for title, value in _secrets_in(name, text.encode())
    ]


def _secrets_in(name: str, value: bytes) -> list[tuple[str, bytes]]:
    """A value by its variable's name, or by what it looks like; told once."""
    if is_secret_name(name) and not is_placeholder(value):
        return [("secret in the environment", value)]
    return [
        (rule.title, found) for rule in RULES for _, found, level in rule.find(value) if level == "critical"
    ][:1]
