from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.config import load
from pipelines.errors import ConfigError
from pipelines.schema import CHECKED_IN, schema, text

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*/modelport.yaml"))


def test_the_checked_in_schema_is_up_to_date() -> None:
    assert (ROOT / CHECKED_IN).read_text("utf-8") == text(), "run `python -m pipelines.schema`"


def keys(made: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that the file may have, with its schema."""
    if isinstance(made, dict):
        for name, part in made.get("properties", {}).items():
            yield f"{path}/{name}", part
        for name, part in made.items():
            yield from keys(part, f"{path}/{name}")
    elif isinstance(made, list):
        for part in made:
            yield from keys(part, path)


def test_every_key_has_a_title_and_a_description() -> None:
    found = list(keys(schema()))
    assert len(found) > 40
    without = [path for path, part in found if "$ref" not in part and not part.get("description")]
    assert not without
    assert not [path for path, part in found if "$ref" not in part and not part.get("title")]


def test_what_is_ours_is_not_in_the_file() -> None:
    made = schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert not {"directory", "file"} & set(made["properties"])
    assert "required" not in made, "an empty file is enough"


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_the_product_takes_the_examples(file: Path) -> None:
    assert load(file, {}).name == file.parent.name


WHOLE = """
name: mine
license: Apache-2.0
build:
  python:
    weights: [{pip: a==1, sha256: {"*.bin": %s}}]
    env: {THREADS: 4}
tags: ["{commit:12}"]
registries:
  - registry.example.com/models
  - {repository: "127.0.0.1:5000/x", password: env://P}
release: {branches: [main], tags: []}
""" % ("a" * 64)


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ("build: {dockerfile: D}", True),
        (WHOLE, True),
        ("build: {dockerfile: D, context: ., secrets: {t: env://T}}", True),
        ("build: {image: a/b}", True),
        ("bild: {}", False),
        ("build: {python: {}, image: a}", False),
        ("build: {dockerfile: D, secrets: {t: plain}}", False),
        ("name: Upper", False),
        ("check: {port: 0}", False),
    ],
)
def test_editors_and_the_product_agree(tmp_path: Path, document: str, valid: bool) -> None:
    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(yaml.safe_load(document)))
    assert bool(errors) != valid, errors
    (tmp_path / "D").write_text("")
    (tmp_path / "modelport.yaml").write_text(
        f"name: mine\n{document}" if "name:" not in document else document
    )
    assert accepted(tmp_path / "modelport.yaml") == valid


def accepted(file: Path) -> bool:
    try:
        load(file, {})
    except ConfigError:
        return False
    return True


def test_an_independent_program_takes_schema_and_examples() -> None:
    assert EXAMPLES
    for arguments in (["--check-metaschema", CHECKED_IN], ["--schemafile", CHECKED_IN, *map(str, EXAMPLES)]):
        command = [sys.executable, "-m", "check_jsonschema", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_prints_what_is_checked_in() -> None:
    assert json.loads(text()) == schema()
