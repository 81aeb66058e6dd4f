"""What a git URL means: its protocol, where it leads, and a password that someone wrote into it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from embedded_engine.entries import TreeError

PROTOCOLS = ("http", "https", "ssh", "git", "file")
_SCP = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)(?P<host>[A-Za-z0-9._-]+):(?P<path>[^#]+)(?:#.*)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class UrlRefused(TreeError):
    """A URL that git is not asked for."""


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A remote: ``text`` is what git is given, without a password or fragment."""

    scheme: str
    text: str
    origin: str = ""  # scheme://host[:port], for http
    username: str = ""
    password: str = field(default="", repr=False)


def candidates(url: str) -> tuple[RemoteUrl, ...]:
    """What ``url`` may mean, to be tried in this order. Raises UrlRefused.

    Without a protocol it is https, then ssh, as in Dagger's engine; ``user@host:path`` is ssh.
    """
    match = _SCHEME.match(url)
    if match:
        return (_parsed(url, match[1].lower()),)
    scp = _SCP.fullmatch(url)
    if scp:
        return (RemoteUrl("ssh", url.partition("#")[0]),)
    if url.startswith(("/", ".", "-")) or not url:
        raise UrlRefused(f"git URL {url!r}: a repository on this machine is file:///its/path")
    return _parsed(f"https://{url}", "https"), _parsed(f"ssh://git@{url}", "ssh")


def _parsed(url: str, scheme: str) -> RemoteUrl:
    if scheme not in PROTOCOLS:
        raise UrlRefused(f'git URL: invalid protocol "{scheme}" (there are {", ".join(PROTOCOLS)})')
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise UrlRefused(f"git URL: {error}") from error
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if scheme != "file" and not host:
        raise UrlRefused("git URL: it names no host")
    if scheme in ("http", "https"):
        place = parts._replace(scheme=scheme, netloc=f"{host}{port}", fragment="")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return RemoteUrl(scheme, place.geturl(), f"{scheme}://{host}{port}", user, password)
    return RemoteUrl(scheme, _plain(parts, scheme, host + port))


def _plain(parts: SplitResult, scheme: str, place: str) -> str:
    user = parts.username or ("git" if scheme == "ssh" else "")
    netloc = f"{user}@{place}" if user and scheme == "ssh" else place
    return parts._replace(scheme=scheme, netloc=netloc, fragment="").geturl()
