"""Azure Container Registry without Azure: who is chosen, what is asked for, what the page says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.config_clouds import AcrLogin, RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.config_values import SecretRef
from pipelines.errors import UsageError
from pipelines.registries import acr
from pipelines.registries.acr_access import PULL, PUSH, Right, condition, repositories_of
from pipelines.registries.acr_administration import administration
from pipelines.registries.azure_cloud import Cloud
from pipelines.registries.entra import EntraIdentity, Way
from pipelines.registries.errors import AccessRefused
from pipelines.registries.reference import Repository

pytestmark = pytest.mark.anyio
PAGE = (Path(__file__).resolve().parents[2] / "docs/registries/acr.md").read_text("utf-8")
REPOSITORY = Repository("contoso.azurecr.io", "models/langid")
WHO = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t"}


def identity(environ: dict[str, str], **login: str) -> EntraIdentity:
    return EntraIdentity(AcrLogin(**login), Cloud.of(REPOSITORY.host, environ), environ)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    ("environ", "way"),
    [
        ({"AZURE_CLIENT_SECRET": "s", "AZURE_FEDERATED_TOKEN_FILE": "/f"}, Way.SECRET),
        ({"AZURE_CLIENT_CERTIFICATE_PATH": "/c", "ACTIONS_ID_TOKEN_REQUEST_URL": "u"}, Way.CERTIFICATE),
        ({"AZURE_FEDERATED_TOKEN_FILE": "/f", "ACTIONS_ID_TOKEN_REQUEST_URL": "u"}, Way.TOKEN_FILE),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "u", **WHO}, Way.GITHUB),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "u"}, Way.AMBIENT),  # it may be for another cloud
        ({"AZURE_CLIENT_SECRET": ""}, Way.AMBIENT),
    ],
)
def test_the_way_in(environ: dict[str, str], way: Way) -> None:
    assert identity(environ).way is way


def test_the_configuration_comes_before_the_environment() -> None:
    who = identity(WHO, client="own", tenant="mine")
    assert (who.client, who.tenant) == ("own", "mine")
    assert identity({"ACTIONS_ID_TOKEN_REQUEST_URL": "u"}, client="own", tenant="mine").way is Way.GITHUB


@pytest.mark.parametrize(
    ("host", "authority", "manager", "audience"),
    [
        ("a.azurecr.io", "login.microsoftonline.com", "management.azure.com", "Exchange"),
        ("a.azurecr.cn", "login.chinacloudapi.cn", "management.chinacloudapi.cn", "ExchangeChina"),
        ("a.azurecr.us", "login.microsoftonline.us", "management.usgovcloudapi.net", "ExchangeUSGov"),
    ],
)
def test_the_cloud_is_told_by_the_host(host: str, authority: str, manager: str, audience: str) -> None:
    cloud = Cloud.of(host, {})
    assert cloud == Cloud(f"https://{authority}", f"https://{manager}", cloud.audience)
    assert cloud.audience == f"api://AzureADToken{audience}"
    assert cloud.is_microsofts
    own = Cloud.of(host, {"AZURE_AUTHORITY_HOST": "https://entra.example.com"})
    assert (own.authority, own.is_microsofts) == ("https://entra.example.com", False)


async def test_for_whom_has_to_be_said() -> None:
    with pytest.raises(AccessRefused, match="AZURE_CLIENT_SECRET is set, but not for whom") as caught:
        await identity({"AZURE_CLIENT_SECRET": "hidden"}).token(acr.SCOPE)
    assert "AZURE_TENANT_ID" in caught.value.hint
    assert "hidden" not in f"{caught.value!r}{caught.value.hint}"


async def test_a_certificate_that_is_not_there() -> None:
    with pytest.raises(AccessRefused, match="can't be used") as caught:
        await identity({**WHO, "AZURE_CLIENT_CERTIFICATE_PATH": "/nonexistent.pem"}).token(acr.SCOPE)
    assert "AZURE_CLIENT_CERTIFICATE_PATH" in caught.value.hint


async def test_without_azure_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name == "azure" or name.startswith("azure.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "azure", None)
    target = RegistryTarget(repository="contoso.azurecr.io/models")
    logins = acr.logins_of(target, REPOSITORY, WHO | {"AZURE_CLIENT_SECRET": "s"})
    with pytest.raises(AccessRefused, match="azure-identity, which is missing") as caught:
        await logins.source()()
    assert caught.value.hint == "pip install 'modelport[acr]'"
    file = tmp_path / "auth.json"
    file.write_text('{"auths": {"contoso.azurecr.io": {"identitytoken": "t"}}}')
    login = await acr.logins_of(target, REPOSITORY, {"REGISTRY_AUTH_FILE": str(file)}).source()()
    assert login is not None
    assert login.identity_token == "t"


async def test_user_name_and_password_come_first() -> None:
    target = RegistryTarget(
        repository="contoso.azurecr.io/models",
        username=SecretRef("env://WHO"),
        password=SecretRef("env://WORD"),
    )
    environ = WHO | {"AZURE_CLIENT_SECRET": "s", "WHO": "contoso", "WORD": "p"}
    login = await acr.logins_of(target, REPOSITORY, environ).source()()
    assert login is not None
    assert (login.username, login.password) == ("contoso", "p")


def test_a_run_without_azure_does_not_pay_for_its_sdk() -> None:
    code = (
        "import sys\n"
        "import pipelines.cli, pipelines.registries.targets\n"
        "import pipelines.registries.acr, pipelines.registries.acr_administration\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('azure', 'msal', 'requests')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("right", [PULL, PUSH])
def test_a_condition_is_read_back(right: Right) -> None:
    names = {"models/langid", "models/embeddings"}
    assert repositories_of(right, condition(right, names)) == names
    assert repositories_of(right, condition(right, names).replace(" OR ", "\n OR\n ")) == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        condition(PUSH, ["models/langid"]),
        condition(PULL, ["models/langid"]).replace("StringEquals", "StringStartsWith"),
        condition(PULL, ["models/langid"]).replace("content/read", "content/write"),
        f"{condition(PULL, ['models/langid'])} OR (1 Equals 1)",
    ],
)
def test_a_condition_of_another_kind_is_not_taken_for_ours(text: str) -> None:
    assert repositories_of(PULL, text) is None


async def test_the_resource_manager_is_only_spoken_to_over_tls() -> None:
    target = RegistryTarget(
        repository="contoso.azurecr.io/models", acr=AcrLogin(subscription="s", resource_group="g")
    )
    environ = {"AZURE_RESOURCE_MANAGER_ENDPOINT": "http://localhost:1"}
    manager = administration(target, REPOSITORY, environ)
    with pytest.raises(UsageError, match="https://"):
        await manager.differences(RepositorySettings(pull=()), ())


# The page


def test_the_configuration_of_the_page_is_valid() -> None:
    (entry,) = yaml.safe_load(blocks("yaml")[0])["registries"]
    target = RegistryTarget.model_validate(entry)
    assert target.registry_kind == "acr"
    assert target.settings.pull


def test_the_role_of_the_page_is_what_administration_needs() -> None:
    (role,) = (json.loads(text) for text in blocks("json"))
    assert set(role) >= {"Name", "IsCustom", "Description", "Actions", "DataActions", "AssignableScopes"}
    wanted = ("Microsoft.ContainerRegistry/registries/", "Microsoft.Authorization/roleAssignments/")
    assert all(action.startswith(wanted) for action in (*role["Actions"], *role["DataActions"]))
    assert not any(
        "content" in action or "*" in action for action in (*role["Actions"], *role["DataActions"])
    )


def test_the_condition_of_the_page_is_one_that_is_understood() -> None:
    (text,) = blocks("text")
    assert repositories_of(PUSH, text) == {"models/langid"}


def test_the_settings_of_the_page_are_all_there_are() -> None:
    table = PAGE.split("## What the settings do here")[1].split("\n## ")[0]
    listed = {key.partition(":")[0] for key in re.findall(r"`([a-z_]+(?:: [a-z_]+)?)`", table)}
    assert set(RepositorySettings.model_fields) <= listed


def test_the_errors_of_the_page_are_those_of_the_program() -> None:
    sources = "".join(
        (Path(__file__).resolve().parents[2] / f"pipelines/registries/{name}.py").read_text("utf-8")
        for name in ("acr", "entra", "acr_administration", "resource_manager", "reasons", "auth")
    )
    rows = PAGE.split("## Errors, and what to do")[1]
    for text in re.findall(r"^\| `([^`]+)`", rows, re.MULTILINE):
        words = re.sub(r" (models/langid|\(401\)|write)", "", text)
        assert words in sources or words == "AuthorizationFailed", text
