"""An Azure Container Registry with Entra and the Resource Manager, all on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from registry_process import RegistryProcess, need_registry, running_registry

from pipelines.config_registries import RegistryTarget
from pipelines.registries.acr import AcrRegistry, registry
from pipelines.registries.reference import Repository
from tests.registries.acr import AcrTokens
from tests.registries.authority import Authority
from tests.registries.entra import Application
from tests.registries.resource_manager import GROUP, SUBSCRIPTION, ResourceManager
from tests.registries.web import free_port

SECRET = "not-a-secret-5678"


@dataclass(slots=True)
class Azure:
    """All of it, and an application that may do everything."""

    tokens: AcrTokens
    manager: ResourceManager
    behind: RegistryProcess
    pipeline: Application
    ca_file: str

    @property
    def environ(self) -> dict[str, str]:
        """What CI sets for the application."""
        own = {"AZURE_CLIENT_SECRET": SECRET, "AZURE_RESOURCE_MANAGER_ENDPOINT": self.manager.url}
        return self.tokens.entra.environ(self.pipeline) | own

    def target(self, **more: object) -> RegistryTarget:
        """The registry as it is configured."""
        acr = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
        values = {
            "repository": f"{self.tokens.host}/models",
            "kind": "acr",
            "ca_file": self.ca_file,
            "acr": acr,
        }
        return RegistryTarget.model_validate(values | more)

    def repository(self, model: str = "langid") -> Repository:
        return Repository.parse(f"{self.tokens.host}/models/{model}", ca_file=self.ca_file)

    def registry(
        self, environ: dict[str, str] | None = None, *, read_only: bool = False, **more: object
    ) -> AcrRegistry:
        """One model's repository, in the name of whom ``environ`` says."""
        own = self.environ if environ is None else environ
        return registry(self.target(**more), self.repository(), own, read_only=read_only)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def azure(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """Fresh, and nothing of this machine's own environment is believed."""
    need_registry()
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca_file))
    tokens = AcrTokens(authority, free_port())
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", tokens.entra.url)
    manager = ResourceManager(free_port(), authority, tokens.entra, tokens.host)
    pipeline = tokens.entra.add(secret=SECRET)
    settings = tokens.settings(tmp_path / "acr")
    with (
        running_registry(tmp_path / "registry", settings=settings) as behind,
        tokens.running(behind.host, manager),
    ):
        yield Azure(tokens, manager, behind, pipeline, str(authority.ca_file))
