"""From the configuration, or from a reference, to registries: the one place that knows every kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pipelines.config_clouds import Kind
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
    targets: Sequence[RegistryTarget],
    model_name: str,
    layout: LayoutRegistry,
    environ: Mapping[str, str],
    moving_tags: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> tuple[Registry, ...]:
    """Where releases of ``model_name`` go: every configured registry, or the layout where there is none."""
    return tuple(remote(target, model_name, environ, moving_tags) for target in targets) or (layout,)


def repository_of(target: RegistryTarget, model_name: str) -> Repository:
    """The repository of a model in a configured registry."""
    return Repository.parse(
        target.repository_of(model_name), plain_http=target.plain_http, ca_file=target.ca_file or ""
    )


def remote(
    target: RegistryTarget,
    model_name: str,
    environ: Mapping[str, str],
    moving_tags: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Registry:
    """The repository of a model in a configured registry, to push to.

    ``moving_tags`` has patterns for each repository, by its name: a repository that is made before the push
    leaves them out where its tags are to be immutable.
    """
    repository = repository_of(target, model_name)
    return of_kind(target, repository, environ, moving_tags=moving_tags.get(str(repository), ()))


def of_kind(
    target: RegistryTarget,
    repository: Repository,
    environ: Mapping[str, str],
    *,
    read_only: bool = False,
    moving_tags: tuple[str, ...] = (),
) -> Registry:
    """``repository`` behind the adapter of its kind. A cloud's adapter is imported only for its own kind."""
    match target.registry_kind:
        case Kind.ECR:
            from pipelines.registries.ecr import registry as ecr  # noqa: PLC0415

            return ecr(target, repository, environ, read_only=read_only, moving_tags=moving_tags)
        case Kind.ACR:
            from pipelines.registries.acr import registry as acr  # noqa: PLC0415

            return acr(target, repository, environ, read_only=read_only)
        case Kind.GAR:
            from pipelines.registries.gar import registry as gar  # noqa: PLC0415

            return gar(target, repository, environ, read_only=read_only)
        case Kind.OCI:
            login = login_source(repository, environ, target.username, target.password)
            return OciRegistry(repository, login, read_only=read_only)


def find(
    text: str, directory: Path, environ: Mapping[str, str], known: Iterable[RegistryTarget] = ()
) -> tuple[Registry, str]:
    """The registry (read-only) that ``text`` refers to, and the tag or digest in it.

    ``oci:PATH:TAG`` and ``PATH:TAG`` are layouts (relative to ``directory``), all else is a repository; of
    those that are ``known``, login and kind are as they are configured.

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
    target = _configured(reference.repository, known)
    repository = Repository.parse(
        str(reference.repository), plain_http=target.plain_http, ca_file=target.ca_file or ""
    )
    return of_kind(target, repository, environ, read_only=True), reference.wanted


def _configured(repository: Repository, known: Iterable[RegistryTarget]) -> RegistryTarget:
    """The configured registry that holds ``repository``; else one that only its host tells of."""
    own = [target for target in known if str(repository).startswith(f"{target.repository}/")]
    if own:
        return max(own, key=lambda target: len(target.repository))
    return RegistryTarget(repository=str(repository).rpartition("/")[0] or repository.host)


def _split(text: str) -> tuple[str, str]:
    """A layout's path and the tag or digest behind it; without one ``latest``."""
    path, at, digest = text.rpartition("@")
    if at and is_digest(digest):
        return path, digest
    path, colon, tag = text.rpartition(":")
    return (path, tag) if colon and is_tag(tag) else (text, "latest")
