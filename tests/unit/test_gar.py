"""Artifact Registry: who we are for Google, how repositories are made. Google is a fake on loopback."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from pipelines.config_clouds import GarLogin, Kind, RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.config_values import SecretRef
from pipelines.errors import UsageError
from pipelines.registries import gar
from pipelines.registries.credentials import Login
from pipelines.registries.errors import AccessRefused, Unreachable
from pipelines.registries.gar_api import ArtifactApi, Place
from pipelines.registries.gar_login import GoogleLogin
from pipelines.registries.reference import Repository
from pipelines.registries.retries import Retries
from tests.registries.gar import GarFront
from tests.registries.google import SUBJECT_TOKEN
from tests.registry_process import RegistryProcess

pytestmark = pytest.mark.anyio
PATH = "demo-project/models/langid"
RELEASES = "releases@demo-project.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def front() -> Iterator[GarFront]:
    """Starting and ending it takes longer than any test here."""
    with GarFront(RegistryProcess("127.0.0.1:1", Path("/nonexistent"), "", "", 0)).running() as running:
        yield running


@pytest.fixture
def google(front: GarFront) -> GarFront:
    front.forget()
    return front


def target_of(front: GarFront, **more: object) -> RegistryTarget:
    address = f"{front.host}/demo-project/models"
    return RegistryTarget.model_validate({"repository": address, "kind": Kind.GAR, **more})


def login_of(
    front: GarFront, environ: dict[str, str], *, read_only: bool = False, **more: object
) -> GoogleLogin:
    return GoogleLogin(target_of(front, **more), Repository(front.host, PATH), environ, read_only=read_only)


def registry_of(front: GarFront, environ: dict[str, str], **more: object) -> gar.GarRegistry:
    found = gar.registry(target_of(front, **more), Repository(front.host, PATH), environ)
    assert isinstance(found, gar.GarRegistry)
    return found


# Who we are


async def test_a_key_file_gives_a_token_that_is_kept_until_it_is_refused(
    google: GarFront, tmp_path: Path
) -> None:
    login = login_of(google, google.environ(tmp_path))
    ask = login.for_connection()
    first = await ask()
    assert first is not None
    assert first.username == "oauth2accesstoken"
    assert google.identities.tokens[first.password] == google.identities.account
    assert await login.for_connection()() == first, "another connection takes the token that is kept"
    assert google.identities.minted == 1
    again = await ask()
    assert again is not None
    assert again != first, "the same connection asks again: the token was not taken"
    assert google.identities.minted == 2
    assert first.password not in repr(first)
    written = {
        file for file in tmp_path.rglob("*") if file.is_file() and first.password in file.read_text("latin-1")
    }
    assert written == set()


async def test_a_token_is_renewed_shortly_before_it_ends(google: GarFront, tmp_path: Path) -> None:
    google.identities.lifetime_s = 120
    login = login_of(google, google.environ(tmp_path))
    first, second = await login.token(), await login.token()
    assert first != second


async def test_a_job_of_a_ci_system_is_federated(google: GarFront, tmp_path: Path) -> None:
    file = google.identities.federation_file(tmp_path / "federation.json")
    token = await login_of(google, google.environ(tmp_path, credentials=file)).token()
    assert token is not None
    assert google.identities.tokens[token.text] == "principal://job"


async def test_a_federated_job_acts_as_a_service_account(google: GarFront, tmp_path: Path) -> None:
    file = google.identities.federation_file(tmp_path / "federation.json", acting_as=RELEASES)
    token = await login_of(google, google.environ(tmp_path, credentials=file)).token()
    assert token is not None
    assert google.identities.tokens[token.text] == RELEASES


async def test_the_order_of_application_default_credentials(google: GarFront, tmp_path: Path) -> None:
    named, own = google.environ(tmp_path), tmp_path / ".config/gcloud/application_default_credentials.json"
    own.parent.mkdir(parents=True)
    google.identities.federation_file(own)
    token = await login_of(google, named).token()
    assert token is not None
    assert google.identities.tokens[token.text] == google.identities.account, (
        "the file that is named comes first"
    )
    for unnamed in ({**named, "CLOUDSDK_CONFIG": str(own.parent), "HOME": "/nonexistent"}, named):
        unnamed.pop("GOOGLE_APPLICATION_CREDENTIALS")
        token = await login_of(google, unnamed).token()
        assert token is not None
        assert google.identities.tokens[token.text] == "principal://job", "then gcloud's"


async def test_a_federated_job_impersonates_by_the_configuration(google: GarFront, tmp_path: Path) -> None:
    file = google.identities.federation_file(tmp_path / "federation.json")
    environ = google.environ(tmp_path, credentials=file)
    token = await login_of(google, environ, gar=GarLogin(impersonate=RELEASES)).token()
    assert token is not None
    assert google.identities.tokens[token.text] == RELEASES


@pytest.mark.parametrize("way", ["key file", "_json_key", "oauth2accesstoken"])
async def test_impersonation(way: str, google: GarFront, tmp_path: Path) -> None:
    environ = google.environ(tmp_path)
    more: dict[str, object] = {"gar": GarLogin(impersonate=RELEASES)}
    if way != "key file":
        secret = (
            json.dumps(google.identities.key_info())
            if way == "_json_key"
            else google.identities.mint("somebody")
        )
        environ |= {"WHO": way, "SECRET": secret}
        more |= {"username": SecretRef("env://WHO"), "password": SecretRef("env://SECRET")}
    login = await login_of(google, environ, **more).for_connection()()
    assert login is not None
    assert google.identities.tokens[login.password] == RELEASES


async def test_impersonation_that_is_not_granted(google: GarFront, tmp_path: Path) -> None:
    google.identities.impersonable.clear()
    login = login_of(google, google.environ(tmp_path), gar=GarLogin(impersonate=RELEASES))
    with pytest.raises(AccessRefused) as caught:
        await login.token()
    assert "serviceAccountTokenCreator" in caught.value.hint
    assert RELEASES in caught.value.hint


@pytest.mark.parametrize("user", ["_json_key", "_json_key_base64"])
async def test_a_key_as_the_password(user: str, google: GarFront, tmp_path: Path) -> None:
    key = json.dumps(google.identities.key_info())
    password = base64.b64encode(key.encode()).decode() if user.endswith("64") else key
    environ = google.environ(tmp_path) | {
        "WHO": user,
        "SECRET": password,
        "GOOGLE_APPLICATION_CREDENTIALS": "/none",
    }
    login = login_of(google, environ, username="env://WHO", password="env://SECRET")
    assert await login.for_connection()() == Login(user, password)
    token = await login.token()
    assert token is not None, "the API takes the key as well"
    assert google.identities.tokens[token.text] == google.identities.account


async def test_a_password_that_is_no_key_is_not_shown(google: GarFront, tmp_path: Path) -> None:
    environ = google.environ(tmp_path) | {"WHO": "_json_key", "SECRET": "hunter2"}
    login = login_of(google, environ, username="env://WHO", password="env://SECRET")
    with pytest.raises(AccessRefused, match="no service-account key") as caught:
        await login.token()
    assert "hunter2" not in f"{caught.value}{caught.value.hint}{caught.value.__cause__}"


async def test_the_metadata_server(google: GarFront, tmp_path: Path) -> None:
    """In a process of its own: google-auth reads the server's address when it is imported."""
    program = (
        "import sys, anyio, os\n"
        "from pipelines.config_registries import RegistryTarget\n"
        "from pipelines.registries.gar_login import GoogleLogin\n"
        "from pipelines.registries.reference import Repository\n"
        "target = RegistryTarget(repository=sys.argv[1], kind='gar')\n"
        "login = GoogleLogin(target, Repository.parse(sys.argv[1]), os.environ)\n"
        "print(anyio.run(login.token).text)\n"
    )
    environ = google.environ(tmp_path) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    del environ["GOOGLE_APPLICATION_CREDENTIALS"]
    with anyio.fail_after(30):
        argv = [sys.executable, "-c", program, f"{google.host}/{PATH}"]
        done = await anyio.run_process(argv, env=environ, check=False)
    assert done.stderr == b""
    assert google.identities.tokens[done.stdout.decode().strip()] == google.identities.account


def without_google(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "NO_GCE_CHECK": "true"}


def log_in_with_docker(tmp_path: Path, host: str, user: str, password: str) -> None:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


async def test_docker_login_is_taken_where_google_has_nothing(google: GarFront, tmp_path: Path) -> None:
    token = google.identities.mint("docker")
    log_in_with_docker(tmp_path, google.host, "oauth2accesstoken", token)
    login = login_of(google, without_google(tmp_path))
    assert await login.for_connection()() == Login("oauth2accesstoken", token)
    other = login_of(google, google.environ(tmp_path))
    found = await other.for_connection()()
    assert found is not None
    assert found.password != token, "Google's own credentials come first"


async def test_without_any_login_it_is_nobody(google: GarFront, tmp_path: Path) -> None:
    assert await login_of(google, without_google(tmp_path)).for_connection()() is None
    other_cloud = without_google(tmp_path) | {"GCE_METADATA_HOST": "127.0.0.1:1"}
    del other_cloud["NO_GCE_CHECK"]
    assert await login_of(google, other_cloud).token() is None


async def test_the_extra_is_named_where_it_is_missing(
    google: GarFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    for environ in (without_google(tmp_path), google.environ(tmp_path)):
        with pytest.raises(AccessRefused, match="google-auth, which is not installed") as caught:
            await login_of(google, environ).token()
        assert caught.value.hint == "pip install 'modelport[gar]'"
    assert await login_of(google, without_google(tmp_path), read_only=True).for_connection()() is None
    log_in_with_docker(tmp_path, google.host, "oauth2accesstoken", "x")
    assert await login_of(google, without_google(tmp_path)).for_connection()() == Login(
        "oauth2accesstoken", "x"
    )
    with pytest.raises(AccessRefused):
        await login_of(google, google.environ(tmp_path)).token()


async def test_a_key_in_dockers_file_needs_no_extra(
    google: GarFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = json.dumps(google.identities.key_info())
    log_in_with_docker(tmp_path, google.host, "_json_key", key)
    monkeypatch.setitem(sys.modules, "google.auth", None)
    login = login_of(google, without_google(tmp_path))
    assert await login.for_connection()() == Login("_json_key", key)
    assert await login.token() is None, "the API is out of reach without it"


async def test_impersonation_does_not_begin_with_just_any_password(google: GarFront, tmp_path: Path) -> None:
    environ = google.environ(tmp_path) | {"WHO": "alice", "SECRET": "hunter2"}
    more: dict[str, object] = {"username": "env://WHO", "password": "env://SECRET"}
    login = login_of(google, environ, gar=GarLogin(impersonate=RELEASES), **more)
    with pytest.raises(AccessRefused, match="can't begin with the password of alice"):
        await login.for_connection()()


async def test_a_machine_of_no_cloud_is_asked_once(google: GarFront, tmp_path: Path) -> None:
    environ = without_google(tmp_path) | {"GCE_METADATA_HOST": google.host}
    del environ["NO_GCE_CHECK"]
    asked = []
    google.identities.is_a_machine = False
    login = login_of(google, environ)
    for _ in range(3):
        assert await login.token() is None
        asked.append(google.identities.machine_asked)
    assert asked == [1, 1, 1]


def test_google_auth_is_not_imported_without_need() -> None:
    program = "import sys, pipelines.cli; from pipelines.registries import gar, gar_administration, targets; "
    check = (
        "print(sorted(n for n in sys.modules if n.startswith(('google.auth', 'google.oauth2', 'requests'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + check], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


# What goes wrong with it


async def refused(login: GoogleLogin) -> AccessRefused:
    with pytest.raises(AccessRefused) as caught:
        await login.token()
    assert caught.value.hint
    assert caught.value.__cause__ is None
    return caught.value


async def test_a_key_that_was_deleted(google: GarFront, tmp_path: Path) -> None:
    environ = google.environ(tmp_path)
    google.identities.account = "another@demo-project.iam.gserviceaccount.com"
    error = await refused(login_of(google, environ))
    assert "invalid_grant: Invalid JWT Signature" in error.message
    assert "clock" in error.hint


async def test_a_federation_that_does_not_take_the_job(google: GarFront, tmp_path: Path) -> None:
    file = google.identities.federation_file(tmp_path / "federation.json")
    file.with_suffix(".token").write_text("another-job")
    error = await refused(login_of(google, google.environ(tmp_path, credentials=file)))
    assert "attribute condition" in error.message
    assert "condition" in error.hint
    file.with_suffix(".token").unlink()
    error = await refused(login_of(google, google.environ(tmp_path, credentials=file)))
    assert "id-token: write" in error.hint
    assert SUBJECT_TOKEN not in error.message


@pytest.mark.parametrize(
    "content", ['{"type": "service_account"', '{"type": "other"}', "[]", '{"type": "service_account"}']
)
async def test_files_that_are_no_credentials(content: str, google: GarFront, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(content)
    error = await refused(login_of(google, google.environ(tmp_path, credentials=file)))
    assert "redentials" in error.message


async def test_a_file_that_is_not_there(google: GarFront, tmp_path: Path) -> None:
    login = login_of(google, google.environ(tmp_path, credentials=tmp_path / "none.json"))
    with pytest.raises(AccessRefused, match="No such file") as caught:
        await login.token()
    assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.hint


async def test_a_damaged_key_is_not_shown(google: GarFront, tmp_path: Path) -> None:
    key = google.identities.key_info()
    secret = key["private_key"].splitlines()[3]
    key["private_key"] = key["private_key"].replace(secret, secret[:10])
    (tmp_path / "damaged.json").write_text(json.dumps(key))
    error = await refused(login_of(google, google.environ(tmp_path, credentials=tmp_path / "damaged.json")))
    assert secret[:10] not in f"{error}{error.hint}"


async def test_a_token_service_that_is_out_of_reach(google: GarFront, tmp_path: Path) -> None:
    key = google.identities.key_info() | {"token_uri": "http://127.0.0.1:1/token"}
    (tmp_path / "far.json").write_text(json.dumps(key))
    with pytest.raises(Unreachable, match="token service can't be reached"):
        await login_of(google, google.environ(tmp_path, credentials=tmp_path / "far.json")).token()


# Where things are


@pytest.mark.parametrize(
    ("address", "name", "package"),
    [
        (
            "europe-west1-docker.pkg.dev/p/r/langid",
            "projects/p/locations/europe-west1/repositories/r",
            "langid",
        ),
        (
            "us-docker.pkg.dev/example.com/p/r/a/b",
            "projects/example.com:p/locations/us/repositories/r",
            "a/b",
        ),
        ("gcr.io/p/langid", "projects/p/locations/us/repositories/gcr.io", "langid"),
        (
            "eu.gcr.io/example.com/p/a/b",
            "projects/example.com:p/locations/europe/repositories/eu.gcr.io",
            "a/b",
        ),
        ("asia.gcr.io/p/x", "projects/p/locations/asia/repositories/asia.gcr.io", "x"),
        ("127.0.0.1:5000/p/r/x", "projects/p/locations/here/repositories/r", "x"),
    ],
)
def test_addresses(address: str, name: str, package: str) -> None:
    place = Place.of(Repository.parse(address), {"CLOUDSDK_ARTIFACTS_LOCATION": "here"})
    assert (place.name, place.package) == (name, package)
    assert place.made_by_push is ("gcr.io" in address)


@pytest.mark.parametrize(
    "address", ["us-docker.pkg.dev/p/langid", "gcr.io/langid", "us-docker.pkg.dev/example.com/p/r"]
)
def test_an_address_without_room_for_a_repository(address: str) -> None:
    with pytest.raises(UsageError, match="names no image") as caught:
        Place.of(Repository.parse(address), {})
    assert "PROJECT" in caught.value.hint


@pytest.mark.parametrize("url", ["http://example.com/", "ftp://x", "example.com"])
def test_tokens_are_sent_nowhere_without_tls(url: str, google: GarFront, tmp_path: Path) -> None:
    environ = google.environ(tmp_path) | {"CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY": url}
    with pytest.raises(UsageError, match="https"):
        registry_of(google, environ)


# Repositories


async def test_a_repository_is_made_as_the_settings_have_it(google: GarFront, tmp_path: Path) -> None:
    key = "projects/demo-project/locations/europe-west1/keyRings/k/cryptoKeys/models"
    settings = RepositorySettings(immutable_tags=True, encryption_key=key, scan_on_push=False)
    registry = registry_of(google, google.environ(tmp_path), settings=settings)
    assert await registry.repository_exists() is False
    assert await registry.make_repository() is True
    assert google.repositories.resources[google.resource("models")] == {
        "name": google.resource("models"),
        "format": "DOCKER",
        "mode": "STANDARD_REPOSITORY",
        "kmsKeyName": key,
        "dockerConfig": {"immutableTags": True},
        "vulnerabilityScanningConfig": {"enablementConfig": "DISABLED"},
    }
    assert await registry.repository_exists() is True
    assert await registry.make_repository() is False


async def test_a_repository_is_not_made_where_that_is_not_wanted(google: GarFront, tmp_path: Path) -> None:
    registry = registry_of(google, google.environ(tmp_path), settings=RepositorySettings(create=False))
    assert await registry.make_repository() is False
    assert google.repositories.log == []


async def test_only_a_push_can_tell(google: GarFront, tmp_path: Path) -> None:
    nobody = registry_of(google, without_google(tmp_path) | {"CLOUDSDK_ARTIFACTS_LOCATION": "x"})
    assert await nobody.repository_exists() is None
    nowhere = google.environ(tmp_path)
    del nowhere["CLOUDSDK_ARTIFACTS_LOCATION"]
    assert await registry_of(google, nowhere).repository_exists() is None
    google.repositories.denied.add("artifactregistry.repositories.get")
    mayn_t = registry_of(google, google.environ(tmp_path))
    assert await mayn_t.repository_exists() is None
    assert await mayn_t.make_repository() is False
    gcr = gar.registry(RegistryTarget(repository="gcr.io/p"), Repository("gcr.io", "p/langid"), {})
    assert await gcr.repository_exists() is None
    assert await gcr.make_repository() is False


async def test_the_right_to_make_one_is_named(google: GarFront, tmp_path: Path) -> None:
    google.repositories.denied.add("artifactregistry.repositories.create")
    with pytest.raises(AccessRefused) as caught:
        await registry_of(google, google.environ(tmp_path)).make_repository()
    assert "artifactregistry.repositories.create" in caught.value.hint


async def test_an_api_that_is_switched_off(google: GarFront, tmp_path: Path) -> None:
    google.repositories.enabled = False
    registry = registry_of(google, google.environ(tmp_path))
    with pytest.raises(AccessRefused) as caught:
        await registry.api.get(registry.place.name)
    assert (
        caught.value.hint == "gcloud services enable artifactregistry.googleapis.com --project demo-project"
    )


async def test_a_refused_token_is_minted_anew_once(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    registry = registry_of(google, google.environ(tmp_path))
    assert await registry.repository_exists() is True
    google.expire()
    assert await registry.repository_exists() is True
    assert google.identities.minted == 2


async def test_an_api_that_is_out_of_reach(google: GarFront, tmp_path: Path) -> None:
    registry = registry_of(google, google.environ(tmp_path))
    api = ArtifactApi(registry.login, "p", "http://127.0.0.1:1/", Retries(2, 0.001))
    with pytest.raises(Unreachable, match="connection refused"):
        await api.get("projects/p")
