"""An image's configuration as a frozen value, read from and written to OCI's image config document.

https://github.com/opencontainers/image-spec/blob/main/config.md; Healthcheck and OnBuild are Docker's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from embedded_engine.elements import HealthcheckConfig, Port
from embedded_engine.runtime.port import JSON

Pairs = tuple[tuple[str, str], ...]
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|\{|([*#$@!?\-0-9]|[A-Za-z_][A-Za-z0-9_]*))")


def with_pair(pairs: Pairs, name: str, value: str) -> Pairs:
    """``pairs`` with ``name`` set; a name that is there keeps its place."""
    if any(key == name for key, _ in pairs):
        return tuple((key, value if key == name else old) for key, old in pairs)
    return (*pairs, (name, value))


def without_pair(pairs: Pairs, name: str) -> Pairs:
    """``pairs`` without ``name``."""
    return tuple(pair for pair in pairs if pair[0] != name)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a container is started with, and what its image says of itself."""

    env: Pairs = ()
    entrypoint: tuple[str, ...] = ()
    default_args: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    labels: Pairs = ()
    annotations: Pairs = ()  # of the manifest, not of the config document
    ports: tuple[Port, ...] = ()
    healthcheck: HealthcheckConfig | None = None
    kept: Mapping[str, JSON] = field(
        default_factory=dict, hash=False
    )  # what we pass on as it came (StopSignal, ...)
    history: tuple[Mapping[str, JSON], ...] = field(default=(), hash=False)  # of the base image

    def recipe(self) -> JSON:
        """All of it, for identity. The history follows from the file system."""
        health = self.healthcheck.digest if self.healthcheck else None
        ports: JSON = [port.digest for port in self.ports]
        texts: list[JSON] = [list(self.entrypoint), list(self.default_args), self.user, self.workdir]
        pairs: list[JSON] = [
            [[name, value] for name, value in group] for group in (self.env, self.labels, self.annotations)
        ]
        return [texts, pairs, ports, health, dict(self.kept)]

    def variable(self, name: str) -> str | None:
        """The value of an environment variable."""
        return dict(self.env).get(name)

    def expanded(self, text: str) -> str:
        """``$A`` and ``${A}`` from the environment; unknown ones become empty. What is no name is as in Go's
        os.Expand: ``$$`` is a variable too, ``${}`` and an open ``${`` are nothing."""
        known = dict(self.env)
        return _VARIABLE.sub(lambda match: known.get(match[1] or match[2] or "", ""), text)

    def path(self, path: str) -> str:
        """``path`` made absolute from the working directory, without ``.`` and ``..``."""
        parts: list[str] = []
        whole = path if path.startswith("/") else f"{self.workdir or '/'}/{path}"
        for part in whole.split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        return "/" + "/".join(parts)

    def having(self, **changes: Any) -> ImageConfig:
        """A copy with these fields changed; names are checked by dataclasses."""
        return replace(self, **changes)


def parse_config(document: Mapping[str, JSON]) -> ImageConfig:
    """The value for an OCI image config document (the whole one, with ``config`` inside)."""
    inner = cast("dict[str, Any]", document.get("config") or {})
    own = ("Env", "Entrypoint", "Cmd", "User", "WorkingDir", "Labels", "ExposedPorts", "Healthcheck")
    return ImageConfig(
        env=tuple(_split(line) for line in inner.get("Env") or ()),
        entrypoint=tuple(inner.get("Entrypoint") or ()),
        default_args=tuple(inner.get("Cmd") or ()),
        user=inner.get("User") or "",
        workdir=inner.get("WorkingDir") or "",
        labels=tuple((inner.get("Labels") or {}).items()),
        ports=tuple(_port(text) for text in inner.get("ExposedPorts") or ()),
        healthcheck=_healthcheck(inner.get("Healthcheck")),
        kept={
            key: value
            for key, value in inner.items()
            if key not in own and value not in (None, "", [], {}, False)
        },
        history=tuple(cast("list[dict[str, JSON]]", document.get("history") or ())),
    )


def config_section(config: ImageConfig) -> dict[str, JSON]:
    """The ``config`` object of an OCI image config document; empty members are left out."""
    section: dict[str, JSON] = {
        **config.kept,
        "User": config.user,
        "ExposedPorts": {f"{port.port}/{port.protocol.lower()}": {} for port in config.ports},
        "Env": [f"{name}={value}" for name, value in config.env],
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.default_args),
        "WorkingDir": config.workdir,
        "Labels": dict(sorted(config.labels)),
        "Healthcheck": _health_section(config.healthcheck),
    }
    return {key: value for key, value in section.items() if value}


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name, value


def _port(text: str) -> Port:
    number, _, protocol = text.partition("/")
    return Port(int(number), "UDP" if protocol.lower() == "udp" else "TCP")


def _healthcheck(section: dict[str, Any] | None) -> HealthcheckConfig | None:
    test = (section or {}).get("Test") or []
    if not section or not test or test[0] == "NONE":
        return None
    return HealthcheckConfig(
        args=tuple(test[1:]),
        shell=test[0] == "CMD-SHELL",
        interval=format_ns(section.get("Interval") or 0),
        timeout=format_ns(section.get("Timeout") or 0),
        start_period=format_ns(section.get("StartPeriod") or 0),
        start_interval=format_ns(section.get("StartInterval") or 0),
        retries=section.get("Retries") or 0,
    )


def _health_section(health: HealthcheckConfig | None) -> dict[str, JSON]:
    if health is None:
        return {}
    section: dict[str, JSON] = {
        "Test": ["CMD-SHELL" if health.shell else "CMD", *health.args],
        "Interval": parse_duration(health.interval),
        "Timeout": parse_duration(health.timeout),
        "StartPeriod": parse_duration(health.start_period),
        "StartInterval": parse_duration(health.start_interval),
        "Retries": health.retries,
    }
    return {key: value for key, value in section.items() if value}


_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration ("1m30s"); "" is 0. Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"not a duration such as 30s or 1m30s: {text!r}")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def format_ns(nanoseconds: int) -> str:
    """Nanoseconds as a Go duration; 0 is ""."""
    if not nanoseconds:
        return ""
    if nanoseconds % 10**9:
        return f"{nanoseconds / 10**6:g}ms"
    minutes, seconds = divmod(nanoseconds // 10**9, 60)
    hours, minutes = divmod(minutes, 60)
    parts: Iterable[tuple[int, str]] = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
