"""The HTTP client of a registry: whom it trusts, how it goes out, how long it waits."""

from __future__ import annotations

import os
import ssl
from typing import Final

import httpx

from pipelines.config_registries import is_loopback
from pipelines.registries.errors import RegistryError
from pipelines.registries.reference import Repository

SILENCE_S: Final = 120.0
TIMEOUT: Final = httpx.Timeout(connect=10, read=SILENCE_S, write=SILENCE_S, pool=None)
_CONNECTIONS: Final = 16


def new_http_client(repository: Repository, silence_s: float = SILENCE_S) -> httpx.AsyncClient:
    """A client for one push or one trace. Proxies come from the environment, but never for loopback.

    Raises:
        RegistryError: ``ca_file`` can't be used.
    """
    plain = repository.base_url.startswith("http:")
    return httpx.AsyncClient(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else trusted_authorities(repository.ca_file),
        trust_env=not is_loopback(repository.host),
        timeout=httpx.Timeout(TIMEOUT.connect, read=silence_s, write=silence_s, pool=None),
        limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        headers={"User-Agent": "modelport", "Accept-Encoding": "identity"},
    )


def trusted_authorities(ca_file: str = "") -> ssl.SSLContext:
    """The machine's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR, else certifi's; and a file's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath and "SSL_CERT_FILE" not in os.environ:
        import certifi  # noqa: PLC0415  only where Python brings no CAs

        context.load_verify_locations(certifi.where())
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as err:  # ssl.SSLError is one too
            raise RegistryError(
                f"ca_file {ca_file} can't be used: {err.strerror or 'it holds no certificate'}",
                hint="it has to hold the authority's certificate as PEM text",
            ) from err
    return context
