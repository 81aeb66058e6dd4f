"""The ``embedded-engine`` command: a session for an SDK, a program in a session, what can run here.

Start-up is on the user's time, so nothing heavy is imported before the session's port has been told.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from embedded_engine import __version__
from embedded_engine.progress.choose import MODES, Showing, asked
from embedded_engine.runtime import private_mounts, rootless
from embedded_engine.state import StartFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    try:
        rootless.enter(words)
        code: int = options.command(options)
    except StartFailed as error:
        print(f"embedded-engine: {error}", file=sys.stderr)  # noqa: T201  # an SDK shows this line to its user
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="embedded-engine",
        description="A Dagger-compatible engine without a daemon, on Buildah, Podman and Skopeo.",
    )
    parser.add_argument("--version", action="version", version=f"embedded-engine {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    session = commands.add_parser(
        "session", help="serve one session until stdin closes, as `dagger session` does"
    )
    session.add_argument("--label", action="append", default=[], help="accepted for compatibility; not used")
    session.add_argument("--workdir", type=Path, default=Path(), help="what host paths are relative to")
    session.add_argument("--project", default="", help="accepted for compatibility; not used")
    session.add_argument(
        "--load-workspace-modules", action="store_true", help="accepted for compatibility; not used"
    )
    _add_showing(session)
    session.set_defaults(command=_session)
    run = commands.add_parser("run", help="run a program in a session, as `dagger run` does")
    run.add_argument("--workdir", type=Path, default=Path(), help="what host paths are relative to")
    _add_showing(run)
    run.add_argument("program", metavar="CMD")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS")
    run.set_defaults(command=_run)
    doctor = commands.add_parser("doctor", help="show what runs containers here, and try it")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(command=_doctor)
    _add_cache(commands)
    return parser


def _add_cache(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cache = commands.add_parser("cache", help="give what is cached here to others, or take theirs")
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    where = "a directory (DIR or oci:DIR) or docker://HOST/REPOSITORY[:TAG]"
    export = actions.add_parser("export", help="add what is cached here to a cache that travels")
    export.add_argument("destination", metavar="DEST", help=where)
    export.set_defaults(command=_cache_export)
    take = actions.add_parser("import", help="take in what such a cache knows; its layers come when needed")
    take.add_argument("source", metavar="SOURCE", help=where)
    take.set_defaults(command=_cache_import)
    gc = commands.add_parser("gc", help="free what was not used for longest; never what a session uses")
    gc.add_argument("--max-size", default="", help="what may stay, as 20GB (EMBEDDED_ENGINE_MAX_SIZE, 50GB)")
    gc.add_argument("--max-age", default="", help="drop what was not used for so long, as 14d or 12h")
    gc.add_argument("--volumes", action="store_true", help="cache volumes, too")
    gc.add_argument("--dry-run", action="store_true", help="only tell what would go")
    gc.set_defaults(command=_gc)
    info = commands.add_parser("info", help="show what is stored, where and how much")
    info.add_argument("--json", action="store_true", help="for programs")
    info.set_defaults(command=_info)
    reset = commands.add_parser("reset", help="remove all that the engine stored")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    reset.set_defaults(command=_reset)


def _cache_export(options: argparse.Namespace) -> int:
    from embedded_engine.cache.commands import export  # noqa: PLC0415

    return export(options.destination)


def _cache_import(options: argparse.Namespace) -> int:
    from embedded_engine.cache.commands import take  # noqa: PLC0415

    return take(options.source)


def _gc(options: argparse.Namespace) -> int:
    from embedded_engine.cache.manage import gc  # noqa: PLC0415

    return gc(options.max_size, options.max_age, volumes=options.volumes, dry_run=options.dry_run)


def _info(options: argparse.Namespace) -> int:
    from embedded_engine.cache.manage import info  # noqa: PLC0415

    return info(as_json=options.json)


def _reset(options: argparse.Namespace) -> int:
    from embedded_engine.cache.manage import reset  # noqa: PLC0415

    return reset(yes=options.yes)


def _session(options: argparse.Namespace) -> int:
    from embedded_engine.serving import serve_until_stdin_closes  # noqa: PLC0415

    private_mounts.enter()
    return serve_until_stdin_closes(_workdir(options.workdir), _showing(options))


def _run(options: argparse.Namespace) -> int:
    from embedded_engine.serving import serve_program  # noqa: PLC0415

    private_mounts.enter()
    command = [options.program, *options.arguments]
    return serve_program(command, _workdir(options.workdir), _showing(options))


def _doctor(options: argparse.Namespace) -> int:
    from embedded_engine.doctor import report  # noqa: PLC0415

    return report(as_json=options.json)


def _add_showing(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--progress",
        choices=MODES,
        help="how progress is shown on stderr: lines, a live view, nothing; "
        "auto (EMBEDDED_ENGINE_PROGRESS) is live on a terminal",
    )
    command.add_argument("--quiet", action="store_true", help="the same as --progress quiet")
    command.add_argument(
        "--debug",
        action="store_true",
        help="show how to repeat each step by hand, keep what failed (EMBEDDED_ENGINE_DEBUG)",
    )


def _showing(options: argparse.Namespace) -> Showing:
    try:
        return asked(options.progress, os.environ, quiet=options.quiet, debug=options.debug)
    except ValueError as error:
        raise StartFailed(str(error)) from error


def _workdir(path: Path) -> Path:
    if not path.is_dir():
        raise StartFailed(f"--workdir {path}: no such directory")
    return path.resolve()
