"""What we write held against the schemas of those who define it, and against what GitHub takes."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import FormatChecker
from jsonschema.validators import validator_for

SCHEMAS = Path(__file__).parent / "fixtures" / "schemas"
GITHUB_MOST_BYTES = 10_000_000
"""The largest file that code scanning takes, gzipped ("SARIF support for code scanning")."""


@cache
def _validator(name: str) -> Any:
    schema = json.loads((SCHEMAS / name).read_text())
    kind = validator_for(schema)
    kind.check_schema(schema)
    return kind(schema, format_checker=FormatChecker())


def errors(name: str, document: Any) -> list[str]:
    """Where ``document`` is not as the schema says."""
    return [f"{error.json_path}: {error.message[:300]}" for error in _validator(name).iter_errors(document)]


def hold_sarif(text: str) -> Any:
    """The SARIF log in ``text``, held to be one that GitHub's code scanning takes."""
    log = json.loads(text)
    assert errors("sarif-schema-2.1.0.json", log) == []
    assert errors("sarif-github.json", log) == []
    assert len(gzip.compress(text.encode(), 6)) < GITHUB_MOST_BYTES
    return log


def hold_spdx(text: bytes) -> Any:
    """The SPDX document in ``text``; every reference in it leads to something."""
    document = json.loads(text)
    assert errors("spdx-schema-2.3.json", document) == []
    known = {"SPDXRef-DOCUMENT", *(one["SPDXID"] for one in document["packages"])}
    for one in document["relationships"]:
        assert {one["spdxElementId"], one["relatedSpdxElement"]} <= known
    return document
