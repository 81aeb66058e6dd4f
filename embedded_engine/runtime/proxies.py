"""Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as Go's programs read them.

Skopeo and Buildah are Go's, and a push must not take another way than a pull:
golang.org/x/net/http/httpproxy. Loopback is never proxied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from embedded_engine.runtime.logins import is_loopback
from embedded_engine.runtime.port import RuntimeFailure

_PORTS = {"http": "80", "https": "443"}


def proxy_of(scheme: str, host: str, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL for requests to ``host`` (maybe with port), or None.

    Raises RuntimeFailure for a kind of proxy that is not served.
    """
    if is_loopback(host):
        return None
    proxy = _variable(environ, f"{scheme}_proxy")
    if not proxy or _is_excepted(scheme, host, _variable(environ, "no_proxy")):
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    kind = url.partition("://")[0]
    if kind.lower() not in _PORTS:  # not the whole URL, which may hold a password
        raise RuntimeFailure(f"{scheme.upper()}_PROXY names a {kind} proxy: http and https ones are served")
    return url


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name) or ""


def _is_excepted(scheme: str, host: str, exceptions: str) -> bool:
    name, port = split_port(host)
    port = port or _PORTS[scheme]
    for word in exceptions.replace(",", " ").split():
        if word == "*":
            return True
        if _covers(word.lower(), name.lower(), port):
            return True
    return False


def _covers(word: str, name: str, port: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
        return address in ipaddress.ip_network(word, strict=False)
    except ValueError:
        pass
    wanted, wanted_port = split_port(word)
    if wanted_port and wanted_port != port:
        return False
    if wanted.startswith("*."):
        wanted = wanted[1:]
    if wanted.startswith("."):
        return name.endswith(wanted)
    return name == wanted or name.endswith("." + wanted)


def split_port(host: str) -> tuple[str, str]:
    """Name and port ("" for none) of host:port, [v6]:port or a bare address."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = host.rpartition(":")
    if not colon or ":" in name:
        return host, ""
    return name, port
