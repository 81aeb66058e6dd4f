"""Which scanners look at a model's image. The table of all of them; what isn't asked for is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """The scanners for ``model``, in the order in which they are told."""
    return (
        OsPackages(model.directory),
        PythonPackages(model.directory),
        Secrets(),
        ModelFiles(),
        Licences.of(model),
        Hygiene(model),
    )
