"""File types over HTTP: POST /predict with a file's bytes, or {"data": "<base64>"}."""

from __future__ import annotations

import base64
import binascii
from http import HTTPStatus
from typing import Any, Protocol

from server import BadRequest, Request, serve

RAW = "application/octet-stream"


class Identifier(Protocol):
    """What is used of magika."""

    def identify_bytes(self, content: bytes) -> Any: ...


class FileTypes:
    """The routes, over one loaded identifier."""

    def __init__(self, identifier: Identifier) -> None:
        self.identifier = identifier

    def predict(self, request: Request) -> dict[str, Any]:
        """The type of a file: its label, media type, group, and how sure the model is."""
        result = self.identifier.identify_bytes(content(request))
        output = result.prediction.output
        return {
            "type": str(output.label),
            "media_type": output.mime_type,
            "group": output.group,
            "is_text": bool(output.is_text),
            "score": round(float(result.prediction.score), 6),
        }


def content(request: Request) -> bytes:
    """The file's bytes, however they were sent; BadRequest if they were not."""
    if request.content_type == RAW:
        return request.body
    if request.content_type != "application/json":
        raise BadRequest(f"send application/json or {RAW}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    data = request.json().get("data")
    if not isinstance(data, str):
        raise BadRequest('"data" has to be a string: the file\'s bytes in base64')
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as err:
        raise BadRequest('"data" is not base64') from err


def main() -> None:
    """Load the model once, then serve."""
    from magika import Magika

    serve({"/predict": FileTypes(Magika()).predict})


if __name__ == "__main__":
    main()
