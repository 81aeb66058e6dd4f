"""Every hop of a trace: what verifies, what fails, and what can't be checked from here."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from images import names, release_image
from registries_fake import FakeRegistry, Ways, error, target

from pipelines.errors import TraceFailed
from pipelines.registries.descriptors import OCI_INDEX, Manifest, canonical_json
from pipelines.registries.directory import LayoutRegistry
from pipelines.release_image import ReleaseImage
from pipelines.stages.push import push
from pipelines.statements import GateVerdict, Result, sbom_referrer, verdict_referrer
from pipelines.trace import Trace, trace
from pipelines.trace_hops import Verdict

pytestmark = pytest.mark.anyio
REMOTE = "git@git.example:models.git"  # the image's label has https://git.example/models
WHEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PASSED = (GateVerdict("check", Result.PASSED), GateVerdict("scan", Result.WARNED))


@dataclass(frozen=True)
class Clone:
    directory: Path

    def git(self, *arguments: str) -> str:
        identity = {f"GIT_{role}_{what}": text for role in ("AUTHOR", "COMMITTER") for what, text in [
            ("NAME", "Ada"), ("EMAIL", "ada@example"), ("DATE", WHEN.isoformat())]}  # fmt: skip
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.directory), **identity}
        command = ["git", "-C", str(self.directory), *arguments]
        return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path / "clone")
    made.directory.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("remote", "add", "origin", REMOTE)
    return made


def beside(release: ReleaseImage, gates: tuple[GateVerdict, ...]) -> list[Manifest]:
    """What a run records: the verdicts, and an SBOM."""
    made = [verdict_referrer(one, "langid", release.manifest, release.layout) for one in gates]
    sbom = b'{"bomFormat":"CycloneDX","compositions":[{"aggregate":"complete"}]}'
    return [*made, sbom_referrer(sbom, release.manifest, release.layout)] if made else []


async def traced(
    tmp_path: Path,
    clone: Clone,
    commit: str,
    *tags: str,
    wanted: str = "",
    version: str = "",
    gates: tuple[GateVerdict, ...] = PASSED,
) -> Trace:
    """Release an image of ``commit`` to a layout, and trace it from there."""
    wanted_names = names(*tags, commit=commit, created=WHEN, version=version)
    release = release_image(tmp_path / "langid", wanted_names)
    await push(release, wanted_names, [LayoutRegistry(release.layout)], referrers=beside(release, gates))
    return await trace(
        f"{tmp_path}/langid:{wanted or wanted_names.version_tags[0]}", clone.directory, os.environ
    )


def verdicts(found: Trace) -> dict[str, Verdict]:
    return {hop.name: hop.verdict for hop in found.hops}


async def test_a_release_verifies_from_tag_to_commit(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("Teach it Frisian")
    clone.git("tag", "langid-v1.2.0")
    found = await traced(tmp_path, clone, commit, commit[:12], "1.2.0", wanted="1.2.0")
    assert set(verdicts(found).values()) == {Verdict.OK}
    assert list(verdicts(found)) == [
        "tag", "image", "gates", "labels", "name", "commit", "time", "version", "source",
    ]  # fmt: skip
    found.verify()
    text = found.text()
    assert '"Teach it Frisian" by Ada, on main' in text
    assert found.digest in text
    assert "langid-v1.2.0 points to this commit" in text
    assert "check passed · scan passed with warnings · SBOM (recorded, not signed)" in text
    assert json.loads(json.dumps(found.to_json()))["revision"] == commit


async def test_it_works_by_digest_and_from_a_registry_alone(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("one")
    wanted = names(commit=commit, created=WHEN)
    release = release_image(tmp_path / "langid", wanted)
    async with FakeRegistry().running() as fake:
        await push(release, wanted, [target(fake.host)], referrers=beside(release, PASSED))
        (tmp_path / "elsewhere").mkdir()
        bare = {"PATH": os.environ["PATH"]}
        by_digest = await trace(f"{fake.host}/models/langid@{release.digest}", clone.directory, os.environ)
        outside = await trace(f"{fake.host}/models/langid:{commit[:12]}", tmp_path / "elsewhere", bare)
    assert by_digest.verdict is Verdict.OK
    assert "name" not in verdicts(by_digest)
    assert verdicts(outside)["commit"] is Verdict.UNKNOWN
    assert outside.revision == commit
    outside.verify()  # what can't be checked is told, and is no failure
    assert "not checked: commit" in outside.text()


async def test_gates_that_nobody_recorded_are_unknown_and_a_failed_one_fails(
    tmp_path: Path, clone: Clone
) -> None:
    commit = clone.commit("one")
    bare = await traced(tmp_path, clone, commit, gates=())
    assert verdicts(bare)["gates"] is Verdict.UNKNOWN
    assert "not checked: gates" in bare.text()
    bare.verify()
    told = (GateVerdict("scan", Result.FAILED, failed=("CVE-2026-1 in zlib", "\x1b[31mx")),)
    failed = await traced(tmp_path, clone, commit, "1.0.0", gates=told)
    with pytest.raises(TraceFailed, match=r"scan failed .CVE-2026-1 in zlib, "):
        failed.verify()
    assert "\x1b" not in failed.text()


async def test_a_registry_that_does_not_list_what_refers_to_an_image_can_still_be_traced(
    tmp_path: Path, clone: Clone
) -> None:
    wanted = names(commit=clone.commit("one"), created=WHEN)
    release = release_image(tmp_path / "langid", wanted)
    async with FakeRegistry(ways=Ways(lists_referrers=True)).running() as fake:
        await push(release, wanted, [target(fake.host)])
        fake.fault("GET", "/referrers/", error(403, "DENIED"), times=9)
        found = await trace(
            f"{fake.host}/models/langid:{wanted.version_tags[0]}", clone.directory, os.environ
        )
    assert verdicts(found)["gates"] is Verdict.UNKNOWN
    assert verdicts(found)["commit"] is Verdict.OK


async def test_the_gates_of_an_image_in_an_index_are_those_recorded_of_it(
    tmp_path: Path, clone: Clone
) -> None:
    wanted = names(commit=clone.commit("one"), created=WHEN)
    release = release_image(tmp_path / "langid", wanted)
    await push(release, wanted, [LayoutRegistry(release.layout)], referrers=beside(release, PASSED))
    entry = release.manifest.descriptor.to_json() | {"platform": {"os": "linux", "architecture": "amd64"}}
    index = Manifest(OCI_INDEX, canonical_json({"schemaVersion": 2, "manifests": [entry]}))
    release.layout.write_blob(index.body)
    release.layout.set_tag("1.0.0", index)
    found = await trace(f"{tmp_path}/langid:1.0.0", clone.directory, os.environ)
    assert verdicts(found)["platform"] is verdicts(found)["gates"] is Verdict.OK


async def test_a_commit_that_is_nowhere_fails(tmp_path: Path, clone: Clone) -> None:
    clone.commit("one")
    found = await traced(tmp_path, clone, "d" * 40)
    assert verdicts(found)["commit"] is Verdict.FAILED
    with pytest.raises(TraceFailed, match="not in the history") as caught:
        found.verify()
    assert caught.value.exit_code == 9
    assert "git fetch" in caught.value.hint


async def test_in_a_shallow_clone_a_missing_commit_is_unknown(tmp_path: Path, clone: Clone) -> None:
    first = clone.commit("one")
    clone.commit("two")
    shallow = Clone(tmp_path / "shallow")
    clone.git("clone", "--quiet", "--depth=1", f"file://{clone.directory}", str(shallow.directory))
    shallow.git("remote", "set-url", "origin", REMOTE)
    found = await traced(tmp_path, shallow, first)
    assert verdicts(found)["commit"] is Verdict.UNKNOWN
    assert "unshallow" in found.text()


async def test_a_moved_tag_is_found_out(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("one")
    found = await traced(tmp_path, clone, commit, "0123456789ab")
    assert verdicts(found)["name"] is Verdict.FAILED
    assert "looks like a commit" in found.text()


async def test_a_version_tag_that_points_elsewhere_fails(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("one")
    clone.commit("two")
    clone.git("tag", "-a", "-m", "annotated", "v1.2.0")
    found = await traced(tmp_path, clone, commit, "1.2.0")
    assert verdicts(found)["version"] is Verdict.FAILED
    clone.git("tag", "-f", "-a", "-m", "annotated", "v1.2.0", commit)
    assert verdicts(await traced(tmp_path, clone, commit, "1.2.0"))["version"] is Verdict.OK
    clone.git("tag", "-d", "v1.2.0")
    assert verdicts(await traced(tmp_path, clone, commit, "1.2.0"))["version"] is Verdict.UNKNOWN


async def test_a_version_that_contradicts_the_label_fails(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("one")
    found = await traced(tmp_path, clone, commit, "1.2.0", version="1.3.0")
    assert verdicts(found)["name"] is Verdict.FAILED


async def test_another_repository_fails(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("one")
    clone.git("remote", "set-url", "origin", "https://token:secret@git.example/fork.git")
    found = await traced(tmp_path, clone, commit)
    assert verdicts(found)["source"] is Verdict.FAILED
    assert "https://git.example/fork" in found.text()
    assert "secret" not in found.text()
    clone.git("remote", "add", "upstream", "https://git.example/models.git")
    assert verdicts(await traced(tmp_path, clone, commit))["source"] is Verdict.OK


async def test_a_time_that_was_made_up_fails(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("one")
    wanted = names(commit=commit, created=datetime(2020, 1, 1, tzinfo=UTC))
    release = release_image(tmp_path / "langid", wanted)
    found = await trace(f"oci:{tmp_path}/langid@{release.digest}", clone.directory, os.environ)
    assert verdicts(found)["time"] is Verdict.FAILED


async def test_a_dirty_build_is_of_no_commit(tmp_path: Path, clone: Clone) -> None:
    commit = clone.commit("one")
    found = await traced(tmp_path, clone, f"{commit}-dirty", f"{commit[:12]}-dirty")
    assert verdicts(found)["commit"] is Verdict.FAILED
    assert verdicts(found)["name"] is Verdict.OK


async def test_an_image_without_labels_fails(tmp_path: Path, clone: Clone) -> None:
    wanted = names()
    wanted.labels.pop("org.opencontainers.image.revision")
    release = release_image(tmp_path / "langid", wanted)
    found = await trace(f"oci:{tmp_path}/langid@{release.digest}", clone.directory, os.environ)
    with pytest.raises(TraceFailed, match="names no commit"):
        found.verify()


async def test_a_label_can_steer_neither_git_nor_the_terminal(tmp_path: Path, clone: Clone) -> None:
    clone.commit("one")
    found = await traced(tmp_path, clone, "--output=/tmp/x\x1b[31m", "1.0.0")
    assert verdicts(found)["commit"] is Verdict.FAILED
    assert "\x1b" not in found.text()


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("127.0.0.1:1/models/langid:1", "connection refused"),
        ("{host}/models/langid:gone", "does not have it"),
        ("oci:{tmp}/langid:gone", "no tag gone"),
    ],
)
async def test_what_can_not_be_read_is_explained(
    tmp_path: Path, clone: Clone, reference: str, says: str
) -> None:
    wanted = names()
    release = release_image(tmp_path / "langid", wanted)
    await push(release, wanted, [LayoutRegistry(release.layout)])
    async with FakeRegistry().running() as fake:
        with pytest.raises(TraceFailed, match=says) as caught:
            await trace(reference.format(host=fake.host, tmp=tmp_path), clone.directory, os.environ)
    assert caught.value.hint
