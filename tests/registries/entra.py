"""Microsoft Entra as far as a pipeline sees it, over TLS.

The OAuth 2.0 client credentials flow with a secret, a certificate or a federated token; GitHub's endpoint for
OIDC tokens; the managed identity of a machine. Wire formats: "Microsoft identity platform and the OAuth
2.0 client credentials flow", "OpenID Connect" of GitHub, "How to use managed identities".
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import jwt
from cryptography import x509

from tests.registries.authority import Authority, rsa_key
from tests.registries.web import Answered, Asked, Send, WebServer

TENANT = "72f988bf-0000-0000-0000-000000000001"
FEDERATION = "api://AzureADTokenExchange"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def new_id() -> str:
    """An id as Entra gives them."""
    return str(uuid.uuid4())


@dataclass(slots=True)
class Application:
    """An app registration (or a user-assigned identity) with its service principal."""

    client: str = field(default_factory=new_id)
    principal: str = field(default_factory=new_id)
    """The object id of its service principal, which roles are given to."""
    secret: str = ""
    certificate: x509.Certificate | None = None
    subject: str = ""
    """The subject of its federated credential."""


class Entra(WebServer):
    """One tenant. ``applications`` by client id; ``log`` holds the ways in that were taken, one a token."""

    def __init__(self, port: int, authority: Authority) -> None:
        super().__init__(port, authority)
        self.key = rsa_key("entra")
        self.applications: dict[str, Application] = {}
        self.resources = {"https://containerregistry.azure.net"}
        """The audiences that tokens are given for."""
        self.managed: Application | None = None
        """The identity of the machine."""
        self.header = "only-this-process-knows"
        self.lifetime_s = 3599
        self.log: list[str] = []

    @property
    def url(self) -> str:
        """What AZURE_AUTHORITY_HOST says."""
        return f"https://localhost:{self.port}"

    def add(self, **settings: object) -> Application:
        """Register an application."""
        application = Application(**settings)  # type: ignore[arg-type]  # its own fields
        self.applications[application.client] = application
        return application

    def environ(self, application: Application) -> dict[str, str]:
        """What CI sets for it, but for the proof."""
        return {
            "AZURE_AUTHORITY_HOST": self.url,
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": application.client,
            "REQUESTS_CA_BUNDLE": str(self.authority.ca_file) if self.authority else "",
        }

    def ci_token(self, subject: str, audience: str = FEDERATION) -> str:
        """What a CI system's OIDC provider gives a job."""
        now = int(time.time())
        claims = {"iss": f"{self.url}/github", "sub": subject, "aud": audience, "iat": now, "exp": now + 300}
        return jwt.encode(claims, self.key, "RS256")

    def access_token(self, application: Application, resource: str) -> str:
        """An access token of this tenant."""
        now = int(time.time())
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime_s,
            "appid": application.client,
            "oid": application.principal,
            "tid": TENANT,
            "jti": new_id(),
        }
        return jwt.encode(claims, self.key, "RS256")

    def principal_of(self, token: str, audiences: set[str]) -> str:
        """Whose token this is. Raises jwt.InvalidTokenError where it isn't ours, or for another audience."""
        claims = jwt.decode(token, self.key.public_key(), ["RS256"], audience=list(audiences))
        return str(claims["oid"])

    async def respond(self, asked: Asked, send: Send) -> None:
        """The endpoints."""
        answered = Answered({"error": "not found"}, 404)
        if asked.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            answered = Answered(self._metadata())
        elif asked.path == f"/{TENANT}/oauth2/v2.0/token" and asked.method == "POST":
            answered = self._token(await asked.form())
        elif asked.path.endswith("/.well-known/openid-configuration"):
            answered = _refused(400, "invalid_tenant", 90002, "Tenant was not found.")
        elif asked.path == "/github/token":
            answered = self._github(asked)
        elif asked.path == "/msi/token":  # an App Service
            known = asked.headers.get("x-identity-header") == self.header
            answered = self._managed(asked) if known else Answered({"message": "Forbidden"}, 403)
        elif asked.path == "/metadata/identity/oauth2/token":  # a virtual machine
            known = asked.headers.get("metadata") == "true"
            answered = self._managed(asked) if known else Answered({"error": "invalid_request"}, 400)
        await answered.send(send)

    def _metadata(self) -> Mapping[str, object]:
        base = f"{self.url}/{TENANT}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "issuer": f"{base}/v2.0",
            "tenant_region_scope": "EU",
        }

    def _token(self, form: Mapping[str, str]) -> Answered:
        application = self.applications.get(form.get("client_id", ""))
        if application is None:
            return _refused(400, "unauthorized_client", 700016, "Application was not found in the directory.")
        resource = form.get("scope", "").split(" ")[0].removesuffix("/.default")
        if resource not in self.resources:
            return _refused(400, "invalid_resource", 500011, f"The resource {resource} was not found.")
        if refused := self._proof(application, form):
            return refused
        token = self.access_token(application, resource)
        return Answered({"token_type": "Bearer", "expires_in": self.lifetime_s, "access_token": token})

    def _proof(self, application: Application, form: Mapping[str, str]) -> Answered | None:
        """Why ``form`` does not prove that it is the application; None: it does."""
        if form.get("grant_type") != "client_credentials":
            return _refused(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
        if form.get("client_assertion_type") == _ASSERTION:
            return self._assertion(application, form.get("client_assertion", ""))
        if not application.secret or form.get("client_secret") != application.secret:
            text = "Invalid client secret provided. Ensure the secret being sent is the client secret value."
            return _refused(401, "invalid_client", 7000215, text)
        self.log.append("secret")
        return None

    def _assertion(self, application: Application, token: str) -> Answered | None:
        if application.certificate is not None:
            own = f"{self.url}/{TENANT}/oauth2/v2.0/token"
            try:
                key = application.certificate.public_key()
                jwt.decode(token, key, ["RS256", "PS256"], audience=own, issuer=application.client)
            except jwt.InvalidTokenError as err:
                return _refused(401, "invalid_client", 700027, f"The certificate's proof is wrong: {err}.")
            self.log.append("certificate")
            return None
        try:
            claims = jwt.decode(token, self.key.public_key(), ["RS256"], audience=FEDERATION)
        except jwt.InvalidAudienceError:
            return _refused(400, "invalid_client", 700212, "No matching federated identity: audience.")
        except jwt.InvalidTokenError as err:
            return _refused(401, "invalid_client", 700024, f"Client assertion is not valid: {err}.")
        if claims["sub"] != application.subject:
            text = f"No matching federated identity record found for the subject '{claims['sub']}'."
            return _refused(401, "invalid_client", 700213, text)
        self.log.append("federated")
        return None

    def _github(self, asked: Asked) -> Answered:
        if asked.headers.get("authorization") != f"Bearer {self.header}":
            return Answered({"message": "Unauthorized"}, 401)
        self.log.append("github")
        return Answered({"value": self.ci_token(asked.query["subject"], asked.query["audience"])})

    def _managed(self, asked: Asked) -> Answered:
        wanted = asked.query.get("client_id")
        if self.managed is None or wanted not in (None, self.managed.client):
            return Answered({"error": "invalid_request", "error_description": "Identity not found"}, 400)
        self.log.append("managed")
        resource = asked.query["resource"]
        answer = {"access_token": self.access_token(self.managed, resource), "resource": resource}
        answer |= {"expires_on": str(int(time.time()) + self.lifetime_s), "token_type": "Bearer"}
        if asked.path.startswith("/metadata/"):
            answer |= {"expires_in": str(self.lifetime_s), "client_id": self.managed.client}
        return Answered(answer)


def _refused(status: int, error: str, code: int, text: str) -> Answered:
    description = f"AADSTS{code}: {text} Trace ID: {new_id()} Correlation ID: {new_id()}"
    return Answered({"error": error, "error_description": description, "error_codes": [code]}, status)
