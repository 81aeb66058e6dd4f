"""`modelport registry apply`: which repositories, how a difference is told, and what stops it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import pytest
import yaml

from pipelines.config import load
from pipelines.config_clouds import Kind
from pipelines.errors import ConfigError, UsageError
from pipelines.managed_repositories import managed, moving_patterns, moving_tags_of
from pipelines.registries.administration import Change
from pipelines.registries.ecr import EcrRegistry
from pipelines.registries.errors import AccessRefused
from pipelines.registries.targets import remote
from pipelines.registry_apply import (
    AppliedInPart,
    NothingApplied,
    RepositoryChanges,
    apply,
    hold_told,
    registry_changes,
    to_json,
    told,
)

pytestmark = pytest.mark.anyio
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/models"


def model_file(directory: Path, **content: object) -> Path:
    """A ``modelport.yaml`` with a build that is there."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text("FROM scratch\n")
    file = directory / "modelport.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


class Made:
    """Changes that note in which order they are made."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def change(self, what: str, *, fails: bool = False, before: str = "", **more: object) -> Change:
        async def make() -> None:
            if fails:
                raise AccessRefused(f"{what} is refused", hint="get the right")
            self.order.append(what)

        return Change(what, before, "after", make, **more)  # type: ignore[arg-type]


# Which repositories


def test_every_registry_and_environment_once(tmp_path: Path) -> None:
    settings = {"immutable_tags": True}
    file = model_file(
        tmp_path / "langid",
        registries=[{"repository": ECR, "settings": settings}, "registry.example.com/models"],
        environments={
            "production": {"registries": [ECR], "moving_tags": ["production"]},
            "staging": {"registries": ["staging.example.com/models"], "moving_tags": ["staging"]},
        },
        moving_tags=["latest", "stable-{major}.{minor}", "{name}-edge"],
    )
    found = {str(one.repository): one for one in managed([load(file, {})])}
    assert list(found) == [
        f"{ECR}/langid",
        "registry.example.com/models/langid",
        "staging.example.com/models/langid",
    ]
    assert found[f"{ECR}/langid"].moving_tags == ("latest", "stable-*.*", "langid-edge", "production")
    assert found[f"{ECR}/langid"].settings.immutable_tags is True
    assert found["staging.example.com/models/langid"].moving_tags == ("staging",)


def test_two_models_have_a_repository_each(tmp_path: Path) -> None:
    files = [model_file(tmp_path / name, registries=[ECR]) for name in ("a-model", "b-model")]
    found = managed([load(file, {}) for file in files])
    assert [one.repository.path for one in found] == ["models/a-model", "models/b-model"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"settings": {"scan_on_push": False}}, "different settings"),
        ({"username": "env://OTHER"}, "different logins"),
    ],
)
def test_a_contradiction_is_an_error(tmp_path: Path, other: dict[str, object], message: str) -> None:
    file = model_file(
        tmp_path,
        name="langid",
        registries=[{"repository": ECR, "settings": {"scan_on_push": True}}],
        environments={"production": {"registries": [{"repository": ECR, **other}]}},
    )
    with pytest.raises(ConfigError, match=message):
        managed([load(file, {})])


@pytest.mark.parametrize("moving", ["{major}.{minor}", "{branch}", "{major}"])
def test_a_moving_tag_that_looks_like_a_release_cannot_be_left_out(tmp_path: Path, moving: str) -> None:
    target = {"repository": ECR, "settings": {"immutable_tags": True}}
    model = load(model_file(tmp_path, name="langid", registries=[target], moving_tags=[moving]), {})
    with pytest.raises(ConfigError, match="would also free release tags like"):
        managed([model])
    free = load(model_file(tmp_path, name="langid", registries=[ECR], moving_tags=[moving]), {})
    assert managed([free])[0].moving_tags == moving_patterns([moving], free)


# The difference, for people


def test_a_difference_is_told_like_one(tmp_path: Path) -> None:
    made = Made()
    changes = (
        made.change("tag immutability", before="MUTABLE"),
        made.change("pull", widens=True),
        made.change("retention", removes="images without a tag, 14 days since pushed"),
    )
    found = (RepositoryChanges(f"{ECR}/langid", Kind.ECR, changes), RepositoryChanges("x.io/y", Kind.OCI))
    assert told(found) == (
        f"{ECR}/langid (ecr)\n"
        "  ~ tag immutability: MUTABLE -> after\n"
        "  + pull: after\n"
        "    ! widens access\n"
        "  + retention: after\n"
        "    ! may delete images without a tag, 14 days since pushed\n"
        "x.io/y (oci)\n"
        "  nothing to manage"
    )
    gone = RepositoryChanges("r", Kind.ECR, (Change("push", "somebody", "", made.change("x").apply),))
    assert gone.told() == "r (ecr)\n  - push: somebody -> nothing"
    assert json.loads(json.dumps(to_json(found)))[0]["changes"][1]["widens"] is True
    assert "nothing to manage" in told(())


# A plain registry


async def test_a_plain_registry_cannot_be_managed(tmp_path: Path) -> None:
    file = model_file(
        tmp_path,
        name="langid",
        registries=[
            "registry.example.com/a",
            {"repository": "registry.example.com/b", "settings": {"create": True}},
            {"repository": "registry.example.com/c", "settings": {"immutable_tags": True, "pull": ["x"]}},
        ],
    )
    nothing, created, settings = await registry_changes(file, {})
    assert nothing.told().endswith("nothing to manage")
    assert created.problem is None
    assert "settings.immutable_tags, settings.pull" in str(settings.problem)
    assert "oci" in str(settings.problem)
    with pytest.raises(NothingApplied, match="1 of 3"):
        hold_told((nothing, created, settings))


async def test_no_sdk_is_imported_for_a_plain_registry(tmp_path: Path) -> None:
    file = model_file(tmp_path, name="langid", registries=["registry.example.com/a"])
    program = (
        "import sys, anyio; from pathlib import Path; from pipelines.registry_apply import registry_changes;"
        "anyio.run(registry_changes, Path(sys.argv[1]), {});"
        "print([name for name in sys.modules if name.split('.')[0] in ('botocore', 'azure', 'google')])"
    )
    with anyio.fail_after(30):
        done = await anyio.run_process([sys.executable, "-c", program, str(file)])
    assert done.stdout.decode().strip() == "[]"


# Making the changes


async def test_widening_has_to_be_asked_for_and_nothing_is_changed_before() -> None:
    made = Made()
    changes = (
        RepositoryChanges("a", Kind.ECR, (made.change("scan on push"),)),
        RepositoryChanges("b", Kind.ECR, (made.change("pull", widens=True),)),
    )
    with pytest.raises(UsageError, match="pull of b") as caught:
        await apply(changes, widen=False)
    assert caught.value.exit_code == 2
    assert "--widen" in caught.value.hint
    assert made.order == []
    assert [one.told() for one in await apply(changes, widen=True)] == [
        "a: scan on push changed",
        "b: pull changed",
    ]
    assert made.order == ["scan on push", "pull"]


async def test_a_failure_stops_its_repository_and_no_other() -> None:
    made = Made()
    changes = (
        RepositoryChanges(
            "a", Kind.ECR, (made.change("one"), made.change("two", fails=True), made.change("three"))
        ),
        RepositoryChanges("b", Kind.ECR, (made.change("four"),)),
    )
    with pytest.raises(AppliedInPart, match="1 of 2 repositories") as caught:
        await apply(changes, widen=False)
    assert caught.value.exit_code == 7
    assert made.order == ["one", "four"]
    assert caught.value.detail == "a: one changed; not two, three: two is refused\nb: four changed"
    assert caught.value.hint == "get the right"


async def test_nothing_done_is_another_exit_code() -> None:
    made = Made()
    changes = (
        RepositoryChanges("a", Kind.ECR, (made.change("one", fails=True),)),
        RepositoryChanges("b", Kind.ECR, problem=AccessRefused("b is closed")),
    )
    with pytest.raises(NothingApplied, match="2 of 2 repositories") as caught:
        await apply(changes, widen=False)
    assert caught.value.exit_code == 6
    assert "b: nothing changed; b is closed" in caught.value.detail


def test_a_push_knows_which_tags_a_new_repository_leaves_free(tmp_path: Path) -> None:
    file = model_file(
        tmp_path,
        name="langid",
        registries=[{"repository": ECR, "settings": {"immutable_tags": True}}],
        environments={"production": {"registries": [ECR], "moving_tags": ["production"]}},
    )
    model = load(file, {})
    known = moving_tags_of(model)
    assert known == {f"{ECR}/langid": ("latest", "production")}
    made = remote(model.registries[0], model.name, {}, known)
    assert isinstance(made, EcrRegistry)
    assert made.moving_tags == ("latest", "production")
