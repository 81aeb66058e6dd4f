"""The rung "schema": fetches the model's OpenAPI document and real answers; the pipeline judges them.

What was fetched goes into the report packed (zlib, base64) and bounded: an engine keeps only the last 100 kB
of what a failed exec said. Python 3.8's own library.
"""

from __future__ import annotations

import base64
import json
import zlib

from pipelines.in_engine.check_http import Answer, NoAnswerError
from pipelines.in_engine.check_rung import Context, Piece
from pipelines.in_engine.check_samples import Sample, samples

LARGEST_PACKED = 48_000
LARGEST_BODY = 64_000
LARGEST_DOCUMENT = 4 << 20


def schema(context: Context) -> Piece:
    """The document, if the plan names where it is, and the answers to some samples."""
    path = context.plan["schema"].get("openapi")
    document = ""
    if path:
        document, why = _document(context, path)
        if why:
            return {"ok": False, "detail": why, "hint": "`check: schema: openapi:` names the document's path"}
    packed, room = pack(document), LARGEST_PACKED
    if len(packed) > room:
        size = f"{len(document) >> 10} kB"
        return {
            "ok": False,
            "detail": f"the OpenAPI document at {path} is too large to be judged ({size})",
            "hint": "keep it as a file in the repository and name that: `check: schema: file:`",
        }
    answers: list[Piece] = []
    section = context.plan["schema"]
    for sample in samples(context)[: section["most"]]:
        answer = _answered(context, sample)
        if len(packed) + len(pack(json.dumps([*answers, answer]))) > room:
            break
        answers.append(answer)
    return {
        "ok": True,
        "detail": f"{len(answers)} answers",
        "document": packed if path else "",
        "answers": pack(json.dumps(answers)),
        "only_document": section["most"] == 0,
    }


def pack(text: str) -> str:
    """``text`` as base64 of zlib."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _document(context: Context, path: str) -> tuple[str, str]:
    """The document's text, or why there is none."""
    try:
        answer = context.target.ask("GET", path, (("Accept", "application/json"),))
    except NoAnswerError as err:
        return "", f"GET {path}: {err}"
    if answer.status != 200:
        return "", f"GET {path} is answered with status {answer.status}, not with the OpenAPI document"
    if len(answer.body) > LARGEST_DOCUMENT:
        return "", f"GET {path}: the document has more than {LARGEST_DOCUMENT >> 20} MB"
    try:
        return answer.body.decode("utf-8"), ""
    except UnicodeDecodeError:
        return "", f"GET {path}: the answer is not UTF-8 text"


def _answered(context: Context, sample: Sample) -> Piece:
    request = sample.request
    told = {
        "file": sample.file,
        "line": sample.line,
        "name": sample.name,
        "method": request.method,
        "path": request.path,
        "sent": _short(request.body or b""),
        "sent_type": next((text for name, text in request.headers if name.lower() == "content-type"), ""),
    }
    try:
        answer = context.target.ask(request.method, request.path, request.headers, request.body)
    except NoAnswerError as err:
        return {**told, "error": str(err)}
    return {**told, **_facts(answer)}


def _facts(answer: Answer) -> Piece:
    return {
        "status": answer.status,
        "type": answer.header("Content-Type") or "",
        "body": _short(answer.body),
    }


def _short(body: bytes) -> str | None:
    """Text, if it is short enough to be told."""
    try:
        return body.decode("utf-8") if len(body) <= LARGEST_BODY else None
    except UnicodeDecodeError:
        return None
