"""What `modelport registry apply` does to an Azure Container Registry: read, made so, and then nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from acr_fixtures import Azure, authority, azure
from images import names, release_image

from pipelines.config_clouds import RepositorySettings
from pipelines.errors import UsageError
from pipelines.registries.acr_access import PULL, PUSH, condition
from pipelines.registries.acr_administration import administration
from pipelines.registries.administration import Change
from pipelines.registries.errors import AccessRefused, RegistryError
from pipelines.stages.push import push
from tests.registries.entra import new_id

__all__ = ["authority", "azure"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]
PATH = "models/langid"
DEV, OPS, KUBELET = new_id(), new_id(), new_id()
READER, WRITER = PULL.role, PUSH.role


async def differences(
    azure: Azure, moving: tuple[str, ...] = (), model: str = "langid", **settings: object
) -> tuple[Change, ...]:
    target, repository = azure.target(), azure.repository(model)
    return await administration(target, repository, azure.environ).differences(
        RepositorySettings.model_validate(settings), moving
    )


async def apply(azure: Azure, moving: tuple[str, ...] = (), **settings: object) -> tuple[Change, ...]:
    """Make it so, and hold that nothing is left to do."""
    changes = await differences(azure, moving, **settings)
    for change in changes:
        await change.apply()
    assert await differences(azure, moving, **settings) == ()
    return changes


def conditions(azure: Azure, role: str) -> dict[str, str | None]:
    """By principal, on the registry itself."""
    return {
        value["principalId"]: value["condition"]
        for value in azure.manager.assignments.values()
        if value["roleDefinitionId"].endswith(role) and value["scope"] == azure.manager.registry_id
    }


async def test_what_is_not_given_is_left_as_it_is(azure: Azure) -> None:
    azure.manager.assign(READER, DEV)
    assert await differences(azure) == ()
    assert azure.tokens.entra.log == []  # nobody was asked


async def test_release_tags_are_locked_and_moving_ones_are_free(azure: Azure, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        wanted = names(version, moving=("latest",))
        await push(release_image(tmp_path / version, wanted, version), wanted, [azure.registry()])
    signature = f"sha256-{'0' * 64}.sig"
    async with azure.registry().open() as opened:
        await opened.tag(signature, await opened.read_manifest("1.0.0"))
    (change,) = await differences(azure, ("latest",), immutable_tags=True)
    assert azure.tokens.locked == set()  # it only reads
    (by_pattern,) = await differences(azure, ("l*",), immutable_tags=True)
    assert by_pattern.before == change.before
    assert (change.what, change.before, change.widens) == (
        "immutable_tags",
        "0 of 2 release tags locked",
        False,
    )
    await apply(azure, ("latest",), immutable_tags=True)
    assert azure.tokens.locked == {(PATH, "1.0.0"), (PATH, "1.1.0")}
    (change,) = await apply(azure, ("latest",), immutable_tags=False)
    assert change.widens
    assert azure.tokens.locked == set()


async def test_tags_are_read_page_by_page(azure: Azure, tmp_path: Path) -> None:
    wanted = names("1.0.0")
    release = release_image(tmp_path, wanted)
    await push(release, wanted, [azure.registry()])
    async with azure.registry().open() as opened:
        manifest = await opened.read_manifest(release.digest)
        for number in range(105):
            await opened.tag(f"0.{number}.0", manifest)
    (change,) = await differences(azure, immutable_tags=True)
    assert "of 106 release tags" in change.before
    assert "and 102 more locked" in change.after


async def test_a_repository_that_is_not_there_yet(azure: Azure) -> None:
    assert await differences(azure, immutable_tags=True) == ()


async def test_retention(azure: Azure) -> None:
    azure.manager.polls = 2
    (change,) = await differences(azure, retention={"untagged_days": 30})
    await change.apply()
    assert azure.manager.polls == 0  # it waited until that was done
    assert await differences(azure, retention={"untagged_days": 30}) == ()
    assert change.removes.startswith("manifests of all repositories, 30 days")
    assert (change.before, change.widens) == ("", False)
    assert azure.manager.properties["policies"]["retentionPolicy"] == {"days": 30, "status": "enabled"}
    assert azure.manager.log == ["PATCH localhost"]
    (change,) = await apply(azure, retention={"untagged_days": 60})
    assert change.before == "30"


async def test_retention_of_a_registry_that_is_not_premium(azure: Azure) -> None:
    azure.manager.sku = "Basic"
    with pytest.raises(RegistryError, match=r"\(acr\): retention: untagged_days: only a Premium registry"):
        await differences(azure, retention={"untagged_days": 30})


async def test_rights_on_one_repository(azure: Azure) -> None:
    changes = await apply(azure, pull=[DEV, OPS.upper()], push=[DEV])
    assert all(change.widens for change in changes)
    assert conditions(azure, READER) == dict.fromkeys((DEV, OPS), condition(PULL, [PATH]))
    assert conditions(azure, WRITER) == {DEV: condition(PUSH, [PATH])}
    (change,) = await apply(azure, pull=[OPS], push=[DEV])
    assert (change.before, change.after, change.widens) == (f"{DEV} ({PULL.name})", "", False)
    assert set(conditions(azure, READER)) == {OPS}


async def test_a_second_model_extends_the_same_assignment(azure: Azure) -> None:
    """Azure has one assignment for each principal and role; both plans were made before one was applied."""
    first = await differences(azure, pull=[DEV])
    second = await differences(azure, model="embeddings", pull=[DEV])
    for change in (*first, *second):
        await change.apply()
    assert conditions(azure, READER) == {DEV: condition(PULL, ["models/embeddings", PATH])}
    assert await differences(azure, pull=[DEV]) == ()
    await apply(azure, pull=[])
    assert conditions(azure, READER) == {DEV: condition(PULL, ["models/embeddings"])}


async def test_rights_from_above_and_on_all_repositories_are_left(azure: Azure) -> None:
    group = azure.manager.registry_id.partition("/providers/")[0]
    azure.manager.assign(READER, OPS, scope=group)
    azure.manager.assign(READER, KUBELET)
    azure.manager.assign(READER, DEV)
    before = dict(azure.manager.assignments)
    assert await apply(azure, pull=[DEV]) == ()  # it has more already
    assert azure.manager.assignments == before


async def test_a_condition_of_somebody_else(azure: Azure) -> None:
    azure.manager.assign(READER, DEV, condition="((@Request[x:name] StringStartsWith 'models/'))")
    with pytest.raises(RegistryError, match=r"\(acr\): pull: .* has a condition that this program did not"):
        await differences(azure, pull=[DEV])
    assert await differences(azure, pull=[]) == ()


async def test_the_older_mode_knows_only_the_whole_registry(azure: Azure) -> None:
    azure.manager.properties["roleAssignmentMode"] = "LegacyRegistryPermissions"
    (change,) = await apply(azure, pull=[DEV])
    assert change.widens
    assert "AcrPull, on all repositories" in change.after
    assert conditions(azure, PULL.old_role) == {DEV: None}
    azure.manager.assign(PULL.old_role, KUBELET)
    with pytest.raises(RegistryError, match=rf"\(acr\): pull: {KUBELET} may pull too") as caught:
        await differences(azure, pull=[DEV])
    assert "rbac-abac" in caught.value.hint


async def test_an_identity_that_may_not_give_rights(azure: Azure) -> None:
    azure.manager.managers = set()
    (change,) = await differences(azure, pull=[DEV])
    with pytest.raises(AccessRefused, match="AuthorizationFailed"):
        await change.apply()


async def test_a_principal_that_azure_does_not_know(azure: Azure) -> None:
    azure.manager.strangers = {DEV}
    (change,) = await differences(azure, pull=[DEV])
    with pytest.raises(RegistryError, match="PrincipalNotFound") as caught:
        await change.apply()
    assert "object id" in caught.value.hint


async def test_what_changed_since_the_difference_was_shown_is_not_overwritten(azure: Azure) -> None:
    (change,) = await differences(azure, pull=[DEV])
    azure.manager.assign(READER, DEV)  # on all repositories, by somebody else
    with pytest.raises(RegistryError, match="did not write"):
        await change.apply()
    assert conditions(azure, READER) == {DEV: None}


async def test_another_registry_of_that_name(azure: Azure) -> None:
    azure.manager.properties["loginServer"] = "localhost.azurecr.io"
    with pytest.raises(RegistryError, match=r"the registry of that name .* is localhost\.azurecr\.io"):
        await differences(azure, pull=[DEV])


async def test_a_key_that_the_registry_has_is_no_difference(azure: Azure) -> None:
    key = "https://models.vault.azure.net/keys/registry"
    with pytest.raises(RegistryError, match=r"\(acr\): encryption_key: .* a key of Microsoft"):
        await differences(azure, encryption_key=key)
    azure.manager.properties["encryption"] = {
        "status": "enabled",
        "keyVaultProperties": {"keyIdentifier": key},
    }
    assert await differences(azure, encryption_key=key) == ()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"scan_on_push": True}, "scan_on_push"),
        ({"scan_on_push": False}, "scan_on_push"),
        ({"retention": {"keep_last": 5}}, "retention: keep_last"),
        ({"retention": {"untagged_days": 400}}, "retention: untagged_days"),
        ({"pull": ["dev@example.com"]}, "pull"),
    ],
)
async def test_what_this_kind_cannot_do_is_named(azure: Azure, settings: dict[str, object], key: str) -> None:
    with pytest.raises(RegistryError, match=rf"\(acr\): {key}: ") as caught:
        await differences(azure, **settings)
    assert caught.value.hint
    assert azure.manager.log == []


async def test_the_place_in_azure_has_to_be_given(azure: Azure) -> None:
    target = azure.target(acr={})
    with pytest.raises(UsageError) as caught:
        await administration(target, azure.repository(), azure.environ).differences(
            RepositorySettings(pull=(DEV,)), ()
        )
    assert "subscription:" in caught.value.hint
