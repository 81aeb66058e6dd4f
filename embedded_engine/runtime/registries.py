"""What the machine says of registries, read when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedded_engine.runtime.auth_files import AuthFiles
from embedded_engine.runtime.port import Login
from embedded_engine.runtime.process import Runner
from embedded_engine.runtime.registries_conf import RegistriesConf, read_registries_conf

PATIENCE_S = 60.0
PATIENCE_NAME = "EMBEDDED_ENGINE_REGISTRY_TIMEOUT"


@dataclass(slots=True)
class Registries:
    """registries.conf and the auth files of one environment."""

    environ: Mapping[str, str]
    runner: Runner
    _conf: list[RegistriesConf] = field(default_factory=list)

    def conf(self) -> RegistriesConf:
        """The site's registries.conf. Raises RuntimeFailure."""
        if not self._conf:
            self._conf.append(read_registries_conf(self.environ))
        return self._conf[0]

    async def login(self, name: str) -> Login | None:
        """What the auth files say for host/path: read anew each time, since tokens in them change."""
        return await AuthFiles(self.environ, self.runner).login(name)


def patience_s(environ: Mapping[str, str]) -> float:
    """For how long a registry may say nothing."""
    text = environ.get(PATIENCE_NAME, "")
    try:
        return max(1.0, float(text))
    except ValueError:
        return PATIENCE_S
