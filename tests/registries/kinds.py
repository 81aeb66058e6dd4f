"""Each kind of registry as one thing to start: proxy, cloud and a real registry behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.registries.acr import AcrTokens
from tests.registries.authority import Authority
from tests.registries.ecr import ACCOUNT, REGION, ecr_cloud
from tests.registries.exchange import Pace
from tests.registries.faults import Script
from tests.registries.gar import GarFront
from tests.registries.proxy import FaultProxy
from tests.registries.web import free_port
from tests.registry_process import running_registry

_SECRET = "not-a-secret-5678"


@dataclass(frozen=True, slots=True)
class Running:
    """A registry that runs: where it is, and how modelport is led to it."""

    kind: str
    host: str
    repository: str
    """What ``registries:`` gets; the model's name comes behind it."""
    environ: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further keys of the registry in modelport.yaml."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """How it is to be started."""

    directory: Path
    script: Script
    pace: Pace = field(default_factory=Pace)
    port: int = 0
    life_s: float = 12 * 3600


@asynccontextmanager
async def oci(wish: Wish) -> AsyncIterator[Running]:
    """A registry as it is."""
    with running_registry(wish.directory / "registry") as behind:
        async with FaultProxy(behind.host, wish.script, pace=wish.pace).running(wish.port) as proxy:
            yield Running("oci", proxy.host, f"{proxy.host}/models")


@asynccontextmanager
async def ecr(wish: Wish) -> AsyncIterator[Running]:
    """Amazon ECR: see ``ecr.py``."""
    with running_registry(wish.directory / "registry") as behind:
        async with ecr_cloud(behind, wish.script, life_s=wish.life_s, port=wish.port) as cloud:
            cloud.data.pace = wish.pace
            yield Running(
                "ecr",
                cloud.host,
                f"{cloud.host}/models",
                {**cloud.environ, "NO_PROXY": "127.0.0.1"},
                {"ecr": {"account": ACCOUNT, "region": REGION}},
                (f"the API is moto's: `aws --endpoint-url http://{cloud.control.host} ecr …` works, too",),
            )


@asynccontextmanager
async def acr(wish: Wish) -> AsyncIterator[Running]:
    """Azure Container Registry, over TLS with an authority of its own: see ``acr.py``."""
    authority = Authority(wish.directory / "authority")
    # The proxy ends TLS; the emulator behind it calls itself by the proxy's address.
    port = wish.port or free_port()
    tokens = AcrTokens(authority, free_port(), host=f"localhost:{port}", tls=False)
    tokens.access_s = int(min(tokens.access_s, wish.life_s))
    pipeline = tokens.entra.add(secret=_SECRET)
    settings = tokens.settings(wish.directory)
    with (
        running_registry(wish.directory / "registry", settings=settings) as behind,
        tokens.running(behind.host),
    ):
        tls = authority.server_side()
        proxy = FaultProxy(f"127.0.0.1:{tokens.port}", wish.script, pace=wish.pace, tls=tls)
        async with proxy.running(port):
            trusted = str(authority.ca_file)
            environ = {
                **tokens.entra.environ(pipeline),
                "AZURE_CLIENT_SECRET": _SECRET,
                "SSL_CERT_FILE": trusted,
                "REQUESTS_CA_BUNDLE": trusted,
                "NO_PROXY": "localhost,127.0.0.1",
            }
            yield Running("acr", tokens.host, f"{tokens.host}/models", environ, {"ca_file": trusted})


@asynccontextmanager
async def gar(wish: Wish) -> AsyncIterator[Running]:
    """Artifact Registry: see ``gar.py``."""
    with running_registry(wish.directory / "registry") as behind:
        front = GarFront(behind)
        with front.running():
            front.repositories.add(front.resource("models"))
            async with FaultProxy(front.host, wish.script, pace=wish.pace).running(wish.port) as proxy:
                yield Running(
                    "gar",
                    proxy.host,
                    f"{proxy.host}/{front.project}/models",
                    {**front.environ(wish.directory), "NO_PROXY": "127.0.0.1"},
                    notes=('the repository "models" is there; others have to be made by its API first',),
                )


KINDS = {"oci": oci, "ecr": ecr, "acr": acr, "gar": gar}
