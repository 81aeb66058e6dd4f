"""The scan's policy from release to release: what is published, what is new, SARIF, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from official_schemas import hold_sarif, hold_spdx
from team import Team

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.timeout(600)]

POLICY = """\
scan:
  python_packages: {source: osv.zip}
  block_at: {python_packages: LIMIT, os_packages: never, hygiene: never}
  could_not_look: {os_packages: warn}
"""
SCAN = """\
import json, os, sys
from pathlib import Path
import anyio
from pipelines.engines import Engine
from pipelines.scan_command import scan_command
scanned = anyio.run(scan_command, Path(sys.argv[1]), os.environ, Engine.EMBEDDED)
print(json.dumps([one.to_json() for one in scanned]))
"""


def advisory(id_: str, package: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9"}]}]
    affected = [{"package": {"ecosystem": "PyPI", "name": package}, "ranges": ranges}]
    return {"id": id_, "summary": f"a hole in {package}", "affected": affected}


@pytest.fixture
def vulnerable(team: Team) -> Team:
    """A team whose image has a package with a known vulnerability; findings do not block yet."""
    with zipfile.ZipFile(team.root / "osv.zip", "w") as archive:
        for one in (advisory("CVE-2019-1", "jinja2"), advisory("CVE-2024-2", "idna")):
            archive.writestr(f"{one['id']}.json", json.dumps(one))
    (team.root / ".dockerignore").write_text("modelport.yaml\n")  # the policy is no input of the image
    install(team, "Jinja2", "2.10")
    with (team.root / "modelport.yaml").open("a") as file:
        file.write(POLICY.replace("LIMIT", "never"))
        file.write("inventory: {spdx: true}\n")
    team.commit("a vulnerable package")
    return team


def install(team: Team, name: str, version: str) -> None:
    (team.root / f"{name}.txt").write_text(f"Name: {name}\nVersion: {version}\n")
    line = f"COPY {name}.txt /usr/lib/python3/site-packages/{name}-{version}.dist-info/METADATA\n"
    team.change("Dockerfile", "USER 10001", f"{line}USER 10001")
    with (team.root / "requirements.txt").open("a") as file:
        file.write(f"{name}=={version}\n")


def test_what_is_published_is_known_and_what_is_new_blocks(vulnerable: Team) -> None:
    team = vulnerable
    done = team.run()
    assert done.code == 0, done.err
    assert "CVE-2019-1" in done.err.split("all of it: ")[0], "a scan that passed tells what it found"
    first = team.git("rev-parse", "HEAD")[:12]
    (written,) = (team.root / ".modelport/runs").iterdir()
    hold_sarif((written / "scan.sarif").read_text())
    names = {one["name"] for one in hold_spdx((written / "sbom.spdx.json").read_bytes())["packages"]}
    assert {"mood", "jinja2", "libc6"} <= names

    team.change("modelport.yaml", "python_packages: never", "python_packages: high")
    team.commit("the policy blocks")
    blocked = team.run()
    assert blocked.code == 5, blocked.err
    assert "requirements.txt:1: python: high: CVE-2019-1: jinja2 2.10" in blocked.error

    team.change("modelport.yaml", "scan:\n", "scan:\n  new_since: published\n")
    team.commit("what is known does not block")
    known = team.run()
    assert known.code == 0, known.err
    scan = team.stages()["scan"]
    assert f"1 known since {first}" in scan["summary"]
    assert scan["operations"]["executed"] == 0, "another policy scans nothing"

    install(team, "idna", "3.0")
    team.commit("another package")
    new = team.run()
    assert new.code == 5, new.err
    assert "CVE-2024-2: idna 3.0" in new.error
    assert [one["id"] for one in team.stages()["scan"]["result"]["known"]] == ["CVE-2019-1"]
    assert team.stages()["scan"]["result"]["known"][0]["since"] == first


def test_a_scan_alone_leaves_sarif_and_scans_nothing_twice(vulnerable: Team) -> None:
    team = vulnerable
    found = [scanned(team) for _ in range(2)]
    for one in found:
        (run,) = hold_sarif(Path(one["sarif"]).read_text())["runs"]
        result = next(it for it in run["results"] if it["ruleId"] == "CVE-2019-1")
        place = result["locations"][0]["physicalLocation"]
        assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("requirements.txt", 1)
        assert result["properties"]["layer"].startswith("sha256:")
    stages = json.loads(Path(found[1]["record"]).read_text())["stages"]
    (scan,) = [stage for stage in stages if stage["name"] == "scan"]
    assert scan["operations"]["executed"] == 0
    scanners = {one["scanner"]: one for one in scan["result"]["scanners"]}
    assert all(one["version"] for one in scanners.values() if one["audited"]), scanners
    assert scanners["python_packages"]["data_digest"].startswith("sha256:")
    assert scan["seconds"] <= 1.3 * max(one["seconds"] for one in scanners.values()) + 1.5  # busy machines


def scanned(team: Team) -> dict[str, Any]:
    environ = {**team.machine.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SCAN, "."],
        cwd=team.root,
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)
    found: dict[str, Any] = one
    return found
