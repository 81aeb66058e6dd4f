"""``modelport registry …``: what the owners of the registries do."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipelines.command_options import DebugOption, JsonOption, RegistryOption, Where, environment, show
from pipelines.interrupts import await_
from pipelines.values import JSON

app = typer.Typer(name="registry", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Manage the repositories that modelport.yaml names."""


@app.command()
def apply(  # noqa: PLR0913, PLR0917  # each parameter is an option of the command line
    where: Where = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and stop.")] = False,
    widen: Annotated[bool, typer.Option("--widen", help="Also what gives somebody more access.")] = False,
    registry: RegistryOption = "",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make repositories, retention and access what modelport.yaml says; the difference is shown first."""
    from pipelines import registry_apply as work  # noqa: PLC0415  # only what a command needs is imported

    changes = await_(work.registry_changes, where, environment(registry))
    document: dict[str, JSON] = {"changes": work.to_json(changes), "applied": None}
    if not as_json:
        show(as_json, None, work.told(changes))
    if dry_run or not any(one.changes for one in changes):
        if as_json:
            show(as_json, document, "")
        work.hold_told(changes)
        return
    applied = await_(partial(work.apply, widen=widen), changes)
    document["applied"] = [one.to_json() for one in applied]
    show(as_json, document, "\n".join(one.told() for one in applied))
