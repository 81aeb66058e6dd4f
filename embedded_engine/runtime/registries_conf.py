"""registries.conf: mirrors, rewritten places, insecure and blocked hosts, short names.

containers-registries.conf(5), version 2. Skopeo reads the same files for pulls; this module says what else
must be known: which hosts a pull may ask (for their logins), whether a push may go without TLS, and what a
short name stands for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_engine.runtime.port import RuntimeFailure

SYSTEM = Path("/etc/containers")


@dataclass(frozen=True, slots=True)
class Registry:
    """One ``[[registry]]``."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[str, ...] = ()

    def rest(self, name: str) -> str | None:
        """What follows the prefix in ``name`` (host/path, maybe :tag), or None if it does not fit."""
        if self.prefix.startswith("*."):
            host, slash, path = name.partition("/")
            return slash + path if host.endswith(self.prefix[1:]) else None
        rest = name.removeprefix(self.prefix)
        fits = name.startswith(self.prefix) and (not rest or rest[0] in "/:@")
        return rest if fits else None

    def rewritten(self, name: str) -> str:
        """Where ``name`` really is."""
        if self.prefix.startswith("*.") and not self.location:
            return name
        return (self.location or self.prefix) + (self.rest(name) or "")


@dataclass(frozen=True, slots=True)
class RegistriesConf:
    """All files together."""

    registries: tuple[Registry, ...] = ()
    search: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    short_name_mode: str = "permissive"

    def find(self, name: str) -> Registry | None:
        """The entry with the longest prefix that fits."""
        fitting = [one for one in self.registries if one.rest(name) is not None]
        return max(fitting, key=lambda one: len(one.prefix), default=None)

    def sources(self, name: str) -> tuple[str, ...]:
        """Where a pull of ``name`` looks: the mirrors, then its own place."""
        entry = self.find(name)
        if entry is None:
            return (name,)
        return (*(mirror + (entry.rest(name) or "") for mirror in entry.mirrors), entry.rewritten(name))

    def is_insecure(self, name: str) -> bool:
        """Whether its registry may be spoken to without TLS, or with a certificate that nobody knows."""
        entry = self.find(name)
        return entry is not None and entry.insecure

    def candidates(self, short: str) -> tuple[str, ...]:
        """What a name without a registry stands for, in the order to try. Raises RuntimeFailure."""
        bare, tag = split_tag(short)
        alias = dict(self.aliases).get(bare)
        if alias:
            return (alias + tag,)
        if len(self.search) > 1 and self.short_name_mode == "enforcing":
            raise RuntimeFailure(
                f"{short}: a short name may be in any of {', '.join(self.search)}, and short-name-mode is "
                "enforcing: write the registry in front of it"
            )
        return tuple(on_registry(host, short) for host in self.search or ("docker.io",))


def on_registry(host: str, short: str) -> str:
    """A short name on one registry; Docker's own images are in ``library``."""
    library = "library/" if host == "docker.io" and "/" not in short else ""
    return f"{host}/{library}{short}"


def split_tag(name: str) -> tuple[str, str]:
    """A name, and its tag or digest with what stands before it."""
    bare, at, digest = name.partition("@")
    if at:
        return bare, at + digest
    head, slash, last = name.rpartition("/")
    image, colon, tag = last.partition(":")
    return head + slash + image, colon + tag


def read_registries_conf(environ: Mapping[str, str]) -> RegistriesConf:
    """What the files say; none is fine. Raises RuntimeFailure for one that cannot be read as TOML."""
    registries: dict[str, Registry] = {}
    aliases: dict[str, str] = {}
    search: tuple[str, ...] = ()
    mode = "permissive"
    for file in files(environ):
        document = _read(file)
        for entry in document.get("registry", []):
            one = _registry(entry, file)
            registries[one.prefix] = one
        aliases.update({short: full for short, full in document.get("aliases", {}).items() if full})
        search = tuple(document.get("unqualified-search-registries", search))
        mode = str(document.get("short-name-mode", mode))
    return RegistriesConf(tuple(registries.values()), search, tuple(aliases.items()), mode)


def files(environ: Mapping[str, str]) -> list[Path]:
    """The files that count, the later ones over the earlier ones: just those that Skopeo opens.

    So ``XDG_CONFIG_HOME`` says nothing, and a user's own registries.conf leaves out the system's directory.
    """
    user = Path(environ.get("HOME", "/root")) / ".config/containers"
    named, own = environ.get("CONTAINERS_REGISTRIES_CONF"), user / "registries.conf"
    if not named and own.is_file():
        return [own, *_drop_ins(user)]
    first = Path(named) if named else SYSTEM / "registries.conf"
    return [*([first] if named or first.is_file() else []), *_drop_ins(SYSTEM), *_drop_ins(user)]


def _drop_ins(directory: Path) -> Iterable[Path]:
    return sorted((directory / "registries.conf.d").glob("*.conf"))


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RuntimeFailure(f"{file}: {error}") from error


def _registry(entry: Mapping[str, Any], file: Path) -> Registry:
    location, prefix = str(entry.get("location", "")), str(entry.get("prefix", ""))
    if not (location or prefix):
        raise RuntimeFailure(f"{file}: a [[registry]] has neither prefix nor location")
    return Registry(
        (prefix or location).rstrip("/"),
        location.rstrip("/"),
        bool(entry.get("insecure")),
        bool(entry.get("blocked")),
        tuple(str(mirror.get("location", "")) for mirror in entry.get("mirror", [])),
    )
