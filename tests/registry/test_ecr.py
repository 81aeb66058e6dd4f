"""ECR's control plane as moto has it: logins, repositories, and `modelport registry apply`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import boto3
import pytest
import yaml
from botocore.client import BaseClient
from moto_process import Moto, running_moto
from registries_fake import FakeRegistry

from pipelines.config_clouds import RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.registries.aws_errors import NoCredentials
from pipelines.registries.credentials import Login
from pipelines.registries.ecr import EcrRegistry, registry
from pipelines.registries.ecr_access import ACCESSES, PULL, PUSH
from pipelines.registries.ecr_policies import MOST_FILTERS
from pipelines.registries.errors import AccessRefused, RegistryError, Unreachable
from pipelines.registries.targets import repository_of
from pipelines.registry_apply import NothingApplied, RepositoryChanges, apply, registry_changes

pytestmark = [pytest.mark.anyio, pytest.mark.registry]
ACCOUNT, OTHER = "123456789012", "210987654321"
REGION = "eu-central-1"
HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
NAME = "models/langid"
FOREIGN = {
    "Sid": "Theirs",
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/theirs"},
    "Action": ["ecr:DescribeImages"],
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with running_moto(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def moto(process: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """An account without anything in it; the SDK of this process knows nothing else."""
    process.reset()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in process.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return process


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every operation that the SDK is asked for from now on, with its parameters."""
    found: list[tuple[str, dict[str, Any]]] = []
    original = BaseClient._make_api_call

    def recorded(self: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        found.append((operation, parameters))
        return original(self, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", recorded)
    return found


def target(host: str = HOST, **more: object) -> RegistryTarget:
    return RegistryTarget.model_validate({"repository": f"{host}/models", **more})


def adapter(wanted: RegistryTarget, moto: Moto, **more: Any) -> EcrRegistry:
    return registry(wanted, repository_of(wanted, "langid"), moto.environment(Path()), **more)


@cache
def aws(service: str = "ecr", region: str = REGION) -> Any:
    """A client of the test's own: what is really there."""
    return boto3.client(service, region_name=region)


def described(client: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = (client or aws()).describe_repositories(repositoryNames=[NAME])["repositories"][0]
    return found


# Logins


async def test_the_token_of_aws_opens_the_registry(moto: Moto, calls: list[Any]) -> None:
    async with FakeRegistry().running() as fake:
        fake.basic = Login("AWS", f"{ACCOUNT}-auth-token").basic  # as moto has it
        wanted = target(fake.host, kind="ecr", ecr={"account": ACCOUNT, "region": REGION})
        async with adapter(wanted, moto).open() as opened:
            assert await opened.tags() == ()
            assert await opened.tag_digest("latest") is None
    assert [name for name, _ in calls] == ["GetAuthorizationToken"]


async def test_a_password_of_ones_own_asks_nothing_of_aws(
    moto: Moto, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeRegistry().running() as fake:
        fake.basic = Login("AWS", "given").basic
        wanted = target(fake.host, kind="ecr", username="cmd://echo AWS", password="cmd://echo given")
        own = adapter(wanted, moto)
        async with own.open() as opened:
            assert await opened.tags() == ()
        assert await own.repository_exists() is None
        assert await own.make_repository() is False
    assert calls == []


async def test_several_accounts_regions_and_roles_at_once(moto: Moto, calls: list[Any]) -> None:
    role = {"role": f"arn:aws:iam::{OTHER}:role/modelport-push", "external_id": "from-us"}
    targets = [
        target(),
        target(f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"),
        target(f"{OTHER}.dkr.ecr.{REGION}.amazonaws.com", ecr=role),
    ]
    made: list[bool] = []

    async def make(one: RegistryTarget) -> None:
        made.append(await adapter(one, moto).make_repository())

    async with anyio.create_task_group() as tasks:
        for one in targets:
            tasks.start_soon(make, one)
    assert made == [True, True, True]
    assert described()["repositoryArn"] == f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{NAME}"
    assert described(aws(region="us-east-1"))["registryId"] == ACCOUNT
    assumed = [parameters for name, parameters in calls if name == "AssumeRole"]
    assert assumed == [
        {
            "RoleArn": role["role"],
            "RoleSessionName": "modelport-models.langid",
            "ExternalId": "from-us",
        }
    ]
    key = aws("sts").assume_role(RoleArn=role["role"], RoleSessionName="test")["Credentials"]
    there = boto3.client(
        "ecr",
        region_name=REGION,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        aws_session_token=key["SessionToken"],
    )
    assert described(there)["registryId"] == OTHER
    minted = [await adapter(one, moto).tokens.source()() for one in (targets[0], targets[2])]
    assert [login.password for login in minted if login] == [f"{ACCOUNT}-auth-token", f"{OTHER}-auth-token"]


async def test_an_assumed_role_is_assumed_again_before_it_ends(
    moto: Moto, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = BaseClient._make_api_call

    def ends_soon(self: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        answer = recorded(self, operation, parameters)
        if operation == "AssumeRole":
            answer["Credentials"]["Expiration"] = datetime.now(UTC) + timedelta(minutes=2)
        return answer

    monkeypatch.setattr(BaseClient, "_make_api_call", ends_soon)
    wanted = target(ecr={"role": f"arn:aws:iam::{ACCOUNT}:role/modelport-push"})
    one = adapter(wanted, moto)
    assert await one.repository_exists() is False
    assert await one.repository_exists() is False
    assert [name for name, _ in calls].count("AssumeRole") >= 2


async def test_a_profile_and_a_web_identity_are_taken(
    moto: Moto, calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aws-config").write_text(
        "[profile push]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n"
    )
    assert await adapter(target(ecr={"profile": "push"}), moto).repository_exists() is False
    with pytest.raises(AccessRefused, match="nobody"):
        await adapter(target(ecr={"profile": "nobody"}), moto).repository_exists()
    (tmp_path / "token").write_text("a.b.c")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{OTHER}:role/from-ci")
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "build-7")
    login = await adapter(target(), moto).tokens.source()()
    assert login == Login("AWS", f"{OTHER}-auth-token")
    asked = [parameters for name, parameters in calls if name == "AssumeRoleWithWebIdentity"]
    assert [(one["WebIdentityToken"], one["RoleSessionName"]) for one in asked] == [("a.b.c", "build-7")]


async def test_without_credentials_the_error_is_plain_and_soon(
    moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for wanted in (target(), target(ecr={"role": f"arn:aws:iam::{ACCOUNT}:role/x"})):
        with pytest.raises(NoCredentials, match="wants AWS credentials and there are none") as caught:
            await adapter(wanted, moto).repository_exists()
        assert "docs/registries/ecr.md" in caught.value.hint
    auth = tmp_path / "auth.json"
    auth.write_text(json.dumps({"auths": {HOST: {"username": "AWS", "password": "docker"}}}))
    logged_in = registry(
        target(), repository_of(target(), "langid"), {"REGISTRY_AUTH_FILE": str(auth), "HOME": str(tmp_path)}
    )
    assert await logged_in.tokens.source()() == Login("AWS", "docker")
    assert await logged_in.repository_exists() is None
    assert await logged_in.make_repository() is False


async def test_no_region_and_nobody_there(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = target("127.0.0.1:5000", kind="ecr")
    with pytest.raises(RegistryError, match="which AWS region"):
        await adapter(nowhere, moto).repository_exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="can't be reached"):
        await adapter(target(), moto).repository_exists()
    assert time.monotonic() - begun < 30


# Repositories before a push


async def test_a_repository_is_made_once_as_the_settings_say(moto: Moto) -> None:
    settings = {"immutable_tags": True, "scan_on_push": True, "encryption_key": "alias/models"}
    one = adapter(target(settings=settings), moto, moving_tags=("latest",))
    assert await one.repository_exists() is False
    assert await one.make_repository() is True
    assert await one.repository_exists() is True
    assert await one.make_repository() is False
    found = described()
    assert found["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
    assert found["imageTagMutabilityExclusionFilters"] == [{"filterType": "WILDCARD", "filter": "latest"}]
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert found["encryptionConfiguration"]["encryptionType"] == "KMS"


async def test_a_repository_is_not_made_where_the_settings_say_so(moto: Moto, calls: list[Any]) -> None:
    assert await adapter(target(settings={"create": False}), moto).make_repository() is False
    assert "CreateRepository" not in [name for name, _ in calls]


async def test_somebody_else_was_quicker(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    one = adapter(target(), moto)
    aws().create_repository(repositoryName=NAME)

    async def not_there(self: EcrRegistry) -> bool:
        return False

    monkeypatch.setattr(EcrRegistry, "repository_exists", not_there)
    assert await one.make_repository() is False


# modelport registry apply


def model(tmp_path: Path, settings: Mapping[str, object], **more: object) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    file = tmp_path / "modelport.yaml"
    registries = [{"repository": f"{HOST}/models", "settings": settings}]
    file.write_text(yaml.safe_dump({"name": "langid", "registries": registries, **more}))
    return file


async def difference(file: Path, moto: Moto) -> RepositoryChanges:
    (one,) = await registry_changes(file, moto.environment(file.parent))
    return one


async def test_apply_makes_it_so_and_then_there_is_nothing_to_do(moto: Moto, tmp_path: Path) -> None:
    settings = {
        "immutable_tags": True,
        "scan_on_push": True,
        "retention": {"untagged_days": 14, "keep_last": 50},
        "pull": [OTHER, "lambda.amazonaws.com", "o-abcdefghij"],
        "push": [f"arn:aws:iam::{ACCOUNT}:role/ci"],
    }
    file = model(tmp_path, settings)
    found = await difference(file, moto)
    assert found.told() == (
        f"{HOST}/models/langid (ecr)\n"
        "  + repository: made, tags IMMUTABLE (except latest), scan on push on\n"
        "  + retention: never what latest names; images without a tag, 14 days since pushed; "
        "images with a tag, beyond the newest 50\n"
        "    ! may delete images without a tag, 14 days since pushed; "
        "images with a tag, beyond the newest 50\n"
        f"  + pull: arn:aws:iam::{OTHER}:root, lambda.amazonaws.com, organisation o-abcdefghij\n"
        "    ! widens access\n"
        f"  + push: arn:aws:iam::{ACCOUNT}:role/ci\n"
        "    ! widens access"
    )
    with pytest.raises(aws().exceptions.RepositoryNotFoundException):
        described()
    (done,) = await apply([found], widen=True)
    assert [change.what for change in done.made] == ["repository", "retention", "pull", "push"]
    again = await difference(file, moto)
    assert again.changes == ()
    assert again.told().endswith("as it should be")


async def test_a_repository_that_is_there_is_brought_over(moto: Moto, tmp_path: Path) -> None:
    aws().create_repository(repositoryName=NAME)
    settings = {"immutable_tags": True, "scan_on_push": True}
    file = model(
        tmp_path,
        settings,
        environments={"production": {"registries": [f"{HOST}/models"], "moving_tags": ["production"]}},
    )
    found = await difference(file, moto)
    assert [(one.what, one.before, one.after, one.widens) for one in found.changes] == [
        ("tag immutability", "MUTABLE", "IMMUTABLE (except latest, production)", False),
        ("scan on push", "off", "on", False),
    ]
    await apply([found], widen=False)
    assert (await difference(file, moto)).changes == ()
    assert described()["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
    (freed,) = (await difference(model(tmp_path, {"immutable_tags": False}), moto)).changes
    assert (freed.after, freed.widens) == ("MUTABLE", True)
    await freed.apply()
    assert described()["imageTagMutability"] == "MUTABLE"


async def test_what_others_granted_is_kept_and_shown(moto: Moto, tmp_path: Path) -> None:
    aws().create_repository(repositoryName=NAME)
    theirs = json.dumps({"Version": "2012-10-17", "Statement": [FOREIGN]})
    aws().set_repository_policy(repositoryName=NAME, policyText=theirs)

    async def brought_to(**settings: object) -> RepositoryChanges:
        found = await difference(model(tmp_path, settings), moto)
        await apply([found], widen=True)
        assert (await difference(model(tmp_path, settings), moto)).changes == ()
        return found

    def statements() -> list[Any]:
        found: list[Any] = json.loads(aws().get_repository_policy(repositoryName=NAME)["policyText"])[
            "Statement"
        ]
        return found

    (pull,) = (await brought_to(pull=[OTHER, ACCOUNT])).changes
    assert pull.widens
    assert '"Theirs"' in pull.after
    assert "role/theirs: ecr:DescribeImages" in pull.after
    assert statements()[0] == FOREIGN
    (narrower,) = (await brought_to(pull=[OTHER])).changes
    assert not narrower.widens
    assert f"arn:aws:iam::{ACCOUNT}:root" in narrower.before
    (everybody,) = (await brought_to(pull=["*"])).changes
    assert everybody.widens
    assert [one["Sid"] for one in statements()] == ["Theirs", "ModelportPull"]
    await brought_to(pull=[])
    assert statements() == [FOREIGN]
    aws().delete_repository_policy(repositoryName=NAME)
    await brought_to(push=[OTHER])
    (gone,) = (await brought_to(push=[])).changes
    assert gone.after == ""
    with pytest.raises(aws().exceptions.RepositoryPolicyNotFoundException):
        statements()


async def test_retention_takes_the_place_of_what_was_there(moto: Moto, tmp_path: Path) -> None:
    aws().create_repository(repositoryName=NAME)
    rule = {
        "rulePriority": 1,
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 3},
        "action": {"type": "expire"},
    }
    aws().put_lifecycle_policy(repositoryName=NAME, lifecyclePolicyText=json.dumps({"rules": [rule]}))
    assert (await difference(model(tmp_path, {}), moto)).changes == (), "not named: left as it is"
    found = await difference(model(tmp_path, {"retention": {"untagged_days": 7}}), moto)
    (change,) = found.changes
    assert change.before == "any image, beyond the newest 3"
    assert change.removes == "images without a tag, 7 days since pushed"
    await apply([found], widen=False)
    assert (await difference(model(tmp_path, {"retention": {"untagged_days": 7}}), moto)).changes == ()
    found = await difference(model(tmp_path, {"retention": {}}), moto)
    assert (found.changes[0].after, found.changes[0].removes) == ("", "")
    await apply([found], widen=False)
    with pytest.raises(aws().exceptions.LifecyclePolicyNotFoundException):
        aws().get_lifecycle_policy(repositoryName=NAME)


async def test_encryption_cannot_be_changed_and_nothing_is_made_anew(moto: Moto, tmp_path: Path) -> None:
    aws().create_repository(repositoryName=NAME)
    file = model(tmp_path, {"encryption_key": "alias/models"})
    found = await difference(file, moto)
    assert "settings.encryption_key" in str(found.problem)
    assert "AES256" in str(found.problem)
    with pytest.raises(NothingApplied, match=r"settings\.encryption_key"):
        await apply([found], widen=True)
    key = aws("kms").create_key()["KeyMetadata"]
    aws("kms").create_alias(AliasName="alias/models", TargetKeyId=key["KeyId"])
    aws().delete_repository(repositoryName=NAME)
    encryption = {"encryptionType": "KMS", "kmsKey": key["Arn"]}
    aws().create_repository(repositoryName=NAME, encryptionConfiguration=encryption)
    for same in ("alias/models", key["Arn"], key["KeyId"]):
        assert (
            (await difference(model(tmp_path, {"encryption_key": same}), moto)).told().endswith("should be")
        )
    aws("kms").create_alias(
        AliasName="alias/other", TargetKeyId=aws("kms").create_key()["KeyMetadata"]["KeyId"]
    )
    other = await difference(model(tmp_path, {"encryption_key": "alias/other"}), moto)
    assert key["Arn"] in str(other.problem)


async def test_what_ecr_cannot_do_is_an_error_that_names_the_key(moto: Moto, tmp_path: Path) -> None:
    many = [f"moving-{number}" for number in range(MOST_FILTERS + 1)]
    found = await difference(model(tmp_path, {"immutable_tags": True}, moving_tags=many), moto)
    assert "ecr: settings.immutable_tags" in str(found.problem)
    found = await difference(model(tmp_path, {"create": False}), moto)
    assert "settings.create" in str(found.problem)
    found = await difference(model(tmp_path, {"pull": ["alice"]}), moto)
    assert "ecr: settings.pull" in str(found.problem)


# The policies of docs/registries/ecr.md

DATA_PLANE = {
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:ListImages",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
}
"""What the registry itself asks of whoever pushes and reads back: no call of the SDK's."""
DOCS = Path(__file__).resolve().parents[2] / "docs/registries/ecr.md"


def documented(kind: str) -> dict[str, Any]:
    """The JSON blocks of one kind, by name."""
    blocks = re.findall(rf"^```json {kind}=(\w+)\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    return {name: json.loads(text) for name, text in blocks}


def allowed(name: str, service: str = "ecr:") -> set[str]:
    actions: set[str] = set()
    for statement in documented("policy")[name]["Statement"]:
        assert statement["Effect"] == "Allow"
        found = statement["Action"]
        actions |= {found} if isinstance(found, str) else set(found)
    assert not any("*" in action for action in actions)
    return {action for action in actions if action.startswith(service)}


def asked(calls: list[tuple[str, dict[str, Any]]]) -> set[str]:
    return {f"ecr:{name}" for name, _ in calls}


async def test_the_documented_policies_for_a_push_allow_just_what_is_asked(
    moto: Moto, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    one = adapter(target(settings={"scan_on_push": True}), moto)
    assert await one.repository_exists() is False
    assert await one.make_repository() is True
    assert await one.tokens.source()() is not None
    assert asked(calls) | DATA_PLANE == allowed("push") | allowed("create")
    assert allowed("create") == {"ecr:CreateRepository"}
    assert set(PUSH) | {"ecr:GetAuthorizationToken"} == allowed("push")
    assert set(PULL) | {"ecr:GetAuthorizationToken", "ecr:ListImages"} == allowed("pull")


async def test_the_documented_policy_for_apply_allows_just_what_is_asked(
    moto: Moto, calls: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    everything: list[dict[str, object]] = [
        {"retention": {"keep_last": 5}, "pull": [OTHER]},
        {"immutable_tags": True, "scan_on_push": True, "retention": {}, "pull": []},
    ]
    for settings in everything:
        await apply([await difference(model(tmp_path, settings), moto)], widen=True)
    assert asked(calls) == allowed("apply")
    assert "kms:DescribeKey" in allowed("apply", "kms:")


def test_the_documented_trust_policies_name_who_may() -> None:
    found = documented("trust")
    assert set(found) == {"github", "circleci", "jenkins", "eks", "account"}
    for name, policy in found.items():
        (statement,) = policy["Statement"]
        assert statement["Condition"], name
        assert "*" not in json.dumps(statement["Principal"])
        if "Federated" in statement["Principal"]:
            provider = statement["Principal"]["Federated"].partition("oidc-provider/")[2]
            keys = {key for test in statement["Condition"].values() for key in test}
            assert keys == {f"{provider}:aud", f"{provider}:sub"}


def test_the_documented_configuration_is_one() -> None:
    (text,) = re.findall(r"^```yaml\n(registries:.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    (entry,) = yaml.safe_load(text)["registries"]
    one = RegistryTarget.model_validate(entry)
    assert one.registry_kind == "ecr"
    assert set(entry["settings"]) == set(RepositorySettings.model_fields), "every key is shown"
    for access, principals in zip(ACCESSES, (one.settings.pull, one.settings.push), strict=True):
        assert access.statements(principals or (), "aws")
