"""Tag templates: ``{commit:12}``, ``{version}``, ``{branch}-{date}``. The values: stages/tag.py."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from pipelines.config_values import Section, problem

PLACEHOLDERS: Final = {
    "commit": "the commit's digits, {commit:12} the first twelve",
    "version": "from the version tag on the commit",
    "major": "the version's first number; absent in a pre-release",
    "minor": "its second",
    "patch": "its third",
    "branch": "the branch",
    "date": "the day of the commit (UTC), like 20261231",
    "run": "the number of the CI run; absent on a laptop",
    "name": "the model's name",
}
_IDENTIFYING: Final = frozenset({"commit", "version", "run"})
_LONGEST: Final = 128


def placeholders(template: str) -> tuple[tuple[str, str], ...]:
    """The placeholders of ``template``, each with its length ("" for none).

    Raises:
        PydanticCustomError: unknown, or malformed; the text is for the user.
    """
    try:
        parts = [
            (name, spec, turn)
            for _, name, spec, turn in string.Formatter().parse(template)
            if name is not None
        ]
    except ValueError as err:
        raise problem(
            "tag", f'the tag "{template}" has a brace without its twin', "like {commit:12}"
        ) from err
    for name, spec, turn in parts:
        if name not in PLACEHOLDERS:
            hint = f"there are {', '.join('{' + known + '}' for known in PLACEHOLDERS)}"
            raise problem(
                "tag", f'the tag "{template}" has an unknown placeholder {{{name}}}{_meant(name)}', hint
            )
        if turn or (spec and not (name == "commit" and re.fullmatch(r"\d+", spec) and 7 <= int(spec) <= 40)):
            raise problem(
                "tag",
                f'the tag "{template}": {{{name}}} can\'t be cut in this way',
                "{commit:7} to {commit:40}",
            )
    return tuple((name, spec or "") for name, spec, _ in parts)


def _meant(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only on the way to an error

    near = get_close_matches(name, PLACEHOLDERS, n=1)
    return f"; did you mean {{{near[0]}}}?" if near else ""


def render(template: str, values: Mapping[str, str | None]) -> str | None:
    """The tag, made to fit the OCI distribution specification; None when a value that it needs is absent."""
    used = placeholders(template)
    if any(not values.get(name) for name, _ in used):
        return None
    filled = {name: _fitting(values[name] or "") for name, _ in used}
    text = _filled(template, filled)
    if (
        "branch" in filled and len(text) > _LONGEST
    ):  # shorten the branch, not what tells one commit from another
        branches = sum(name == "branch" for name, _ in used)
        excess = -(-(len(text) - _LONGEST) // branches)
        text = _filled(template, {**filled, "branch": filled["branch"][:-excess]})
    return sanitise(text)


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = ""
    for literal, name, spec, _ in string.Formatter().parse(template):
        value = values[name] if name else ""
        text += literal + (value[: int(spec)] if spec else value)
    return text


def _fitting(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", text.replace("+", "_"))


def sanitise(text: str) -> str | None:
    """``text`` as a tag: ``[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}``; None when nothing of it can stand in one.

    A "+" (SemVer's build metadata) becomes "_", as Helm has it; any other run of characters becomes one "-".
    """
    return _fitting(text).lstrip(".-")[:_LONGEST].rstrip("-") or None


def _checked(template: str) -> str:
    placeholders(template)
    bare = re.sub(r"\{[^{}]*\}", "x", template)
    if not re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", bare):
        raise problem(
            "tag", f'"{template}" does not make a tag', "letters, digits, . _ and -; not . or - in front"
        )
    return template


def _checked_version(template: str) -> str:
    _checked(template)
    if not _IDENTIFYING & {name for name, _ in placeholders(template)}:
        raise problem(
            "tag",
            f'the tag "{template}" is the same for several commits',
            "tags: need {commit}, {version} or {run}; one that moves on with each release belongs to "
            "moving_tags:, or is written {tag: …, moving: true}",
        )
    return template


def _checked_fixed(tag: str) -> str:
    if "{" in tag:
        raise problem(
            "tag", f'"{tag}" has a placeholder', "a tag of an environment is written out: production"
        )
    return _checked(tag)


class NamedTag(Section):
    """A tag of a release."""

    tag: str
    """The tag, or a template of it."""
    moving: bool = False
    """It moves forward with each release, as those of moving_tags do."""

    @model_validator(mode="after")
    def _hold_form(self) -> Self:
        (_checked if self.moving else _checked_version)(self.tag)
        return self


def _from_text(value: object) -> object:
    return value if isinstance(value, dict | NamedTag) else {"tag": value}


class _AlsoText:
    """In YAML the template alone is enough; the JSON Schema has to say so."""

    def __get_pydantic_json_schema__(
        self, schema: Any, handler: Any
    ) -> dict[str, Any]:  # pydantic's own types
        return {"anyOf": [{"type": "string", "title": "Template"}, handler(schema)]}


Tag = Annotated[NamedTag, BeforeValidator(_from_text), _AlsoText()]
"""A tag of ``tags:``, in YAML also as plain text: then it names one commit for ever."""
MovingTag = Annotated[str, AfterValidator(_checked)]
"""A template of a tag that moves on."""
FixedTag = Annotated[str, AfterValidator(_checked_fixed)]
"""A tag without placeholders."""
