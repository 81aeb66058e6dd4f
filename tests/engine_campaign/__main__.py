"""Kill the engine, its tools and its clients at random moments: ``python -m tests.engine_campaign``.

Run from the repository's root, by who may make namespaces. Ends with 1 if a rule broke.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.engine_campaign.campaign import KINDS, Kill, Plan, campaign, machine

PHASES = ("start", "from", "work", "out")


def table(kills: Sequence[Kill]) -> str:
    """Kills by kind and phase, what was left, and how many broke a rule."""
    head = f"{'killed':10} {'kills':>6} " + " ".join(f"{phase:>6}" for phase in PHASES)
    lines = [f"{head} {'gone in (s), median, most':>26} {'files left':>11} {'wrong':>6}"]
    lines += [_line(kind, [one for one in kills if one.kind == kind]) for kind in KINDS]
    lines.append(_line("all", kills))
    tools: dict[str, int] = {}
    for one in kills:
        for tool in one.running:
            tools[tool] = tools.get(tool, 0) + 1
    lines.append(
        "running at the moment: " + ", ".join(f"{name} {count}" for name, count in sorted(tools.items()))
    )
    struck: dict[str, int] = {}
    for one in kills:
        struck[one.what] = struck.get(one.what, 0) + 1
    lines.append("killed: " + ", ".join(f"{name} {count}" for name, count in sorted(struck.items())))
    return "\n".join(lines)


def _line(name: str, kills: Sequence[Kill]) -> str:
    phases = " ".join(f"{sum(one.phase == phase for one in kills):6}" for phase in PHASES)
    gone = sorted(one.gone_s for one in kills if one.gone_s is not None)
    took = f"{gone[len(gone) // 2]:.1f}, {gone[-1]:.1f}" if gone else "-"
    left = sum(one.files_left > 0 for one in kills)
    wrong = sum(bool(one.wrong) for one in kills)
    return f"{name:10} {len(kills):6} {phases} {took:>26} {left:11} {wrong:6}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine_campaign", description=__doc__)
    plan = Plan()
    parser.add_argument("--kills", type=int, default=plan.kills, help=f"how many ({plan.kills})")
    parser.add_argument("--seed", type=int, default=plan.seed, help=f"of the moments ({plan.seed})")
    parser.add_argument("--quick", action="store_true", help="six kills on one state")
    arguments = parser.parse_args()
    plan = Plan(arguments.kills, arguments.seed)
    if arguments.quick:
        plan = Plan(6, arguments.seed, chains_on_a_state=1, length_s=2.5)
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="engine-campaign-", ignore_cleanup_errors=True) as directory,
        campaign(Path(directory), plan) as one,
    ):
        one.measure()
        one.run()
    print(table(one.kills))
    for wrong in one.wrong:
        print(f"wrong: {wrong}")
    print(f"{one.runs} runs of {one.length_s:.1f} s in {time.monotonic() - begin:.0f} s; {machine()}")
    return int(bool(one.wrong) or any(kill.wrong for kill in one.kills))


if __name__ == "__main__":
    sys.exit(main())
