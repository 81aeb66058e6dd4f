"""Who this run is for Microsoft Entra: found as the Azure SDK finds it, asked for a token just before use.

A client secret or certificate, a federated identity (a token file, or GitHub's own OIDC), and where neither
is named: the managed identity of this machine, then the Azure CLI. Tokens stay in memory.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread
import httpx

from pipelines.config_clouds import AcrLogin
from pipelines.registries.azure_cloud import Cloud
from pipelines.registries.errors import AccessRefused, Unreachable

INSTALL: Final = "pip install 'modelport[acr]'"
TIMEOUT_S: Final = 30
_EARLY_S: Final = 300


class Way(Enum):
    """How an identity proves itself."""

    SECRET = "AZURE_CLIENT_SECRET"  # noqa: S105  the name of a variable
    CERTIFICATE = "AZURE_CLIENT_CERTIFICATE_PATH"
    TOKEN_FILE = "AZURE_FEDERATED_TOKEN_FILE"  # noqa: S105  the name of a variable
    GITHUB = "ACTIONS_ID_TOKEN_REQUEST_URL"
    AMBIENT = "managed identity, Azure CLI"


class _Credential(Protocol):
    """What we use of every credential of azure-identity."""

    def get_token(self, *scopes: str) -> _Token: ...

    def close(self) -> None: ...


class _Token(Protocol):
    @property
    def token(self) -> str: ...

    @property
    def expires_on(self) -> int: ...


class NoIdentity(AccessRefused):
    """Nothing here says who this run is for Entra."""


class EntraIdentity:
    """One identity. Made without asking anybody; azure-identity is imported at the first token."""

    def __init__(self, login: AcrLogin, cloud: Cloud, environ: Mapping[str, str]) -> None:
        self.tenant = login.tenant or environ.get("AZURE_TENANT_ID", "")
        self.client = login.client or environ.get("AZURE_CLIENT_ID", "")
        self.cloud = cloud
        self._environ = environ
        self._kept: dict[str, _Token] = {}
        self._asking = anyio.Lock()

    @property
    def way(self) -> Way:
        """The first that the environment names. GitHub's needs to be told for whom: it may serve others."""
        for way in (Way.SECRET, Way.CERTIFICATE, Way.TOKEN_FILE):
            if self._environ.get(way.value):
                return way
        if self._environ.get(Way.GITHUB.value) and self.client and self.tenant:
            return Way.GITHUB
        return Way.AMBIENT

    @property
    def is_named(self) -> bool:
        """Whether the environment names an identity; else one may be found on this machine."""
        return self.way is not Way.AMBIENT

    async def token(self, scope: str) -> str:
        """An access token for ``scope``, in memory until it is about to end.

        Raises:
            NoIdentity: there is no identity here, or azure-identity is not installed.
            AccessRefused: Entra refuses it.
        """
        async with self._asking:
            kept = self._kept.get(scope)
            if kept is None or time.time() >= kept.expires_on - _EARLY_S:
                kept = self._kept[scope] = await anyio.to_thread.run_sync(self._asked, scope)
            return kept.token

    def _asked(self, scope: str) -> _Token:
        credential = self._found()  # anew: one that was closed can't be used again
        from azure.core.exceptions import AzureError, ClientAuthenticationError  # noqa: PLC0415
        from azure.identity import CredentialUnavailableError  # noqa: PLC0415

        try:
            return credential.get_token(scope)
        except CredentialUnavailableError as err:
            raise self._nobody(err.message) from err
        except ClientAuthenticationError as err:
            if self.way is Way.AMBIENT:
                raise self._nobody(err.message) from err
            raise AccessRefused(
                f"Entra refuses {self._name}: {_plain(err.message)}", hint=_hint(err.message)
            ) from err
        except AzureError as err:
            raise Unreachable(
                f"Entra ({self.cloud.authority}) gave no token: {_plain(err.message)}",
                hint="check the network, the proxy, and REQUESTS_CA_BUNDLE for an authority of your own",
            ) from err
        except (OSError, ValueError) as err:
            raise self._unusable(err) from err
        finally:
            credential.close()

    def _found(self) -> _Credential:
        try:
            import azure.identity  # noqa: F401, PLC0415
        except ImportError as err:
            raise NoIdentity("an Entra login needs azure-identity, which is missing", hint=INSTALL) from err
        # Without a handler Python prints the SDK's warnings; what they say is in our error.
        logging.getLogger("azure").addHandler(logging.NullHandler())
        if self.way is not Way.AMBIENT and not (self.tenant and self.client):
            raise AccessRefused(
                f"{self.way.value} is set, but not for whom",
                hint="set AZURE_TENANT_ID and AZURE_CLIENT_ID, or acr: tenant: and client: in modelport.yaml",
            )
        try:
            return self._made()
        except (OSError, ValueError) as err:
            raise self._unusable(err) from err

    def _made(self) -> _Credential:
        from azure import identity  # noqa: PLC0415

        who = (self.tenant, self.client)
        common = self._common()
        match self.way:
            case Way.SECRET:
                return identity.ClientSecretCredential(*who, self._environ[Way.SECRET.value], **common)
            case Way.CERTIFICATE:
                password = self._environ.get("AZURE_CLIENT_CERTIFICATE_PASSWORD")
                path = self._environ[Way.CERTIFICATE.value]
                return identity.CertificateCredential(*who, path, password=password, **common)
            case Way.TOKEN_FILE:
                return identity.WorkloadIdentityCredential(
                    tenant_id=self.tenant,
                    client_id=self.client,
                    token_file_path=self._environ[Way.TOKEN_FILE.value],
                    **common,
                )
            case Way.GITHUB:
                return identity.ClientAssertionCredential(
                    *who, github_token(self._environ, self.cloud.audience), **common
                )
            case Way.AMBIENT:
                return identity.ChainedTokenCredential(
                    identity.ManagedIdentityCredential(client_id=self.client or None),
                    identity.AzureCliCredential(tenant_id=self.tenant, process_timeout=TIMEOUT_S),
                )

    def _common(self) -> dict[str, Any]:
        """What all of them take (Any: as the SDK has it).

        requests, which the SDK speaks through, does not know SSL_CERT_FILE; the rest of this project does.
        """
        bundle = self._environ.get("REQUESTS_CA_BUNDLE") or self._environ.get("SSL_CERT_FILE")
        return {
            "authority": self.cloud.authority,
            "disable_instance_discovery": not self.cloud.is_microsofts,
            "connection_timeout": 10,
            "read_timeout": TIMEOUT_S,
            "retry_total": 3,
            **({"connection_verify": bundle} if bundle else {}),
        }

    def _unusable(self, err: Exception) -> AccessRefused:
        """A certificate or a token file that is not there, or is none."""
        return AccessRefused(
            f"{self._name} can't be used: {_plain(str(err))}", hint=f"correct {self.way.value}"
        )

    @property
    def _name(self) -> str:
        return f"the application {self.client} ({self.way.value})"

    def _nobody(self, tried: str) -> NoIdentity:
        return NoIdentity(
            f"no Azure identity was found here: {_plain(tried)}",
            hint="in CI set AZURE_CLIENT_ID and AZURE_TENANT_ID and let it have an OIDC token; "
            "on a machine of yours `az login`",
        )


def github_token(environ: Mapping[str, str], audience: str) -> Callable[[], str]:
    """Asks GitHub Actions for the job's OIDC token (a job needs ``permissions: id-token: write``)."""

    def ask() -> str:
        url = httpx.URL(environ[Way.GITHUB.value]).copy_merge_params({"audience": audience})
        bearer = environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
        try:
            answer = httpx.get(url, headers={"Authorization": f"Bearer {bearer}"}, timeout=TIMEOUT_S)
            token = answer.json()["value"] if answer.status_code == httpx.codes.OK else ""
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            token = ""  # without the cause: an answer that could not be read may hold the token
        if not isinstance(token, str) or not token:
            raise AccessRefused(
                "GitHub Actions gave no OIDC token", hint="give the job `permissions: id-token: write`"
            )
        return token

    return ask


_HINTS: Final = (
    ("AADSTS7000215", "the secret is wrong; Azure wants its value, not its id"),
    ("AADSTS7000222", "the secret has expired: make a new one, or use a federated credential instead"),
    (
        "AADSTS700213",
        "the federated credential is for another branch, tag or environment",
    ),
    ("AADSTS70021", "no federated credential fits this job: compare issuer, subject and audience"),
    ("AADSTS700024", "the job's OIDC token has expired: Entra has to be asked with a new one"),
    ("AADSTS700016", "the application is not in this tenant: check AZURE_CLIENT_ID and AZURE_TENANT_ID"),
    ("AADSTS90002", "there is no such tenant: check AZURE_TENANT_ID, and AZURE_AUTHORITY_HOST for its cloud"),
)


def _hint(message: str) -> str:
    return next((hint for code, hint in _HINTS if code in message), "docs/registries/acr.md tells more")


def _plain(text: str, limit: int = 300) -> str:
    """An SDK's message on one line, safe for a terminal, without its links to other pages."""
    line = re.sub(r"\s*(To mitigate this issue|Trace ID:).*", "", " ".join(text.split()))
    line = line.partition("Attempted credentials: ")[2] or line
    return "".join(letter for letter in line if letter.isprintable())[:limit]
