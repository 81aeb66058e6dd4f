"""The proxy itself: what each fault does to a request, seen from both of its sides."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from registry_process import RegistryProcess, registry

from tests.registries.faults import KINDS, Fault, Script, Where
from tests.registries.proxy import FaultProxy

__all__ = ["registry"]
pytestmark = [pytest.mark.anyio, pytest.mark.registry]
BODY = bytes(range(256)) * 1200  # several pieces of the proxy's
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Behind:
    """A client and the registry, with a proxy between them."""

    def __init__(self, proxy: FaultProxy, http: httpx.AsyncClient, registry: RegistryProcess) -> None:
        self.script, self.http, self.registry = proxy.script, http, registry

    async def location(self) -> str:
        """The address of a new upload, which no fault hinders."""
        answer = await self.http.post("/v2/m/blobs/uploads/")
        return str(httpx.URL(answer.headers["Location"]).copy_merge_params({"digest": DIGEST}))

    async def upload(self, *faults: str) -> int:
        """Send the blob in one piece; the status."""
        place = await self.location()
        self.script.begin(Fault.parse(text) for text in faults)
        return (await self.http.put(place, content=BODY)).status_code

    async def download(self, *faults: str) -> bytes:
        """The blob as it comes through; the faults count the requests from this one on."""
        self.script.begin(Fault.parse(text) for text in faults)
        return (await self.http.get(f"/v2/m/blobs/{DIGEST}")).content

    def is_stored(self) -> bool:
        return self.registry.blob(DIGEST).exists()


@pytest.fixture
async def behind(registry: RegistryProcess) -> AsyncIterator[Behind]:
    async with FaultProxy(registry.host, Script(), place="one").running() as proxy:
        base = f"http://{proxy.host}"
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=0.5) as http:
            yield Behind(proxy, http, registry)


async def test_without_faults_nothing_changes(behind: Behind) -> None:
    assert await behind.upload() == 201
    assert behind.script.seen[0].received == len(BODY)
    assert await behind.download() == BODY
    assert (await behind.http.head(f"/v2/m/blobs/{DIGEST}")).headers["Content-Length"] == str(len(BODY))
    assert [(seen.number, seen.method, seen.status) for seen in behind.script.seen] == [
        (1, "GET", 200),
        (2, "HEAD", 200),
    ]
    assert not behind.script.injected


@pytest.mark.parametrize(
    "name", [name for name, kind in KINDS.items() if kind.status and name != "immutable"]
)
async def test_an_answer_in_the_registrys_place(behind: Behind, name: str) -> None:
    assert await behind.upload(f"{name}@1") == KINDS[name].status
    assert not behind.is_stored()
    assert [seen.injected for seen in behind.script.seen] == [name]
    assert await behind.upload(f"{name}@2") == 201  # that was the only one


async def test_what_such_an_answer_says(behind: Behind) -> None:
    behind.script.begin([Fault.parse("401@1"), Fault.parse("429:7@2"), Fault.parse("immutable@3")])
    assert (await behind.http.get("/v2/")).headers["WWW-Authenticate"] == 'Basic realm="test"'
    assert (await behind.http.get("/v2/")).headers["Retry-After"] == "7"
    answer = await behind.http.put("/v2/m/manifests/1.0", content=b"{}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "TAG_INVALID")
    assert "the repository is immutable" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("name", "stored", "raised"),
    [
        ("cut", False, (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)),
        ("stall", False, (httpx.ReadTimeout,)),
        ("cut-body", False, (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)),
        ("stall-body", False, (httpx.ReadTimeout, httpx.WriteTimeout)),
        ("lost", True, (httpx.ReadError, httpx.RemoteProtocolError)),
        ("stall-answer", True, (httpx.ReadTimeout,)),
    ],
)
async def test_no_answer(
    behind: Behind, name: str, stored: bool, raised: tuple[type[Exception], ...]
) -> None:
    with pytest.raises(raised):
        await behind.upload(f"{name}@1")
    assert behind.is_stored() is stored
    assert behind.script.seen[0].injected == name
    if name.endswith("-body"):
        assert len(BODY) // 2 <= behind.script.seen[0].received <= len(BODY)


@pytest.mark.parametrize("name", ["short-body", "flip-body"])
async def test_another_body_arrives(behind: Behind, name: str) -> None:
    assert await behind.upload(f"{name}@1") == 400  # DIGEST_INVALID
    assert not behind.is_stored()


def short(body: bytes) -> bool:
    return body == BODY[: len(BODY) // 2]


def flipped(body: bytes) -> bool:
    return len(body) == len(BODY) and sum(one != other for one, other in zip(body, BODY, strict=True)) == 1


@pytest.mark.parametrize(("name", "is_so"), [("short-reply", short), ("flip-reply", flipped)])
async def test_another_body_comes_back(behind: Behind, name: str, is_so: Callable[[bytes], bool]) -> None:
    await behind.upload()
    assert is_so(await behind.download(f"{name}@1"))


@pytest.mark.parametrize(
    ("name", "raised"), [("cut-reply", httpx.RemoteProtocolError), ("stall-reply", httpx.ReadTimeout)]
)
async def test_half_an_answer(behind: Behind, name: str, raised: type[Exception]) -> None:
    await behind.upload()
    behind.script.begin([Fault.parse(f"{name}@1")])
    got = b""
    with pytest.raises(raised):
        async with behind.http.stream("GET", f"/v2/m/blobs/{DIGEST}") as answer:
            async for piece in answer.aiter_raw():
                got += piece
    assert short(got)


async def test_a_fault_of_bodies_leaves_alone_what_has_none(behind: Behind) -> None:
    names = [name for name, kind in KINDS.items() if kind.where in (Where.BODY, Where.REPLY)]
    for name in names:
        behind.script.begin([Fault.parse(f"{name}@*")])
        assert (await behind.http.post("/v2/m/blobs/uploads/")).status_code == 202
        assert not behind.script.injected


async def test_two_proxies_count_together(registry: RegistryProcess, tmp_path: Path) -> None:
    script = Script([Fault.parse("503@2")])
    one, other = (FaultProxy(registry.host, script, place=place) for place in ("one", "other"))
    async with one.running(), other.running(), httpx.AsyncClient(trust_env=False) as http:
        found = [(await http.get(f"http://{proxy.host}/v2/")).status_code for proxy in (one, other, one)]
    assert found == [200, 503, 200]
    assert [seen.place for seen in script.seen] == ["one", "other", "one"]
