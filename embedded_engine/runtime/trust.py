"""Whom a registry's certificate is believed from: the machine's store, SSL_CERT_FILE, and certs.d.

containers-certs.d(5): a directory for each host:port, with CAs (*.crt) and a client's *.cert and *.key.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from embedded_engine.runtime.port import RuntimeFailure


def tls_context(host: str, environ: Mapping[str, str], *, verified: bool = True) -> ssl.SSLContext:
    """The context for ``host``. Raises RuntimeFailure for a file that cannot be used."""
    bundle, directory = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    if verified:
        try:
            context = ssl.create_default_context(cafile=bundle or None, capath=directory or None)
        except (OSError, ssl.SSLError) as error:
            raise RuntimeFailure(f"SSL_CERT_FILE {bundle or directory}: {error}") from error
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for file in _files(host, environ):
        try:
            if file.suffix == ".crt":
                context.load_verify_locations(cafile=file)
            elif file.suffix == ".cert":
                context.load_cert_chain(file, file.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise RuntimeFailure(f"{file}: {error}") from error
    return context


def _files(host: str, environ: Mapping[str, str]) -> list[Path]:
    """The files of the first directory that there is for the host."""
    # Not XDG_CONFIG_HOME: Skopeo, which pulls, does not heed it here.
    home = Path(environ.get("HOME", "/root"))
    roots = (home / ".config/containers", Path("/etc/containers"), Path("/etc/docker"))
    directory = next((found for root in roots if (found := root / "certs.d" / host).is_dir()), None)
    return sorted(directory.iterdir()) if directory else []
