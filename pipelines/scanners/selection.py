"""Which scanners look at a model's image. The table of all of them; what isn't asked for is not imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.scanners.dockerfile import Dockerfile
from pipelines.scanners.hygiene import Hygiene
from pipelines.scanners.licences import Licences
from pipelines.scanners.model_files import ModelFiles
from pipelines.scanners.os_packages import OsPackages
from pipelines.scanners.python_packages import PythonPackages
from pipelines.scanners.secrets import Secrets

if TYPE_CHECKING:
    from pipelines.config import Model
    from pipelines.scanners.port import Scanner


def scanners_of(model: Model) -> tuple[Scanner, ...]:
    """The scanners for ``model``, in the order in which they are told; those of others where configured."""
    return (
        OsPackages(model.directory),
        PythonPackages(model.directory),
        Secrets(),
        ModelFiles(),
        Licences(model),
        Hygiene(model),
        Dockerfile(model),
        *_of_others(model),
    )


def _of_others(model: Model) -> Iterator[Scanner]:
    """The scanners of others, where the policy names their container."""
    if model.scan.trivy is not None:
        from pipelines.scanners.trivy import Trivy  # noqa: PLC0415

        yield Trivy(model.scan.trivy, model.directory)
    if model.scan.grype is not None:
        from pipelines.scanners.grype import Grype  # noqa: PLC0415

        yield Grype(model.scan.grype, model.directory)
