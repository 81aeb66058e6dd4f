"""What Dagger's engine answered, in JSON files beside the cases."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from .case import Answer, Theme

DIRECTORY = Path(__file__).parent / "recorded"


def read(theme: Theme) -> dict[str, Answer]:
    """The recorded answers by case."""
    path = DIRECTORY / f"{theme.name}.json"
    return dict(json.loads(path.read_text())["answers"]) if path.exists() else {}


def write(theme: Theme, answers: dict[str, Answer], engine_version: str) -> None:
    """Record answers, in the order of the cases."""
    record = {
        "engine": engine_version,
        "sdk": metadata.version("dagger-io"),
        "answers": {case.name: answers[case.name] for case in theme.cases},
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (DIRECTORY / f"{theme.name}.json").write_text(text)
