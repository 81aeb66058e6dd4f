"""The commands: what each takes and prints. The work is done elsewhere, and imported only by its command."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

import typer

from pipelines.command_options import (
    DebugOption,
    EngineOption,
    JsonOption,
    RegistryOption,
    Where,
    environment,
    show,
)
from pipelines.engines import Engine
from pipelines.errors import PipelineError
from pipelines.interrupts import await_
from pipelines.registry_commands import app as registry_app
from pipelines.values import JSON


class Gate(Protocol):
    """How one model's check or scan ended."""

    @property
    def error(self) -> PipelineError | None: ...  # noqa: D102

    def text(self) -> str: ...  # noqa: D102

    def to_json(self) -> dict[str, JSON]: ...  # noqa: D102


app = typer.Typer(
    name="modelport",
    help="Take a model from its commit to the production registries.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(registry_app)


def _version(asked: bool) -> None:  # Typer calls it so
    if asked:
        from importlib.metadata import version  # noqa: PLC0415

        print(f"modelport {version('modelport')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


@app.command()
def run(  # noqa: PLR0913, PLR0917  # each parameter is an option of the command line
    where: Where = Path(),
    engine: EngineOption = Engine.AUTO,
    registry: RegistryOption = "",
    push: Annotated[
        bool | None,
        typer.Option(
            "--push/--no-push",
            help="Push (an error where the commit may not be released), or stop after the gates.",
        ),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build, check, scan, inventory, tag and push: one model, or every model of a repository."""
    from pipelines import run as runs  # noqa: PLC0415  # only what a command needs is imported
    from pipelines.plan import Push  # noqa: PLC0415

    environ = environment(registry)
    wish = {None: Push.AUTO, True: Push.ALWAYS, False: Push.NEVER}[push]
    outcomes = await_(runs.run, runs.Options(where, engine, wish, debug), environ)
    from pipelines.closing import close  # noqa: PLC0415

    raise typer.Exit(close(outcomes, as_json=as_json, environ=environ))


@app.command()
def plan(
    where: Where = Path(),
    registry: RegistryOption = "",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a run would do: names, registries, what is held back, bytes to send. Builds nothing."""
    from pipelines.upload_forecast import planned  # noqa: PLC0415

    made = await_(planned, where, environment(registry))
    show(as_json, [one.to_json() for one in made], "\n\n".join(one.text() for one in made))


@app.command()
def preflight(
    where: Where = Path(),
    engine: EngineOption = Engine.AUTO,
    registry: RegistryOption = "",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check in seconds what would stop a run: configuration, git, engine, disk, logins, repository, tags."""
    from pipelines.preflight_command import examine_all, verify_all  # noqa: PLC0415

    reports = await_(examine_all, where, environment(registry), engine)
    show(as_json, [one.to_json() for one in reports], "\n\n".join(one.text() for one in reports))
    verify_all(reports)


@app.command()
def check(  # noqa: PLR0913, PLR0917  # each parameter is an option of the command line
    where: Where = Path(),
    case: Annotated[str, typer.Option("--case", help="One golden case alone, by its line or name.")] = "",
    update: Annotated[
        bool, typer.Option("--update", help="Write the answers of now into the golden file.")
    ] = False,
    engine: EngineOption = Engine.AUTO,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build and check only: does the model work? One golden case alone, or new answers for all."""
    from pipelines.check_command import CheckOptions, check_command  # noqa: PLC0415

    options = CheckOptions(where, case, update, engine, debug)
    _gates(as_json, await_(check_command, options, dict(os.environ)))


@app.command()
def scan(
    where: Where = Path(),
    engine: EngineOption = Engine.AUTO,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build and scan only: is the image safe by the policy?"""
    from pipelines.scan_command import scan_command  # noqa: PLC0415

    _gates(as_json, await_(scan_command, where, dict(os.environ), engine))


@app.command()
def rescan(
    where: Where = Path(),
    registry: RegistryOption = "",
    tag: Annotated[str, typer.Option("--tag", help="Only tags that fit this glob.")] = "",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Judge what was released again, from the stored SBOMs and today's advisories; no image is pulled."""
    from pipelines.rescan import rescan as judge  # noqa: PLC0415

    report = await_(judge, where, environment(registry), tag)
    show(as_json, report.to_json(), report.text())
    report.verify()


def _gates(as_json: bool, ended: Sequence[Gate]) -> None:
    show(as_json, [one.to_json() for one in ended], "\n".join(one.text() for one in ended))
    raise typer.Exit(next((one.error.exit_code for one in ended if one.error), 0))


@app.command()
def trace(
    reference: Annotated[
        str, typer.Argument(help="REGISTRY/REPOSITORY:TAG or @sha256:DIGEST, or oci:DIRECTORY:TAG.")
    ],
    repository: Annotated[
        Path, typer.Option("--repository", help="The git repository to check the commit against.")
    ] = Path(),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Follow an image from its tag to its digest to its commit, each hop verified against the git history."""
    from pipelines.trace import trace as follow  # noqa: PLC0415

    found = await_(follow, reference, repository)
    show(as_json, found.to_json(), found.text())
    found.verify()


@app.command()
def promote(  # noqa: PLR0913, PLR0917  # each parameter is an option of the command line
    reference: Annotated[str, typer.Argument(help="REGISTRY/REPOSITORY:TAG or @sha256:DIGEST.")],
    to: Annotated[str, typer.Option("--to", help="The environment of modelport.yaml to bring it to.")],
    repository: Annotated[
        Path, typer.Option("--repository", help="Where the modelport.yaml with the environment is.")
    ] = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Bring a release to another environment, by digest, if the gates that it asks for are recorded."""
    from pipelines.promote import promote as bring  # noqa: PLC0415

    done = await_(bring, reference, to, repository, dict(os.environ), dry_run)
    show(as_json, done.to_json(), done.text())


@app.command()
def doctor() -> None:
    """Show what this machine can run: tools, engines, isolation, and what is missing."""
    from pipelines.doctor import doctor as examine  # noqa: PLC0415

    print(await_(examine, dict(os.environ)))  # noqa: T201


@app.command()
def schema() -> None:
    """Print the JSON Schema of modelport.yaml, for editors."""
    from pipelines.schema import schema as made  # noqa: PLC0415

    print(json.dumps(made(), indent=2))  # noqa: T201


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="The model's directory.")] = Path()) -> None:
    """Write modelport.yaml, ci/main.py and the CI files for a model; existing files are left as they are."""
    from pipelines.init import init as write  # noqa: PLC0415

    print(write(directory))  # noqa: T201
