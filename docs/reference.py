"""Writes the parts of docs/ that code knows better: `make docs`; tests compare.

The reference of docs/configuration.md comes from the JSON Schema, the table of docs/engine.md from the
engine's GraphQL schema and its resolvers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent / "configuration.md"
MARK = "<!-- From here on: written by `make docs` from the JSON Schema. -->\n"

ENGINE_PAGE = PAGE.with_name("engine.md")
ENGINE_MARK = "<!-- From here on: written by `make docs` from the GraphQL schema and the resolvers. -->\n"

Schema = dict[str, Any]


def page(schema: Schema, text: str) -> str:
    """``text`` with everything after the mark replaced by the reference."""
    return text.partition(MARK)[0] + MARK + reference(schema)


def reference(schema: Schema) -> str:
    """Every key of ``modelport.yaml``: a table for each section, in the order of the file."""
    schema = _with_enums_in_place(schema, schema["$defs"])
    parts = ["\n## Top level\n\n", _table(schema)]
    for path, section in _sections(schema):
        parts += [f"\n## `{path}`\n\n{_inline(section.get('description', ''))}\n\n", _table(section)]
    return "".join(parts)


def _sections(schema: Schema) -> list[tuple[str, Schema]]:
    """Every nested section with its path, depth first; one that stands in several places once."""
    definitions, found, seen = schema["$defs"], [], set()

    def visit(path: str, part: Schema) -> None:
        for name in _referred(part):
            if name not in seen:
                seen.add(name)
                found.append((path, definitions[name]))
                for key, inner in definitions[name].get("properties", {}).items():
                    visit(f"{path}.{key}", inner)

    for key, part in schema["properties"].items():
        if key == "build":  # one of three, told apart by its key
            visit("build", {"anyOf": [{"$ref": "#/$defs/DockerfileBuild"}]})
            visit("build.python", {"$ref": "#/$defs/PythonBuild"})
            visit("build (an image)", {"$ref": "#/$defs/ImageBuild"})
        else:
            visit(f"{key}[]" if part.get("type") == "array" else key, part)
    return found


def _with_enums_in_place(part: Any, definitions: Schema) -> Any:
    """A list of words is no section of its own: it stands where it is used."""
    if isinstance(part, list):
        return [_with_enums_in_place(one, definitions) for one in part]
    if not isinstance(part, dict):
        return part
    told = definitions.get(str(part.get("$ref", "")).rpartition("/")[2], {})
    if "enum" in told:
        return {"enum": told["enum"], **{key: value for key, value in part.items() if key != "$ref"}}
    return {key: _with_enums_in_place(value, definitions) for key, value in part.items()}


def _referred(part: Any) -> list[str]:
    """The names of the definitions that a property refers to, directly or as items or values."""
    if isinstance(part, list):
        return [name for one in part for name in _referred(one)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"].rpartition("/")[2]] if "$ref" in part else []
    inner = [part.get(key) for key in ("anyOf", "oneOf", "items", "additionalProperties")]
    return own + _referred([one for one in inner if one])


def _table(section: Schema) -> str:
    required = section.get("required", [])
    lines = ["| key | value | default | |\n|---|---|---|---|\n"]
    for key, part in section["properties"].items():
        default = "**required**" if key in required else _default(part)
        lines.append(f"| `{key}` | {_kind(part)} | {default} | {_inline(part.get('description', ''))} |\n")
    return "".join(lines)


def _kind(part: Schema) -> str:  # noqa: PLR0911  # a kind each
    if "$ref" in part or "oneOf" in part:
        return "section"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if "anyOf" in part:
        kinds = [_kind(one) for one in part["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if part.get("type") == "array":
        return f"list of {_kind(part['items'])}"
    if part.get("type") == "object":
        inner = part.get("additionalProperties")
        return f"names to {_kind(inner if isinstance(inner, dict) else {})}"
    if "env://" in part.get("pattern", ""):
        return "secret reference"
    plain = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no"}
    return "date" if part.get("format") == "date" else plain.get(part.get("type", ""), "value")


def _default(part: Schema) -> str:
    value = part.get("default")
    return "" if value in (None, "", [], {}) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _inline(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def engine_page(text: str) -> str:
    """``text`` with everything after the mark replaced by the table of every field of the engine's API."""
    from graphql import GraphQLInterfaceType, GraphQLObjectType, build_schema  # noqa: PLC0415  # as below

    from embedded_engine.resolvers.tables import all_fields  # noqa: PLC0415

    served = all_fields()
    schema_file = PAGE.parent.parent / "embedded_engine/schema.graphql"
    schema = build_schema(schema_file.read_text("utf-8"), assume_valid=True)
    parts = []
    for name, kind in schema.type_map.items():
        if isinstance(kind, GraphQLInterfaceType):
            continue
        if isinstance(kind, GraphQLObjectType) and not name.startswith("__"):
            parts.append(f"\n### {name}\n\n| field | arguments | |\n|---|---|---|\n")
            for field, definition in kind.fields.items():
                resolver = served.get(f"{name}.{field}")
                does = _first_line(resolver) if resolver else "**needs Dagger's engine**"
                arguments = ", ".join(f"`{one}`" for one in definition.args)
                parts.append(f"| `{field}` | {arguments} | {does} |\n")
    everything = sum(part.count("\n| `") + part.startswith("| `") for part in parts)
    count = f"\n{len(served)} of {everything} fields are served.\n"
    return text.partition(ENGINE_MARK)[0] + ENGINE_MARK + count + "".join(parts)


def _first_line(resolver: Any) -> str:
    return _inline((resolver.__doc__ or "").strip().split("\n\n")[0])


def main() -> None:
    """Write the pages and the checked-in schema anew."""
    sys.path.insert(0, str(PAGE.parent.parent))
    from pipelines.schema import CHECKED_IN, schema, text  # noqa: PLC0415  # found only after the line above

    (PAGE.parent.parent / CHECKED_IN).write_text(text(), "utf-8")
    PAGE.write_text(page(schema(), PAGE.read_text("utf-8")), "utf-8")
    ENGINE_PAGE.write_text(engine_page(ENGINE_PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
