"""The rules of hygiene over the image's configuration, its history, and the base that its recipe names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipelines.config_scan import Severity
from pipelines.scanners.port import Finding

if TYPE_CHECKING:
    from pipelines.scanners.hygiene import Recipe

_PIPED: Final = re.compile(
    r"\b(?:curl|wget)\b[^|;&\n]{0,400}\|\s*(?:sudo\s+(?:-\S+\s+)*)?(?:/\S*/)?(?:ba|da|z|k)?sh\b"
    r"|\b(?:ba|da|z)?sh\s+(?:-c\s+[\"']?\$\(|<\()\s*(?:curl|wget)\b"
    r"|\b(?:curl|wget)\b[^|;&\n]{0,400}\|\s*(?:sudo\s+)?python[\d.]*\b"
)
_FROM: Final = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)


def in_config(config: Mapping[str, Any], layers: tuple[str, ...]) -> Iterator[Finding]:
    """The user, the command, and how the layers were made. (Any: foreign JSON.)"""
    inner = config.get("config")
    runtime: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    user = str(runtime.get("User") or "")
    if user.partition(":")[0] in ("", "root", "0"):
        told = f'user "{user}"' if user else "no user"
        hint = "end the Dockerfile with `USER 10001:10001` (a number: Kubernetes can check it)"
        yield _finding(
            "root-user", "medium", "USER", f"it runs as root: its configuration has {told}", hint=hint
        )
    for key, word in (("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD")):
        arguments = runtime.get(key)
        text = " ".join(map(str, arguments)) if isinstance(arguments, list) else str(arguments or "")
        if _PIPED.search(text):
            hint = "bring the program into the image, checked by its digest"
            yield _finding(
                "runs-download", "high", word, "it runs what it downloads at every start", hint=hint
            )
    yield from _in_history(config.get("history"), layers)


def _in_history(history: object, layers: tuple[str, ...]) -> Iterator[Finding]:
    made = 0
    for number, entry in enumerate(history if isinstance(history, list) else (), start=1):
        if not isinstance(entry, dict):
            continue
        is_empty = bool(entry.get("empty_layer"))
        layer = "" if is_empty or made >= len(layers) else layers[made]
        made += not is_empty
        if _PIPED.search(str(entry.get("created_by") or "")):
            title = "a download was run without being checked (curl | sh)"
            hint = "download to a file, compare its SHA-256, then run it"
            place = f"history entry {number}"
            finding = _finding("pipe-to-shell", "medium", place, title, hint)
            yield replace(finding, where=place, layer=layer)


def moving_base(recipe: Recipe) -> Iterator[Finding]:
    """A base image without a tag, or with ``latest``: tomorrow's build is another image."""
    stages: set[str] = {"scratch"}
    bases = [(recipe.base, None)] if recipe.base else []
    lines: list[tuple[str, int | None]] = [*bases]
    for number, line in enumerate(recipe.text.splitlines(), start=1):
        if found := _FROM.match(line):
            if found[1].lower() not in stages:
                lines.append((found[1], number))
            stages.add((found[2] or "").lower())
    for name, line_number in lines:
        if not _is_moving(name):
            continue
        title = f"the base image {name} is whatever is newest at the time"
        hint = "name a version, or a digest (`@sha256:…`)"
        yield Finding(
            scanner="hygiene",
            id="base-latest",
            severity="medium",
            subject=f"FROM {name}",
            title=title,
            where=f"{recipe.file}:{line_number}" if line_number else recipe.file,
            file=recipe.file,
            line=line_number,
            hint=hint,
        )


def _is_moving(name: str) -> bool:
    if "$" in name or "@" in name:
        return False
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag in ("", "latest")


def _finding(rule: str, severity: Severity, subject: str, title: str, hint: str) -> Finding:
    return Finding(
        scanner="hygiene",
        id=rule,
        severity=severity,
        subject=subject,
        title=title,
        where="the image's configuration",
        hint=hint,
    )
