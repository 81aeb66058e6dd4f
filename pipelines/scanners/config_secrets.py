"""Secrets in the image's configuration: build arguments in the history, labels, the command's arguments.

The configuration is that of the OCI image specification v1.1 ("Image Configuration"). ``docker history`` and
every registry show it to whoever may pull the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.in_engine.secret_formats import MORE_RULES
from pipelines.in_engine.secret_rules import CONTENT_RULES, is_placeholder, is_secret_name, masked
from pipelines.scanners.port import Finding

_ASSIGNED = re.compile(r"""(?<![\w.-])([A-Za-z_][\w.-]*)=("[^"]*"|'[^']*'|[^\s"',;|&\]]+)""")
_ENV_WORDS = re.compile(r"^(?:/bin/sh -c #\(nop\)\s+)?ENV\s+(\w+)[ =](\S+)")
_OPTION = re.compile(
    r"""(?i)--(?:[a-z-]*-)?(?:password|passwd|token|secret|api-?key)(?:=|["',\s]+)([^\s"',-][^\s"',]*)"""
)
_BEARER = re.compile(r"(?i)(?:authorization:\s*)?\b(?:bearer|basic)\s+([A-Za-z0-9+/=._~-]{12,})")
_USER = re.compile(r"(?<!\S)(?:-u|--user)[ =][\"']?[^\s:\"']+:([^\s\"']+)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@\"']*:([^@\s/\"']{3,})@")
_HINT = (
    "build without it (a secret mount: `RUN --mount=type=secret`), replace it where it is valid; "
    "it stays in every image that was built with it"
)


def secrets_in_config(config: Mapping[str, Any], layers: tuple[str, ...]) -> list[Finding]:
    """What the configuration gives away; ``layers`` are the digests, for the history's lines.

    The environment is told elsewhere, so what is in it now is left out here. (Any: foreign JSON.)
    """
    inner = config.get("config")
    runtime: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    now = {str(one) for one in runtime.get("Env") or ()}
    return [
        *_in_history(config.get("history"), layers, now),
        *_in_labels(runtime.get("Labels")),
        *_in_command(runtime),
    ]


def _in_history(history: object, layers: tuple[str, ...], now: set[str]) -> Iterator[Finding]:
    """Each secret once, where it first appears."""
    made, told = 0, set[str]()
    for entry in history if isinstance(history, list) else ():
        if not isinstance(entry, dict):
            continue
        is_empty = bool(entry.get("empty_layer"))
        layer = "" if is_empty or made >= len(layers) else layers[made]
        made += not is_empty
        line = str(entry.get("created_by") or "")
        for text in (line, str(entry.get("comment") or "")):
            for name, value in secrets_in_text(text):
                if value not in told and f"{name}={value}" not in now:
                    told.add(value)
                    what = f"{_word(line)} {name}".strip()
                    yield _finding("history", what, f"history: {what}", value, layer)


def _word(line: str) -> str:
    """ARG, ENV, RUN…: what kind of line it is."""
    found = re.match(r"(?:/bin/sh -c #\(nop\)\s+)?([A-Z]{3,11})\s", line)
    return found[1] if found else "ARG" if line.startswith("|") else "RUN"


def _in_labels(labels: object) -> Iterator[Finding]:
    for name, value in sorted(labels.items()) if isinstance(labels, dict) else ():
        text = str(value)
        by_name = is_secret_name(re.sub(r"[.\-/]", "_", str(name))) and not is_placeholder(text.encode())
        found = text if by_name else next((one for _, one in secrets_in_text(text)), None)
        if found is not None:
            yield _finding("label", f"LABEL {name}", f"LABEL {name}", found)


def _in_command(runtime: Mapping[str, Any]) -> Iterator[Finding]:
    for key, word in (("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD"), ("OnBuild", "ONBUILD")):
        arguments = runtime.get(key)
        parts = [str(one) for one in arguments] if isinstance(arguments, list) else [str(arguments or "")]
        for name, value in secrets_in_text(" ".join(parts)):
            yield _finding("command", f"{word} {name}".strip(), word, value)


def secrets_in_text(text: str) -> Iterator[tuple[str, str]]:
    """The secrets in one line: by the name they are given to, by an option's name, by their own shape."""
    seen: set[str] = set()
    for name, value in _candidates(text):
        bare = value.strip("\"'")
        if (
            bare not in seen
            and not any(bare in other for other in seen)
            and not is_placeholder(bare.encode())
        ):
            seen.add(bare)
            yield name, bare


def _candidates(text: str) -> Iterator[tuple[str, str]]:
    for name, value in _ASSIGNED.findall(text):
        if is_secret_name(name):
            yield name, value
    if (found := _ENV_WORDS.match(text)) and is_secret_name(found[1]):
        yield found[1], found[2]
    for pattern in (_OPTION, _BEARER, _USER, _ADDRESS):
        yield from (("", match[1]) for match in pattern.finditer(text))
    data = text.encode()
    for rule in (*CONTENT_RULES, *MORE_RULES):
        if rule.may_be_in(data):
            yield from (
                ("", value.decode("utf-8", "replace"))
                for _, value, level in rule.find(data)
                if level != "medium"
            )


def _finding(rule: str, subject: str, where: str, value: str, layer: str = "") -> Finding:
    return Finding(
        scanner="secrets",
        id=rule,
        severity="critical",
        subject=subject,
        title=f"secret in the image's configuration {masked(value.encode())}",
        where=where,
        layer=layer,
        hint=_HINT,
    )
