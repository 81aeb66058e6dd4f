"""The AWS API as the adapter of ECR needs it: one session for each registry, and errors in plain words.

Credentials are the SDK's own affair (environment, profile, web identity, container and instance roles) and
stay in memory. boto3 reads AWS_ENDPOINT_URL by itself.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from pipelines.config_clouds import EcrLogin
from pipelines.config_registries import RegistryTarget
from pipelines.errors import ConfigError
from pipelines.registries.aws_errors import explained
from pipelines.registries.reference import Repository

if TYPE_CHECKING:
    from boto3.session import Session as Boto3Session
    from botocore.client import BaseClient
    from botocore.loaders import Loader
    from botocore.session import Session as BotocoreSession

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 30
ATTEMPTS: Final = 4

_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9-]+)"
    r"\.(amazonaws\.com(\.cn)?|(?P<dual>on\.aws))"
)


@dataclass(frozen=True, slots=True)
class EcrAddress:
    """Which registry of AWS a host is: https://docs.aws.amazon.com/general/latest/gr/ecr.html."""

    account: str
    """The account; "" for that of the credentials."""
    region: str
    """The region; "" for the one that the SDK is configured for."""
    fips: bool = False
    dual_stack: bool = False

    @classmethod
    def of(cls, target: RegistryTarget) -> EcrAddress:
        """What the host tells, else what ``ecr:`` says.

        Raises:
            ConfigError: they contradict each other.
        """
        found = _HOST.fullmatch(target.host.partition(":")[0].lower())
        if found is None:
            return cls(target.ecr.account or "", target.ecr.region or "")
        for key in ("account", "region"):
            said = getattr(target.ecr, key)
            if said and said != found[key]:
                raise ConfigError(
                    f"{target.host}: ecr.{key} says {said}, the host {found[key]}", hint=f"remove ecr.{key}"
                )
        return cls(found["account"], found["region"], bool(found["fips"]), bool(found["dual"]))

    @property
    def partition(self) -> str:
        """The partition of the region: the second part of every ARN there."""
        prefixes = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"}
        return next((name for start, name in prefixes.items() if self.region.startswith(start)), "aws")


class AwsApi:
    """Calls to AWS about one repository, in threads, under the credentials of one registry's ``ecr:``."""

    def __init__(
        self, repository: Repository, address: EcrAddress, login: EcrLogin, environ: Mapping[str, str]
    ) -> None:
        self.repository = repository
        self.address = address
        self._login = login
        self._own_endpoint = any(name.startswith("AWS_ENDPOINT_URL") for name in environ)
        self._clients: dict[str, BaseClient] = {}
        self._making = threading.Lock()
        self._session: Boto3Session | None = None

    async def call(self, operation: str, service: str = "ecr", /, **parameters: object) -> dict[str, Any]:
        """One operation by its name in the API, retried as the SDK does it; Any: AWS's own JSON.

        Raises:
            RegistryError: AWS refused or failed, or there are no credentials (NoCredentials).
        """

        def work() -> dict[str, Any]:
            from botocore import xform_name  # noqa: PLC0415  the SDK takes 0.4 s to import

            answer: dict[str, Any] = getattr(self._client(service), xform_name(operation))(**parameters)
            return answer

        try:
            # Abandoned on cancellation: Ctrl-C doesn't wait for a connection that never comes.
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except Exception as err:
            # from None: the text of a refused signature repeats the request, with the session's token.
            raise explained(err, self.repository, f"{service}:{operation}") from None

    async def on_repository(self, operation: str, **parameters: object) -> dict[str, Any]:
        """``call`` for an operation of ECR on this repository."""
        named = {"repositoryName": self.repository.path, **self.registry, **parameters}
        return await self.call(operation, **named)

    @property
    def registry(self) -> dict[str, str]:
        """The parameter that names the account, where it is known."""
        return {"registryId": self.address.account} if self.address.account else {}

    def _client(self, service: str) -> BaseClient:
        with self._making:
            if service not in self._clients:
                if self._session is None:
                    self._session = _session(self._login, self.address, _session_name(self.repository))
                self._clients[service] = _new_client(self._session, service, self._variant(service))
            return self._clients[service]

    def _variant(self, service: str) -> dict[str, bool]:
        """A FIPS or dual-stack host means the same of the API; an endpoint of one's own is what it is."""
        if self._own_endpoint or service != "ecr":
            return {}
        wanted = {"use_fips_endpoint": self.address.fips, "use_dualstack_endpoint": self.address.dual_stack}
        return {name: True for name, on in wanted.items() if on}


def _new_client(session: Boto3Session, service: str, variant: Mapping[str, bool]) -> BaseClient:
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        user_agent_extra="modelport",
        **variant,  # type: ignore[arg-type]  # the stubs want each keyword spelt out
    )
    client: BaseClient = session.client(service, config=config)  # type: ignore[call-overload]  # ecr or kms
    return client


def _session_name(repository: Repository) -> str:
    """Who it was, in the other account's CloudTrail: ``modelport-models.langid``."""
    return re.sub(r"[^\w+=,.@-]", ".", f"modelport-{repository.path}")[:64]


def _session(login: EcrLogin, address: EcrAddress, session_name: str) -> Boto3Session:
    """A session of the SDK for one registry; with ``role`` it assumes that one, again before it expires."""
    from boto3.session import Session  # noqa: PLC0415

    core = _core_session(login, address)
    if login.role:
        _assume(core, _core_session(login, address), login.role, login.external_id, session_name)
    return Session(botocore_session=core)


def _core_session(login: EcrLogin, address: EcrAddress) -> BotocoreSession:
    from botocore.session import Session  # noqa: PLC0415

    core = Session(profile=login.profile)
    core.register_component("data_loader", _service_files())
    if address.region:
        core.set_config_variable("region", address.region)
    return core


@functools.cache
def _service_files() -> Loader:
    """The SDK's descriptions of its services: only data; 0.3 s for each session that reads them itself."""
    from botocore.loaders import create_loader  # noqa: PLC0415

    return create_loader()


def _assume(
    core: BotocoreSession, source: BotocoreSession, role: str, external_id: str | None, session_name: str
) -> None:
    """Let ``core`` have the credentials of the role, asked for with those of ``source``."""
    from botocore import credentials as sdk  # noqa: PLC0415
    from botocore.exceptions import NoCredentialsError  # noqa: PLC0415

    own = source.get_credentials()
    if own is None:
        raise NoCredentialsError
    asked = {"RoleSessionName": session_name} | ({"ExternalId": external_id} if external_id else {})
    create_client = functools.partial(source.create_client, region_name=source.get_config_variable("region"))
    fetcher = sdk.AssumeRoleCredentialFetcher(create_client, own, role, extra_args=asked)
    refreshed = sdk.DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")

    class Assumed(sdk.CredentialProvider):
        METHOD = "assume-role"

        def load(self) -> Any:  # of the stubs' Credentials, which is no base of the deferred kind
            return refreshed

    core.register_component("credential_provider", sdk.CredentialResolver([Assumed()]))
