"""Every repository that the configuration names, once, and how it should be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pipelines.config import Model
from pipelines.config_clouds import RepositorySettings
from pipelines.config_registries import RegistryTarget
from pipelines.errors import ConfigError, Place
from pipelines.registries.reference import Repository
from pipelines.registries.targets import repository_of
from pipelines.tag_templates import render


@dataclass(frozen=True, slots=True)
class Managed:
    """A repository, how it should be, and who says so."""

    target: RegistryTarget
    repository: Repository
    model: Model
    moving_tags: tuple[str, ...]
    """Patterns: ``*`` where a template has a placeholder."""

    @property
    def settings(self) -> RepositorySettings:
        """How it should be."""
        return self.target.settings


def managed(models: Sequence[Model]) -> tuple[Managed, ...]:
    """Every repository of ``models`` once, in the order of the files.

    Raises:
        ConfigError: a repository is named twice with different settings or logins, or a moving tag can't be
            told from a release tag.
    """
    found: dict[str, Managed] = {}
    for model in models:
        for target, moving in _named(model):
            one = Managed(target, repository_of(target, model.name), model, _patterns(model, moving, target))
            held = found.get(str(one.repository))
            found[str(one.repository)] = _both(held, one) if held else one
    return tuple(found.values())


def moving_tags_of(model: Model) -> dict[str, tuple[str, ...]]:
    """For each repository of ``model``, by its name: patterns of the tags that move there.

    Raises:
        ConfigError: a moving tag can't be told from a release tag where these are to be held fast.
    """
    found: dict[str, tuple[str, ...]] = {}
    for target, templates in _named(model):
        name = str(repository_of(target, model.name))
        patterns = _patterns(model, templates, target)
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), *patterns)))
    return found


def moving_patterns(templates: Sequence[str], model: Model) -> tuple[str, ...]:
    """The moving tags that ``templates`` make, ``*`` in place of each placeholder but ``{name}``."""
    return tuple(
        re.sub(r"\*+", "*", re.sub(r"\{[^{}]*\}", "*", one.replace("{name}", model.name)))
        for one in templates
    )


def _named(model: Model) -> list[tuple[RegistryTarget, tuple[str, ...]]]:
    """The registries of ``model`` and of its environments, each with the templates of its moving tags."""
    found = [(target, model.moving_templates) for target in model.registries]
    for environment in model.environments.values():
        found += [(target, environment.moving_tags) for target in environment.registries]
    return found


def _patterns(model: Model, templates: tuple[str, ...], target: RegistryTarget) -> tuple[str, ...]:
    """The patterns, none of which may take in a release tag where these are held fast."""
    patterns = moving_patterns(templates, model)
    if target.settings.immutable_tags:
        releases = _release_samples(model)
        for template, pattern in zip(templates, patterns, strict=True):
            caught = next((tag for tag in releases if fnmatchcase(tag, pattern)), None)
            if caught:
                raise ConfigError(
                    f'the moving tag "{template}" can\'t be left out of settings.immutable_tags: '
                    f'"{pattern}" would also free release tags like "{caught}"',
                    place=Place(model.file),
                    hint='let it begin like no release ("stable-{major}.{minor}"), or remove immutable_tags',
                )
    return patterns


def _release_samples(model: Model) -> tuple[str, ...]:
    """What release tags look like."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    templates = (*model.release_tags, "{commit:12}")
    samples: set[str | None] = set()
    for version in ("1.2.3", "1.2.3-rc.1", "10.20.30"):
        major, minor, patch = version.split("-")[0].split(".")
        values: dict[str, str | None] = {"commit": commit, "version": version, "name": model.name}
        values |= {
            "major": major,
            "minor": minor,
            "patch": patch,
            "branch": "main",
            "date": "20261231",
            "run": "41",
        }
        samples |= {render(template, values) for template in templates}
    return tuple(sorted(tag for tag in samples if tag))


def _both(one: Managed, other: Managed) -> Managed:
    """A repository that is named twice: what one leaves open the other may say."""
    plain = RepositorySettings()
    settings = other.settings if one.settings == plain else one.settings
    if other.settings not in (plain, settings):
        raise ConfigError(
            f"{one.repository} is named twice, with different settings",
            place=Place(other.model.file),
            hint=f"give settings: in one place, or the same in both (the other is in {one.model.file})",
        )
    alike = {"settings": plain, "repository": ""}
    if one.target.model_copy(update=alike) != other.target.model_copy(update=alike):
        raise ConfigError(
            f"{one.repository} is named twice, with different logins",
            place=Place(other.model.file),
            hint=f"give the same login in both places (the other is in {one.model.file})",
        )
    moving = tuple(dict.fromkeys((*one.moving_tags, *other.moving_tags)))
    return replace(one, target=one.target.model_copy(update={"settings": settings}), moving_tags=moving)
