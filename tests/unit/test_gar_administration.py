"""What `modelport registry apply` does to a repository of Artifact Registry, against a fake of its API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.config_clouds import Kind, RepositorySettings, Retention
from pipelines.config_registries import RegistryTarget
from pipelines.config_values import SecretRef
from pipelines.registries.administration import Change
from pipelines.registries.errors import RegistryError, RepositoryMissing
from pipelines.registries.gar_administration import administration
from pipelines.registries.reference import Repository
from tests.registries.gar import GarFront
from tests.registries.google import Json
from tests.registry_process import RegistryProcess

pytestmark = pytest.mark.anyio
READER, WRITER = "roles/artifactregistry.reader", "roles/artifactregistry.writer"
ALICE, TEAM = "user:alice@example.com", "group:ml@example.com"
PUSHER = "serviceAccount:pusher@demo-project.iam.gserviceaccount.com"
KEY = "projects/demo-project/locations/europe-west1/keyRings/k/cryptoKeys/models"


@pytest.fixture(scope="module")
def front() -> Iterator[GarFront]:
    with GarFront(RegistryProcess("127.0.0.1:1", Path("/nonexistent"), "", "", 0)).running() as running:
        yield running


class Managed:
    """One repository, with what is wanted of it."""

    def __init__(self, front: GarFront, directory: Path) -> None:
        self.front = front
        self.name = front.resource("models")
        # a token that somebody else minted: signing with a key takes longer than all the rest
        login = {"WHO": "oauth2accesstoken", "TOKEN": front.identities.mint("admin")}
        self._environ = front.environ(directory) | login

    @property
    def resource(self) -> Json:
        return self.front.repositories.resources[self.name]

    def bindings(self) -> dict[str, list[str]]:
        found = self.front.repositories.policies[self.name]["bindings"]
        return {binding["role"]: binding["members"] for binding in found}

    def grant(self, *bindings: Json) -> None:
        self.front.repositories.policies[self.name] = {"etag": "first", "version": 1, "bindings": [*bindings]}

    async def differences(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...] = (), package: str = "langid"
    ) -> tuple[Change, ...]:
        address = f"{self.front.host}/demo-project/models"
        login = {"username": SecretRef("env://WHO"), "password": SecretRef("env://TOKEN")}
        target = RegistryTarget(repository=address, kind=Kind.GAR, **login)
        repository = Repository(self.front.host, f"demo-project/models/{package}")
        managed = administration(target, repository, self._environ)
        return await managed.differences(settings, moving_tags)

    async def apply(
        self, settings: RepositorySettings, moving_tags: tuple[str, ...] = (), package: str = "langid"
    ) -> tuple[Change, ...]:
        """Do it all; afterwards there is nothing left to do."""
        changes = await self.differences(settings, moving_tags, package)
        for change in changes:
            await change.apply()
        assert await self.differences(settings, moving_tags, package) == ()
        return changes


@pytest.fixture
def models(front: GarFront, tmp_path: Path) -> Managed:
    front.forget()
    front.repositories.add(front.resource("models"))
    return Managed(front, tmp_path)


def writes(models: Managed) -> list[str]:
    return [path for method, path in models.front.repositories.log if method != "GET"]


async def test_what_is_not_named_is_left_as_it_is(models: Managed) -> None:
    assert await models.differences(RepositorySettings(), ("latest",)) == ()
    assert writes(models) == []


async def test_a_missing_repository_is_made_with_all_that_is_wanted(models: Managed) -> None:
    models.front.repositories.resources.clear()
    settings = RepositorySettings(
        immutable_tags=True,
        encryption_key=KEY,
        scan_on_push=True,
        retention=Retention(untagged_days=7),
        pull=(TEAM,),
    )
    changes = await models.differences(settings)
    assert [change.what for change in changes] == ["repository", "retention", "pull"]
    assert "europe-west1" in changes[0].after
    assert KEY in changes[0].after
    assert writes(models) == [], "the differences only read"
    await models.apply(settings)
    assert models.resource["kmsKeyName"] == KEY
    assert models.resource["dockerConfig"] == {"immutableTags": True}
    assert models.bindings() == {READER: [TEAM]}


async def test_a_missing_repository_that_may_not_be_made(models: Managed) -> None:
    models.front.repositories.resources.clear()
    with pytest.raises(RepositoryMissing, match="create says not"):
        await models.differences(RepositorySettings(create=False, immutable_tags=True))


async def test_tags_are_held_fast(models: Managed) -> None:
    (change,) = await models.apply(RepositorySettings(immutable_tags=True))
    assert (change.what, change.before, change.after, change.widens) == (
        "tag immutability",
        "off",
        "on",
        False,
    )
    assert models.resource["dockerConfig"] == {"immutableTags": True}
    (change,) = await models.apply(RepositorySettings(immutable_tags=False), ("latest",))
    assert change.widens, "whoever pushes may then overwrite a release"


async def test_moving_tags_can_not_be_held_fast(models: Managed) -> None:
    with pytest.raises(
        RegistryError, match=r"settings.immutable_tags.*latest, stable would have to move"
    ) as caught:
        await models.differences(RepositorySettings(immutable_tags=True), ("latest", "stable"))
    assert "gar" in caught.value.message
    assert "moving_tags: []" in caught.value.hint


async def test_the_scan(models: Managed) -> None:
    (change,) = await models.apply(RepositorySettings(scan_on_push=False))
    assert (change.what, change.before, change.after) == ("scan on push", "on", "off")
    assert models.resource["vulnerabilityScanningConfig"] == {"enablementConfig": "DISABLED"}
    await models.apply(RepositorySettings(scan_on_push=True))
    models.resource["vulnerabilityScanningConfig"]["enablementState"] = "SCANNING_DISABLED"
    with pytest.raises(RegistryError, match=r"gar: settings.scan_on_push") as caught:
        await models.differences(RepositorySettings(scan_on_push=True))
    assert "containerscanning.googleapis.com" in caught.value.hint


async def test_a_key_is_never_changed(models: Managed) -> None:
    with pytest.raises(RegistryError, match=r"settings.encryption_key.*a key of Google.*never changes"):
        await models.differences(RepositorySettings(encryption_key=KEY))
    models.resource["kmsKeyName"] = KEY
    assert await models.differences(RepositorySettings(encryption_key=KEY)) == ()


async def test_retention_becomes_cleanup_policies(models: Managed) -> None:
    (change,) = await models.apply(
        RepositorySettings(retention=Retention(untagged_days=14, keep_last=5)), ("stable", "latest", "1.*")
    )
    assert (change.what, change.before) == ("retention", "")
    assert "14 days" in change.removes
    assert "newest 5" in change.removes
    assert "referrers" in change.removes
    only = {"packageNamePrefixes": ["langid"]}
    assert models.resource["cleanupPolicies"] == {
        "modelport-langid-untagged": {
            "id": "modelport-langid-untagged",
            "action": "DELETE",
            "condition": {"tagState": "UNTAGGED", "olderThan": "1209600s", **only},
        },
        "modelport-langid-older": {
            "id": "modelport-langid-older",
            "action": "DELETE",
            "condition": {"tagState": "ANY", **only},
        },
        "modelport-langid-newest": {
            "id": "modelport-langid-newest",
            "action": "KEEP",
            "mostRecentVersions": {"keepCount": 5, **only},
        },
        "modelport-langid-moving": {
            "id": "modelport-langid-moving",
            "action": "KEEP",
            "condition": {"tagState": "TAGGED", "tagPrefixes": ["latest", "stable"], **only},
        },
    }


async def test_other_policies_and_other_models_keep_theirs(models: Managed) -> None:
    foreign = {"id": "ours", "action": "DELETE", "condition": {"tagState": "UNTAGGED", "olderThan": "86400s"}}
    models.resource["cleanupPolicies"] = {"ours": foreign}
    await models.apply(RepositorySettings(retention=Retention(untagged_days=1)), package="langid")
    await models.apply(RepositorySettings(retention=Retention(untagged_days=2)), package="team/langid")
    await models.apply(RepositorySettings(retention=Retention(untagged_days=3)), package="lang.id")
    there = models.resource["cleanupPolicies"]
    assert there["ours"] == foreign
    assert len(there) == 4
    (change,) = await models.apply(RepositorySettings(retention=Retention()), package="langid")
    assert (change.after, change.removes) == ("", "")
    assert len(models.resource["cleanupPolicies"]) == 3


async def test_a_duration_in_the_clouds_spelling_is_the_same(models: Managed) -> None:
    settings = RepositorySettings(retention=Retention(untagged_days=1))
    await models.apply(settings)
    policy = models.resource["cleanupPolicies"]["modelport-langid-untagged"]
    policy["condition"]["olderThan"] = "86400.000s"
    assert await models.differences(settings) == ()


async def test_a_dry_run_of_the_repository_is_told(models: Managed) -> None:
    models.resource["cleanupPolicyDryRun"] = True
    (change,) = await models.apply(RepositorySettings(retention=Retention(untagged_days=1)))
    assert "dry run" in change.after
    assert models.resource["cleanupPolicyDryRun"] is True, "ending it is for whoever began it"


async def test_they_and_nobody_else_may_pull(models: Managed) -> None:
    foreign = {"role": "roles/artifactregistry.admin", "members": [ALICE]}
    models.grant(foreign, {"role": READER, "members": [ALICE, TEAM]})
    (change,) = await models.apply(RepositorySettings(pull=(TEAM,)))
    assert (change.what, change.before, change.after) == ("pull", f"{TEAM}, {ALICE}", TEAM)
    assert not change.widens
    assert models.bindings() == {"roles/artifactregistry.admin": [ALICE], READER: [TEAM]}
    (change,) = await models.apply(RepositorySettings(pull=()))
    assert (change.after, change.widens) == ("", False)
    assert READER not in models.bindings()


async def test_whoever_is_added_widens(models: Managed) -> None:
    models.grant({"role": WRITER, "members": [ALICE]})
    changes = await models.apply(RepositorySettings(pull=("allUsers",), push=(PUSHER,)))
    assert [(change.what, change.widens) for change in changes] == [("pull", True), ("push", True)]
    assert models.bindings() == {READER: ["allUsers"], WRITER: [PUSHER]}


async def test_mail_addresses_are_the_same_in_every_case(models: Managed) -> None:
    models.grant({"role": READER, "members": ["user:Alice@Example.com"]})
    assert await models.differences(RepositorySettings(pull=(ALICE,))) == ()


async def test_a_change_by_somebody_else_in_between_is_not_lost(
    models: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.grant({"role": READER, "members": [ALICE]})
    (change,) = await models.differences(RepositorySettings(pull=(TEAM,)))
    repositories = models.front.repositories
    answered, first = repositories._policy, True

    def meanwhile(name: str, method: str, body: Json) -> object:
        nonlocal first
        if method == "setIamPolicy" and first:
            first = False
            own = {"role": "roles/artifactregistry.repoAdmin", "members": [ALICE]}
            repositories.policies[name] = {"etag": "second", "bindings": [own]}
        return answered(name, method, body)

    monkeypatch.setattr(type(repositories), "_policy", lambda _, *asked: meanwhile(*asked))
    await change.apply()
    assert models.bindings() == {"roles/artifactregistry.repoAdmin": [ALICE], READER: [TEAM]}


async def test_a_grant_under_a_condition_is_not_judged(models: Managed) -> None:
    condition = {"title": "until summer", "expression": "request.time < timestamp('2030-01-01T00:00:00Z')"}
    models.grant({"role": READER, "members": [TEAM], "condition": condition})
    with pytest.raises(RegistryError, match=r"gar: .*condition"):
        await models.differences(RepositorySettings(pull=(TEAM,)))
    assert await models.differences(RepositorySettings(push=())) == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (RepositorySettings(pull=("alice@example.com",)), "settings.pull"),
        (RepositorySettings(push=("arn:aws:iam::123456789012:root",)), "settings.push"),
        (RepositorySettings(push=("allUsers",)), "replace images"),
    ],
)
async def test_what_is_no_principal(settings: RepositorySettings, said: str, models: Managed) -> None:
    with pytest.raises(RegistryError, match=f"gar: .*{said}|{said}"):
        await models.differences(settings)


@pytest.mark.parametrize(
    "principal",
    [
        "serviceAccount:demo.svc.id.goog[ml/serving]",
        "domain:example.com",
        "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/subject/x",
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/*",
        "allAuthenticatedUsers",
    ],
)
async def test_principals(principal: str, models: Managed) -> None:
    await models.apply(RepositorySettings(pull=(principal,)))
    assert models.bindings() == {READER: [principal]}


@pytest.mark.parametrize("other", [{"format": "MAVEN"}, {"mode": "REMOTE_REPOSITORY"}])
async def test_a_repository_that_takes_no_images(other: Json, models: Managed) -> None:
    models.resource.update(other)
    with pytest.raises(RegistryError, match="images can't be pushed"):
        await models.differences(RepositorySettings())
