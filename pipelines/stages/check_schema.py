"""The rung "schema" on the pipeline's side: is the document one, do real answers conform, what changed.

The client only fetches. Of the published version the document is known from its check's statement; where it
is not recorded there, the published image is started once and asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipelines.config import Model
from pipelines.config_schema_check import SchemaCheck
from pipelines.published import CouldNotTell
from pipelines.registries.descriptors import canonical_json, sha256
from pipelines.schema_conformance import Verdict, document_of_file, judged, unpacked
from pipelines.stages.check_planned import Planned
from pipelines.stages.check_samples import PROGRAMS as SAMPLES_PROGRAMS
from pipelines.stages.check_samples import SAMPLES
from pipelines.values import JSON

if TYPE_CHECKING:
    from pipelines.published import Published
    from pipelines.schema_changes import Changes
    from pipelines.stages.check_report import Rung
    from pipelines.stages.check_rungs import Judging

PROGRAMS: Final = ("check_schema", *SAMPLES_PROGRAMS)
LARGEST_RECORDED: Final = 128 << 10
"""A larger document is not put into the statement; then the published image is asked."""
MOST_TOLD: Final = 20
LARGEST_FILE: Final = 4 << 20
_PACKED: Final = ("document", "answers", "only_document")


def plan_schema(model: Model) -> Planned | None:
    """The rung's plan.

    Raises:
        ConfigError: the schema's file can't be read.
    """
    schema = model.check.schema_
    if schema is None:
        return None
    document_of_file(model, schema)
    section: dict[str, JSON] = {"openapi": schema.openapi, "most": schema.samples}
    longest_s = (schema.samples + 1) * model.check.request_timeout_s
    return Planned("schema", section, PROGRAMS, longest_s=longest_s, needs=SAMPLES)


async def judge_schema(rung: Rung, judging: Judging) -> Rung:
    """The rung by what was fetched, and by what changed since the published version."""
    schema = judging.model.check.schema_
    if schema is None or rung.facts.get("only_document"):
        return rung
    facts = {key: fact for key, fact in rung.facts.items() if key not in _PACKED}
    if not rung.ok:
        return replace(rung, facts=facts)
    verdict = await anyio.to_thread.run_sync(judged, rung.facts, judging.model, schema)
    if verdict.problems:
        return replace(rung, ok=False, detail=verdict.problems[0], facts=facts | _broken(verdict, schema))
    facts |= _recorded(verdict.document)
    if verdict.failures:
        first = verdict.failures[0]
        detail = f"{first['messages'][0]}" + (
            f" (and {len(verdict.failures) - 1} more)" * (len(verdict.failures) > 1)
        )
        facts |= {
            "file": first["file"],
            "line": first["line"],
            "failures": list(verdict.failures)[:MOST_TOLD],
        }
        facts["hint"] = "either the model's answer or the schema is wrong"
        return replace(rung, ok=False, detail=detail, facts=facts)
    return await _compared(replace(rung, facts=facts), verdict, judging, schema)


def _broken(verdict: Verdict, schema: SchemaCheck) -> dict[str, Any]:
    name = schema.file or schema.answer
    hint = (
        "the document has to be OpenAPI 3.0 or 3.1"
        if schema.answer is None
        else "see https://json-schema.org"
    )
    failures = [{"line": 0, "name": "", "messages": [one], "more": 0} for one in verdict.problems]
    return {"failures": failures[:MOST_TOLD], "hint": hint, **({"file": name} if name else {})}


def _recorded(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the statement has of it: its digest, and itself if it is small."""
    body = canonical_json(dict(document))
    found: dict[str, Any] = {"sha256": sha256(body)}
    return found | ({"document": dict(document)} if len(body) <= LARGEST_RECORDED else {})


async def _compared(rung: Rung, verdict: Verdict, judging: Judging, schema: SchemaCheck) -> Rung:
    """The rung with what changed since the published version, if that is asked for."""
    told = [f"{verdict.checked} answers conform"] if verdict.checked else []
    notes = list(verdict.notes)
    if schema.compare is None:
        return replace(rung, detail=" · ".join(["schema valid", *told, *notes]))
    try:
        published = await judging.published()
        before = await _published_document(published, rung, verdict, judging, schema) if published else None
    except CouldNotTell as err:
        detail = f"what changed since the published version is not known: {err}"
        if schema.breaking == "fail":
            hint = "`check: schema: breaking: warn` lets that pass"
            return replace(rung, ok=False, detail=detail, facts={**rung.facts, "hint": hint})
        return replace(rung, detail=" · ".join(["schema valid", *told, *notes, detail]))
    if published is None:
        return replace(rung, detail=" · ".join(["schema valid", *told, *notes, "nothing published yet"]))
    changes = await anyio.to_thread.run_sync(_changes, before, verdict.document, schema)
    return _with_changes(rung, changes, [*told, *notes], published, schema)


def _changes(before: Mapping[str, Any] | None, after: Mapping[str, Any], schema: SchemaCheck) -> Changes:
    from pipelines.openapi import normal, problems  # noqa: PLC0415  # only where there is a schema
    from pipelines.schema_changes import Changes, openapi_changes, schema_changes  # noqa: PLC0415

    if before == after:
        return Changes()
    if before is None:
        return Changes(harmless=("the published version has no recorded schema to compare with",))
    if schema.answer is not None:
        return schema_changes(before, after)
    wrong = problems(before)
    if wrong:
        return Changes(harmless=(f"the published version's document can't be compared: {wrong[0]}",))
    return openapi_changes(normal(before), after)


def _with_changes(
    rung: Rung, changes: Changes, told: list[str], published: Published, schema: SchemaCheck
) -> Rung:
    facts = {
        **rung.facts,
        "compared_with": published.digest,
        "breaking": list(changes.breaking),
        "harmless": list(changes.harmless),
    }
    counted = f"{len(changes.breaking)} breaking, {len(changes.harmless)} other changes"
    if not changes.breaking or schema.breaking == "warn":
        some = (
            [counted, *changes.breaking[:3], *changes.harmless[:1]]
            if any((changes.breaking, changes.harmless))
            else ["as published"]
        )
        return replace(rung, detail=" · ".join(["schema valid", *told, *some]), facts=facts)
    failures = [{"line": 0, "name": "", "messages": [one], "more": 0} for one in changes.breaking]
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    facts |= {
        "failures": failures[:MOST_TOLD],
        "hint": f"callers of {published.version} would break: keep the old form beside the new one, "
        "or let it pass with `check: schema: breaking: warn`",
    }
    return replace(rung, ok=False, detail=f"breaking change: {changes.breaking[0]}{more}", facts=facts)


async def _published_document(
    published: Published, rung: Rung, verdict: Verdict, judging: Judging, schema: SchemaCheck
) -> Mapping[str, Any] | None:
    """The published version's document: as recorded, else asked of its image. Raises CouldNotTell."""
    recorded = published.facts("check").get("schema")
    if isinstance(recorded, dict):
        document = recorded.get("document")
        if isinstance(document, dict):
            return document
        if recorded.get("sha256") == rung.facts.get("sha256"):
            return verdict.document
    return await _asked(published, judging, schema) if schema.openapi else None


async def _asked(published: Published, judging: Judging, schema: SchemaCheck) -> Mapping[str, Any]:
    """Start the published image and fetch its document. Raises CouldNotTell."""
    from pipelines.published_image import container  # noqa: PLC0415  # only where nothing is recorded
    from pipelines.stages.check_ladder import climb  # noqa: PLC0415  # it imports the hooks, and they this
    from pipelines.stages.check_plan import CheckPlan  # noqa: PLC0415

    section: dict[str, JSON] = {"openapi": schema.openapi, "most": 0}
    planned = Planned("schema", section, PROGRAMS, longest_s=judging.model.check.request_timeout_s)
    plan = CheckPlan(judging.model.check, judging.model.directory, (planned,), ("schema",))
    image = await container(published)
    last: Rung | None = None
    for last in await climb(plan, replace(judging, image=image)):
        if last.name == "schema" and last.ok:
            try:
                document = json.loads(unpacked(last.facts["document"]))
            except (ValueError, RecursionError) as err:
                raise CouldNotTell(f"its OpenAPI document is not JSON: {err}") from err
            if isinstance(document, dict):
                return document
    raise CouldNotTell(
        f"the published image did not give its OpenAPI document: {last.detail if last else ''}"
    )
