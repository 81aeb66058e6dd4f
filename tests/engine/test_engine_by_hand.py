"""What --debug tells really repeats a step, in a shell and without the engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import dagger
import pytest
from dagger import dag
from engine_home import EngineHome
from engine_process import engine_session

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.timeout(120)]

SECRET = "to-be-set-by-hand"
SHELL = ["sh", "-e"] if os.geteuid() == 0 else ["buildah", "unshare", "sh", "-e"]


def lines_under(title: str, text: str) -> str:
    """The lines to paste that follow a title, up to the next thing told."""
    found = re.search(
        rf"^# {re.escape(title)}.*?:\n(.*?)(?=^\+ |^ +\d+\.\d s )", text, re.DOTALL | re.MULTILINE
    )
    assert found is not None, text
    return found[1]


def pasted(lines: str, **secrets: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **secrets}
    return subprocess.run(
        SHELL, check=False, input=lines, capture_output=True, text=True, env=environ, timeout=60
    )


async def test_an_exec_and_a_build_are_repeated_by_hand_and_a_failed_one_is_entered(
    home: EngineHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_session(home.state, "--debug", "--progress=plain", workdir=tmp_path) as session:
        monkeypatch.setenv("DAGGER_SESSION_PORT", str(session.port))
        monkeypatch.setenv("DAGGER_SESSION_TOKEN", session.params["session_token"])
        async with dagger.connection(dagger.Config(retry=None)):
            base = dag.container().from_(home.base)
            token = dag.set_secret("token", SECRET)
            source = dag.directory().with_new_file("a", "from a directory\n")
            ready = base.with_mounted_directory("/src", source).with_secret_variable("TOKEN", token)
            ready = ready.with_mounted_secret("/token", token).with_workdir("/src")
            script = 'cat a; echo "it is $TOKEN $(cat /token)"; echo changed > a'
            assert "it is *** ***" in await ready.with_exec(["sh", "-c", script]).stdout()
            dockerfile = (
                f"FROM {home.base}\nARG WORD\n"
                "RUN --mount=type=secret,id=token echo built $WORD && cat /run/secrets/token\n"
            )
            context = dag.directory().with_new_file("Dockerfile", dockerfile)
            build_args = [dagger.BuildArg("WORD", "it's")]
            await context.docker_build(build_args=build_args, secrets=[token]).sync()
            with pytest.raises(dagger.ExecError):
                await base.with_exec(["sh", "-c", "echo what was left > /left; exit 3"]).sync()
    told = session.errors.read_text()
    assert SECRET not in told

    again = pasted(lines_under("exec sh -c 'cat a;", told), SECRET_0=SECRET, SECRET_1=SECRET)
    assert again.returncode == 0, again.stderr
    assert f"from a directory\nit is {SECRET} {SECRET}\n" in again.stdout

    lines = lines_under("docker-build Dockerfile", told)
    again = pasted(lines.replace(" bud ", " bud --no-cache "), SECRET_0=SECRET)
    assert again.returncode == 0, again.stderr
    assert f"built it's\n{SECRET}" in again.stdout

    lines = lines_under("exec sh -c 'echo what was left > /left; exit 3' failed", told)
    again = pasted(lines.replace(" --terminal ", " ").replace(" -- sh\n", " -- cat /left\n"))
    assert again.returncode == 0, again.stderr
    assert "what was left\n" in again.stdout
    places = re.findall(r"^mkdir -m 700 (\S+)", told, re.MULTILINE)
    assert len(places) == 3
    assert not any(Path(place).exists() for place in places), "the lines tidy up behind them"
