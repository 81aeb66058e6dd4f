"""Imports run one way: ci → pipelines; the engine knows nothing of them; and there are no circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipelines", "embedded_engine")
TALKS_TO_ENGINES = {"pipelines/engines.py", "pipelines/engine_session.py", "pipelines/doctor.py"}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if "templates" not in file.parts:
                found[".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = file
    return found


def when_loaded(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when the module is loaded: not in functions, not under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from when_loaded(child)


def names(imported: ast.Import | ast.ImportFrom, known: dict[str, Path]) -> Iterator[str]:
    if isinstance(imported, ast.Import):
        yield from (alias.name for alias in imported.names)
        return
    base = imported.module or ""
    for alias in imported.names:
        yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base


def test_neither_package_imports_the_other() -> None:
    known = modules()
    for name, file in known.items():
        other = PACKAGES[1] if name.startswith(PACKAGES[0]) else PACKAGES[0]
        every = [
            node
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not [one for node in every for one in names(node, known) if one.split(".")[0] == other], name


def test_no_module_needs_itself_to_be_imported() -> None:
    known = modules()
    graph = {
        name: {
            one
            for node in when_loaded(ast.parse(file.read_text()))
            for one in names(node, known)
            if one in known
        }
        - {name}
        for name, file in known.items()
    }
    TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("word", ["buildah", "podman", "skopeo", "docker version", "embedded_engine"])
def test_only_the_engine_choice_knows_of_container_tools(word: str) -> None:
    """Nothing in ``pipelines/`` runs a container tool, or asks which engine it is on."""
    for file in (ROOT / "pipelines").rglob("*.py"):
        if str(file.relative_to(ROOT)) in TALKS_TO_ENGINES:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.List) and node.elts and isinstance(node.elts[0], ast.Constant):
                assert node.elts[0].value != word, file
