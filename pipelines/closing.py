"""What stands at the end of a run: released references on standard output, the CI summary, the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.ci_systems import detect

if TYPE_CHECKING:
    from pipelines.run import Outcome


def close(outcomes: Sequence[Outcome], *, as_json: bool, environ: Mapping[str, str]) -> int:
    """Say how the run ended; its exit code: 0, or that of the first model that failed."""
    if as_json:
        print(json.dumps([outcome.to_json() for outcome in outcomes], indent=2))  # noqa: T201
    else:
        for outcome in outcomes:
            for line in released(outcome):
                print(line)  # noqa: T201
    sys.stdout.flush()
    detect(environ).write_summary(summary(outcomes))
    return next((outcome.error.exit_code for outcome in outcomes if outcome.error), 0)


def released(outcome: Outcome) -> list[str]:
    """The closing lines of one model: where it is, under which tags, and how to trace it."""
    delivered = outcome.receipt.delivered if outcome.receipt else ()
    lines = [f"released  {one.repository}@{one.digest}   tags {', '.join(one.tags)}" for one in delivered]
    if delivered and delivered[0].tags:
        lines.append(f"trace it  modelport trace {delivered[0].repository}:{delivered[0].tags[0]}")
    return lines


def summary(outcomes: Sequence[Outcome]) -> str:
    """The run in Markdown, for the CI system's page."""
    parts: list[str] = []
    for outcome in outcomes:
        source = outcome.plan.source
        parts += [
            f"### {outcome.plan.model.name} {source.commit[:12]}",
            "",
            "| stage | result | time | |",
            "|---|---|---|---|",
        ]
        for stage in outcome.run.stages:
            text = (
                (stage.summary or str(stage.error.get("message", ""))).replace("|", "\\|").replace("\n", " ")
            )
            parts.append(f"| {stage.name} | {stage.status} | {stage.seconds:.1f} s | {text} |")
        parts += ["", *(f"    {line}" for line in released(outcome)), ""]
    return "\n".join(parts)
