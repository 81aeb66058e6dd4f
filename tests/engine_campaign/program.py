"""The client that is killed, or whose engine is: one build-test-publish program, by plain HTTP.

``python program.py SPEC.json`` asks the session that the environment names, as an SDK does; without one it
starts its own, as an SDK does too. It imports nothing but the standard library, so that it starts at once.
Each part that begins, ends (with its result) or fails is a line in the file ``log``.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

QUERY_S = 120
SERVER = """
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "cannot listen: $!";
while (my $client = $server->accept) {
    my $line = <$client>;
    print $client "SALT";
    close $client;
}
"""
ASK = (
    'use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => "web:8080", Timeout => 5)'
    ' or die "no: $!"; print $s "hello\\n"; local $/; print <$s>;'
)
DOCKERFILE = """FROM BASE
COPY data.txt /data.txt
RUN sha256sum /data.txt > /sum.txt; sleep 0.1
ENV BUILT=SALT
"""


class Failed(Exception):
    """The engine answered with an error."""


class Client:
    """Asks one session; each call has a connection of its own, so calls may be made side by side."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = {"Authorization": "Basic " + base64.b64encode(f"{token}:".encode()).decode()}

    def ask(self, query: str) -> Any:
        """The one leaf of the answer. Raises Failed, OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=QUERY_S)
        try:
            connection.request("POST", "/query", json.dumps({"query": query}), self._headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "errors" in answer:
            raise Failed(answer["errors"][0]["message"])
        found = answer["data"]
        while isinstance(found, dict):
            found = next(iter(found.values()))
        return found


def text(value: str) -> str:
    """A GraphQL string."""
    return json.dumps(value)


def chain(*steps: str) -> str:
    """A query of calls in a row."""
    return "{ " + " { ".join(steps) + " }" * len(steps)


class Program:
    """What is built, for one salt: all of it differs from that of another salt."""

    def __init__(self, client: Client, spec: dict[str, Any]) -> None:
        self._ask = client.ask
        self._base = f"from(address: {text(spec['base'])})"
        self._salt = str(spec["salt"])
        self._target = str(spec["target"])
        self._work = Path(spec["work"])
        self._log = Path(spec["log"])
        self._nonce = str(spec["nonce"])
        self.errors: list[str] = []

    def run(self) -> None:
        """All of it: the parts that need nothing of each other side by side, then what leaves."""
        self._write_sources()
        self._side_by_side([self._from])
        self._side_by_side([*self._execs(), self._edits, self._build, self._service, self._volume])
        self._side_by_side([self._publish, self._export, self._archive, self._volume_again])

    def _side_by_side(self, parts: list[Callable[[], str]]) -> None:
        threads = [threading.Thread(target=self._part, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise Failed("; ".join(self.errors))

    def _part(self, part: Callable[[], str]) -> None:
        name = part.__name__.strip("_")
        self._tell(begin=name)
        try:
            self._tell(end=name, result=part())
        except (Failed, OSError, http.client.HTTPException, ValueError) as error:
            self.errors.append(f"{name}: {type(error).__name__}: {error}")
            self._tell(error=self.errors[-1])

    def _tell(self, **line: str) -> None:
        with self._log.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def _write_sources(self) -> None:
        sources = self._work / f"sources-{self._salt}"
        sources.mkdir(parents=True, exist_ok=True)
        (sources / "data.txt").write_text(f"{self._salt}\n" * 5000)
        (sources / "other.txt").write_text(f"other {self._salt}\n")
        base = self._base.split('"')[1]
        (sources / "Dockerfile").write_text(DOCKERFILE.replace("BASE", base).replace("SALT", self._salt))
        self._sources = f"directory(path: {text(sources.name)})"

    def _from(self) -> str:
        answer: str = self._ask(chain("container", self._base, 'envVariable(name: "BASE")'))
        return answer

    def _execs(self) -> list[Callable[[], str]]:
        def one(number: int) -> Callable[[], str]:
            def run() -> str:
                answer: str = self._ask(chain(*self._built(number), "stdout"))
                return answer

            run.__name__ = f"exec-{number}"
            return run

        return [one(number) for number in range(2)]

    def _built(self, number: int) -> list[str]:
        command = f"seq 1 {3000 + number} > /out-{number}; sleep 0.1; sha256sum /out-{number}; echo $SALT"
        return [
            "container",
            self._base,
            f'withEnvVariable(name: "SALT", value: {text(self._salt)})',
            f'withExec(args: ["sh", "-c", {text(command)}])',
        ]

    def _edited(self) -> list[str]:
        sources = self._ask(chain("host", self._sources, "id"))
        return [
            *self._built(1),
            f'withNewFile(path: "/app/salt.txt", contents: {text(self._salt)})',
            f'withDirectory(path: "/app/sources", source: {text(sources)})',
            'withNewFile(path: "/app/extra.txt", contents: "extra")',
            'withoutFile(path: "/app/sources/other.txt")',
        ]

    def _edits(self) -> str:
        answer: str = self._ask(
            chain(*self._edited(), 'directory(path: "/app")', 'file(path: "sources/data.txt")', "contents")
        )
        return hashlib.sha256(answer.encode()).hexdigest()

    def _build(self) -> str:
        answer: str = self._ask(
            chain("host", self._sources, "dockerBuild", 'file(path: "/sum.txt")', "contents")
        )
        return answer

    def _service(self) -> str:
        server = [
            "container",
            self._base,
            f'withNewFile(path: "/server.pl", contents: {text(SERVER.replace("SALT", self._salt))})',
            "withExposedPort(port: 8080)",
            'asService(args: ["perl", "/server.pl"])',
        ]
        service = self._ask(chain(*server, "id"))
        bound = f'withServiceBinding(alias: "web", service: {text(service)})'
        asked = f'withExec(args: ["perl", "-e", {text(ASK)}])'
        answer: str = self._ask(chain("container", self._base, bound, asked, "stdout"))
        return answer

    def _mounts(self, nonce: str, command: str) -> list[str]:
        """An exec with a cache volume, and with a directory that it writes to."""
        sources = self._ask(chain("host", self._sources, "id"))
        volume = self._ask(chain(f"cacheVolume(key: {text('volume-' + self._salt)})", "id"))
        return [
            "container",
            self._base,
            f'withMountedDirectory(path: "/m", source: {text(sources)})',
            f'withMountedCache(path: "/cache", cache: {text(volume)})',
            f'withEnvVariable(name: "NONCE", value: {text(nonce)})',
            f'withExec(args: ["sh", "-c", {text(command)}])',
        ]

    def _volume(self) -> str:
        write = f"echo {self._salt} > /cache/new; mv /cache/new /cache/kept; cat /m/*.txt > /m/both.txt"
        answer: str = self._ask(
            chain(*self._mounts("", write), 'directory(path: "/m")', 'file(path: "both.txt")', "contents")
        )
        return hashlib.sha256(answer.encode()).hexdigest()

    def _volume_again(self) -> str:
        """What a finished exec wrote to the volume is there, whatever was killed since."""
        answer: str = self._ask(chain(*self._mounts(self._nonce, "cat /cache/kept"), "stdout"))
        return answer

    def _publish(self) -> str:
        address = f"publish(address: {text(self._target)})"
        answer: str = self._ask(chain(*self._edited(), address))
        return answer.rpartition("@")[2]

    def _export(self) -> str:
        target = self._work / f"export-{self._salt}"
        self._ask(chain(*self._edited(), 'directory(path: "/app")', f"export(path: {text(str(target))})"))
        return content_of(target)

    def _archive(self) -> str:
        target = self._work / f"image-{self._salt}.tar"
        self._ask(chain(*self._built(0), f"export(path: {text(str(target))})"))
        return hashlib.sha256(target.read_bytes()).hexdigest()


def content_of(directory: Path) -> str:
    """One digest over the names, modes and bytes of a directory."""
    found = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        data = file.read_bytes() if file.is_file() else b""
        found.update(f"{file.relative_to(directory)} {file.stat().st_mode:o} {len(data)}\n".encode() + data)
    return found.hexdigest()


@contextlib.contextmanager
def session() -> Iterator[Client]:
    """The session of the environment, else one of this program's own, which ends when its stdin closes."""
    if "DAGGER_SESSION_PORT" in os.environ:
        yield Client(int(os.environ["DAGGER_SESSION_PORT"]), os.environ["DAGGER_SESSION_TOKEN"])
        return
    server = subprocess.Popen(
        [sys.executable, "-m", "embedded_engine", "session", "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None and server.stdout is not None
    try:
        line = server.stdout.readline()
        if not line:
            raise Failed("the session did not start")
        params = json.loads(line)
        yield Client(params["port"], params["session_token"])
    finally:
        server.stdin.close()
        server.wait(60)
        server.stdout.close()


def main() -> int:
    """The command."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    begin = time.monotonic()
    try:
        with session() as client:
            Program(client, spec).run()
    except KeyboardInterrupt:
        return 130
    except Failed as error:
        print(f"failed after {time.monotonic() - begin:.1f} s: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
