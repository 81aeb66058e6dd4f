"""README and docs against the code: exit codes, commands, options, configuration, links."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
import yaml

from embedded_engine.cli import _parser as engine_parser
from pipelines import errors
from pipelines.commands import app
from pipelines.config import load
from pipelines.errors import PipelineError
from pipelines.schema import schema

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
FOLDERS = ("*.md", "docs/**/*.md", "examples/*/*.md", "embedded_engine/*.md")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(folder))


def commands(group: Any, above: str = "") -> dict[str, Any]:
    """Every command by its whole name (Any: click's types are not Typer's)."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found |= commands(command, f"{above}{name} ") if inner else {above + name: command}
    return found


COMMANDS = commands(typer.main.get_command(app))


def kinds(of: type[PipelineError]) -> list[type[PipelineError]]:
    return [
        of,
        *(kind for sub in of.__subclasses__() if sub.__module__ == errors.__name__ for kind in kinds(sub)),
    ]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def reference_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_lists_every_exit_code_once() -> None:
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)]
    assert listed == sorted(set(listed))
    assert set(listed) == {0} | {kind.exit_code for kind in kinds(PipelineError)}


def test_each_kind_of_error_has_a_code_of_its_own() -> None:
    own = [kind.exit_code for kind in kinds(PipelineError) if "exit_code" in kind.__dict__]
    assert len(own) == len(set(own))


def test_the_readme_lists_every_command() -> None:
    rows = re.findall(r"^\| `modelport ([a-z -]+[a-z])", section("Use it"), re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def test_the_readme_lists_every_option_with_its_environment_twin() -> None:
    rows = re.findall(r"^\| (`--[^|]*?) \| *([^|]*?) *\|", section("Use it"), re.MULTILINE)
    listed = {
        option: variable.strip("`")
        for options, variable in rows
        for option in re.findall(r"--[a-z-]+", options)
    }
    known: dict[str, str] = {}
    for command in COMMANDS.values():
        for parameter in command.params:
            for option in [*parameter.opts, *parameter.secondary_opts]:
                if option.startswith("--"):
                    known[option] = parameter.envvar or ""
    assert listed == {option: variable for option, variable in known.items() if option != "--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_documentation_exist(page: Path) -> None:
    for command, rest in re.findall(
        r"(?:^|`)(?:modelport|python ci/main\.py) (registry [a-z]+|[a-z]+)([^`\n#]*)",
        page.read_text("utf-8"),
        re.MULTILINE,
    ):
        assert command in COMMANDS, f"modelport {command}"
        known = {option for p in COMMANDS[command].params for option in [*p.opts, *p.secondary_opts]}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, f"modelport {command}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_in_the_documentation_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_the_configuration_reference_is_that_of_the_schema() -> None:
    module = reference_module()
    text = module.PAGE.read_text("utf-8")
    assert module.MARK in text
    assert text == module.page(schema(), text), "run `make docs`"


def test_the_example_of_the_readme_is_a_valid_configuration(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(# models/langid.*?)```", README, re.DOTALL)
    assert example is not None
    model = tmp_path / "langid"
    (model / "tests").mkdir(parents=True)
    (model / "evaluation").mkdir()
    for name in ("Dockerfile", "golden.jsonl", "evaluation/sentences.jsonl"):
        (model / name).write_text("{}\n")
    (model / "modelport.yaml").write_text(example[1])
    loaded = load(model / "modelport.yaml", {})
    assert loaded.registries[0].repository == "registry.example.com/models"
    assert loaded.scan.block_at.python_packages == "critical"


def test_the_examples_of_the_configuration_page_are_valid_yaml_with_known_keys() -> None:
    text = (ROOT / "docs/configuration.md").read_text("utf-8") + (ROOT / "docs/trust.md").read_text("utf-8")
    known = schema()["properties"]
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert sum(block is not None for block in blocks) >= 4
    for block in filter(None, blocks):
        assert set(block) <= set(known), block


def test_every_environment_variable_is_documented() -> None:
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    sources = [file.read_text("utf-8") for file in (ROOT / "pipelines").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"\"(MODELPORT_[A-Z_]+)\"", text)}
    internal = {"MODELPORT_DAY"}  # the day in a cache key; set by the pipeline itself
    assert named - internal <= set(re.findall(r"MODELPORT_[A-Z_]+", page))


def test_the_changelog_has_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## Unreleased" in text or f"## {version}" in text


def test_the_table_of_the_engines_fields_is_that_of_its_schema_and_resolvers() -> None:
    module = reference_module()
    text = module.ENGINE_PAGE.read_text("utf-8")
    assert module.ENGINE_MARK in text
    assert text == module.engine_page(text), "run `make docs`"


def test_the_engines_readme_lists_every_command_of_the_engine() -> None:
    text = (ROOT / "embedded_engine/README.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*?) \|", text.split("\n## Start it\n")[1].split("\n## ")[0], re.MULTILINE)
    listed = re.findall(r"`(?:embedded-engine )?([a-z]+)", " ".join(rows))
    (group,) = [action for action in engine_parser()._actions if action.choices]  # the only way argparse has
    assert set(listed) == set(group.choices)


def test_the_engines_variables_are_documented() -> None:
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    read = {
        name
        for file in ROOT.glob("embedded_engine/**/*.py")
        for name in re.findall(r"EMBEDDED_ENGINE_[A-Z_]+[A-Z]", file.read_text("utf-8"))
    }
    assert {name for name in read if name not in pages} == set()
