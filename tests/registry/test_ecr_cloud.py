"""Pushes to ECR: moto for its API, a real registry for its images, and ECR's own ways on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import httpx
import pytest
from images import names, release_image
from registry_process import RegistryProcess, registry

from pipelines.config_registries import RegistryTarget
from pipelines.errors import PushFailed
from pipelines.push_journal import Journal
from pipelines.receipt import State
from pipelines.registries import ecr as adapter
from pipelines.registries.ecr import EcrRegistry
from pipelines.registries.quirks import MIB
from pipelines.registries.reference import Repository
from pipelines.registries.retries import Retries
from pipelines.release_image import ReleaseImage
from pipelines.stages.push import push
from tests.registries import state
from tests.registries.bench import weights
from tests.registries.ecr import ACCOUNT, REGION, EcrCloud, ecr_cloud, repository_of
from tests.registries.faults import Fault, Script

__all__ = ["registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]
PATH = "models/langid"
QUICK = Retries(attempts=4, first_wait_s=0.01, longest_wait_s=1, silence_s=2)
WANTED = names("1.4.0", moving=("latest",))


@pytest.fixture
async def cloud(registry: RegistryProcess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EcrCloud]:
    async with ecr_cloud(registry, Script()) as running:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> ReleaseImage:
    """An image with a layer of four parts."""
    return release_image(tmp_path_factory.mktemp("image"), WANTED, weights(16.5))


def target(cloud: EcrCloud, part_size: int = 5 * MIB, **settings: object) -> EcrRegistry:
    """The product's adapter, impatient."""
    configured = RegistryTarget.model_validate(
        {
            "repository": f"{cloud.host}/models",
            "kind": "ecr",
            "ecr": {"account": ACCOUNT, "region": REGION},
            "settings": settings,
        }
    )
    made = adapter.registry(
        configured, Repository(cloud.host, PATH), cloud.environ, moving_tags=WANTED.moving_tags
    )
    assert made.plain.quirks is not None
    quirks = replace(made.plain.quirks, part_size=part_size)
    return replace(made, plain=replace(made.plain, retries=QUICK, quirks=quirks))


async def raw(cloud: EcrCloud, token: str, method: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, auth=("AWS", token)) as http:
        return await http.request(method, f"http://{cloud.host}{path}")


async def test_what_the_data_plane_says(cloud: EcrCloud) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{cloud.host}/v2/")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].endswith(',service="ecr.amazonaws.com"')
    token = cloud.tokens.mint()
    assert (await raw(cloud, token, "GET", "/v2/")).status_code == 200
    answer = await raw(cloud, token, "POST", "/v2/models/gone/blobs/uploads/")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    cloud.tokens.expire()
    answer = await raw(cloud, token, "GET", "/v2/")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "DENIED")


async def test_the_first_push_makes_the_repository(
    cloud: EcrCloud, registry: RegistryProcess, tmp_path: Path
) -> None:
    release = release_image(tmp_path, WANTED)
    there = target(cloud, immutable_tags=True)
    receipt = await push(release, WANTED, [there])
    assert receipt.deliveries[0].state is State.PUSHED
    assert repository_of(PATH).image_tag_mutability.startswith("IMMUTABLE")
    assert state.is_final(registry, PATH, release.digest, ("1.4.0", "latest")) == []
    assert cloud.tokens.minted == 1
    assert (await push(release, WANTED, [there])).deliveries[0].state is State.UNCHANGED


async def test_without_the_right_to_make_it(cloud: EcrCloud, tmp_path: Path) -> None:
    release = release_image(tmp_path, WANTED)
    with pytest.raises(PushFailed, match="has no repository"):
        await push(release, WANTED, [target(cloud, create=False)])


async def test_a_moving_tag_moves_where_release_tags_are_fast(
    cloud: EcrCloud, registry: RegistryProcess, tmp_path: Path
) -> None:
    there = target(cloud, immutable_tags=True)
    await push(release_image(tmp_path / "a", WANTED), WANTED, [there])
    newer = names("1.5.0", moving=("latest",))
    release = release_image(tmp_path / "b", newer, "base", "new code")
    await push(release, newer, [there])
    assert registry.tag_digest(PATH, "latest") == release.digest
    token = cloud.tokens.mint()
    answer = await raw(cloud, token, "PUT", f"/v2/{PATH}/manifests/1.4.0")
    assert answer.json()["errors"][0]["code"] == "TAG_INVALID"


async def test_the_token_ends_in_the_middle_of_a_push(
    cloud: EcrCloud, registry: RegistryProcess, release: ReleaseImage
) -> None:
    there = target(cloud)

    async def expire() -> None:
        while not any(seen.method == "PATCH" for seen in cloud.data.script.seen):  # noqa: ASYNC110
            await anyio.sleep(0.005)
        cloud.tokens.expire()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(expire)
        await push(release, WANTED, [there])
    assert state.is_final(registry, PATH, release.digest, ("1.4.0", "latest")) == []
    assert cloud.tokens.minted == 2


@pytest.mark.parametrize("fault", ["cut-body@PATCH#2", "lost@PATCH#2", "503@PATCH#2", "lost@PUT/uploads/#1"])
async def test_a_part_that_breaks_is_sent_again_and_no_other(
    cloud: EcrCloud, registry: RegistryProcess, release: ReleaseImage, fault: str
) -> None:
    cloud.data.script.begin([Fault.parse(fault)])
    await push(release, WANTED, [target(cloud)])
    assert cloud.data.script.injected
    assert state.is_final(registry, PATH, release.digest, ("1.4.0", "latest")) == []
    assert sum(seen.received for seen in cloud.data.script.seen) < release.size + 5.1 * MIB


async def test_an_upload_goes_on_in_the_next_run(
    cloud: EcrCloud, registry: RegistryProcess, release: ReleaseImage, tmp_path: Path
) -> None:
    cloud.data.script.begin([Fault.parse("cut@PATCH#3-")])
    with pytest.raises(PushFailed):
        await push(release, WANTED, [target(cloud)], journal=Journal.open(tmp_path / "state", "langid"))
    cloud.data.script.begin()
    await push(release, WANTED, [target(cloud)], journal=Journal.open(tmp_path / "state", "langid"))
    assert state.is_final(registry, PATH, release.digest, ("1.4.0", "latest")) == []
    # What was sent is known to ECR alone, and it only tells when a part comes at a wrong place: one part.
    assert sum(seen.received for seen in cloud.data.script.seen) < release.size - 4.9 * MIB


async def test_parts_that_are_too_small_are_refused(cloud: EcrCloud, release: ReleaseImage) -> None:
    with pytest.raises(PushFailed):
        await push(release, WANTED, [target(cloud, part_size=4 * MIB)])
