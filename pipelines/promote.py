"""``modelport promote``: a release goes to another environment as it is, if its gates are proved."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pipelines.config import Environment, Model, RegistryTarget, find_models, load, repository_root
from pipelines.errors import PushFailed, UsageError
from pipelines.git_history import GitHistory, History
from pipelines.managed_repositories import moving_tags_of
from pipelines.parallel import together
from pipelines.promotion import Promotion, Share
from pipelines.promotion_forecast import foresee
from pipelines.promotion_source import Found, Source
from pipelines.receipt import NothingPushed, PushedInPart, Receipt
from pipelines.registries.errors import RegistryError
from pipelines.registries.port import Registry
from pipelines.registries.targets import find, remote
from pipelines.stages.copy import NotCompared, Promoting, whole_cargo
from pipelines.stages.tag import Names
from pipelines.state import state_directory

_TEMPORARY: Final = "promote-"
_ABANDONED_S: Final = 24 * 3600


async def promote(
    reference: str, environment: str, where: Path, environ: Mapping[str, str], dry_run: bool = False
) -> Promotion:
    """Bring the image that ``reference`` names now to every registry of ``environment``, and name it there.

    It goes by digest, with all that refers to it, and only if every gate that the environment asks for is
    recorded of it as passed. As in a push, nothing is named before all registries hold it; release tags are
    those that it has where it comes from, moving tags those of the environment, and they only move forward.

    Raises:
        UsageError: no such environment, or the reference is of no model at ``where``.
        TraceFailed: the image can't be read, or a gate is not proved (NotProved).
        PushFailed, PartialPush: as of a push; both carry the receipt.
    """
    models = [load(file, environ) for file in find_models(where)]
    known = [one for model in models for group in _registries(model) for one in group]
    origin, wanted = find(reference, Path.cwd(), environ, known)
    model = _model(origin, models, reference)
    there = _environment(model, environment)
    moving = moving_tags_of(model)
    targets = tuple(remote(target, model.name, environ, moving) for target in there.registries)
    history = GitHistory(model.directory, environ)
    state = state_directory(repository_root(model.directory))
    _remove_abandoned(state)
    with TemporaryDirectory(prefix=_TEMPORARY, dir=state) as temporary:
        async with Source(origin, model, there, Path(temporary)).opened(wanted, reference) as found:
            promoting = _promoting(found, targets, there, history)
            if dry_run:
                shares = await _foreseen(promoting)
            else:
                shares = tuple(Share.of(one) for one in _done(await promoting.run()).deliveries)
    return Promotion(reference, found.release.digest, environment, found.gates, shares, dry_run)


def _remove_abandoned(state: Path) -> None:
    """What a killed promotion left: none takes a day."""
    for path in state.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path)


def _registries(model: Model) -> list[tuple[RegistryTarget, ...]]:
    return [model.registries, *(environment.registries for environment in model.environments.values())]


def _model(origin: Registry, models: Sequence[Model], reference: str) -> Model:
    """The model that ``reference`` is an image of: the last part of its repository is its name."""
    name = origin.name.rpartition("/")[2]
    for model in models:
        if model.name == name:
            return model
    raise UsageError(
        f"{reference} is an image of {name}, and here is {', '.join(model.name for model in models)}",
        hint="run it where the model's modelport.yaml is, or name that with --repository",
    )


def _environment(model: Model, name: str) -> Environment:
    if name in model.environments:
        return model.environments[name]
    known = ", ".join(model.environments)
    raise UsageError(
        f"{model.name} has no environment {name}",
        hint=f"it has {known}" if known else f"write one to {model.file.name}: `environments: {{{name}: …}}`",
    )


def _promoting(
    found: Found, targets: tuple[Registry, ...], environment: Environment, history: History
) -> Promoting:
    names = Names(found.tags, environment.moving_tags, found.release.labels)
    return Promoting(
        whole_cargo(found.part, found.release),
        names,
        targets,
        history=history,
        differences=NotCompared(),
        part=found.part,
        release=found.release,
        fetched=found.fetched,
    )


def _done(receipt: Receipt) -> Receipt:
    """The receipt of a promotion that is whole. Raises PushFailed, PartialPush."""
    if len(receipt.delivered) == len(receipt.deliveries):
        return receipt
    raise PushedInPart(receipt) if receipt.is_named else NothingPushed(receipt)


async def _foreseen(promoting: Promoting) -> tuple[Share, ...]:
    """What the promotion would do; nothing is written. Raises PushFailed where it could not be done."""
    found: dict[str, Share] = {}

    async def one(target: Registry) -> None:
        try:
            found[target.name] = await foresee(promoting, target)
        except RegistryError as err:
            raise PushFailed(str(err), hint=err.hint) from err

    await together(*(one(target) for target in promoting.targets))
    return tuple(found[target.name] for target in promoting.targets)
