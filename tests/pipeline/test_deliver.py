"""Where a release goes, as a user sees it: preflight, forecast, several registries, promotion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registry_process import free_port, running_registry
from team import CONFIG, Team, Typed
from test_run import manifest, repository

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(600)]


def configured(team: Team, text: str) -> None:
    (team.root / "modelport.yaml").write_text(f"{CONFIG}{text}")
    team.commit("registries")


def test_a_registry_that_is_away_stops_the_run_before_the_build(team: Team) -> None:
    away = f"127.0.0.1:{free_port()}/models"
    done = team.run("--registry", f"{repository(team)},{away}")
    assert done.code == 6
    assert "nothing listens there" in done.error
    assert list(team.stages()) == ["preflight"]
    assert team.record()["status"] == "failed"


def test_a_taken_version_stops_the_run_before_the_build(team: Team) -> None:
    where = repository(team)
    team.git("tag", "v1.0.0")
    assert team.run("--registry", where).code == 0
    held = manifest(f"{where}/mood", "1.0.0").headers["Docker-Content-Digest"]
    team.change("serve.py", '{"ok": True}', '{"ok": True, "version": 2}')
    team.commit("another")
    team.git("tag", "-f", "v1.0.0")
    done = team.run("--registry", where)
    assert done.code == 6
    assert f"{where}/mood:1.0.0" in done.error
    assert "build" not in team.stages()
    assert manifest(f"{where}/mood", "1.0.0").headers["Docker-Content-Digest"] == held


def test_preflight_tells_every_check_and_names_what_to_do(team: Team) -> None:
    away = f"127.0.0.1:{free_port()}/models"
    done = team.type("preflight", "--registry", f"{repository(team)},{away}", "--json")
    assert done.code == 6
    (report,) = json.loads(done.out)
    assert [one["ready"] for one in report["registries"]] == [True, False]
    fine = team.type("preflight", "--registry", repository(team))
    assert fine.code == 0, fine.err
    for check in ("configuration", "git", "engine", "disk", "access", "repository", "tags"):
        assert f"{check} " in fine.out


def test_what_plan_predicts_is_what_happens(team: Team) -> None:
    where = repository(team)
    two = f"{where}/one,{where}/two"
    assert team.run("--registry", two, "--no-push").code == 0
    (planned,) = json.loads(team.type("plan", "--registry", two, "--json").out)
    assert team.run("--registry", two).code == 0
    predicted = {one["repository"]: one["upload_bytes"] for one in planned["upload"]["registries"]}
    sent = {one["repository"]: one["uploaded_bytes"] for one in team.record()["receipt"]["deliveries"]}
    assert planned["upload"]["exact"] is True
    assert predicted == sent
    (again,) = json.loads(team.type("plan", "--registry", two, "--json").out)
    assert {one["upload_bytes"] for one in again["upload"]["registries"]} == {0}


def test_one_registry_of_two_is_enough_where_that_is_said(team: Team, tmp_path: Path) -> None:
    where = repository(team)
    with running_registry(tmp_path / "second") as second:
        port = int(second.host.rpartition(":")[2])
    text = f"registries: [{where}, '{second.host}/models']\nrelease: {{push_to: {{at_least: 1}}}}\n"
    configured(team, text)
    done = team.run()
    assert done.code == 0, done.err
    assert manifest(f"{where}/mood", "latest").status_code == 200
    assert "nothing listens there" in team.stages()["push"]["summary"]
    with running_registry(tmp_path / "second", port=port) as second:  # it is back: the rerun completes it
        done = team.run()
        assert done.code == 0, done.err
        assert "latest" in second.tags("models/mood")
        assert second.tag_digest("models/mood", "latest") == team.record()["receipt"]["digest"]


def test_a_release_is_promoted_by_digest_with_its_referrers(team: Team, tmp_path: Path) -> None:
    where = repository(team)
    with running_registry(tmp_path / "production") as production:
        live = f"{{registries: ['{production.host}/models'], moving_tags: [live]}}"
        configured(team, f"registries: [{where}]\nenvironments: {{production: {live}}}\n")
        assert team.run().code == 0
        digest = team.record()["receipt"]["digest"]
        done = promoted(team, f"{where}/mood:latest")
        assert done.code == 0, done.err
        commit = team.git("rev-parse", "HEAD")[:12]
        assert production.tag_digest("models/mood", commit) == digest
        assert production.tag_digest("models/mood", "live") == digest
        traced = team.type("trace", f"{production.host}/models/mood:{commit}")
        assert traced.code == 0, traced.err
        assert "check passed" in traced.out


def test_what_was_not_checked_is_not_promoted(team: Team) -> None:
    where = repository(team)
    configured(team, f"environments: {{production: {{registries: ['{where}/prod']}}}}\n")
    assert team.run("--registry", where).code == 0
    host, _, path = f"{where}/mood".partition("/")
    import httpx  # the image under a digest that no gate has seen

    body = json.loads(manifest(f"{where}/mood", "latest").content) | {"annotations": {"changed": "yes"}}
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    put = httpx.put(f"http://{host}/v2/{path}/manifests/unknown", json=body, headers=kind, trust_env=False)
    assert put.status_code == 201
    done = promoted(team, f"{where}/mood:unknown")
    assert done.code == 9, done.err
    assert "check" in done.error
    assert manifest(f"{where}/prod/mood", "unknown").status_code == 404


def promoted(team: Team, reference: str) -> Typed:
    return team.type("promote", reference, "--to", "production")
