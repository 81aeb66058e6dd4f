"""A push to Artifact Registry: a real registry behind Google's token dance and its ways of the data plane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from images import names, release_image
from registry_process import RegistryProcess, password_registry

from pipelines.config_clouds import RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.errors import PushFailed
from pipelines.receipt import State
from pipelines.registries.descriptors import Descriptor, sha256
from pipelines.registries.errors import AccessRefused, RepositoryMissing, TagRefused
from pipelines.registries.gar import GarRegistry
from pipelines.registries.targets import of_kind, remote
from pipelines.stages.push import push
from tests.registries.faults import Fault, Script
from tests.registries.gar import GarFront
from tests.registries.proxy import FaultProxy
from tests.registries.wire import Front

__all__ = ["password_registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]
PATH = "demo-project/models/langid"


@pytest.fixture
def google(password_registry: RegistryProcess) -> Iterator[GarFront]:
    with GarFront(password_registry).running() as front:
        yield front


def registry_of(front: GarFront, directory: Path, model: str = "langid", **more: object) -> GarRegistry:
    target = RegistryTarget.model_validate(
        {"repository": f"{front.host}/demo-project/models", "kind": "gar", **more}
    )
    found = remote(target, model, front.environ(directory))
    assert isinstance(found, GarRegistry)
    return found


async def test_a_release_is_pushed_in_one_piece_each(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path / "a", wanted)
    registry = registry_of(google, tmp_path)
    receipt = await push(release, wanted, [registry])
    assert receipt.deliveries[0].state is State.PUSHED
    assert google.registry.tags(PATH) == ["1.0.0", "latest"]
    assert google.registry.tag_digest(PATH, "latest") == release.digest
    assert google.identities.minted == 1, "one token for all of it"
    assert [method for method, target in google.log if method == "PATCH"] == []
    assert any(target.startswith("/artifacts-uploads/namespaces/demo-project/") for _, target in google.log)
    assert (await push(release, wanted, [registry])).deliveries[0].state is State.UNCHANGED


async def test_a_missing_repository_is_named_and_can_be_made(google: GarFront, tmp_path: Path) -> None:
    wanted = names("1.0.0")
    release = release_image(tmp_path / "a", wanted)
    registry = registry_of(google, tmp_path)
    async with registry.open() as opened:
        with pytest.raises(RepositoryMissing, match='Repository "models" not found'):
            await opened.check_write()
    assert await registry.make_repository()
    await push(release, wanted, [registry])
    assert google.registry.tags(PATH) == ["1.0.0"]


async def test_tokens_that_end_in_the_middle(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    body = b"x" * 100_000
    blob = Descriptor("application/octet-stream", sha256(body), len(body))
    registry = registry_of(google, tmp_path)
    async with registry.open() as opened:
        await opened.check_write()
        google.expire()
        assert not await opened.has_blob(blob)
    google.expire()
    async with registry.open() as opened:
        assert not await opened.has_blob(blob), "the token that was kept has ended as well"
    assert google.identities.minted == 3


async def test_a_blob_comes_by_a_redirect(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    wanted = names("1.0.0")
    release = release_image(tmp_path / "a", wanted)
    registry = registry_of(google, tmp_path)
    await push(release, wanted, [registry])
    blob = release.image.layers[0]
    async with registry.open() as opened:
        await opened.download_blob(blob, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == blob.size
    assert any(target.startswith("/artifacts-downloads/") for _, target in google.log)


async def test_a_tag_that_is_held_fast(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"), dockerConfig={"immutableTags": True})
    wanted = names("1.0.0")
    release, other = release_image(tmp_path / "a", wanted), release_image(tmp_path / "b", wanted, "other")
    registry = registry_of(google, tmp_path)
    await push(release, wanted, [registry])
    await push(other, names("1.0.1"), [registry])
    async with registry.open() as opened:
        with pytest.raises(TagRefused, match="does not move this tag"):
            await opened.tag("1.0.0", await opened.read_manifest(other.digest))
    assert google.registry.tag_digest(PATH, "1.0.0") == release.digest


async def test_a_login_that_google_does_not_know(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    wanted = names("1.0.0")
    release = release_image(tmp_path / "a", wanted)
    registry = registry_of(google, tmp_path)
    google.identities.account = "deleted@demo-project.iam.gserviceaccount.com"
    with pytest.raises(PushFailed, match="Google gives no token: invalid_grant"):
        await push(release, wanted, [registry])
    assert google.registry.tags(PATH) == []


async def test_a_login_without_the_right_to_push(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    google.repositories.denied.add("artifactregistry.repositories.uploadArtifacts")
    async with registry_of(google, tmp_path).open() as opened:
        with pytest.raises(AccessRefused, match=r"oauth2accesstoken gets no token .*403") as caught:
            await opened.check_write()
    assert "give it a role" in caught.value.hint


async def test_nobody_gets_no_token(google: GarFront, tmp_path: Path) -> None:
    target = RegistryTarget(repository=f"{google.host}/demo-project/models", kind="gar")
    repository = registry_of(google, tmp_path).plain.repository
    environ = {"HOME": str(tmp_path / "nobody"), "NO_GCE_CHECK": "true"}
    registry = of_kind(target, repository, environ, read_only=True)
    async with registry.open() as opened:
        with pytest.raises(AccessRefused, match="an anonymous client gets no token"):
            await opened.tag_digest("1.0.0")


async def test_a_blob_is_mounted_from_another_model(google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    wanted = names("1.0.0")
    release = release_image(tmp_path / "a", wanted)
    await push(release, wanted, [registry_of(google, tmp_path)])
    blob = release.image.layers[0]
    async with registry_of(google, tmp_path, "other").open() as opened:
        assert await opened.mount_blob(blob, PATH)
        assert await opened.has_blob(blob)


def test_parts_of_a_blob_are_refused(google: GarFront, tmp_path: Path) -> None:
    """The fake keeps Google's rule, so that the tests above mean something."""
    google.repositories.add(google.resource("models"))
    token = google.identities.mint("somebody")
    with httpx.Client(base_url=f"http://{google.host}", trust_env=False) as http:
        assert http.get("/v2/").status_code == 401
        bearer = http.get("/v2/token", auth=("oauth2accesstoken", token)).json()["token"]
        http.headers["Authorization"] = f"Bearer {bearer}"
        place = http.post(f"/v2/{PATH}/blobs/uploads/").headers["Location"]
        part = http.patch(place, content=b"abc", headers={"Content-Range": "0-2"})
        assert part.status_code == 400
        whole = http.patch(place, content=b"abcdef", headers={"Authorization": ""})
        assert whole.status_code == 202, "the address is its own login; docker sends a blob so, whole"
        assert http.patch(whole.headers["Location"], content=b"more").status_code == 400
        done = http.put(f"{whole.headers['Location']}?digest={sha256(b'abcdef')}")
        assert done.status_code == 201
        assert google.registry.blob(sha256(b"abcdef")).read_bytes() == b"abcdef"


async def test_settings_reach_the_repository_that_a_push_makes(google: GarFront, tmp_path: Path) -> None:
    registry = registry_of(google, tmp_path, settings=RepositorySettings(scan_on_push=False))
    assert await registry.make_repository()
    resource = google.repositories.resources[google.resource("models")]
    assert resource["vulnerabilityScanningConfig"] == {"enablementConfig": "DISABLED"}


@pytest.mark.parametrize("fault", ["401@4", "401@9", "429@5", "503@7", "cut@6", "cut-body@8"])
async def test_a_push_through_a_bad_network_ends_right(fault: str, google: GarFront, tmp_path: Path) -> None:
    google.repositories.add(google.resource("models"))
    wanted = names("1.0.0", moving=("latest",))
    release = release_image(tmp_path / "a", wanted)
    script = Script([Fault.parse(fault)])
    front = Front()
    async with FaultProxy(google.host, script, front=front).running() as proxy:
        front.challenge = google.challenge(proxy.host)
        target = RegistryTarget(repository=f"{proxy.host}/demo-project/models", kind="gar")
        registry = remote(target, "langid", google.environ(tmp_path))
        receipt = await push(release, wanted, [registry])
    assert receipt.deliveries[0].state is State.PUSHED
    assert google.registry.tag_digest(PATH, "latest") == release.digest
    assert any("/v2/token" in seen.path for seen in script.seen), "logins go through the proxy as well"
