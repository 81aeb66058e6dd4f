"""The served API on a simulated runtime: laziness, caching, errors, secrets, services, ids."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from graphql import GraphQLObjectType, validate_schema
from runtime_simulator import SimulatedRuntime
from simulated_sessions import Asker

from embedded_engine.api import build_api
from embedded_engine.events import parse_traceparent, span_id
from embedded_engine.resolvers.registry import Fields
from embedded_engine.resolvers.tables import all_fields
from embedded_engine.secrets import Secrets
from embedded_engine.session import open_session
from embedded_engine.store import Store

pytestmark = pytest.mark.anyio
DIGEST = "sha256:" + "a" * 64
BASE = 'container { from(address: "r.test/base:1") '


class Client(Asker):
    """Asks one session: a chain is text."""

    async def ask(self, chain: str) -> Any:
        """The one leaf of ``{ chain }``."""
        answer = await self.raw("{ " + chain + " }")
        assert "errors" not in answer, answer
        return leaf(answer["data"])

    async def fail(self, chain: str) -> dict[str, Any]:
        answer = await self.raw("{ " + chain + " }")
        assert answer["data"] is None
        error: dict[str, Any] = answer["errors"][0]
        return error


def leaf(data: Any) -> Any:
    while isinstance(data, dict):
        assert len(data) == 1
        data = next(iter(data.values()))
    return data


def based(*steps: str) -> str:
    """A chain on the base image, closed as often as opened."""
    chain = ["container", 'from(address: "r.test/base:1")', *steps]
    return " { ".join(chain) + " }" * (len(chain) - 1)


API = build_api(all_fields())
Sessions = Callable[[], Awaitable[Client]]


@pytest.fixture
async def new_session(tmp_path: Path) -> AsyncIterator[Sessions]:
    """Sessions one after another on one state and one runtime, as a cache outlives a process."""
    runtime = SimulatedRuntime(tmp_path / "runtime", {"r.test/base:1": DIGEST})
    workdir = tmp_path / "work"
    workdir.mkdir()
    ends: list[anyio.Event] = []
    async with anyio.create_task_group() as tasks:

        async def hold(ready: Callable[[Client], None], end: anyio.Event) -> None:
            store = Store.open(tmp_path / "state" / "engine.sqlite")
            secrets = Secrets.in_session(store, workdir)
            async with open_session(tmp_path / "state", runtime, store, secrets) as session:
                ready(Client(session, API, runtime))
                await end.wait()

        async def begin() -> Client:
            got: list[Client] = []
            there, end = anyio.Event(), anyio.Event()
            ends.append(end)

            def ready(client: Client) -> None:
                got.append(client)
                there.set()

            tasks.start_soon(hold, ready, end)
            await there.wait()
            return got[0]

        yield begin
        for end in ends:
            end.set()


@pytest.fixture
async def client(new_session: Sessions) -> Client:
    return await new_session()


# --- laziness and caching


async def test_an_exec_runs_once_and_its_output_comes_back(client: Client) -> None:
    assert await client.ask(based('withExec(args: ["echo", "hi"])', "stdout")) == "hi\n"
    assert await client.ask(based('withExec(args: ["echo", "hi"])', "exitCode")) == 0
    assert len(client.runtime.executed) == 1


async def test_nothing_runs_until_a_result_is_needed(client: Client) -> None:
    assert await client.ask(based('withExec(args: ["echo"])', 'withLabel(name: "a", value: "b")', "id"))
    assert client.runtime.executed == []


async def test_a_second_session_runs_nothing(new_session: Sessions) -> None:
    chain = based(
        'withNewFile(path: "/a", contents: "x")',
        'withExec(args: ["true"])',
        'withExec(args: ["cat", "/a"])',
        "stdout",
    )
    first = await new_session()
    assert await first.ask(chain) == "x"
    ran, pulled, edited = len(first.runtime.executed), len(first.runtime.pulled), len(first.runtime.edits)
    second = await new_session()
    assert await second.ask(chain) == "x"
    assert (len(second.runtime.executed), len(second.runtime.pulled), len(second.runtime.edits)) == (
        ran,
        pulled,
        edited,
    )


async def test_a_snapshot_that_vanished_is_made_again(new_session: Sessions) -> None:
    chain = based('withExec(args: ["echo", "1"])', "stdout")
    first = await new_session()
    await first.ask(chain)
    for snapshot in [one for one in first.runtime.systems if one]:
        await first.runtime.remove(snapshot)
    second = await new_session()
    assert await second.ask(chain) == "1\n"
    assert len(second.runtime.executed) == 2


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ('withEnvVariable(name: "A", value: "2")', 2),
        ('withWorkdir(path: "/elsewhere")', 2),
        ('withUser(name: "1000")', 2),
        ('withNewFile(path: "/a", contents: "other")', 2),
        ('withMountedTemp(path: "/t")', 2),
        ('withLabel(name: "a", value: "2")', 1),
        ('withVolatileVariable(name: "URL", value: "2")', 1),
        ('withRegistryAuth(address: "r.test", username: "u", secret: "SECRET")', 1),
    ],
)
async def test_what_an_exec_can_see_is_in_its_key(client: Client, change: str, runs: int) -> None:
    secret = await client.ask('setSecret(name: "s", plaintext: "value") { id }')
    before = (
        change.replace('"2"', '"1"').replace("other", "same")
        if runs == 1
        else 'withLabel(name: "x", value: "y")'
    )
    for step in (before, change):
        await client.ask(based(step.replace("SECRET", secret), 'withExec(args: ["true"])', "exitCode"))
    assert len(client.runtime.executed) == runs


async def test_three_requests_for_one_exec_run_it_once(client: Client) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.ask, based('withExec(args: ["sleep", "0.05"])', "exitCode"))
    assert len(client.runtime.executed) == 1


async def test_a_client_that_leaves_kills_its_exec_and_the_next_one_runs_it_anew(client: Client) -> None:
    chain = based('withExec(args: ["sleep", "0.3"])', "exitCode")
    with anyio.move_on_after(0.1):
        await client.ask(chain)
    assert await client.ask(chain) == 0
    assert client.runtime.killed == 1
    assert len(client.runtime.executed) == 2


async def test_a_tag_is_asked_for_once_a_session(new_session: Sessions) -> None:
    first = await new_session()
    for _ in range(2):
        assert await first.ask(based("imageRef")) == f"r.test/base:1@{DIGEST}"
    assert len(first.runtime.resolved) == 1
    second = await new_session()
    await second.ask(based("imageRef"))
    assert len(second.runtime.resolved) == 2


# --- how an exec may end


async def test_a_failure_has_the_whole_payload_and_the_end_of_stderr_in_its_message(client: Client) -> None:
    error = await client.fail(based('withExec(args: ["exit", "7"])', "stdout"))
    assert error["extensions"] == {
        "_type": "EXEC_ERROR",
        "cmd": ["exit", "7"],
        "exitCode": 7,
        "stdout": "out before the end",
        "stderr": "boom\nboom\nboom",
    }
    assert error["message"].startswith("exit code: 7")
    assert "boom" in error["message"]
    assert error["path"] == ["container", "from", "withExec", "stdout"]


async def test_a_failure_is_not_remembered_but_a_tolerated_one_is(new_session: Sessions) -> None:
    client = await new_session()
    for _ in range(2):
        await client.fail(based('withExec(args: ["exit", "7"])', "stdout"))
    assert len(client.runtime.executed) == 2
    tolerated = based('withExec(args: ["exit", "7"], expect: ANY)', "exitCode")
    assert await client.ask(tolerated) == 7
    assert await (await new_session()).ask(tolerated) == 7
    assert len(client.runtime.executed) == 3


@pytest.mark.parametrize(
    ("expect", "code", "fine"),
    [
        ("SUCCESS", 0, True),
        ("SUCCESS", 1, False),
        ("FAILURE", 0, False),
        ("FAILURE", 127, True),
        ("FAILURE", 192, True),
        ("ANY", 0, True),
        ("ANY", 137, False),
        ("ANY", 255, True),
    ],
)
async def test_expected_exit_codes(client: Client, expect: str, code: int, fine: bool) -> None:
    chain = based(f'withExec(args: ["exit", "{code}"], expect: {expect})', "exitCode")
    if fine:
        assert await client.ask(chain) == code
    else:
        assert (await client.fail(chain))["extensions"]["exitCode"] == code


async def test_set_up_errors_have_exit_code_minus_one(client: Client) -> None:
    error = await client.fail(based('withUser(name: "nobody-knows")', 'withExec(args: ["true"])', "sync"))
    assert error["extensions"]["exitCode"] == -1
    assert error["message"] == "unable to find user nobody-knows"


async def test_without_a_command_there_is_no_output(client: Client) -> None:
    assert (await client.fail(based("stdout")))["message"] == "no command has been set"
    assert (await client.fail(based("withExec(args: [])", "stdout")))["message"] == "no command has been set"


async def test_default_arguments_and_entrypoint(client: Client) -> None:
    steps = ['withEntrypoint(args: ["echo", "e"])', 'withDefaultArgs(args: ["d"])']
    assert await client.ask(based(*steps, "withExec(args: [], useEntrypoint: true)", "stdout")) == "e d\n"
    assert await client.ask(based(*steps, 'withEntrypoint(args: ["x"])', "defaultArgs")) == []


async def test_stdin_and_expansion(client: Client) -> None:
    assert await client.ask(based('withExec(args: ["stdin"], stdin: "to be read")', "stdout")) == "to be read"
    chain = based(
        'withEnvVariable(name: "A", value: "x")',
        'withExec(args: ["echo", "${A}$NO"], expand: true)',
        "stdout",
    )
    assert await client.ask(chain) == "x\n"
    both = await client.fail(based('withExec(args: ["true"], stdin: "a", redirectStdin: "/b")', "sync"))
    assert "both" in both["message"]


# --- secrets


async def test_a_secret_is_given_masked_and_in_no_key_or_row(new_session: Sessions, tmp_path: Path) -> None:
    client = await new_session()
    chain = ['withSecretVariable(name: "TOKEN", secret: "ID")', 'withExec(args: ["env"])', "stdout"]
    for value in ("first-value", "rotated-value"):
        secret = await client.ask(f'setSecret(name: "token", plaintext: "{value}") {{ id }}')
        assert value not in base64.urlsafe_b64decode(secret).decode()
        output = await client.ask(based(*(step.replace("ID", secret) for step in chain)))
        assert "TOKEN=***" in output
    assert len(client.runtime.executed) == 1  # the value is not in the key
    assert client.runtime.executed[0].secret_env == (("TOKEN", "first-value"),)
    assert "first-value" not in repr(client.runtime.executed[0])
    stored = b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())
    assert b"first-value" not in stored and b"rotated-value" not in stored


async def test_a_plaintext_in_a_command_line_is_masked_in_events_rows_and_errors(
    new_session: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDED_ENGINE_EVENTS", str(tmp_path / "events"))
    client = await new_session()
    await client.ask('setSecret(name: "s", plaintext: "hunter2-hunter2") { id }')
    await client.ask(based('withExec(args: ["echo", "hunter2-hunter2"])', "exitCode"))
    error = await client.fail(based('withExec(args: ["nope", "hunter2-hunter2"])', "exitCode"))
    assert "hunter2" not in error["message"]
    assert "hunter2" not in (tmp_path / "events").read_text()
    names = client.session.store.database.execute("SELECT name FROM operation WHERE kind = 'exec'").fetchall()
    assert names == [("echo ***",)]


async def test_secrets_from_files_and_commands(client: Client) -> None:
    (client.session.workdir / "pw").write_text("from-a-file\n")
    assert await client.ask('secret(uri: "file://pw") { plaintext }') == "from-a-file\n"
    assert await client.ask('secret(uri: "cmd://printf from-a-command") { plaintext }') == "from-a-command"
    for uri, problem in (
        ("file://nowhere", "No such file"),
        ("cmd://exit 3", "exit code 3"),
        ("vault://x", "only env://, file:// and cmd:// are served"),
    ):
        error = await client.fail(f'secret(uri: "{uri}") {{ plaintext }}')
        assert problem in error["message"]


async def test_events_carry_the_callers_span(
    new_session: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDED_ENGINE_EVENTS", str(tmp_path / "events"))
    client = await new_session()
    span_id.set(parse_traceparent("00-" + "a" * 32 + "-00f067aa0ba902b7-01"))
    await client.ask(based('withExec(args: ["true"])', "exitCode"))
    spans = {json.loads(line)["span"] for line in (tmp_path / "events").read_text().splitlines()}
    assert spans == {"00f067aa0ba902b7"}
    assert parse_traceparent("nonsense") == ""


async def test_a_secret_by_uri_is_keyed_by_its_value(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, runs in (("one-value", 1), ("two-value", 2), ("one-value", 2)):
        monkeypatch.setenv("A_SECRET", value)
        client.session.secrets.by_uri.clear()
        secret = await client.ask('secret(uri: "env://A_SECRET") { id }')
        mounted = f'withMountedSecret(path: "/s", source: "{secret}")'
        assert await client.ask(based(mounted, 'withExec(args: ["cat", "/s"])', "stdout")) == "***"
        assert len(client.runtime.executed) == runs


async def test_a_missing_secret_is_an_error_only_when_used_and_names_the_variable(client: Client) -> None:
    secret = await client.ask('secret(uri: "env://NOT_THERE_AT_ALL") { id }')
    step = f'withSecretVariable(name: "T", secret: "{secret}")'
    assert await client.ask(based(step, "id"))
    error = await client.fail(based(step, 'withExec(args: ["env"])', "stdout"))
    assert "NOT_THERE_AT_ALL" in error["message"]


async def test_a_refused_query_does_not_echo_a_plaintext(client: Client) -> None:
    for query in (
        '{ setSecret(name: 1, plaintext: "hunter2-hunter2") { id } }',
        '{ setSecret(name: "a", plaintext: "hunter2-hunter2") { nope(x: "hunter2-hunter2") } }',
        '{ setSecret(plaintext: "hunter2-hunter2" "hunter2-hunter2") { id } }',
    ):
        answer = await client.raw(query)
        assert answer["status"] == 422
        assert "hunter2" not in json.dumps(answer)


# --- files and mounts


async def test_edits_after_one_another_share_a_layer_but_a_copied_directory_has_its_own(
    client: Client,
) -> None:
    source = await client.ask('directory { withNewFile(path: "w.bin", contents: "1") { id } }')
    chain = based(
        'withNewFile(path: "/a", contents: "a")',
        'withSymlink(target: "/a", linkName: "/b")',
        f'withDirectory(path: "/w", source: "{source}")',
        f'withDirectory(path: "/v", source: "{source}")',
        "sync",
    )
    await client.ask(chain)
    assert [len(edits) for edits in client.runtime.edits] == [2, 1, 1]
    assert (
        await client.ask(
            based(f'withDirectory(path: "/w", source: "{source}")', 'file(path: "/w/w.bin")', "contents")
        )
        == "1"
    )


async def test_a_mount_is_seen_by_execs_and_is_not_in_the_image(client: Client) -> None:
    source = await client.ask('directory { withNewFile(path: "x", contents: "mounted") { id } }')
    mount = f'withMountedDirectory(path: "/m", source: "{source}", readOnly: true)'
    assert await client.ask(based(mount, 'withExec(args: ["cat", "/m/x"])', "stdout")) == "mounted"
    assert await client.ask(based(mount, 'file(path: "/m/x")', "contents")) == "mounted"
    assert await client.ask(based(mount, "mounts")) == ["/m"]
    entries = await client.ask(based(mount, 'withExec(args: ["true"])', "rootfs", "entries"))
    assert "m/" not in entries


async def test_what_an_exec_writes_to_a_mount_later_ones_see_and_others_do_not(client: Client) -> None:
    source = await client.ask('directory { withNewFile(path: "x", contents: "1") { id } }')
    mount = f'withMountedDirectory(path: "/m", source: "{source}")'
    written = [mount, 'withExec(args: ["append", "/m", "x", "2"])']
    assert await client.ask(based(*written, 'withExec(args: ["cat", "/m/x"])', "stdout")) == "12"
    assert await client.ask(based(*written, 'file(path: "/m/x")', "contents")) == "12"
    assert await client.ask(based(mount, 'withExec(args: ["cat", "/m/x"])', "stdout")) == "1"


async def test_a_cache_volume_keeps_what_is_written_and_cannot_be_read_back(client: Client) -> None:
    volume = await client.ask('cacheVolume(key: "pip") { id }')
    mount = f'withMountedCache(path: "/c", cache: "{volume}")'
    await client.ask(based(mount, 'withExec(args: ["append", "/c", "x", "1"])', "exitCode"))
    await client.ask(based(mount, 'withExec(args: ["append", "/c", "x", "2"])', "exitCode"))
    assert await client.ask(based(mount, 'withExec(args: ["cat", "/c/x"])', "stdout")) == "12"
    error = await client.fail(based(mount, 'file(path: "/c/x")', "contents"))
    assert "cannot retrieve path from cache" in error["message"]


# --- services


SERVICE = based("withExposedPort(port: 80)", 'asService(args: ["serve"])', "id")


async def test_one_recipe_is_one_service_started_when_first_bound_and_stopped_at_the_end(
    new_session: Sessions,
) -> None:
    client = await new_session()
    service = await client.ask(SERVICE)
    assert client.runtime.services == []
    for number in range(2):
        bound = f'withServiceBinding(alias: "web", service: "{service}")'
        await client.ask(based(bound, f'withExec(args: ["echo", "{number}"])', "stdout"))
    assert len(client.runtime.services) == 1
    hosts = dict(client.runtime.executed[-1].hosts)
    assert "web" in hosts["10.0.0.2"]
    name = await client.ask(f'node(id: "{service}") {{ ... on Service {{ hostname }} }}')
    assert name in hosts["10.0.0.2"]
    assert (
        await client.ask(f'node(id: "{service}") {{ ... on Service {{ endpoint(scheme: "http") }} }}')
        == f"http://{name}:80"
    )
    await client.session.evaluator.services.close()
    assert client.runtime.services[0].code is not None


async def test_a_service_that_ends_early_tells_its_exit_code_and_log(client: Client) -> None:
    service = await client.ask(based('asService(args: ["exit", "5"])', "id"))
    bound = f'withServiceBinding(alias: "web", service: "{service}")'
    error = await client.fail(based(bound, 'withExec(args: ["true"])', "sync"))
    assert error["extensions"]["exitCode"] == 5
    assert error["extensions"]["stderr"] == "why"


# --- building and leaving


async def test_a_build_is_keyed_by_what_it_can_see(client: Client) -> None:
    work = client.session.workdir
    (work / "Dockerfile").write_text("FROM r.test/base:1\nCOPY . /app\n")
    (work / ".dockerignore").write_text("notes.txt\n")
    (work / "notes.txt").write_text("1")
    (work / "code.py").write_text("1")

    async def build() -> None:
        directory = await client.ask('host { directory(path: ".", noCache: true) { id } }')
        await client.ask(f'node(id: "{directory}") {{ ... on Directory {{ dockerBuild {{ sync }} }} }}')

    await build()
    assert client.runtime.built[0].pins == (("r.test/base:1", f"r.test/base:1@{DIGEST}"),)
    assert not (client.runtime.built[0].context / "notes.txt").exists()
    (work / "notes.txt").write_text("2")
    await build()
    assert len(client.runtime.built) == 1
    (work / "code.py").write_text("2")
    await build()
    assert len(client.runtime.built) == 2


async def test_a_failing_build_step_is_an_exec_error(client: Client) -> None:
    (client.session.workdir / "Dockerfile").write_text("FROM r.test/base:1\nRUN false\n")
    error = await client.fail('host { directory(path: ".") { dockerBuild { sync } } }')
    assert error["extensions"]["cmd"] == ["/bin/sh", "-c", "false"]
    assert error["extensions"]["exitCode"] == 1


async def test_publish_is_never_cached_and_its_digest_is_the_tarballs(client: Client) -> None:
    secret = await client.ask('setSecret(name: "pw", plaintext: "not-a-password") { id }')
    login = f'withRegistryAuth(address: "r.test/some/path:tag", username: "me", secret: "{secret}")'
    container = [login, 'withExec(args: ["write", "/a", "b"])', 'withLabel(name: "x", value: "y")']
    reference = await client.ask(based(*container, 'publish(address: "r.test/app:1")'))
    await client.ask(based(*container, 'publish(address: "r.test/app:2")'))
    assert [address for address, _, _ in client.runtime.published] == ["r.test/app:1", "r.test/app:2"]
    address, digest, given = client.runtime.published[0]
    assert reference == f"{address}@{digest}"
    assert given is not None and given.username == "me"
    assert digest in await client.ask(based(*container, "asTarball", "digest"))


# --- protocol


async def test_fields_of_daggers_engine_are_refused_by_name_before_anything_runs(client: Client) -> None:
    answer = await client.raw(
        "{ " + based('withExec(args: ["true"])', "experimentalWithAllGPUs", "stdout") + " }"
    )
    assert answer["status"] == 422
    assert answer["errors"][0]["message"] == (
        "Container.experimentalWithAllGPUs is not supported by the embedded engine: needs Dagger's engine"
    )
    assert answer["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert answer["errors"][0]["locations"]
    assert client.runtime.executed == []


async def test_arguments_of_daggers_engine_are_refused_by_name(client: Client) -> None:
    error = await client.fail(based('withExec(args: ["true"], insecureRootCapabilities: true)', "sync"))
    assert "Container.withExec(insecureRootCapabilities: true) is not supported" in error["message"]


async def test_parse_errors_and_unknown_fields(client: Client) -> None:
    broken = await client.raw("{ container {")
    assert (broken["status"], broken["errors"][0]["extensions"]["code"]) == (422, "GRAPHQL_PARSE_FAILED")
    unknown = await client.raw("{ container { nope } }")
    assert (unknown["status"], unknown["errors"][0]["extensions"]["code"]) == (
        422,
        "GRAPHQL_VALIDATION_FAILED",
    )


async def test_an_error_has_a_path_of_field_names_no_location_and_null_data(client: Client) -> None:
    answer = await client.raw(
        '{ a: container { from(address: "r.test/no:1") { id } } b: container { from(address: "no") { id } } }'
    )
    assert answer["status"] == 200
    assert answer["data"] is None
    assert answer["errors"][0]["path"] == ["container", "from"]
    assert "locations" not in answer["errors"][0]


async def test_ids_are_the_same_for_the_same_recipe_and_lead_back(client: Client) -> None:
    one, two = [await client.ask(based('withLabel(name: "a", value: "b")', "id")) for _ in range(2)]
    assert one == two
    assert await client.ask(f'node(id: "{one}") {{ ... on Container {{ label(name: "a") }} }}') == "b"
    assert await client.ask(f'loadContainerFromID(id: "{one}") {{ label(name: "a") }}') == "b"
    assert one != await client.ask(based('withLabel(name: "a", value: "c")', "id"))


@pytest.mark.parametrize("identity", ["nonsense", "Q29udGFpbmVyOmFhYQ==", ""])
async def test_unknown_ids_are_an_error_of_the_node_field(client: Client, identity: str) -> None:
    error = await client.fail(f'node(id: "{identity}") {{ ... on Container {{ exitCode }} }}')
    assert "unknown id" in error["message"]
    assert error["path"] == ["node"]


async def test_an_id_of_another_type_is_refused(client: Client) -> None:
    secret = await client.ask('setSecret(name: "s", plaintext: "value") { id }')
    error = await client.fail(based(f'withDirectory(path: "/", source: "{secret}")', "sync"))
    assert error["message"] == "expected the id of a Directory, got one of a Secret"


async def test_lists_are_answered_by_ids_and_nodes(client: Client) -> None:
    answer = await client.raw("{ " + based('withLabel(name: "a", value: "b")', "labels { id }") + " }")
    identity = answer["data"]["container"]["from"]["withLabel"]["labels"][0]["id"]
    assert await client.ask(f'node(id: "{identity}") {{ ... on Label {{ name }} }}') == "a"
    assert await client.ask("version") == "v0.21.8"


async def test_enum_spellings_the_sdk_sends(client: Client) -> None:
    chain = based('publish(address: "r.test/app:1", forcedCompression: Gzip, mediaTypes: OCIMediaTypes)')
    assert "@sha256:" in await client.ask(chain)
    refused = await client.fail(based('publish(address: "r.test/app:1", forcedCompression: EStarGZ)'))
    assert "forcedCompression: EStarGZ" in refused["message"]


async def test_introspection_tells_the_whole_schema_and_every_served_field_is_in_it(client: Client) -> None:
    query = "query IntrospectionQuery { __schema { queryType { name } types { name fields { name } } } }"
    answer = await client.raw(query)
    told = {
        f"{one['name']}.{field['name']}"
        for one in answer["data"]["__schema"]["types"]
        for field in one["fields"] or ()
    }
    assert set(all_fields()) <= told
    assert "Container.terminal" in told


async def test_events_have_one_line_per_operation_and_session(
    new_session: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "events.jsonl"
    monkeypatch.setenv("EMBEDDED_ENGINE_EVENTS", str(file))
    for _ in range(2):
        client = await new_session()
        for _ in range(2):
            await client.ask(based('withExec(args: ["echo", "hi"])', "stdout"))
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(event["kind"], event["cached"]) for event in events] == [
        ("from", False),
        ("exec", False),
        ("from", True),
        ("exec", True),
    ]
    assert events[1]["name"] == "echo hi"
    assert set(events[0]) == {"operation", "kind", "name", "cached", "seconds", "span"}


async def test_the_schema_is_valid_and_every_resolver_has_its_field() -> None:
    fields = all_fields()
    api = build_api(fields)
    assert validate_schema(api.schema) == []
    bound = {
        f"{name}.{field}"
        for name, kind in api.schema.type_map.items()
        if isinstance(kind, GraphQLObjectType)
        for field, definition in kind.fields.items()
        if definition.resolve is not None and not name.startswith("__")
    }
    assert bound == set(fields)


async def test_a_resolver_without_a_field_is_no_api() -> None:
    with pytest.raises(KeyError):
        build_api(Fields({"Container.nothing": lambda *_: None}))


async def test_independent_work_runs_at_once_also_where_there_are_few_cores(client: Client) -> None:
    assert client.session.evaluator.slots.total_tokens >= 8  # four execs that wait take as long as one
