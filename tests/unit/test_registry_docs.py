"""The pages of docs/registries: what is pasted from them is well-formed, and is taken by the real loader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import load
from pipelines.config_clouds import Kind

FOLDER = Path(__file__).resolve().parents[2] / "docs/registries"
PAGES = {Kind.OCI: "oci.md", Kind.ECR: "ecr.md", Kind.ACR: "acr.md", Kind.GAR: "gar.md"}
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def blocks(kind: Kind, language: str) -> list[str]:
    text = (FOLDER / PAGES[kind]).read_text("utf-8")
    assert text.count("```") % 2 == 0, "a block without an end"
    return [
        re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        for indent, name, body in _FENCE.findall(text)
        if name == language
    ]


def examples(kind: Kind) -> list[tuple[str, dict[str, Any]]]:
    """The blocks that are a modelport.yaml: they say so, or hold a key that only it has."""
    parsed = [(block, yaml.safe_load(block)) for block in blocks(kind, "yaml")]
    return [
        (block, content)
        for block, content in parsed
        if block.startswith("# modelport.yaml") or "registries" in (content or {})
    ]


@pytest.mark.parametrize("kind", Kind)
def test_json_to_paste_is_json(kind: Kind) -> None:
    found = [json.loads(block) for block in blocks(kind, "json")]
    assert found, "every page has a policy, a role or a file to paste"


@pytest.mark.parametrize("kind", Kind)
def test_yaml_to_paste_is_yaml(kind: Kind) -> None:
    assert all(yaml.safe_load(block) for block in blocks(kind, "yaml"))


@pytest.mark.parametrize("kind", Kind)
def test_examples_of_the_configuration_load(kind: Kind, tmp_path: Path) -> None:
    found = examples(kind)
    assert found
    for number, (block, content) in enumerate(found):
        model = tmp_path / f"example-{number}"
        model.mkdir()
        (model / "Dockerfile").write_text("FROM scratch\n")
        (model / "modelport.yaml").write_text(block)
        loaded = load(model / "modelport.yaml", {})
        assert len(loaded.registries) == len(content.get("registries", ())), block
        assert {target.registry_kind for target in loaded.registries} <= {kind}, block


def test_roles_of_google_name_permissions_of_artifact_registry() -> None:
    roles = [json.loads(block) for block in blocks(Kind.GAR, "json")]
    permissions = [one for role in roles for one in role.get("includedPermissions", ())]
    assert len(permissions) >= 5
    assert all(re.fullmatch(r"artifactregistry\.repositories\.\w+", one) for one in permissions)
    push = [role for role in roles if "first push" in role.get("description", "")]
    assert push[0]["includedPermissions"] == [
        "artifactregistry.repositories.create",
        "artifactregistry.repositories.get",
    ], "what pushes can make a repository, and change none"


def test_the_robot_of_harbor_may_pull_and_push_only() -> None:
    (robot,) = [one for one in map(json.loads, blocks(Kind.OCI, "json")) if "permissions" in one]
    (permission,) = robot["permissions"]
    assert (robot["level"], permission["kind"], permission["namespace"]) == ("project", "project", "models")
    assert sorted(access["action"] for access in permission["access"]) == ["pull", "push"]
    assert {access["resource"] for access in permission["access"]} == {"repository"}
    assert 0 < robot["duration"] < 400, "a robot ends"
