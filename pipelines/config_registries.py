"""The ``registries:`` section: where releases go."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from pipelines.config_clouds import AcrLogin, EcrLogin, GarLogin, Kind, RepositorySettings, kind_of
from pipelines.config_values import SecretRef, Section, problem
from pipelines.errors import ConfigError

REGISTRY_VARIABLE: Final = "MODELPORT_REGISTRY"
"""Environment twin of ``registries``: addresses, separated by commas. It takes the place of the file's."""
USERNAME_VARIABLE: Final = "MODELPORT_REGISTRY_USERNAME"
"""With MODELPORT_REGISTRY: the user name for those registries."""
PASSWORD_VARIABLE: Final = "MODELPORT_REGISTRY_PASSWORD"  # noqa: S105  the name of a variable
"""With MODELPORT_REGISTRY: the password or token for those registries."""
PLAIN_HTTP_VARIABLE: Final = "MODELPORT_REGISTRY_PLAIN_HTTP"
"""With MODELPORT_REGISTRY: 1 speaks HTTP without TLS (loopback hosts: always)."""

_HOST = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(:\d{1,5})?"
)
_COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")


def check_address(text: str) -> str:
    """``host[:port]/path`` as the OCI distribution specification has it; every other shape is explained."""
    if "@" in text.partition("/")[0] or re.match(r"\w+://[^/]*@", text):
        raise problem(
            "registry", "the address holds a user name or password (not shown)", "use username: and password:"
        )
    if "://" in text:
        plain = text.partition("://")[2]
        hint = "for HTTP without TLS add plain_http: true" if text.startswith("http://") else ""
        raise problem("registry", f'the address is written without a scheme: "{plain}"', hint)
    host, slash, path = text.rstrip("/").partition("/")
    if not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
        raise problem(
            "registry", f'"{text}" does not begin with a registry host', 'like "registry.example.com/models"'
        )
    if "@" in path or ":" in path:
        raise problem("registry", f'"{text}" has a tag or digest', "tags come from tags: and moving_tags:")
    if path != path.lower():
        raise problem(
            "registry", f'"{text}": a repository is in lower case', f'write "{host}/{path.lower()}"'
        )
    if slash and not all(_COMPONENT.fullmatch(part) for part in path.split("/")):
        raise problem(
            "registry", f'"{text}" is not a valid repository', "letters, digits, and single . _ - between"
        )
    return f"{host}/{path}" if path else host


def is_loopback(host: str) -> bool:
    """Whether ``host[:port]`` is this machine, where no certificate can be expected."""
    name = host.rsplit(":", 1)[0] if re.search(r":\d+$", host) else host
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _certificate(name: str, info: ValidationInfo) -> str:
    """The path, seen from the directory of modelport.yaml; it may be anywhere on the machine."""
    path = Path(name).expanduser()
    if info.context and not path.is_absolute():  # one of this machine is looked for by the preflight
        path = Path(info.context["directory"]) / path
        if not path.is_file():
            raise problem("path", f'there is no file "{name}"', "the certificate of the registry's authority")
    return str(path)


class RegistryTarget(Section):
    """One registry that releases go to."""

    repository: Annotated[str, AfterValidator(check_address)]
    """Registry host and path, like "registry.example.com/models"; the model's name is added."""
    username: SecretRef | None = None
    """A reference to the user name."""
    password: SecretRef | None = None
    """A reference to the password or token."""
    plain_http: bool = False
    """HTTP without TLS; loopback hosts are spoken to in this way anyway."""
    ca_file: Annotated[str, AfterValidator(_certificate)] | None = None
    """A file with the certificate of a private authority; else SSL_CERT_FILE or the machine's."""
    kind: Kind | None = None
    """oci, ecr, acr or gar; told by the host where it is the cloud's own name."""
    ecr: EcrLogin = EcrLogin()
    """Amazon ECR only: account, region, role."""
    acr: AcrLogin = AcrLogin()
    """Azure Container Registry only: tenant, identity."""
    gar: GarLogin = GarLogin()
    """Artifact Registry only: whom to act as."""
    settings: RepositorySettings = RepositorySettings()
    """How the repository should be; `modelport registry apply` makes it so."""

    @property
    def host(self) -> str:
        """Host and port."""
        return self.repository.partition("/")[0]

    @property
    def path(self) -> str:
        """The repository's path, without the model's name; may be empty."""
        return self.repository.partition("/")[2]

    @property
    def registry_kind(self) -> Kind:
        """The kind that is named, else the one that the host tells."""
        return self.kind or kind_of(self.host)

    def repository_of(self, model_name: str) -> str:
        """Where the images of one model go: ``host/path/model_name``."""
        return f"{self.repository}/{model_name}"


def _from_text(value: object) -> object:
    return {"repository": value} if isinstance(value, str) else value


class _AlsoText:
    """In YAML a plain address is enough; the JSON Schema has to say so."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "title": "Address"}, handler(schema)]}


Registry = Annotated[RegistryTarget, BeforeValidator(_from_text), _AlsoText()]
"""A RegistryTarget, in YAML also as plain text."""


def _each_once(targets: tuple[RegistryTarget, ...]) -> tuple[RegistryTarget, ...]:
    names = [target.repository for target in targets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise problem("registry", f'"{twice}" is named twice', "name each registry once")
    return targets


Registries = Annotated[tuple[Registry, ...], AfterValidator(_each_once)]
"""Several registries, each once."""


def registries_from(environ: Mapping[str, str]) -> tuple[RegistryTarget, ...] | None:
    """The registries that the environment names, or None where it names none.

    Raises:
        ConfigError: an address is wrong.
    """
    text = environ.get(REGISTRY_VARIABLE, "")
    if not text.strip():  # a CI system gives a variable that nobody has set as empty text
        return None
    references = {
        key: SecretRef(f"env://{name}")
        for key, name in (("username", USERNAME_VARIABLE), ("password", PASSWORD_VARIABLE))
        if environ.get(name)
    }
    plain = environ.get(PLAIN_HTTP_VARIABLE, "").lower() in ("1", "true", "yes")
    try:
        return _each_once(
            tuple(
                RegistryTarget.model_validate(
                    {"repository": address.strip(), "plain_http": plain, **references}
                )
                for address in text.split(",")
                if address.strip()
            )
        )
    except PydanticCustomError as err:
        raise ConfigError(f"{REGISTRY_VARIABLE}: {err.message()}", hint="name each registry once") from err
    except ValidationError as err:
        first = err.errors()[0]
        hint = first.get("ctx", {}).get("hint", "")
        raise ConfigError(f"{REGISTRY_VARIABLE}: {first['msg']}", hint=hint) from err
