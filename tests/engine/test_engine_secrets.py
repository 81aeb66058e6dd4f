"""Planted secrets of every kind, told by programs in every encoding: nothing that the engine keeps, sends or
says holds one."""

from __future__ import annotations

import base64
import gzip
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagger
import pytest
from dagger import dag
from engine_home import EngineHome
from engine_process import SessionProcess, engine_session
from git_server import git_server, repository
from registry_process import PASSWORD, USERNAME, running_registry

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.timeout(180)]

NAMED = "plant/named+7Qx<k>=Z&9"
KEY = (
    "-----BEGIN KEY-----\n"
    + "".join(f"{n}MIIplantKEYline{n * 7919}/{n}+\n" for n in range(30))
    + "-----END KEY-----\n"
)
FROM_ENVIRONMENT = "plant-environment-5Jw2"
FROM_FILE = "plant-file-8Hd4\n"
FROM_COMMAND = "plant-command-3Ks6"
GIT_TOKEN = "plant-git-token-6Vb1"
HEADER = "Basic " + base64.b64encode(f"x-access-token:{GIT_TOKEN}".encode()).decode()
SECRETS = (NAMED, KEY, FROM_ENVIRONMENT, FROM_FILE, FROM_COMMAND, PASSWORD, GIT_TOKEN, HEADER)

# prints each file it is given, and each variable it is told of, in every way it can think of
TELL = r"""
$| = 1;
sub b64 { my $s = pack("u", $_[0]); $s =~ s/^.//mg; $s =~ tr/\n//d; $s =~ tr#` -_#AA-Za-z0-9+/#;
          my $p = (3 - length($_[0]) % 3) % 3; $s =~ s/.{$p}$/'=' x $p/e if $p; $s }
my @values = map { local $/; open(my $f, '<', $_) or die "$_: $!"; <$f> } grep { m{^/} } @ARGV;
push @values, map { $ENV{$_} } grep { !m{^/} } @ARGV;
for my $v (@values) {
    print "raw $v\n"; print STDERR "err $v\n";
    my $half = int(length($v) / 2);
    print "split ", substr($v, 0, $half); select(undef, undef, undef, 0.05); print STDERR "between\n";
    print substr($v, $half), "\n";
    print "line $_\n" for split(/\n/, $v);
    for my $around ("", "u:", "xy:") {
        my $b = b64("$around$v"); print "base64 $b\n"; (my $w = $b) =~ tr#+/=#-_#d; print "url64 $w\n";
    }
    (my $t = b64($v)) =~ s/(.{76})/$1\n/g; print "wrapped $t\n";

    (my $u = $v) =~ s/([^A-Za-z0-9_.~-])/sprintf("%%%02X", ord($1))/ge; print "percent $u\n";
    (my $j = $v) =~ s/\n/\\n/g; $j =~ s/"/\\"/g; print "json \"$j\"\n";
    print "hex ", unpack("H*", $v), "\n"; print "HEX ", uc(unpack("H*", $v)), "\n";
}
"""
SERVER = """
use IO::Socket::INET; $| = 1;
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "cannot listen: $!";
do "/tell.pl"; close($server->accept); exit 9;
"""


def traces(value: str) -> dict[bytes, str]:
    """What must be found nowhere, computed by other means than the engine's."""
    data, found = value.encode(), {}
    for name, part in [("whole", data.strip()), *(("line", line) for line in data.splitlines()[1:4])]:
        if len(part) > 4 and b"-----" not in part:
            found[part] = name
    for before in range(3):
        text = base64.b64encode(bytes(before) + data.strip())
        found[text[4:28]] = f"base64 after {before}"
        found[text[4:28].translate(bytes.maketrans(b"+/", b"-_"))] = f"url base64 after {before}"
    found[urllib.parse.quote(value.strip(), safe="").encode()] = "percent"
    found[data.strip().hex().encode()[:40]] = "hex"
    found[data.strip().hex().upper().encode()[:40]] = "HEX"
    return found


_GIT_CONFIG = re.compile(rb"GIT_CONFIG_VALUE_\d+=[^\0]*")
TRACES = {trace: f"{name} of {value[:12]!r}" for value in SECRETS for trace, name in traces(value).items()}


def found_in(data: bytes) -> list[str]:
    return [what for trace, what in TRACES.items() if trace in data]


def found_below(*directories: Path) -> list[str]:
    """Every trace in every file, compressed ones opened."""
    found = []
    for directory in directories:
        for file in directory.rglob("*"):
            if file.is_symlink() or not file.is_file():
                continue
            data = file.read_bytes()
            if data.startswith(b"\x1f\x8b"):
                data += gzip.decompress(data)
            found += [f"{file}: {what}" for what in found_in(data + str(file).encode())]
    return found


@dataclass
class Watched:
    """What was seen of the tools that a session started."""

    pid: int
    seen: int = 0
    found: set[str] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        root = Path("/").stat()
        while not self.ended.wait(0.02):
            for pid in descendants(self.pid):
                try:
                    place = Path(f"/proc/{pid}/root/").stat()
                    if (place.st_dev, place.st_ino) != (root.st_dev, root.st_ino):
                        continue  # the program in the container: its environment is where the secret was put
                    told = {part: Path(f"/proc/{pid}/{part}").read_bytes() for part in ("cmdline", "environ")}
                except OSError:
                    continue
                if b"embedded_engine" in told["cmdline"] or b"/work/told" in told["cmdline"]:
                    continue  # a copy of the server about to become a tool; the user's own command of a cmd://
                self.seen += 1
                # git has its credentials there, which only its own user can read
                told["environ"] = _GIT_CONFIG.sub(b"", told["environ"])
                for part, data in told.items():
                    self.found |= {f"{told['cmdline'][:60]!r}: {part}: {what}" for what in found_in(data)}


def descendants(pid: int) -> Iterator[int]:
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        try:
            children = [
                int(child)
                for file in Path(f"/proc/{one}/task").glob("*/children")
                for child in file.read_text().split()
            ]
        except OSError:
            continue
        yield from children
        waiting += children


@contextmanager
def watched(session: SessionProcess) -> Iterator[Watched]:
    one = Watched(session.process.pid)
    thread = threading.Thread(target=one.watch)
    thread.start()
    try:
        yield one
    finally:
        one.ended.set()
        thread.join()


async def tell_everything(home: EngineHome, work: Path, registry: str) -> list[str]:
    """Run programs that tell all they know in every place there is; what came back of it."""
    said: list[str] = []
    uris = {"e": "env://PLANTED", "f": f"file://{work / 'planted'}", "c": f"cmd://cat {work / 'told'}"}
    secrets = {name: dag.secret(uri) for name, uri in uris.items()}
    secrets |= {"named": dag.set_secret("named", NAMED), "key": dag.set_secret("key", KEY)}
    base = dag.container().from_(home.base).with_new_file("/tell.pl", TELL)
    with_all = base
    for name, secret in secrets.items():
        with_all = with_all.with_mounted_secret(f"/s/{name}", secret)
        with_all = with_all.with_secret_variable(f"S_{name}", secret)
    words = [*(f"/s/{name}" for name in secrets), *(f"S_{name}" for name in secrets)]
    volume = dag.cache_volume("planted")
    cached = with_all.with_mounted_cache("/cache", volume)
    told = cached.with_exec(
        ["perl", "/tell.pl", *words], redirect_stdout="/out", redirect_stderr="/cache/err"
    )
    said += [await told.stdout(), await told.stderr(), await told.combined_output()]
    said.append(await told.file("/out").contents())
    with pytest.raises(dagger.ExecError) as failed:
        await with_all.with_exec(["sh", "-c", f"perl /tell.pl {' '.join(words)}; exit 7"]).stdout()
    said += [str(failed.value), failed.value.stdout, failed.value.stderr, str(failed.value.command)]
    service = with_all.with_new_file("/serve.pl", SERVER).with_exposed_port(8080)
    bound = base.with_service_binding("web", service.as_service(args=["perl", "/serve.pl", *words]))
    ask = 'use IO::Socket::INET; IO::Socket::INET->new("web:8080"); sleep 1; exit 5'
    with pytest.raises(dagger.ExecError) as died:
        await bound.with_exec(["perl", "-e", ask]).sync()
    said += [str(died.value), died.value.stdout, died.value.stderr]
    mounts = " ".join(f"--mount=type=secret,id={name}" for name in ("named", "key"))
    run = f"RUN {mounts} perl /tell.pl /run/secrets/named /run/secrets/key"
    dockerfile = f"FROM {home.base}\nCOPY tell.pl /\n{run}\n{run} && exit 6\n"
    context = dag.directory().with_new_file("Dockerfile", dockerfile).with_new_file("tell.pl", TELL)
    with pytest.raises(dagger.ExecError) as broken:
        await context.docker_build(secrets=[secrets["named"], secrets["key"]]).sync()
    said += [str(broken.value), broken.value.stdout, broken.value.stderr]
    image = told.with_registry_auth(registry, USERNAME, dag.set_secret("registry", PASSWORD))
    await image.publish(f"{registry}/planted:1")
    return said


async def bring_in(url: str) -> list[str]:
    """A private repository by its token, and a private file by a header."""
    token, header = dag.set_secret("token", GIT_TOKEN), dag.set_secret("header", HEADER)
    tree = dag.git(url, http_auth_token=token).head().tree()
    asked = dag.http(f"{url}/info/refs?service=git-upload-pack", auth_header=header)
    said = [await tree.file(".git/config").contents(), await asked.contents()]
    with pytest.raises(dagger.QueryError) as refused:
        await dag.git(f"{url}-none", http_auth_token=token).head().commit()
    return [*said, str(refused.value)]


async def test_planted_secrets_are_found_nowhere(
    home: EngineHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, work, events = tmp_path / "state", tmp_path / "work", tmp_path / "events"
    repository(tmp_path / "repos" / "one")
    work.mkdir()
    (work / "planted").write_text(FROM_FILE)
    (work / "told").write_text(FROM_COMMAND)
    environment = {"PLANTED": FROM_ENVIRONMENT, "EMBEDDED_ENGINE_EVENTS": str(events)}
    environment["EMBEDDED_ENGINE_CACHE_TO"] = str(tmp_path / "cache")
    with (
        running_registry(tmp_path / "registry", password=True) as registry,
        git_server(tmp_path / "repos", f"x-access-token:{GIT_TOKEN}") as server,
    ):
        with engine_session(state, "--debug", "--progress=plain", workdir=work, **environment) as session:
            monkeypatch.setenv("DAGGER_SESSION_PORT", str(session.port))
            monkeypatch.setenv("DAGGER_SESSION_TOKEN", session.params["session_token"])
            with watched(session) as tools:
                async with dagger.connection(dagger.Config(retry=None)):
                    said = await tell_everything(home, work, registry.host)
                    said += await bring_in(server.url("one"))
            runroots = [
                one.parent
                for one in Path("/run/embedded-engine").glob("*/state-directory")
                if one.read_text() == str(state)
            ]
            assert runroots
        token = session.params["session_token"]
        sent = found_below(registry.directory)
    assert tools.seen > 20
    assert not tools.found
    assert "***" in "".join(said)
    assert not found_in("\n".join(said).encode())
    assert (tmp_path / "cache").is_dir()
    assert not found_below(state, tmp_path / "cache", *runroots)
    assert not sent
    assert not found_in(events.read_bytes())
    told = session.errors.read_bytes()
    assert b"FAILED  exec" in told and b"buildah " in told  # the debug log is there
    assert token.encode() not in told
