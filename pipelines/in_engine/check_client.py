"""Climbs the check's ladder against a running model: starts, healthy, then each rung that the plan names.

``python3 -m pipelines.in_engine.check_client PLAN`` prints one line of JSON, the report, and ends with 1 when
a rung failed: so no engine keeps that answer. PLAN is a JSON file (pipelines.stages.check writes it). The
standard library only, Python 3.8.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from time import monotonic

from pipelines.in_engine.check_rung import Context, Piece, RungFunction

RUNGS = (
    ("", "starts", "check_ready.starts"),
    ("", "healthy", "check_ready.healthy"),
    ("schema", "schema", "check_schema.schema"),
    ("golden", "golden", "check_golden.golden"),
    ("record", "record", "check_record.record"),
    ("load", "budgets", "check_load.budgets"),
    ("abuse", "abuse", "check_abuse.abuse"),
)
"""The ladder: the key in the plan's "climb" that asks for a rung ("": always), its name, and its function.
The quality rung has a program of its own, check_quality.

A module is imported when its rung is asked for: so an engine is given only the programs that a plan needs,
and a change in one re-runs no check that has nothing of it.
"""


def climb(context: Context) -> Piece:
    """The report: the rungs in order, up to the first that failed."""
    report: list[Piece] = []
    for key, name, function in RUNGS:
        if key and key not in context.plan["climb"]:
            continue
        start = monotonic()
        result = {"name": name, **_function(function)(context)}
        result["seconds"] = round(monotonic() - start, 3)
        report.append(result)
        if not result["ok"]:
            break
    return {"schema": 1, "ok": all(rung["ok"] for rung in report), "rungs": report}


def _function(name: str) -> RungFunction:
    module, _, function = name.partition(".")
    found: RungFunction = getattr(import_module(f"pipelines.in_engine.{module}"), function)
    return found


def main(arguments: list[str]) -> int:
    """Climb, tell, and say by the exit code whether the top was reached."""
    report = climb(Context.of(json.loads(Path(arguments[0]).read_text("utf-8"))))
    print(json.dumps(report), flush=True)
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
