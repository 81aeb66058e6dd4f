"""What is recorded of an image beside it: the gates' verdicts as in-toto statements, and the SBOM.

Each is an OCI 1.1 referrer (image specification v1.1, "Guidelines for Artifact Usage"): an empty config, one
layer with the document, the image as ``subject``. A verdict is a Statement v1 with the predicate
https://in-toto.io/attestation/test-result/v0.1. The same verdict gives the same bytes, so a rerun adds none.
They are not signed: whoever may push to the repository could have written them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pipelines.registries.descriptors import (
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical_json,
    json_object,
)
from pipelines.registries.errors import BrokenContent, NotFound
from pipelines.registries.layout import ImageLayout
from pipelines.registries.port import OpenRegistry
from pipelines.values import JSON

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
IN_TOTO: Final = "application/vnd.in-toto+json"
CYCLONEDX: Final = "application/vnd.cyclonedx+json"
SPDX: Final = "application/spdx+json"
PREDICATE_TYPE: Final = "in-toto.io/predicate-type"
GATE: Final = "modelport.gate"
"""Annotation of a referrer: the gate, for people and lists. What counts stands in the document."""
GATES: Final = ("check", "scan", "inventory")

_EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_GATE_FIELD: Final = "modelport_gate"
_FACTS_FIELD: Final = "modelport_facts"
DOCUMENT_LIMIT: Final = 32 * 1024 * 1024
MOST_REFERRERS: Final = 500


class Result(StrEnum):
    """How a gate judged, as the predicate has it."""

    PASSED = "PASSED"
    WARNED = "WARNED"
    FAILED = "FAILED"


_WORST_FIRST: Final = (Result.FAILED, Result.WARNED, Result.PASSED)


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The verdict of one gate on one image."""

    gate: str
    """check, scan or inventory."""
    result: Result
    passed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    configuration: Mapping[str, str] = field(default_factory=dict)
    """What it judged by: names of files and sections, each with its sha256 digest."""
    facts: Mapping[str, JSON] = field(default_factory=dict)
    """A few numbers for people, the same for the same image and configuration."""
    recorded_as: str = ""
    """The digest of the referrer that it was read from."""

    @property
    def holds(self) -> bool:
        """Whether the image passed, be it with warnings."""
        return self.result is not Result.FAILED


def statement(verdict: GateVerdict, name: str, digest: str) -> bytes:
    """The in-toto statement of ``verdict`` on the image ``digest``, which people call ``name``."""
    predicate: dict[str, Any] = {
        "result": verdict.result.value,
        "configuration": [
            {"name": one, "digest": {"sha256": own.removeprefix("sha256:")}}
            for one, own in sorted(verdict.configuration.items())
        ],
        "passedTests": list(verdict.passed),
        "warnedTests": list(verdict.warned),
        "failedTests": list(verdict.failed),
        _GATE_FIELD: verdict.gate,
        _FACTS_FIELD: dict(verdict.facts),
    }
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": TEST_RESULT,
            "predicate": predicate,
        }
    )


def verdict_referrer(verdict: GateVerdict, name: str, subject: Manifest, layout: ImageLayout) -> Manifest:
    """The referrer that records ``verdict``; its blobs are in the layout."""
    body = statement(verdict, name, subject.digest)
    annotations = {PREDICATE_TYPE: TEST_RESULT, GATE: verdict.gate}
    return _referrer(IN_TOTO, body, annotations, subject, layout)


def sbom_referrer(sbom: bytes, subject: Manifest, layout: ImageLayout, kind: str = CYCLONEDX) -> Manifest:
    """The referrer that holds a CycloneDX document (or an SPDX one); its blobs are in the layout."""
    return _referrer(kind, sbom, {GATE: "inventory"}, subject, layout)


def _referrer(
    kind: str, body: bytes, annotations: Mapping[str, str], subject: Manifest, layout: ImageLayout
) -> Manifest:
    config = Descriptor(_EMPTY_TYPE, layout.write_blob(_EMPTY), len(_EMPTY))
    layer = Descriptor(kind, layout.write_blob(body), len(body), annotations)
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": config.to_json(),
        "layers": [layer.to_json()],
        "subject": subject.descriptor.to_json(),
        "annotations": dict(annotations),
    }
    manifest = Manifest(OCI_MANIFEST, canonical_json(content))
    layout.write_blob(manifest.body)
    return manifest


async def recorded_gates(registry: OpenRegistry, digest: str) -> Mapping[str, GateVerdict]:
    """The verdicts that ``registry`` holds of the image ``digest``, by gate; of several the worst.

    Each is verified: its digest, and that it is about this image. What is not, or is of another kind, is no
    record. It is not verified who wrote it.

    Raises:
        RegistryError: the registry can't be read, or lists more than anybody can look at.
    """
    listed = await registry.referrers(digest)
    if len(listed) > MOST_REFERRERS:
        raise BrokenContent(f"{digest} has {len(listed)} referrers, more than {MOST_REFERRERS}")
    found: dict[str, GateVerdict] = {}
    for one in listed:
        try:
            verdict = await _recorded(registry, one.digest, digest)
        except (NotFound, BrokenContent):
            continue
        if verdict is not None:
            known = found.get(verdict.gate, verdict)
            found[verdict.gate] = min(known, verdict, key=lambda it: _WORST_FIRST.index(it.result))
    return found


async def _recorded(registry: OpenRegistry, referrer: str, digest: str) -> GateVerdict | None:
    """The verdict in one referrer; None where it is of another kind. Raises BrokenContent."""
    manifest = await registry.read_manifest(referrer)
    subject = manifest.subject
    if subject is None or subject.digest != digest:
        raise BrokenContent(f"{referrer} does not refer to {digest}")
    # What a list of referrers gives as its kind is not the same in all registries; the manifest's own is.
    kind = manifest.as_referrer().artifact_type
    if kind not in (IN_TOTO, CYCLONEDX):
        return None
    (layer, *more) = manifest.image().layers or (None,)
    if layer is None or more or layer.size > DOCUMENT_LIMIT:
        raise BrokenContent(f"{referrer} does not hold one document")
    document = json_object(await registry.read_blob(layer.digest, layer.size), "a statement")
    if kind == CYCLONEDX:
        return _of_sbom(document, referrer)
    return verdict_of(document, digest, recorded_as=referrer)


def verdict_of(document: Mapping[str, Any], digest: str, *, recorded_as: str = "") -> GateVerdict | None:
    """The verdict in an in-toto statement; None where it is about something else than a gate.

    Raises:
        BrokenContent: it is not about the image ``digest``, or malformed.
    """
    if document.get("_type") != STATEMENT_TYPE or document.get("predicateType") != TEST_RESULT:
        return None
    predicate = document.get("predicate")
    if not isinstance(predicate, dict) or predicate.get(_GATE_FIELD) not in GATES:
        return None
    if digest.removeprefix("sha256:") not in _subjects(document):
        raise BrokenContent(f"a statement is not about {digest}")
    try:
        result = Result(str(predicate.get("result")))
    except ValueError as err:
        raise BrokenContent("a statement has no result") from err
    failed = _texts(predicate.get("failedTests"))
    return GateVerdict(
        gate=str(predicate[_GATE_FIELD]),
        result=Result.FAILED if failed else result,
        passed=_texts(predicate.get("passedTests")),
        warned=_texts(predicate.get("warnedTests")),
        failed=failed,
        configuration=_configuration(predicate.get("configuration")),
        facts=facts if isinstance(facts := predicate.get(_FACTS_FIELD), dict) else {},
        recorded_as=recorded_as,
    )


def _of_sbom(document: Mapping[str, Any], recorded_as: str) -> GateVerdict | None:
    """An SBOM is the inventory's record; one that says that it is incomplete is a warning."""
    if document.get("bomFormat") != "CycloneDX":
        return None
    compositions = document.get("compositions")
    told = [one.get("aggregate") for one in compositions or () if isinstance(one, dict)]
    components = document.get("components")
    return GateVerdict(
        gate="inventory",
        result=Result.PASSED if told and set(told) == {"complete"} else Result.WARNED,
        facts={"components": len(components) if isinstance(components, list) else 0},
        recorded_as=recorded_as,
    )


def _subjects(document: Mapping[str, Any]) -> set[str]:
    subjects = document.get("subject")
    found = [one.get("digest") for one in subjects or () if isinstance(one, dict)]
    return {str(one.get("sha256")) for one in found if isinstance(one, dict)}


def _configuration(value: object) -> dict[str, str]:
    entries = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    return {
        str(one.get("name")): f"sha256:{digest.get('sha256')}"
        for one in entries
        if isinstance(digest := one.get("digest"), dict)
    }


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()
