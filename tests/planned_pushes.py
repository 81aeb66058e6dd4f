"""A model that was built, its plan, and its push as a run does it: for tests of what a plan foretells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from images import built_image

from pipelines.config import load
from pipelines.plan import Plan, Push, make_plan
from pipelines.push_journal import Journal
from pipelines.receipt import Receipt
from pipelines.registries.descriptors import (
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical_json,
)
from pipelines.release_image import BuiltImage, ReleaseImage
from pipelines.source import SourceRevision
from pipelines.stages.push import push

COMMIT = "8f3c2a1b9d04" + "0" * 28
OTHER = "0f0f0f0f0f0f" + "1" * 28


def plan_for(root: Path, *registries: str, name: str = "langid", **source: object) -> Plan:
    """The plan of the model ``name`` under ``root``, for repositories like ``127.0.0.1:5000/models``."""
    directory = root / name
    directory.mkdir(exist_ok=True, parents=True)
    (directory / "Dockerfile").write_text("FROM python:3.11-slim\nCOPY serve.py ./\n")
    (directory / "modelport.yaml").write_text(f"registries: [{', '.join(registries)}]\n")
    revision = SourceRevision(
        commit=COMMIT,
        head_commit=COMMIT,
        committed_at=datetime(2026, 11, 22, tzinfo=UTC),
        branch="main",
        version=None,
        remote=None,
        dirty=(),
        shallow=False,
        root=root,
    )
    revision = replace(revision, **source)  # type: ignore[arg-type]  # the fields of the case
    return make_plan(load(directory / "modelport.yaml", {}), revision, root / ".modelport", {}, Push.AUTO)


def build(
    plan: Plan, *texts: str, commit: str = COMMIT, dirty: Sequence[str] = (), run: str = "1"
) -> BuiltImage:
    """A layer per text, in the layout and in a run record, as a run leaves it."""
    image = built_image(plan.layout, *texts)
    directory = (
        plan.layout.directory.parent.parent / "runs" / f"20261122T00000{run}Z-{plan.model.name}-aa{run}"
    )
    directory.mkdir(parents=True, exist_ok=True)
    stages = [
        {"name": "build", "status": "ok", "result": {}},
        {"name": "export", "status": "ok", "result": image.to_json()},
    ]
    record = {"model": plan.model.name, "source": {"commit": commit, "dirty": list(dirty)}, "stages": stages}
    (directory / "run.json").write_text(json.dumps(record))
    return image


def release_of(plan: Plan, image: BuiltImage) -> ReleaseImage:
    """The image under the names of the plan."""
    return image.release(plan.names, plan.source.committed_at)


def attested(plan: Plan, release: ReleaseImage, *texts: str) -> tuple[Manifest, ...]:
    """A statement per text about ``release``, in its layout and in the latest run record."""
    layout = release.layout
    empty = Descriptor("application/vnd.oci.empty.v1+json", layout.write_blob(b"{}"), 2)
    made = []
    for text in texts:
        body = text.encode()
        blob = Descriptor("application/vnd.in-toto+json", layout.write_blob(body), len(body))
        content = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": blob.media_type,
            "config": empty.to_json(),
            "layers": [blob.to_json()],
            "subject": release.manifest.descriptor.to_json(),
        }
        manifest = Manifest(OCI_MANIFEST, canonical_json(content))
        layout.write_blob(manifest.body)
        made.append(manifest)
    file = max((plan.layout.directory.parent.parent / "runs").glob("*/run.json"))
    record = json.loads(file.read_text())
    result = {"referrers": [one.digest for one in made]}
    record["stages"].append({"name": "attest", "status": "ok", "result": result})
    file.write_text(json.dumps(record))
    return tuple(made)


async def pushed(plan: Plan, release: ReleaseImage, referrers: Sequence[Manifest] = ()) -> Receipt:
    """The push of a run."""
    journal = Journal.open(plan.layout.directory.parent.parent, plan.model.name)
    return await push(release, plan.names, plan.targets, referrers=referrers, journal=journal)
