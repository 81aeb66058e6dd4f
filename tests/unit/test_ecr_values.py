"""ECR without AWS: what a host tells, when a token is minted, what policies mean, what errors say."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore import exceptions as sdk
from registries_fake import FakeRegistry

from pipelines.config_clouds import RepositorySettings, Retention
from pipelines.config_registries import RegistryTarget
from pipelines.errors import ConfigError
from pipelines.registries.aws import EcrAddress
from pipelines.registries.aws_errors import NoCredentials, explained
from pipelines.registries.credentials import Login
from pipelines.registries.ecr import MARGIN, Tokens, registry
from pipelines.registries.ecr_access import (
    ACCESSES,
    foreign_told,
    own,
    principals_of,
    same,
    statements_of,
    told,
    widens,
    with_statements,
)
from pipelines.registries.ecr_policies import (
    Mutability,
    creation,
    lifecycle,
    lifecycle_told,
    protects,
    same_lifecycle,
)
from pipelines.registries.errors import (
    AccessRefused,
    Busy,
    NotFound,
    RegistryError,
    RepositoryMissing,
    ServerFault,
    Unreachable,
)
from pipelines.registries.reference import Repository

pytestmark = pytest.mark.anyio
ACCOUNT = "123456789012"
HOST = f"{ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com"
REPOSITORY = Repository(HOST, "models/langid")
PULL, PUSH = ACCESSES


def target(host: str = HOST, **more: object) -> RegistryTarget:
    return RegistryTarget.model_validate({"repository": f"{host}/models", **more})


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (HOST, EcrAddress(ACCOUNT, "eu-central-1")),
        (
            f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            EcrAddress(ACCOUNT, "us-gov-west-1", fips=True),
        ),
        (f"{ACCOUNT}.dkr-ecr.us-east-1.on.aws", EcrAddress(ACCOUNT, "us-east-1", dual_stack=True)),
        (
            f"{ACCOUNT}.dkr-ecr-fips.us-east-1.on.aws",
            EcrAddress(ACCOUNT, "us-east-1", fips=True, dual_stack=True),
        ),
        (f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn", EcrAddress(ACCOUNT, "cn-north-1")),
    ],
)
def test_the_host_tells_account_region_and_endpoint(host: str, address: EcrAddress) -> None:
    assert EcrAddress.of(target(host)) == address


def test_the_configuration_tells_them_where_the_host_does_not() -> None:
    told_so = target("127.0.0.1:5000", kind="ecr", ecr={"account": ACCOUNT, "region": "eu-west-1"})
    assert EcrAddress.of(told_so) == EcrAddress(ACCOUNT, "eu-west-1")
    assert EcrAddress.of(target("127.0.0.1:5000", kind="ecr")) == EcrAddress("", "")
    with pytest.raises(ConfigError, match=r"ecr\.region says eu-west-1, the host eu-central-1"):
        EcrAddress.of(target(ecr={"region": "eu-west-1"}))
    with pytest.raises(ConfigError, match=r"ecr\.account"):
        registry(target(ecr={"account": "999999999999"}), REPOSITORY, {})


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("", "aws")],
)
def test_the_partition_is_that_of_the_region(region: str, partition: str) -> None:
    assert EcrAddress(ACCOUNT, region).partition == partition


# Tokens


class FakeApi:
    """Answers GetAuthorizationToken as it is told."""

    repository = REPOSITORY

    def __init__(self, ends_in: timedelta = timedelta(hours=12)) -> None:
        self.calls = 0
        self.ends_in = ends_in
        self.error: RegistryError | None = None
        self.token = ""

    async def call(self, operation: str) -> Mapping[str, object]:
        assert operation == "GetAuthorizationToken"
        self.calls += 1
        if self.error:
            raise self.error
        token = self.token or base64.b64encode(f"AWS:token-{self.calls}".encode()).decode()
        data = {"authorizationToken": token, "expiresAt": datetime.now(UTC) + self.ends_in}
        return {"authorizationData": [data]}


def tokens(api: FakeApi, kept: Login | None = None) -> Tokens:
    return Tokens(api, lambda: kept)  # type: ignore[arg-type]


async def test_connections_share_a_token_and_a_refused_one_is_minted_anew() -> None:
    api = FakeApi()
    minted = tokens(api)
    first, second = minted.source(), minted.source()
    assert (await first()).password == (await second()).password == "token-1"
    assert (await first()).password == "token-2", "asked again: the registry refused it"
    assert (await second()).password == "token-2", "refused here too, and another is there already"
    assert api.calls == 2
    assert (await minted.source()()).password == "token-2"


async def test_a_token_kept_from_an_earlier_connection_may_have_ended() -> None:
    api = FakeApi()
    async with FakeRegistry().running() as fake:
        repository = Repository(fake.host, "models/langid")
        kept = registry(target(fake.host, kind="ecr"), repository, {})
        kept = replace(kept, tokens=tokens(api))
        for number in (1, 2):
            fake.basic = Login("AWS", f"token-{number}").basic
            for _ in range(2):
                async with kept.open() as opened:
                    assert await opened.tag_digest("latest") is None
            assert api.calls == number
        fake.basic = Login("AWS", "never").basic
        with pytest.raises(AccessRefused):
            async with kept.open() as opened:
                await opened.tag_digest("latest")
        assert api.calls == 3, "asked once more, and no longer"


@pytest.mark.parametrize("ends_in", [MARGIN - timedelta(seconds=5), timedelta(days=-4000)])
async def test_a_token_that_ends_soon_or_has_ended_is_used_once(ends_in: timedelta) -> None:
    api = FakeApi(ends_in)
    minted = tokens(api)
    assert [(await minted.source()()).password for _ in range(2)] == ["token-1", "token-2"]


async def test_without_aws_credentials_a_docker_login_is_enough() -> None:
    api = FakeApi()
    api.error = NoCredentials("none")
    assert await tokens(api, Login("AWS", "kept")).source()() == Login("AWS", "kept")
    with pytest.raises(NoCredentials):
        await tokens(api).source()()


@pytest.mark.parametrize("token", ["%%%", base64.b64encode(b"no colon").decode(), "AWS:secret-part"])
async def test_a_token_that_cannot_be_read_is_not_told(token: str) -> None:
    api = FakeApi()
    api.token = token
    with pytest.raises(ServerFault, match="no token that can be read") as caught:
        await tokens(api).source()()
    assert token not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_secret_is_in_a_repr() -> None:
    made = registry(target(username="env://U", password="env://P"), REPOSITORY, {"P": "hidden-1"})
    assert "hidden-1" not in repr(made)
    assert made.api is None, "a login of one's own asks nothing of AWS"


# Tags that are held fast


@pytest.mark.parametrize(
    ("before", "after", "looser"),
    [
        (Mutability("MUTABLE"), Mutability("IMMUTABLE"), False),
        (Mutability("IMMUTABLE"), Mutability("MUTABLE"), True),
        (Mutability("IMMUTABLE"), Mutability("IMMUTABLE_WITH_EXCLUSION", ("latest",)), True),
        (
            Mutability("IMMUTABLE_WITH_EXCLUSION", ("a", "b")),
            Mutability("IMMUTABLE_WITH_EXCLUSION", ("a",)),
            False,
        ),
        (
            Mutability("IMMUTABLE_WITH_EXCLUSION", ("a",)),
            Mutability("IMMUTABLE_WITH_EXCLUSION", ("a", "b")),
            True,
        ),
        (Mutability("MUTABLE_WITH_EXCLUSION", ("v*",)), Mutability("MUTABLE"), True),
        (Mutability("MUTABLE_WITH_EXCLUSION", ("v*",)), Mutability("IMMUTABLE"), False),
    ],
)
def test_freeing_a_tag_widens(before: Mutability, after: Mutability, looser: bool) -> None:
    assert after.is_looser_than(before) is looser


def test_moving_tags_are_left_out_and_there_are_not_too_many() -> None:
    wanted = Mutability.wanted(immutable=True, moving_tags=("latest", "b-*", "latest"))
    assert str(wanted) == "IMMUTABLE (except b-*, latest)"
    assert Mutability.of(wanted.parameters) == wanted
    assert Mutability.wanted(immutable=True, moving_tags=()).parameters == {"imageTagMutability": "IMMUTABLE"}
    with pytest.raises(RegistryError, match=r"ecr: settings\.immutable_tags.*at most 5"):
        Mutability.wanted(immutable=True, moving_tags=tuple("abcdef"))


def test_a_new_repository_is_as_the_settings_say_and_no_more() -> None:
    assert creation(RepositorySettings(), ("latest",)) == {}
    settings = RepositorySettings(immutable_tags=True, scan_on_push=True, encryption_key="alias/models")
    assert creation(settings, ("latest",)) == {
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "latest"}],
        "imageScanningConfiguration": {"scanOnPush": True},
        "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/models"},
    }


# Retention


def test_retention_counts_releases_and_keeps_what_moving_tags_name() -> None:
    rules = lifecycle(Retention(untagged_days=14, keep_last=50), ("production", "b-*", "latest"))
    assert [rule["rulePriority"] for rule in rules] == [1, 2, 3, 4]
    assert [protects(rule) for rule in rules] == [True, True, False, False]
    assert rules[0]["selection"] == {
        "tagStatus": "tagged",
        "tagPatternList": ["latest"],
        "countType": "imageCountMoreThan",
        "countNumber": 1,
    }
    assert rules[3]["selection"]["tagPatternList"] == ["*"], "manifests that refer to an image don't count"
    assert lifecycle_told(rules[2:]) == (
        "images without a tag, 14 days since pushed; images with a tag, beyond the newest 50"
    )
    assert lifecycle(Retention(), ("latest",)) == []
    assert len(json.dumps({"rules": lifecycle(Retention(untagged_days=1), ())})) >= 100, "the API's least"


def test_policies_that_do_the_same_are_no_difference() -> None:
    rules = lifecycle(Retention(untagged_days=14, keep_last=50), ("latest",))
    other = [
        {**rule, "rulePriority": rule["rulePriority"] * 10, "description": "by hand"}
        for rule in reversed(rules)
    ]
    assert same_lifecycle(rules, other)
    assert not same_lifecycle(rules, lifecycle(Retention(untagged_days=15, keep_last=50), ("latest",)))
    assert not same_lifecycle(rules, rules[1:])
    swapped = [{**rules[0], "rulePriority": 9}, *rules[1:]]
    assert not same_lifecycle(rules, swapped), "the order counts"


# Who may pull and push

FOREIGN = {
    "Sid": "Theirs",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
    "Action": "ecr:*",
}


def policy(*statements: object) -> str:
    return json.dumps({"Version": "2008-10-17", "Id": "kept", "Statement": statements})


def test_principals_in_the_writing_of_aws() -> None:
    role = "arn:aws:iam::123456789012:role/team/ci"
    found = PULL.statements(["210987654321", role, "lambda.amazonaws.com", "o-abcdefghij"], "aws")
    assert [one["Sid"] for one in found] == ["ModelportPull", "ModelportPullOrganisations"]
    assert found[0]["Principal"] == {
        "AWS": [role, "arn:aws:iam::210987654321:root"],
        "Service": ["lambda.amazonaws.com"],
    }
    assert found[1]["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": ["o-abcdefghij"]}}
    assert PULL.statements(["210987654321"], "aws-cn")[0]["Principal"] == {
        "AWS": ["arn:aws-cn:iam::210987654321:root"]
    }
    assert PULL.statements([], "aws") == []
    for wrong in ("alice", "arn:aws:s3:::bucket", "arn:aws:iam::123456789012:role/*", "12345"):
        with pytest.raises(RegistryError, match=r"ecr: settings\.pull.*is no principal"):
            PULL.statements([wrong], "aws")


def test_only_our_own_statements_are_written() -> None:
    wanted = PULL.statements(["210987654321"], "aws")
    text = with_statements(policy(FOREIGN), PULL, wanted)
    assert json.loads(text)["Id"] == "kept"
    assert statements_of(text) == [FOREIGN, *wanted]
    text = with_statements(text, PUSH, PUSH.statements(["210987654321"], "aws"))
    assert len(statements_of(text)) == 3
    text = with_statements(with_statements(text, PULL, ()), PUSH, ())
    assert statements_of(text) == [FOREIGN]
    assert with_statements(policy(*wanted), PULL, ()) == ""
    assert statements_of(json.dumps({"Statement": FOREIGN})) == [FOREIGN], "one need not stand in a list"
    assert foreign_told([FOREIGN, *wanted]) == '"Theirs" (Allow arn:aws:iam::111111111111:root: ecr:*)'


def test_what_aws_gives_back_is_the_same() -> None:
    wanted = PULL.statements(["210987654321", "o-abcdefghij"], "aws")
    back = [
        {
            **wanted[0],
            "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
            "Action": [*reversed(wanted[0]["Action"])],
        },
        {**wanted[1], "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-abcdefghij"}}},
    ]
    assert same(back, wanted)
    assert not same([{**back[0], "Effect": "Deny"}, back[1]], wanted)
    assert not same([{**back[0], "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, back[1]], wanted)
    assert told(back) == "arn:aws:iam::210987654321:root, organisation o-abcdefghij"


@pytest.mark.parametrize(
    ("before", "after", "wider"),
    [
        ([], ["210987654321"], True),
        (["210987654321"], ["*"], True),
        (["*"], ["210987654321", "lambda.amazonaws.com"], False),
        (["210987654321", "999999999999"], ["210987654321"], False),
        (["o-abcdefghij"], ["o-abcdefghij", "o-klmnopqrst"], True),
        (["*"], ["o-abcdefghij"], False),
        (["o-abcdefghij"], ["*"], True),
        (["210987654321"], [], False),
    ],
)
def test_more_principals_widen_and_fewer_do_not(before: list[str], after: list[str], wider: bool) -> None:
    assert widens(PULL.statements(before, "aws"), PULL.statements(after, "aws")) is wider


def test_a_statement_that_was_narrowed_by_hand_is_widened_again() -> None:
    wanted = PULL.statements(["210987654321"], "aws")
    narrowed = [{**wanted[0], "Action": "ecr:BatchGetImage"}]
    assert widens(narrowed, wanted)
    assert not widens([{**wanted[0], "Action": "ecr:*"}], wanted)
    on_condition = [{**wanted[0], "Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}}]
    assert widens(on_condition, wanted)
    assert "on a condition" in told(on_condition)
    assert own([FOREIGN, *wanted], PULL) == wanted
    assert principals_of({"NotPrincipal": {"AWS": "x"}}) == ["all but x"]


# Errors


def refusal(
    code: str, operation: str = "CreateRepository", message: str = "said", status: int = 400
) -> RegistryError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return explained(sdk.ClientError(answer, operation), REPOSITORY, f"ecr:{operation}")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "kind", "text", "hint"),
    [
        (
            "AccessDeniedException",
            AccessRefused,
            "refuses ecr:CreateRepository: said",
            "ecr:CreateRepository",
        ),
        ("ExpiredTokenException", AccessRefused, "have expired", "new ones"),
        ("UnrecognizedClientException", AccessRefused, "does not take the credentials", "access key"),
        ("RepositoryNotFoundException", RepositoryMissing, "has no repository models/langid", "apply"),
        ("RepositoryPolicyNotFoundException", NotFound, "no such policy", ""),
        ("ThrottlingException", Busy, "less often", "later"),
        ("LimitExceededException", RegistryError, "quota", "raised"),
        ("KmsException", AccessRefused, "key can't be used", "kms:CreateGrant"),
        ("InvalidParameterException", RegistryError, "does not take a value", "settings:"),
        ("ServerException", ServerFault, "AWS's side", "later"),
        ("OptInRequired", AccessRefused, "not enabled this region", "said"),
        ("SomethingNew", RegistryError, "AWS answered SomethingNew", ""),
    ],
)
def test_what_aws_answers_is_told_in_plain_words(
    code: str, kind: type[RegistryError], text: str, hint: str
) -> None:
    error = refusal(code)
    assert type(error) is kind or (kind is RegistryError and isinstance(error, kind))
    assert text in str(error)
    assert HOST in str(error)
    assert hint in error.hint


def test_a_refused_role_names_the_permission_and_the_trust() -> None:
    assert "sts:AssumeRole on the role" in refusal("AccessDenied", "AssumeRole").hint
    assert "trust policy" in refusal("AccessDenied", "AssumeRoleWithWebIdentity").hint


def test_the_text_of_a_refused_signature_is_not_shown() -> None:
    error = refusal("InvalidSignatureException", message="x-amz-security-token:the-token")
    assert "the-token" not in f"{error} {error.hint}"


@pytest.mark.parametrize(
    ("err", "kind", "text"),
    [
        (sdk.NoCredentialsError(), NoCredentials, "there are none"),
        (sdk.PartialCredentialsError(provider="env", cred_var="secret"), AccessRefused, "incomplete"),
        (sdk.ProfileNotFound(profile="nobody"), AccessRefused, "nobody"),
        (
            sdk.CredentialRetrievalError(provider="process", error_msg="hunter2"),
            AccessRefused,
            "provider of AWS",
        ),
        (sdk.NoRegionError(), RegistryError, "which AWS region"),
        (sdk.EndpointConnectionError(endpoint_url="http://x"), Unreachable, "can't be reached"),
        (sdk.ReadTimeoutError(endpoint_url="http://x"), Unreachable, "can't be reached"),
        (sdk.SSLError(endpoint_url="http://x", error="bad"), Unreachable, "can't be reached"),
        (sdk.UnauthorizedSSOTokenError(), AccessRefused, "login has ended"),
        (sdk.ParamValidationError(report="too long"), RegistryError, "too long"),
        (sdk.BotoCoreError(), RegistryError, "SDK failed"),
    ],
)
def test_what_the_sdk_itself_says_is_told_in_plain_words(
    err: Exception, kind: type[RegistryError], text: str
) -> None:
    error = explained(err, REPOSITORY, "ecr:CreateRepository")
    assert isinstance(error, kind)
    assert text in str(error)
    assert "hunter2" not in f"{error} {error.hint}"


def test_a_mistake_of_ours_stays_one() -> None:
    with pytest.raises(KeyError):
        explained(KeyError("x"), REPOSITORY, "ecr:CreateRepository")
