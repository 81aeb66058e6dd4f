"""What is recorded beside an image: deterministic, about this image, and read back as a verdict."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from images import names, release_image
from registries_fake import FakeRegistry, target

from pipelines.config import Model, load
from pipelines.config_scan import ScanPolicy
from pipelines.errors import CheckFailed
from pipelines.receipt import State
from pipelines.registries.descriptors import Manifest, canonical_json
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.release_image import ReleaseImage
from pipelines.scanners.port import Finding, ScannerResult
from pipelines.stages.attest import attest, check_verdict, scan_verdict
from pipelines.stages.check_report import CheckReport, Rung
from pipelines.stages.inventory import Inventory
from pipelines.stages.push import push
from pipelines.stages.scan import ScanReport, decided
from pipelines.statements import (
    IN_TOTO,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    TEST_RESULT,
    GateVerdict,
    Result,
    recorded_gates,
    sbom_referrer,
    statement,
    verdict_of,
    verdict_referrer,
)

pytestmark = pytest.mark.anyio
TODAY = date(2026, 11, 22)
SBOM = canonical_json(
    {"bomFormat": "CycloneDX", "components": [{}, {}], "compositions": [{"aggregate": "complete"}]}
)


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().running() as registry:
        yield registry


@pytest.fixture
def model(tmp_path: Path) -> Model:
    quality = {"data": "rows.jsonl", "metric": "accuracy", "answer": "a", "at_least": 0.95}
    (tmp_path / "golden.jsonl").write_text("{}")
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    document = {"name": "langid", "check": {"golden": "golden.jsonl", "quality": quality}}
    (tmp_path / "modelport.yaml").write_text(json.dumps(document))
    return load(tmp_path / "modelport.yaml", {})


@pytest.fixture
def release(tmp_path: Path) -> ReleaseImage:
    return release_image(tmp_path / "layout", names())


def checked(seconds: float = 1.0, value: float = 0.9641) -> CheckReport:
    quality = {
        "metric": "accuracy",
        "rows": 50,
        "at_least": 0.95,
        "at_most": None,
        "value": value,
        "wrong": [],
    }
    return CheckReport(
        (
            Rung("starts", ok=True, detail="port 8080", seconds=seconds),
            Rung(
                "golden",
                ok=True,
                detail="",
                seconds=seconds,
                facts={"passed": 24, "total": 24, "failures": []},
            ),
            Rung("quality", ok=True, detail="", seconds=seconds, facts=quality, log="what it said"),
        )
    )


def scanned(*results: ScannerResult) -> ScanReport:
    return decided(results or (ScannerResult("secrets", audited=True, data="9 rules"),), ScanPolicy(), TODAY)


def attested(release: ReleaseImage, model: Model, **parts: Any) -> tuple[Manifest, ...]:
    values: dict[str, Any] = {"check": checked(), "scan": scanned(), "inventory": Inventory(SBOM, 2), **parts}
    return attest(release, model=model, **values)


def document_of(referrer: Manifest, release: ReleaseImage) -> dict[str, Any]:
    [layer] = referrer.image().layers
    body: dict[str, Any] = json.loads(release.layout.read_blob(layer.digest, layer.size))
    return body


def test_a_verdict_is_an_in_toto_statement_on_the_image(release: ReleaseImage, model: Model) -> None:
    referrer = attested(release, model)[0]
    content = json.loads(referrer.body)
    assert content["artifactType"] == IN_TOTO
    assert content["subject"]["digest"] == release.digest
    assert content["annotations"][PREDICATE_TYPE] == TEST_RESULT
    assert content["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    said = document_of(referrer, release)
    assert (said["_type"], said["predicateType"]) == (STATEMENT_TYPE, TEST_RESULT)
    assert said["subject"] == [
        {"name": "langid", "digest": {"sha256": release.digest.removeprefix("sha256:")}}
    ]
    predicate = said["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == ["starts", "golden", "quality"]
    assert [one["name"] for one in predicate["configuration"]] == [
        "golden.jsonl",
        "modelport.yaml#check",
        "rows.jsonl",
    ]
    assert predicate["modelport_facts"]["quality"]["value"] == "0.964"


def test_what_changes_from_run_to_run_stays_out(release: ReleaseImage, model: Model) -> None:
    first = attested(release, model, check=checked(seconds=1.0, value=0.96410001))
    assert attested(release, model, check=checked(seconds=7.7, value=0.96410002)) == first
    (model.directory / "golden.jsonl").write_text('{"changed": 1}')
    assert attested(release, model)[0] != first[0]
    assert attested(release, model)[1:] == first[1:]


def test_a_file_that_went_away_during_the_run_is_told(release: ReleaseImage, model: Model) -> None:
    (model.directory / "rows.jsonl").unlink()
    with pytest.raises(CheckFailed, match=r"rows\.jsonl can't be read any more"):
        attested(release, model)


def test_what_the_policy_lets_pass_is_a_warning() -> None:
    finding = Finding("python_packages", "GHSA-1", "low", "numpy", "a bug")
    silent = ScannerResult(
        "python_packages", audited=False, reason="no answer in 12.3 s", findings=(finding,)
    )
    quiet = ScannerResult("secrets", audited=True, data="9 rules")
    verdict = scan_verdict(scanned(silent, quiet), {})
    assert (verdict.result, verdict.warned, verdict.passed) == (
        Result.WARNED,
        ("python_packages",),
        ("secrets",),
    )
    assert "12.3" not in str(verdict)
    worst = replace(finding, severity="critical")
    blocked = scan_verdict(scanned(ScannerResult("python_packages", audited=True, findings=(worst,))), {})
    assert (blocked.result, blocked.failed, blocked.holds) == (Result.FAILED, ("python_packages",), False)


def test_a_rung_that_fails_fails_the_gate(model: Model) -> None:
    report = CheckReport((Rung("starts", ok=True, detail=""), Rung("healthy", ok=False, detail="")))
    verdict = check_verdict(report, model)
    assert (verdict.result, verdict.passed, verdict.failed) == (Result.FAILED, ("starts",), ("healthy",))


async def test_pushed_statements_are_read_as_the_gates_verdicts(
    fake: FakeRegistry, release: ReleaseImage, model: Model, tmp_path: Path
) -> None:
    referrers = attested(release, model)
    copy = LayoutRegistry(ImageLayout.create(tmp_path / "copy"))
    registries = [target(fake.host), copy]
    receipt = await push(release, names(), registries, referrers=referrers)
    assert receipt.deliveries[1].uploaded == receipt.deliveries[1].total
    for registry in registries:
        async with registry.open() as opened:
            found = await recorded_gates(opened, release.digest)
        assert {gate: one.result for gate, one in found.items()} == {
            "check": Result.PASSED,
            "scan": Result.PASSED,
            "inventory": Result.PASSED,
        }
        assert found["check"].recorded_as == referrers[0].digest
        assert found["check"].configuration == check_verdict(checked(), model).configuration
        assert found["inventory"].facts == {"components": 2}
    again = await push(release, names(), registries, referrers=attested(release, model))
    assert [one.state for one in again.deliveries] == [State.UNCHANGED, State.UNCHANGED]


async def test_the_referrers_are_there_before_any_tag(
    fake: FakeRegistry, release: ReleaseImage, model: Model
) -> None:
    wanted = names()
    await push(release, wanted, [target(fake.host)], referrers=attested(release, model))
    order = fake.order()
    assert order[-1] == f"tag {wanted.version_tags[0]}"
    assert order.count("manifest") == 4


async def test_of_several_verdicts_the_worst_counts(release: ReleaseImage, tmp_path: Path) -> None:
    registry = await _with(
        release,
        verdict_referrer(GateVerdict("scan", Result.PASSED), "m", release.manifest, release.layout),
        verdict_referrer(GateVerdict("scan", Result.FAILED), "m", release.manifest, release.layout),
        verdict_referrer(GateVerdict("scan", Result.WARNED), "m", release.manifest, release.layout),
    )
    async with registry.open() as opened:
        assert (await recorded_gates(opened, release.digest))["scan"].result is Result.FAILED


async def test_a_statement_about_another_image_is_no_record(release: ReleaseImage, tmp_path: Path) -> None:
    """Its manifest refers to this image, the statement in it to another: somebody put it there."""
    other = release_image(tmp_path / "other", names(), "another")
    foreign = verdict_referrer(GateVerdict("check", Result.PASSED), "m", other.manifest, release.layout)
    content = json.loads(foreign.body)
    content["subject"] = release.manifest.descriptor.to_json()
    registry = await _with(release, Manifest(foreign.media_type, canonical_json(content)))
    async with registry.open() as opened:
        assert await recorded_gates(opened, release.digest) == {}
        assert await recorded_gates(opened, other.digest) == {}


async def test_an_incomplete_sbom_is_a_warning(release: ReleaseImage) -> None:
    incomplete = SBOM.replace(b'"complete"', b'"incomplete"')
    registry = await _with(release, sbom_referrer(incomplete, release.manifest, release.layout))
    async with registry.open() as opened:
        assert (await recorded_gates(opened, release.digest))["inventory"].result is Result.WARNED


@pytest.mark.parametrize("body", [b"not JSON", b'{"bomFormat": "SPDX"}', b"[]"])
async def test_a_document_that_is_no_sbom_is_no_record(release: ReleaseImage, body: bytes) -> None:
    registry = await _with(release, sbom_referrer(body, release.manifest, release.layout))
    async with registry.open() as opened:
        assert await recorded_gates(opened, release.digest) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicate": {"result": "PASSED"}},
        {"predicate": None},
    ],
)
def test_other_statements_are_no_verdicts(change: dict[str, Any]) -> None:
    digest = "sha256:" + "1" * 64
    said = json.loads(statement(GateVerdict("check", Result.PASSED), "m", digest))
    assert verdict_of(said, digest) == GateVerdict("check", Result.PASSED)
    assert verdict_of(said | change, digest) is None


def test_a_passed_verdict_with_failed_tests_is_failed() -> None:
    digest = "sha256:" + "1" * 64
    said = json.loads(statement(GateVerdict("check", Result.PASSED, failed=("golden",)), "m", digest))
    verdict = verdict_of(said, digest)
    assert verdict is not None
    assert verdict.result is Result.FAILED


async def _with(release: ReleaseImage, *referrers: Manifest) -> LayoutRegistry:
    registry = LayoutRegistry(release.layout)
    async with registry.open() as opened:
        for one in referrers:
            await opened.attach(one)
    return registry
