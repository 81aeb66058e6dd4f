"""What several sections of ``check:`` are made of: files below the model's directory, paths of URLs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from pipelines.config_values import NamedFile, problem


def below(path: str) -> str:
    """Only what is below the model's directory can be handed to the engine for a check."""
    if ".." in path.split("/") or path.startswith("/"):
        raise problem("path", f'"{path}" is not below the model\'s directory', "move the file there")
    return path.removeprefix("./").rstrip("/")


def _url_path(path: str) -> str:
    if not path.startswith("/") or any(c.isspace() for c in path):
        raise problem(
            "url", f'"{path}" is not the path of a URL', 'write it with a leading "/", like /predict'
        )
    return path


CheckFile = Annotated[NamedFile, AfterValidator(below)]
UrlPath = Annotated[str, AfterValidator(_url_path)]
