"""Which tags of an image are its release's own, and which only point to it for now."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from pipelines.config import Model
from pipelines.stages.moving_tags import CREATED_LABEL, REVISION_LABEL
from pipelines.stages.tag import FALLBACK_TAG
from pipelines.versions import ParsedVersion

_NUMBER = r"(0|[1-9]\d*)"
_ANY = r"[a-zA-Z0-9._-]+"
_NOTHING = "(?!)"


def is_release_tag(tag: str, model: Model, labels: Mapping[str, str]) -> bool:
    """Whether ``tag`` is one that ``tags:`` give to the image with ``labels``, and none that moves.

    What the labels tell has to fit: of commit tags only the image's own is one.
    """
    releases = (*model.release_tags, FALLBACK_TAG)
    if not any(_fits(tag, template, model, labels) for template in releases):
        return False
    moving = (template for template in model.moving_templates if "{branch}" not in template)
    return not any(_fits(tag, template, model, labels) for template in moving)


def _fits(tag: str, template: str, model: Model, labels: Mapping[str, str]) -> bool:
    pattern = ""
    versions: list[str] = []
    for literal, name, spec, _ in string.Formatter().parse(template):
        pattern += re.escape(literal)
        if name == "version":
            versions.append(f"version{len(versions)}")
            pattern += f"(?P<{versions[-1]}>{_ANY})"
        elif name:
            pattern += _value(name, spec or "", model, labels)
    found = re.fullmatch(pattern, tag)
    return found is not None and all(ParsedVersion.of_tag(found[one]) for one in versions)


def _value(name: str, spec: str, model: Model, labels: Mapping[str, str]) -> str:
    """What may stand for a placeholder."""
    revision = labels.get(REVISION_LABEL, "")
    match name:
        case "commit":
            known = re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", revision)
            return revision[: int(spec) if spec else None] if known else _NOTHING
        case "major" | "minor" | "patch":
            return _NUMBER
        case "name":
            return re.escape(model.name)
        case "date":
            return re.escape(labels.get(CREATED_LABEL, "")[:10].replace("-", "")) or _NOTHING
        case _:
            return _ANY
