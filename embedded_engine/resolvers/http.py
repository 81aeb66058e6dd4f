"""Query.http: a file of a web server. It is fetched when it is named, once per session."""

from __future__ import annotations

from embedded_engine.http_requests import Download, file_name
from embedded_engine.resolvers.registry import ApiError, Call, Fields
from embedded_engine.values import File, Secret, Service

fields = Fields()


@fields("Query.http")
async def http(
    call: Call,
    _: None,
    *,
    url: str,
    name: str | None = None,
    permissions: int | None = None,
    checksum: str | None = None,
    auth_header: str | None = None,
    experimental_service_host: str | None = None,
) -> File:
    """The file at ``url``; mode 0600 unless told otherwise, as in Dagger's engine."""
    called = file_name(url) if name is None else name
    if "/" in called or called in ("", ".", ".."):
        raise ApiError(f'file name "{called}" must not contain a directory')
    objects = call.session.objects
    wanted = Download(
        url,
        called,
        0o600 if permissions is None else permissions,
        checksum or "",
        objects.get(Secret, auth_header) if auth_header else None,
        objects.get(Service, experimental_service_host) if experimental_service_host else None,
    )
    return await call.session.downloads.file(call.session.evaluator, wanted)
