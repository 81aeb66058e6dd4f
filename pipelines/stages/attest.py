"""Attest: what the gates found out, as referrers of the release that are pushed with it, before any name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipelines.errors import CheckFailed
from pipelines.registries.descriptors import Manifest, canonical_json, sha256
from pipelines.scanners.known import KEYS, recorded_keys
from pipelines.statements import SPDX, GateVerdict, Result, sbom_referrer, verdict_referrer
from pipelines.values import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.config import Model
    from pipelines.config_values import Section
    from pipelines.release_image import ReleaseImage
    from pipelines.scanners.port import ScannerResult
    from pipelines.stages.check_report import CheckReport, Rung
    from pipelines.stages.inventory import Inventory
    from pipelines.stages.scan import ScanReport

_MOST_IDS: Final = 200
"""Findings that a statement names, each scanner's worst first."""


def attest(
    release: ReleaseImage, check: CheckReport, scan: ScanReport, inventory: Inventory, model: Model
) -> tuple[Manifest, ...]:
    """The referrers of ``release``: verdicts of check and scan, and the SBOM. Their blobs are in its layout.

    Deterministic: durations, times and the run's address stay out.

    Raises:
        CheckFailed: a file that the check judged by can't be read any more.
    """
    verdicts = (check_verdict(check, model), scan_verdict(scan, release.labels))
    return (
        *(verdict_referrer(one, model.name, release.manifest, release.layout) for one in verdicts),
        sbom_referrer(inventory.sbom, release.manifest, release.layout),
        *(
            sbom_referrer(one, release.manifest, release.layout, SPDX)
            for one in (inventory.spdx,)
            if one is not None
        ),
    )


def check_verdict(report: CheckReport, model: Model) -> GateVerdict:
    """What the check says of the image, rung by rung. Raises CheckFailed, see ``attest``."""
    return GateVerdict(
        gate="check",
        result=Result.FAILED if report.failed else Result.PASSED,
        passed=tuple(rung.name for rung in report.rungs if rung.passed),
        failed=tuple(rung.name for rung in report.rungs if not rung.ok),
        configuration={"modelport.yaml#check": _section(model.check), **_files(model)},
        facts={rung.name: facts for rung in report.rungs if (facts := _rung_facts(rung))},
    )


def _files(model: Model) -> dict[str, str]:
    """The files with the expected answers."""
    quality, schema = model.check.quality, model.check.schema_
    named = [model.check.golden, quality.data if quality else None]
    named += [schema.file, schema.answer] if schema else []
    try:
        return {name: sha256((model.directory / name).read_bytes()) for name in named if name}
    except OSError as err:
        raise CheckFailed(
            f"{err.filename} can't be read any more: {err.strerror}",
            hint="it changed during the run: run again",
        ) from err


def _rung_facts(rung: Rung) -> dict[str, JSON]:
    if rung.skipped:
        return {"skipped": rung.detail}
    if rung.name == "golden":
        return {key: rung.facts.get(key) for key in ("passed", "total")}
    if rung.name == "quality":
        keys = ("metric", "rows", "at_least", "at_most")
        known: dict[str, JSON] = {key: found for key in keys if (found := rung.facts.get(key)) is not None}
        value = rung.facts.get("value")
        # Three digits, as they are shown: the last ones may differ between machines.
        return known | ({"value": f"{value:.3f}"} if value is not None else {})
    if rung.name == "schema":
        return {key: found for key in ("sha256", "document") if (found := rung.facts.get(key)) is not None}
    return _limits(rung)


def _limits(rung: Rung) -> dict[str, JSON]:
    if rung.name == "budgets":
        # Two digits: the trend's own. They are those of the measurement that the engine's cache has.
        return {"figures": rung.facts.get("recorded"), "load": _load(rung)}
    if rung.name == "abuse":
        return {"attacks": [attack["name"] for attack in rung.facts.get("attacks", ())]}
    return {}


def _load(rung: Rung) -> JSON:
    load = rung.facts.get("load") or {}
    return {key: load[key] for key in ("requests", "concurrency") if key in load}


def scan_verdict(report: ScanReport, labels: Mapping[str, str]) -> GateVerdict:
    """What the policy says of the scanners' results. Findings, silence and old data let pass are warnings.

    ``labels`` are the release's: they say since which version a finding is there.
    """
    verdict = report.verdict
    failed = {name for one in verdict.blocking for name in one.scanners} | {
        one.scanner for one in (*verdict.not_audited, *verdict.stale)
    }
    warned = {one.scanner for one in report.results if one.findings or not one.audited or one.stale} - failed
    names = [one.scanner for one in report.results]
    return GateVerdict(
        gate="scan",
        result=Result.FAILED if verdict.blocks else Result.WARNED if warned else Result.PASSED,
        passed=tuple(name for name in names if name not in failed | warned),
        warned=tuple(name for name in names if name in warned),
        failed=tuple(name for name in names if name in failed),
        configuration={"modelport.yaml#scan": _section(report.policy)},
        facts={one.scanner: _scanner_facts(one, report, labels) for one in report.results},
    )


def _scanner_facts(result: ScannerResult, report: ScanReport, labels: Mapping[str, str]) -> dict[str, JSON]:
    findings = sorted(result.findings, key=lambda one: one.rank)
    waived = [one for one, _ in report.verdict.waived if result.scanner in one.scanners]
    # What is waived is not "known": when the waiver ends, it counts again.
    passed_over = {id(one) for one in waived}
    own = [
        one for one in report.verdict.findings if one.scanner == result.scanner and id(one) not in passed_over
    ]
    return {
        "audited": result.audited,  # why not is in the record: its words may differ from run to run
        "judged_by": result.data,
        "found": len(findings),
        "findings": [one.id for one in findings[:_MOST_IDS]],
        "waived": [*sorted({one.id for one in waived})],
        KEYS: recorded_keys(own, labels),
        **({"version": result.version} if result.version else {}),
        **({"data_digest": result.data_digest} if result.data_digest else {}),
    }


def _section(section: Section) -> str:
    """The digest of a part of the configuration, whatever way it was written."""
    values: Mapping[str, Any] = section.model_dump(mode="json")  # Any: plain JSON, hashed
    return sha256(canonical_json(values))
