"""What several commands share: their arguments and options, and how a result is printed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from pipelines.engines import Engine
from pipelines.values import JSON

Where = Annotated[
    Path, typer.Argument(help="A model's directory or its modelport.yaml, or a repository of models.")
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine", envvar="MODELPORT_ENGINE", help="auto: an open session, Dagger's, else the embedded one."
    ),
]
RegistryOption = Annotated[
    str,
    typer.Option(
        "--registry",
        envvar="MODELPORT_REGISTRY",
        help="Registries to push to, with commas; instead of modelport.yaml's.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
DebugOption = Annotated[
    bool, typer.Option("--debug", envvar="MODELPORT_DEBUG", help="Show the traceback and the engine's log.")
]


def environment(registry: str) -> dict[str, str]:
    """The process's environment, with what ``--registry`` says in it."""
    return dict(os.environ) | ({"MODELPORT_REGISTRY": registry} if registry else {})


def show(as_json: bool, document: JSON, text: str) -> None:
    """The result of a command, on standard output."""
    print(json.dumps(document, indent=2) if as_json else text)  # noqa: T201
