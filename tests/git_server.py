"""Git repositories for tests: made by the machine's git, served over loopback HTTP by `git http-backend`."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_AUTHOR = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(place: Path, *args: str) -> str:
    argv = ["git", "-C", str(place), "-c", "init.defaultBranch=main", *args]
    done = subprocess.run(argv, env={**os.environ, **_AUTHOR}, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(place: Path, message: str = "change", **files: str) -> str:
    """Write files (``a_txt`` is a.txt) and commit them; the commit's id."""
    for name, text in files.items():
        (place / name.replace("_", ".")).write_text(text)
    git(place, "add", "-A")
    git(place, "commit", "-q", "--allow-empty", "-m", message)
    return git(place, "rev-parse", "HEAD")


def repository(place: Path) -> Path:
    """A new repository with one commit on main."""
    place.mkdir(parents=True)
    git(place, "init", "-q")
    commit(place, "first", a_txt="one\n")
    return place


@dataclass
class GitServer:
    """``git http-backend`` behind a tiny CGI server; ``requests`` are (path, Authorization header)."""

    port: int
    wanted: str = ""  # user:password
    requests: list[tuple[str, str]] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    @property
    def uploads(self) -> int:
        """How often objects were asked for."""
        return sum(path.endswith("git-upload-pack") for path, _ in self.requests)


@contextlib.contextmanager
def git_server(root: Path, wanted: str = "") -> Iterator[GitServer]:
    """Serve every repository below ``root``; with ``wanted`` only to who has these Basic credentials."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _serve(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            header = self.headers.get("Authorization", "")
            told.requests.append((path, header))
            if told.wanted and header != "Basic " + base64.b64encode(told.wanted.encode()).decode():
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            environ = {
                **os.environ,
                **_AUTHOR,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environ, capture_output=True, check=False
            )
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = GitServer(server.server_address[1], wanted)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
