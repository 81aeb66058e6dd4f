"""Query.http against a loopback server: what is fetched, what is not fetched again, what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from simulated_sessions import Client, simulated_session

from embedded_engine import downloads

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
BODY = b"the file\n"
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Web:
    """A web server that counts; ``body`` and ``failures`` may be changed while it runs."""

    port: int
    body: bytes = BODY
    etag: str = '"1"'
    failures: list[int] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0
    cut: bool = False

    def url(self, path: str = "dir/file.txt") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            web.requests.append((self.path, headers))
            if web.failures:
                self._end(web.failures.pop(0))
            elif self.path.startswith("/moved"):
                self._end(302, Location="/there")
            elif self.path.startswith("/private") and headers.get("authorization") != "Bearer s3cret":
                self._end(403)
            elif headers.get("if-none-match") == web.etag:
                self._end(304)
            else:
                web.sent += 1
                length = len(web.body) + (9 if web.cut else 0)
                self._end(200, web.body, ETag=web.etag, Length=str(length))

        def _end(self, status: int, body: bytes = b"", Length: str = "", **headers: str) -> None:  # noqa: N803
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", Length or str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Web(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(downloads, "PAUSE_S", 0.01)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with simulated_session(tmp_path) as session:
        yield session


def fetched(url: str, arguments: str = "") -> str:
    return f'http(url: "{url}"{arguments})'


async def test_a_file_has_the_url_s_name_and_is_readable_by_its_owner(client: Client, web: Web) -> None:
    chain = fetched(web.url())
    assert await client.ask(chain, "contents") == BODY.decode()
    assert await client.ask(chain, "name") == "file.txt"
    assert await client.ask(chain, "stat", "permissions") == 0o600
    named = fetched(web.url(), ', name: "tool", permissions: 493')
    assert await client.ask(named, "name") == "tool"
    assert await client.ask(named, "stat", "permissions") == 0o755
    assert await client.ask(fetched(web.url("")), "name") == "index"
    assert web.sent == 2, "one URL is asked once in a session"


async def test_an_unchanged_file_is_asked_for_but_not_sent_again(tmp_path: Path, web: Web) -> None:
    async with simulated_session(tmp_path) as one:
        first = await one.ask(fetched(web.url()), "digest")
    async with simulated_session(tmp_path) as two:
        assert await two.ask(fetched(web.url()), "digest") == first
    assert (len(web.requests), web.sent) == (2, 1)
    web.body, web.etag = b"changed", '"2"'
    async with simulated_session(tmp_path) as three:
        assert await three.ask(fetched(web.url()), "contents") == "changed"
    assert web.sent == 2


async def test_a_file_whose_bytes_are_lost_is_fetched_again(tmp_path: Path, web: Web) -> None:
    async with simulated_session(tmp_path) as one:
        await one.ask(fetched(web.url()), "size")
    for blob in (tmp_path / "state" / "trees" / "files").rglob(f"{DIGEST}*"):
        blob.unlink()
    async with simulated_session(tmp_path) as two:
        assert await two.ask(fetched(web.url()), "contents") == BODY.decode()


async def test_the_checksum_is_held_to(client: Client, web: Web) -> None:
    good = fetched(web.url(), f', checksum: "sha256:{DIGEST}"')
    assert await client.ask(good, "size") == len(BODY)
    message = await client.fails(fetched(web.url(), f', checksum: "sha256:{"0" * 64}"'), "size")
    assert f"checksum mismatch: expected sha256:{'0' * 64}, got sha256:{DIGEST}" in message
    digest = hashlib.sha512(BODY).hexdigest()
    assert await client.ask(fetched(web.url("b"), f', checksum: "sha512:{digest}"'), "size") == len(BODY)
    assert 'invalid checksum "md5:1"' in await client.fails(fetched(web.url(), ', checksum: "md5:1"'), "size")


async def test_what_the_server_refuses_is_named_without_its_secrets(client: Client, web: Web) -> None:
    message = await client.fails(fetched(web.url("private/x?token=hidden")), "size")
    assert message == f"http {web.url('private/x')}: invalid response status 403 Forbidden"
    secret = await client.secret("auth", "Bearer s3cret")
    assert await client.ask(fetched(web.url("private/x"), f", authHeader: {secret}"), "size") == len(BODY)
    assert "must begin with http" in await client.fails(fetched("file:///etc/passwd"), "contents")
    assert "must not contain a directory" in await client.fails(fetched(web.url(), ', name: "a/b"'), "size")


async def test_a_passing_failure_is_tried_again_a_lasting_one_not(client: Client, web: Web) -> None:
    web.failures = [503, 502]
    assert await client.ask(fetched(web.url()), "size") == len(BODY)
    web.failures = [404, 200]
    assert "404 Not Found" in await client.fails(fetched(web.url("other")), "size")
    web.failures = [500] * 9
    assert "500 Internal Server Error" in await client.fails(fetched(web.url("third")), "size")
    assert len(web.failures) == 6, "three tries"


async def test_a_body_cut_off_is_no_file(client: Client, web: Web) -> None:
    web.cut = True
    message = await client.fails(fetched(web.url()), "size")
    assert "without sending complete message body" in message
    assert web.sent == 3
    web.cut = False
    assert await client.ask(fetched(web.url()), "size") == len(BODY)


async def test_size_is_bounded(client: Client, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDED_ENGINE_HTTP_LIMIT", "4")
    assert "9 bytes are too many: the limit is 4" in await client.fails(fetched(web.url()), "size")


async def test_redirects_are_followed(client: Client, web: Web) -> None:
    assert await client.ask(fetched(web.url("moved")), "contents") == BODY.decode()
    assert [path for path, _ in web.requests] == ["/moved", "/there"]


async def test_a_proxy_of_the_environment_is_used(
    client: Client, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{web.port}")
    assert await client.ask(fetched("http://example.invalid/x.txt"), "contents") == BODY.decode()
    assert web.requests[0][0] == "http://example.invalid/x.txt"


async def test_no_server_is_an_error_in_words(client: Client) -> None:
    message = await client.fails(fetched("http://127.0.0.1:1/x"), "size")
    assert message.startswith("http http://127.0.0.1:1/x: ")
    assert "connect" in message.lower()


async def test_nothing_of_a_url_s_token_is_kept(tmp_path: Path, web: Web) -> None:
    async with simulated_session(tmp_path) as client:
        await client.ask(fetched(web.url("x?sig=t0ken-77")), "size")
    found = [
        file
        for file in (tmp_path / "state").rglob("*")
        if file.is_file() and b"t0ken-77" in file.read_bytes()
    ]
    assert found == []
    assert list((tmp_path / "state" / "tmp").iterdir()) == []
