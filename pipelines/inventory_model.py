"""The model in the SBOM: one component, its weight files below it with digest, shape, origin and licence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pipelines.config_build import PythonBuild
from pipelines.weight_pointers import Pointers

if TYPE_CHECKING:
    from pipelines.config import Model
    from pipelines.config_inventory import Training, WeightsOrigin
    from pipelines.scanners.contents import WeightFile

Entry = dict[str, Any]
"""A part of the document. Any: JSON on its way out."""

HUB: Final = "https://huggingface.co"
PREFIX: Final = "modelport:weights"
PACKAGES: Final = ("/site-packages/", "/dist-packages/")

_HF = re.compile(r"hf://(?P<name>[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?)@(?P<revision>[A-Za-z0-9._/-]+)")


def model_component(
    model: Model, version: str, weights: Sequence[WeightFile], pointers: Pointers | None = None
) -> Entry:
    """The component of ``model`` (CycloneDX 1.6, type "machine-learning-model")."""
    files = sorted(weights, key=lambda one: one.path)
    parts = [_weight_file(file, model, pointers or Pointers()) for file in files]
    own = own_weights(files, model)
    entry: Entry = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.name,
        "version": version,
        "components": parts,
    }
    if model.description:
        entry["description"] = model.description
    named = {one.path for one in own}
    if licences := _licences(model, [part for part in parts if part["name"] in named]):
        entry["licenses"] = licences
    if parameters := _parameters(model, own):
        entry["modelCard"] = {"modelParameters": parameters}
    if model.training:
        entry |= _training(model.training)
    return entry


def own_weights(weights: Sequence[WeightFile], model: Model) -> tuple[WeightFile, ...]:
    """The files that are the model, not what some library brings along: those that the configuration names,
    else those outside of installed packages, else all of them.
    """
    globs = weight_globs(model)
    named = tuple(one for one in weights if any(fits(one.path, glob) for glob in globs))
    apart = tuple(one for one in weights if not any(part in one.path for part in PACKAGES))
    return named or apart or tuple(weights)


def weight_globs(model: Model) -> tuple[str, ...]:
    """The globs of weight files that the configuration names."""
    build = model.build
    pinned = {name for one in build.weights for name in one.sha256} if isinstance(build, PythonBuild) else ()
    return tuple(sorted({*pinned, *(one.files for one in model.inventory.weights)}))


def fits(path: str, glob: str) -> bool:
    """Does ``glob`` name this path of the image? As ``in_engine/collect.py`` has it."""
    return fnmatchcase(path, glob) or fnmatchcase(path, f"*/{glob}")


def _weight_file(file: WeightFile, model: Model, pointers: Pointers) -> Entry:
    told = _configured(file, model)
    entry: Entry = {
        "type": "file",
        "bom-ref": f"weights:{file.path}",
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": [{"name": name, "value": value} for name, value in _properties(file, model, pointers)],
    }
    if licence := (told.license if told else None) or _card_licence(file):
        entry["licenses"] = [_licence(licence)]
    name, revision = _hub(file, told, pointers)
    if name and revision:
        entry["purl"] = f"pkg:huggingface/{quote(name, safe='/')}@{quote(revision.lower(), safe='')}"
        entry["externalReferences"] = [{"type": "distribution", "url": f"{HUB}/{name}/tree/{revision}"}]
    elif told and told.source and "://" in told.source and not _HF.fullmatch(told.source):
        entry["externalReferences"] = [{"type": "distribution", "url": told.source}]
    return entry


def _properties(file: WeightFile, model: Model, pointers: Pointers) -> list[tuple[str, str]]:
    found = [(f"{PREFIX}:format", file.format), (f"{PREFIX}:size", str(file.size))]
    for name, value in sorted(file.facts.items()):
        if name not in ("licence",):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            found.append((f"{PREFIX}:{name}", text))
    found += [(f"{PREFIX}:source:{kind}", text) for kind, text in _sources(file, model, pointers)]
    return found


def _sources(file: WeightFile, model: Model, pointers: Pointers) -> list[tuple[str, str]]:
    """Everything that tells where the file comes from: who says so, and what."""
    told, found = _configured(file, model), []
    if told and told.source:
        found.append(("configuration", told.source))
    if isinstance(model.build, PythonBuild):
        for one in model.build.weights:
            if any(fits(file.path, glob) for glob in one.sha256):
                found.append(("build", one.pip or one.path or ""))
    name, revision = _hub(file, None, pointers)
    if revision:
        found.append(("hub", f"{name}@{revision}" if name else revision))
    if dvc := pointers.dvc.get(file.md5) if file.md5 else None:
        found.append(("dvc", f"{dvc} md5:{file.md5}"))
    if lfs := pointers.lfs.get(file.sha256):
        found.append(("git-lfs", f"{lfs} sha256:{file.sha256}"))
    return found


def _hub(file: WeightFile, told: WeightsOrigin | None, pointers: Pointers) -> tuple[str, str]:
    """Repository and revision of the hub: as configured, else as its client left them."""
    if told and told.source and (match := _HF.fullmatch(told.source)):
        return match["name"], match["revision"]
    revision = file.hub.get("revision") or pointers.hub.get(file.sha256, "")
    return file.hub.get("repository", ""), revision


def _configured(file: WeightFile, model: Model) -> WeightsOrigin | None:
    return next((one for one in model.inventory.weights if fits(file.path, one.files)), None)


def _card_licence(file: WeightFile) -> str:
    return str(file.facts.get("licence") or file.card.get("licence") or "")


def _licence(text: str) -> Entry:
    """An SPDX expression where it is one: the hub writes its ids in lower case."""
    from pipelines.scanners.licence_names import from_expression  # noqa: PLC0415  700 names, where one is told

    known = from_expression(text)
    return {"expression": known} if known else {"license": {"name": text}}


def _licences(model: Model, parts: Sequence[Entry]) -> list[Entry]:
    """The weights' own where it is one, else that of modelport.yaml."""
    told = [part["licenses"] for part in parts if "licenses" in part]
    if told and all(one == told[0] for one in told):
        return list(told[0])
    return [{"expression": model.license}] if model.license else []


def _parameters(model: Model, weights: Sequence[WeightFile]) -> Entry:
    """The part of the model card (CycloneDX 1.6, ``modelCard``) that somebody states."""
    card: dict[str, str] = {}
    for file in reversed(weights):
        card |= file.card
    first: Mapping[str, Any] = weights[0].facts if weights else {}
    found: Entry = {
        "task": model.inventory.task or card.get("task"),
        "architectureFamily": card.get("family") or first.get("architecture"),
        "modelArchitecture": card.get("architecture"),
    }
    found = {name: value for name, value in found.items() if value}
    if model.training and model.training.data:
        found["datasets"] = [{"type": "dataset", "name": one} for one in model.training.data]
    return found


def _training(training: Training) -> Entry:
    """The run that made the weights, as the configuration names it."""
    told = [("modelport:training:run", training.run), ("modelport:training:id", training.id)]
    entry: Entry = {"properties": [{"name": name, "value": value} for name, value in told if value]}
    if training.run and "://" in training.run:
        entry["externalReferences"] = [{"type": "other", "url": training.run, "comment": "training run"}]
    return entry
