"""Azure Container Registry: each way in, over TLS, with azure-identity itself and a real registry behind."""

from __future__ import annotations

import sys
from pathlib import Path

import jwt
import pytest
from acr_fixtures import SECRET, Azure, authority, azure
from images import names, release_image

from pipelines.config_clouds import AcrLogin
from pipelines.config_values import SecretRef
from pipelines.receipt import State
from pipelines.registries.acr import AcrRegistry, EntraLogins, registry
from pipelines.registries.auth import Authenticator, Challenge
from pipelines.registries.azure_cloud import Cloud
from pipelines.registries.entra import EntraIdentity
from pipelines.registries.errors import AccessRefused, ServerFault, TagRefused
from pipelines.registries.retries import Retries
from pipelines.registries.transport import new_http_client
from pipelines.stages.push import push
from tests.registries.authority import PEM, private_text, rsa_key, self_signed
from tests.registries.entra import TENANT

__all__ = ["authority", "azure"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]
PATH = "models/langid"


async def tags(of: AcrRegistry) -> tuple[str, ...]:
    async with of.open() as opened:
        await opened.check_write()
        return await opened.tags()


async def test_a_push_and_a_rerun(azure: Azure, tmp_path: Path) -> None:
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path / "a", wanted)
    own = azure.registry()
    assert await own.repository_exists() is None
    receipt = await push(release, wanted, [own])
    assert receipt.deliveries[0].state is State.PUSHED
    assert azure.behind.tag_digest(PATH, "latest") == release.digest
    assert await own.repository_exists() is True
    assert await own.make_repository() is False
    assert (await push(release, wanted, [azure.registry()])).deliveries[0].state is State.UNCHANGED
    assert azure.tokens.entra.log == ["secret", "secret"]  # one for each run


async def test_the_refresh_token_is_kept_for_the_next_connection(azure: Azure) -> None:
    own = azure.registry(read_only=True)
    for _ in range(3):
        async with own.open() as opened:
            assert await opened.tags() == ()
    assert azure.tokens.log.count("POST /oauth2/exchange") == 1
    assert azure.tokens.log.count("POST /oauth2/token") == 3


async def test_a_kept_token_that_is_no_longer_taken_is_minted_anew(azure: Azure) -> None:
    own = azure.registry(read_only=True)
    async with own.open() as opened:
        await opened.tags()
    azure.tokens.revoked.update(azure.tokens.refresh_tokens)
    async with own.open() as opened:
        assert await opened.tags() == ()
    assert len(azure.tokens.refresh_tokens) == 2


async def test_a_token_that_is_about_to_end_is_not_kept(azure: Azure) -> None:
    azure.tokens.refresh_s = 60
    own = azure.registry(read_only=True)
    for _ in range(2):
        async with own.open() as opened:
            await opened.tags()
    assert len(azure.tokens.refresh_tokens) == 2
    assert azure.tokens.entra.log == ["secret"]


async def test_an_access_token_ends_in_the_middle_of_a_run(azure: Azure) -> None:
    azure.tokens.access_s = -120  # the registry lets clocks differ by a minute
    own = azure.registry(read_only=True)
    async with own.open() as opened:
        with pytest.raises(AccessRefused):
            await opened.tags()
        azure.tokens.access_s = 3600
        assert await opened.tags() == ()


async def test_a_certificate(azure: Azure, tmp_path: Path) -> None:
    key = rsa_key("pipeline")
    certificate = self_signed(key, "pipeline")
    application = azure.tokens.entra.add(certificate=certificate)
    (tmp_path / "pipeline.pem").write_bytes(private_text(key) + certificate.public_bytes(PEM))
    environ = azure.tokens.entra.environ(application)
    environ["AZURE_CLIENT_CERTIFICATE_PATH"] = str(tmp_path / "pipeline.pem")
    assert await tags(azure.registry(environ)) == ()
    assert azure.tokens.entra.log == ["certificate"]


async def test_a_federated_token_file_is_read_when_it_is_needed(azure: Azure, tmp_path: Path) -> None:
    subject = "org/ORG/project/PROJECT/user/USER"
    application = azure.tokens.entra.add(subject=subject)
    file = tmp_path / "token"
    environ = azure.tokens.entra.environ(application) | {"AZURE_FEDERATED_TOKEN_FILE": str(file)}
    own = azure.registry(environ)
    file.write_text(azure.tokens.entra.ci_token(subject))
    assert await tags(own) == ()
    assert azure.tokens.entra.log == ["federated"]


async def test_github_is_asked_for_its_token(azure: Azure) -> None:
    subject = "repo:example/models:ref:refs/heads/main"
    entra = azure.tokens.entra
    application = entra.add(subject=subject)
    environ = entra.environ(application) | {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{entra.url}/github/token?subject={subject}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": entra.header,
    }
    assert await tags(azure.registry(environ)) == ()
    assert entra.log == ["github", "federated"]
    environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = "wrong"
    with pytest.raises(AccessRefused, match="gave no OIDC token") as caught:
        await tags(azure.registry(environ))
    assert "id-token: write" in caught.value.hint


async def test_another_branch_than_the_federated_one(azure: Azure, tmp_path: Path) -> None:
    application = azure.tokens.entra.add(subject="repo:example/models:ref:refs/heads/main")
    (tmp_path / "token").write_text(azure.tokens.entra.ci_token("repo:example/models:pull_request"))
    environ = azure.tokens.entra.environ(application)
    environ["AZURE_FEDERATED_TOKEN_FILE"] = str(tmp_path / "token")
    with pytest.raises(AccessRefused, match="AADSTS700213") as caught:
        await tags(azure.registry(environ))
    assert "another branch" in caught.value.hint
    assert "Trace ID" not in str(caught.value)


async def test_the_managed_identity_of_an_app_service(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    entra = azure.tokens.entra
    entra.managed = entra.add()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{entra.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", entra.header)
    acr = {"client": entra.managed.client}
    assert await tags(azure.registry({}, acr=acr)) == ()
    assert entra.log == ["managed"]


async def test_the_managed_identity_of_a_virtual_machine(azure: Azure) -> None:
    entra = azure.tokens.entra
    entra.managed = entra.add()
    assert await tags(azure.registry({})) == ()
    assert set(entra.log) == {"managed"}


async def test_the_azure_cli(azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entra = azure.tokens.entra
    token = entra.access_token(azure.pipeline, "https://containerregistry.azure.net")
    program = tmp_path / "bin/az"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "assert sys.argv[1:3] == ['account', 'get-access-token'], sys.argv\n"
        "assert sys.argv[sys.argv.index('--resource') + 1] == 'https://containerregistry.azure.net'\n"
        f"print(json.dumps({{'accessToken': {token!r}, 'expires_on': 4102444800, 'tenant': 't'}}))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert await tags(azure.registry({})) == ()


async def test_nobody_at_all(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(AccessRefused, match="no Azure identity was found") as caught:
        await tags(azure.registry({}))
    assert "az login" in caught.value.hint
    assert "Azure CLI not found" in str(caught.value)
    assert azure.tokens.log == []


async def test_what_az_acr_login_left(azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    token = azure.tokens.refresh_token(azure.pipeline.principal)
    file = tmp_path / "auth.json"
    file.write_text(f'{{"auths": {{"{azure.tokens.host}": {{"identitytoken": "{token}"}}}}}}')
    assert await tags(azure.registry({"REGISTRY_AUTH_FILE": str(file)})) == ()
    assert azure.tokens.log.count("POST /oauth2/exchange") == 0


@pytest.mark.parametrize("who", ["admin", "application"])
async def test_a_user_name_and_password(azure: Azure, who: str) -> None:
    azure.tokens.users["models"] = "p" * 32
    user, password = ("models", "p" * 32) if who == "admin" else (azure.pipeline.client, SECRET)
    environ = azure.environ | {"REGISTRY_USER": user, "REGISTRY_PASSWORD": password}
    login = {"username": SecretRef("env://REGISTRY_USER"), "password": SecretRef("env://REGISTRY_PASSWORD")}
    assert await tags(azure.registry(environ, **login)) == ()
    assert azure.tokens.entra.log == []  # they come before the Entra identity
    assert set(azure.tokens.log) == {"GET /oauth2/token"}


async def test_a_wrong_secret(azure: Azure) -> None:
    environ = azure.environ | {"AZURE_CLIENT_SECRET": "an-id-instead"}
    with pytest.raises(AccessRefused, match="AADSTS7000215") as caught:
        await tags(azure.registry(environ))
    assert "not its id" in caught.value.hint
    assert "an-id-instead" not in f"{caught.value!r} {caught.value} {caught.value.hint}"


async def test_an_identity_without_a_role(azure: Azure) -> None:
    azure.tokens.rights[azure.pipeline.principal] = frozenset()
    with pytest.raises(AccessRefused, match=f"gets no token for {PATH}"):
        await tags(azure.registry())


async def test_an_identity_that_may_only_pull(azure: Azure) -> None:
    azure.tokens.rights[azure.pipeline.principal] = frozenset({"pull"})
    async with azure.registry().open() as opened:
        assert await opened.tags() == ()
        with pytest.raises(AccessRefused):
            await opened.check_write()


async def test_what_it_may_never_do_is_asked_for_only_once(azure: Azure) -> None:
    """The registry behind wants the right to delete for the end of an upload; that must spoil nothing."""
    azure.tokens.is_strict = True
    azure.tokens.rights[azure.pipeline.principal] = frozenset({"pull", "push"})
    async with azure.registry().open() as opened:
        await opened.check_write()
    asks = f'Bearer realm="https://{azure.tokens.host}/oauth2/token",service="{azure.tokens.host}"'
    more = Challenge.parse(f'{asks},scope="repository:{PATH}:delete"')
    authenticator = Authenticator(azure.repository(), azure.registry().logins.source())
    async with new_http_client(azure.repository()) as http:
        with pytest.raises(AccessRefused):
            await authenticator.renew(http, more, refused=None)
        await authenticator.renew(http, Challenge.parse(asks), refused=None)
    assert authenticator.header is not None


async def test_more_rights_need_no_other_login(azure: Azure) -> None:
    assert await tags(azure.registry()) == ()
    assert azure.tokens.log.count("POST /oauth2/exchange") == 1


async def test_a_blob_is_mounted_from_another_repository(azure: Azure, tmp_path: Path) -> None:
    wanted = names("1.0.0")
    release = release_image(tmp_path, wanted)
    await push(release, wanted, [azure.registry()])
    other = registry(azure.target(), azure.repository("embeddings"), azure.environ)
    blob = release.image.blobs[0]
    async with other.open() as opened:
        assert await opened.mount_blob(blob, PATH)
        assert await opened.has_blob(blob)


async def test_a_registry_of_another_tenant(azure: Azure) -> None:
    azure.tokens.audiences = {"https://another.example.com"}
    with pytest.raises(AccessRefused, match="does not take the Entra login") as caught:
        await tags(azure.registry())
    assert "tenant" in caught.value.hint


async def test_an_exchange_that_is_busy(azure: Azure) -> None:
    azure.tokens.faults = [503, 429]
    assert await tags(azure.registry(read_only=True)) == ()


async def test_an_exchange_that_fails_for_long(azure: Azure) -> None:
    azure.tokens.faults = [500] * 9
    identity = EntraIdentity(AcrLogin(), Cloud.of(azure.tokens.host, azure.environ), azure.environ)
    logins = EntraLogins(azure.repository(), identity, azure.environ, retries=Retries(3, 0.01))
    with pytest.raises(ServerFault, match="POST /oauth2/exchange with 500"):
        await logins.source()()
    assert len(azure.tokens.faults) == 6


async def test_a_locked_tag_is_told_as_such(azure: Azure, tmp_path: Path) -> None:
    wanted = names("1.0.0")
    first, other = (release_image(tmp_path / text, wanted, text) for text in "ab")
    await push(first, wanted, [azure.registry()])
    azure.tokens.locked.add((PATH, "1.0.0"))
    await push(other, names("2.0.0"), [azure.registry()])
    async with azure.registry().open() as opened:
        with pytest.raises(TagRefused, match="holds this tag fast"):
            await opened.tag("1.0.0", await opened.read_manifest(other.digest))
    assert azure.behind.tag_digest(PATH, "1.0.0") == first.digest


async def test_nothing_secret_is_shown_or_kept_on_disk(azure: Azure, tmp_path: Path) -> None:
    own = azure.registry()
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert await tags(own) == ()
    shown = f"{own!r} {own.logins!r} {own.images!r}"
    secrets = [SECRET, *azure.tokens.refresh_tokens]
    assert not any(secret in shown for secret in secrets)
    for file in {file for file in tmp_path.rglob("*") if file.is_file()} - before:
        assert not any(secret.encode() in file.read_bytes() for secret in secrets)


def test_the_fake_is_as_strict_as_the_cloud(azure: Azure) -> None:
    """A token for another audience, or of another key, is nobody's."""
    entra = azure.tokens.entra
    with pytest.raises(jwt.InvalidTokenError):
        entra.principal_of(entra.access_token(azure.pipeline, "https://management.azure.com"), {"x"})
    assert TENANT in entra.environ(azure.pipeline).values()
