"""Run a registry that goes wrong as it is told, until Ctrl-C: ``python -m tests.registries --help``."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import yaml

from tests.registries import faults
from tests.registries.exchange import Pace
from tests.registries.faults import Fault, Script, Seen
from tests.registries.kinds import KINDS, Running, Wish


class ToldScript(Script):
    """Tells each request as it comes, and the fault that is meant for it."""

    def next(self, method: str, path: str, place: str = "") -> tuple[Seen, Fault | None]:
        """See ``Script``."""
        seen, fault = super().next(method, path, place)
        what = f"   <- {fault.kind.name}: {fault.kind.text}" if fault else ""
        print(f"{seen.number:5} {method:6} {path[:100]}{what}", file=sys.stderr, flush=True)
        return seen, fault


def introduction(running: Running) -> str:
    """What one needs to use it: address, environment, configuration."""
    entry = {"repository": running.repository, "kind": running.kind, **running.settings}
    document = yaml.safe_dump({"registries": [entry]}, sort_keys=False)
    environ = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in running.environ.items())
    notes = "".join(f"# {note}\n" for note in running.notes)
    return (
        f"# {running.kind} at {running.host}, until Ctrl-C\n{notes}\n"
        f"{environ or '# no environment is needed'}\n\n# modelport.yaml\n{document}"
    )


def told(kinds: Iterable[faults.Kind]) -> str:
    """The list of faults for --help."""
    return "\n".join(f"  {kind.name:14} {kind.text}" for kind in kinds)


async def run(kind: str, wish: Wish) -> None:
    """Until SIGINT or SIGTERM."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with KINDS[kind](wish) as running:
        print(introduction(running), flush=True)
        await over.wait()
    struck = wish.script.injected
    print(f"{len(wish.script.seen)} requests, {len(struck)} of them struck by a fault", file=sys.stderr)


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def parser() -> argparse.ArgumentParser:
    """The command line."""
    when = (faults.__doc__ or "").partition("\n\n")[2]
    made = argparse.ArgumentParser(
        prog="python -m tests.registries",
        description="A real registry behind a proxy that goes wrong as it is told, with a cloud's ways.",
        epilog=f"faults:\n{told(faults.KINDS.values())}\n\n{when}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--kind", choices=tuple(KINDS), default="oci", help="whose ways (oci)")
    add("--fault", type=_fault, action="append", default=[], metavar="KIND[:VALUE]@WHEN", help="repeatable")
    add("--port", type=int, default=0, help="of 127.0.0.1 (a free one)")
    add("--slow", type=float, default=0.0, metavar="MB/S", help="megabytes a second of each body")
    add("--delay", type=float, default=0.0, metavar="S", help="seconds before each request")
    add("--token-life", type=float, default=12 * 3600, metavar="S", help="of tokens, for ecr and acr")
    add("--directory", type=Path, help="where images stay (a temporary one, removed at the end)")
    return made


def main() -> None:
    """The command."""
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="modelport-registry-") as temporary:
        wish = Wish(
            (arguments.directory or Path(temporary)).absolute(),
            ToldScript(arguments.fault),
            Pace(arguments.delay, arguments.slow * 1e6),
            arguments.port,
            arguments.token_life,
        )
        with suppress(KeyboardInterrupt):
            asyncio.run(run(arguments.kind, wish))


if __name__ == "__main__":
    main()
