"""From the configuration, or from a reference, to registries. Later kinds of registry are chosen here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.config_registries import RegistryTarget
from pipelines.errors import UsageError
from pipelines.registries.credentials import login_source
from pipelines.registries.descriptors import is_digest
from pipelines.registries.directory import LayoutRegistry
from pipelines.registries.layout import ImageLayout
from pipelines.registries.oci import OciRegistry
from pipelines.registries.port import Registry
from pipelines.registries.reference import Reference, Repository, is_tag


def registries_of(
    targets: Sequence[RegistryTarget], model_name: str, layout: LayoutRegistry, environ: Mapping[str, str]
) -> tuple[Registry, ...]:
    """Where releases of ``model_name`` go: every configured registry, or the layout where there is none."""
    return tuple(_remote(target, model_name, environ) for target in targets) or (layout,)


def _remote(target: RegistryTarget, model_name: str, environ: Mapping[str, str]) -> OciRegistry:
    repository = Repository.parse(target.repository_of(model_name), plain_http=target.plain_http)
    return OciRegistry(repository, login_source(repository, environ, target.username, target.password))


def find(text: str, directory: Path, environ: Mapping[str, str]) -> tuple[Registry, str]:
    """The registry (read-only) that ``text`` refers to, and the tag or digest in it.

    ``oci:PATH:TAG`` and ``PATH:TAG`` are layouts (relative to ``directory``), all else is a repository.

    Raises:
        UsageError: it is no reference.
    """
    path, wanted = _split(text.removeprefix("oci:"))
    if text.startswith("oci:") or ImageLayout.is_layout(directory / path):
        if not ImageLayout.is_layout(directory / path):
            raise UsageError(
                f"{path} is not an image layout", hint="`modelport run` without a registry makes one"
            )
        return LayoutRegistry(ImageLayout(directory / path), path), wanted
    if text.startswith((".", "/")):
        raise UsageError(
            f"there is no image layout {path}", hint="`modelport run` without a registry makes one"
        )
    reference = Reference.parse(text)
    repository = reference.repository
    return OciRegistry(repository, login_source(repository, environ), read_only=True), reference.wanted


def _split(text: str) -> tuple[str, str]:
    """A layout's path and the tag or digest behind it; without one ``latest``."""
    path, at, digest = text.rpartition("@")
    if at and is_digest(digest):
        return path, digest
    path, colon, tag = text.rpartition(":")
    return (path, tag) if colon and is_tag(tag) else (text, "latest")
