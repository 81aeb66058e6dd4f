"""Passwords, tokens and private keys, in the image's files and in its environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines.config_scan import ScanPolicy
from pipelines.in_engine.secret_rules import CONTENT_RULES, is_placeholder, is_secret_name, masked
from pipelines.scanners.paths import matches
from pipelines.scanners.port import Finding, ImageView, ScannerName, ScannerResult

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
    # Manuals show what keys look like.
    "/usr/share/doc/*",
    "/usr/share/man/*",
)
"""Paths of published packages whose "secrets" everybody has. What is found there is counted, not judged."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Searches files in the tools container (``in_engine/find_secrets.py``), the environment here."""

    name: ScannerName = field(default="secrets", init=False)
    network: str = field(default="", init=False)

    async def scan(self, image: ImageView, policy: ScanPolicy) -> ScannerResult:
        """What looks like a usable secret; values are masked where they are found."""
        environment = await image.environment()
        return result_of(await image.run("find_secrets"), environment, policy.secrets.ignore)


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
        data=f"{len(CONTENT_RULES)} rules, {told['bytes'] >> 20} MiB",
        note=f"{passed_over} in known test data" if passed_over else "",
    )


def _in_file(one: dict[str, Any]) -> Finding:
    where = f"{one['path']}:{one['line']}"
    more = f", and {one['more']} more in this file" if one["more"] else ""
    return Finding(
        scanner="secrets",
        id=one["rule"],
        severity=one["severity"],
        subject=one["path"],
        title=f"{one['title']} {one['masked']}{more}",
        where=where,
        hint="take it out of the image and replace it where it is valid; give it at run time, as a secret",
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
        (rule.title, found)
        for rule in CONTENT_RULES
        for _, found, level in rule.find(value)
        if level == "critical"
    ][:1]
