"""``python -m tests.conformance``: record what Dagger's engine answers, or show the differences allowed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from . import recorded  # the path above comes first
from .answers import answers_of, differing
from .checking import told
from .differences import DIFFERENCES, WORDED
from .sessions import Engine, home, missing
from .themes import themes

ENGINE_VERSION = "v0.21.8"


def main() -> int:
    """Record (``--record``), compare a live engine (``--compare``), or list the differences."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write recorded/ anew from Dagger's engine")
    parser.add_argument("--compare", choices=["embedded", "dagger"], help="show where an engine differs")
    parser.add_argument("themes", nargs="*", help="only these")
    options = parser.parse_args()
    if not options.record and not options.compare:
        print(table())
        return 0
    engine: Engine = "dagger" if options.record else options.compare
    lacking = missing(engine)
    if lacking:
        print(f"needs {lacking}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch, home(Path(scratch)) as made:
        for theme in themes():
            if options.themes and theme.name not in options.themes:
                continue
            answers = answers_of(theme, engine, made)
            known = recorded.read(theme)
            for name, answer in answers.items():
                found = differing(answer, known.get(name))
                if found:
                    print(f"{theme.name}/{name}\n{told(found)}")
            if options.record:
                recorded.write(theme, answers, ENGINE_VERSION)
            print(f"{theme.name}: {len(answers)} cases", file=sys.stderr)
    return 0


def table() -> str:
    """The allowed differences, in Markdown."""
    rows = [f"| {one.case} | {', '.join(one.at)} | {one.reason} |" for one in DIFFERENCES]
    rows += [f"| {case} | {', '.join(at)} | other words |" for case, at in WORDED.items()]
    return "\n".join(["| case | where | why |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    sys.exit(main())
