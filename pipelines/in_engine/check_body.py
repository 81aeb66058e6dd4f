"""A request's body: as it stands in the case, from a file, or a form of fields and files (RFC 7578).

The standard library only, Python 3.8.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from pipelines.in_engine.check_cases import Part, Request


def whole(request: Request, directory: Path) -> Request:
    """``request`` with its body read; ``directory`` is that of the file that its case stands in."""
    if request.body_file is not None:
        return replace(request, body=(directory / request.body_file).read_bytes(), body_file=None)
    if not request.form:
        return request
    parts = [(part, _content(part, directory)) for part in request.form]
    boundary = _boundary([content for _, content in parts])
    body = b"".join(_encoded(part, content, boundary) for part, content in parts) + b"--%s--\r\n" % boundary
    headers = tuple((name, text) for name, text in request.headers if name.lower() != "content-type")
    media_type = ("Content-Type", f"multipart/form-data; boundary={boundary.decode()}")
    return replace(request, headers=(*headers, media_type), body=body, form=())


def _content(part: Part, directory: Path) -> bytes:
    return part.text.encode("utf-8") if part.file is None else (directory / part.file).read_bytes()


def _boundary(contents: list[bytes]) -> bytes:
    """A line that no content has; the same for the same form, so that a server's answer can be too."""
    digest = sha256()
    for content in contents:
        digest.update(sha256(content).digest())
    boundary = digest.hexdigest().encode()
    while any(boundary in content for content in contents):
        digest.update(boundary)
        boundary = digest.hexdigest().encode()
    return boundary


def _encoded(part: Part, content: bytes, boundary: bytes) -> bytes:
    head = f'Content-Disposition: form-data; name="{part.name}"'
    if part.file is not None:
        name = Path(part.file).name.replace('"', "%22")
        head += f'; filename="{name}"\r\nContent-Type: {part.media_type}'
    return b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, head.encode("utf-8"), content)
