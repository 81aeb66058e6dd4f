"""Google's side of a login and of Artifact Registry's API, as a push and an administration meet them.

Tokens: the JWT bearer grant of a service-account key (RFC 7523; the signature is verified), the exchange of a
workload identity federation (RFC 8693), impersonation (IAM Credentials API), and the metadata server. The API
is that of projects.locations.repositories, v1, with operations that take a moment and policies with an etag.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.registries.authority import private_text
from tests.registries.web import Answered, Asked

Json = dict[str, Any]

SUBJECT_TOKEN = "the-identity-token-of-a-job"
AUDIENCE = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/ci/providers/github"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@functools.cache
def _a_key() -> rsa.RSAPrivateKey:
    """One for a whole test run: making it takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(slots=True)
class Identities:
    """Who is known, and which access tokens are out. ``lifetime_s`` is what tokens are said to last."""

    base_url: str = ""
    lifetime_s: int = 3600
    account: str = "pusher@demo-project.iam.gserviceaccount.com"
    impersonable: set[str] = field(default_factory=lambda: {"releases@demo-project.iam.gserviceaccount.com"})
    tokens: dict[str, str] = field(default_factory=dict)
    """Every token that is taken, and whose it is."""
    minted: int = 0
    is_a_machine: bool = True
    """Whether the metadata server is one of Google's."""
    machine_asked: int = 0
    key: rsa.RSAPrivateKey = field(default_factory=_a_key, repr=False)

    def expire(self) -> None:
        """No token that is out is taken any more."""
        self.tokens.clear()

    def key_info(self) -> Json:
        """The service account's key, as Google gives it out."""
        return {
            "type": "service_account",
            "project_id": "demo-project",
            "private_key_id": "1234567890abcdef",
            "private_key": private_text(self.key).decode(),
            "client_email": self.account,
            "client_id": "1",
            "token_uri": f"{self.base_url}/token",
        }

    def key_file(self, file: Path) -> Path:
        """That, in a file."""
        file.write_text(json.dumps(self.key_info()))
        return file

    def federation_file(self, file: Path, *, acting_as: str = "") -> Path:
        """A federation's configuration as google-github-actions/auth writes it; the job's token beside it."""
        subject = file.with_suffix(".token")
        subject.write_text(SUBJECT_TOKEN)
        content: Json = {
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.base_url}/sts/v1/token",
            "credential_source": {"file": str(subject), "format": {"type": "text"}},
        }
        if acting_as:
            url = f"{self.base_url}/iam/v1/projects/-/serviceAccounts/{acting_as}:generateAccessToken"
            content["service_account_impersonation_url"] = url
        file.write_text(json.dumps(content))
        return file

    def who(self, header: str) -> str | None:
        """Whose token a bearer is."""
        return self.tokens.get(header.removeprefix("Bearer "))

    async def answer(self, asked: Asked) -> Answered | None:
        """The answer of a token service; None: it is none of its requests."""
        if asked.path == "/token":
            return self._assertion(await asked.form())
        if asked.path == "/sts/v1/token":
            return self._exchange(await asked.form())
        if found := re.fullmatch(
            r"/iam/v1/projects/-/serviceAccounts/([^:]+):generateAccessToken", asked.path
        ):
            return self._impersonation(found[1], asked.headers)
        if asked.path == "/" or asked.path.startswith("/computeMetadata/v1/"):
            return self._metadata(asked)
        return None

    def mint(self, who: str) -> str:
        """A new token."""
        self.minted += 1
        token = f"ya29.{secrets.token_urlsafe(16)}"
        self.tokens[token] = who
        return token

    def _granted(self, who: str) -> Answered:
        content = {"access_token": self.mint(who), "expires_in": self.lifetime_s, "token_type": "Bearer"}
        return Answered(content)

    def _assertion(self, form: Mapping[str, str]) -> Answered:
        try:
            claims = self._verified(form["assertion"])
            sound = form["grant_type"] == _ASSERTION and claims["iss"] == self.account
            sound = (
                sound
                and claims["aud"].endswith("/token")
                and claims["scope"].endswith(("/cloud-platform", "/iam"))
            )
            sound = sound and claims["exp"] > time.time()
        except (KeyError, ValueError, InvalidSignature):
            sound = False
        if sound:
            return self._granted(self.account)
        content = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        return Answered(content, 400)

    def _verified(self, assertion: str) -> Json:
        signed, _, signature = assertion.rpartition(".")
        self.key.public_key().verify(
            _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        claims: Json = json.loads(_decoded(signed.partition(".")[2]))
        return claims

    def _exchange(self, form: Mapping[str, str]) -> Answered:
        if form.get("grant_type") != _EXCHANGE or form.get("audience") != AUDIENCE:
            said = "Invalid value for audience."
            return Answered({"error": "invalid_target", "error_description": said}, 400)
        if form.get("subject_token") != SUBJECT_TOKEN:
            said = "The given credential is rejected by the attribute condition."
            return Answered({"error": "unauthorized_client", "error_description": said}, 401)
        answer = self._granted("principal://job")
        assert isinstance(answer.content, dict)
        answer.content["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
        return answer

    def _impersonation(self, account: str, headers: Mapping[str, str]) -> Answered:
        if self.who(headers.get("authorization", "")) is None or account not in self.impersonable:
            said = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            return google_error(403, "PERMISSION_DENIED", said)
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lifetime_s))
        return Answered({"accessToken": self.mint(account), "expireTime": end})

    def _metadata(self, asked: Asked) -> Answered:
        self.machine_asked += 1
        if not self.is_a_machine:
            return Answered({}, 404)  # what other clouds have at the same address
        if asked.headers.get("metadata-flavor") != "Google":
            return Answered(status=403)
        flavour = {"Metadata-Flavor": "Google"}
        path = asked.path.removeprefix("/computeMetadata/v1/")
        if path.endswith("/token"):
            return Answered(self._granted(self.account).content, headers=flavour)
        if path.startswith("instance/service-accounts/default"):
            account = {"aliases": ["default"], "email": self.account, "scopes": []}
            return Answered(account, headers=flavour)
        return Answered({"flavour": "Google"}, headers=flavour)


@dataclass(slots=True)
class Repositories:
    """Artifact Registry's repositories and their policies, by resource name."""

    identities: Identities
    resources: dict[str, Json] = field(default_factory=dict)
    policies: dict[str, Json] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    """Permissions that nobody has, like ``artifactregistry.repositories.create``."""
    enabled: bool = True
    """Whether the project has the service's API switched on."""
    operations: dict[str, Json] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    _etags: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, name: str, **more: object) -> Json:
        """A docker repository that is there from the start."""
        found: Json = {"name": name, "format": "DOCKER", "mode": "STANDARD_REPOSITORY", **more}
        return self.resources.setdefault(name, found)

    async def answer(self, asked: Asked) -> Answered:
        """The answer of the API; ``asked.path`` is seen from its root."""
        path = asked.path.removeprefix("/artifactregistry/v1/")
        self.log.append((asked.method, path))
        if self.identities.who(asked.headers.get("authorization", "")) is None:
            return google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if not self.enabled:
            said = "Artifact Registry API has not been used in project demo-project before or it is disabled."
            return google_error(403, "PERMISSION_DENIED", said, reason="SERVICE_DISABLED")
        body = json.loads(await asked.body() or b"{}")
        if "/operations/" in path:
            return self._operation(path)
        name, _, method = path.rpartition(":") if path.endswith("IamPolicy") else (path, "", "")
        if method:
            return self._policy(name, method, body)
        return self._repository(asked, name, body)

    def _repository(self, asked: Asked, name: str, body: Json) -> Answered:
        verb = {"GET": "get", "POST": "create", "PATCH": "update"}[asked.method]
        if refused := self._refused(f"artifactregistry.repositories.{verb}", name):
            return refused
        if verb == "create":
            return self._create(f"{name}/{asked.query['repositoryId']}", body)
        if name not in self.resources:
            return google_error(404, "NOT_FOUND", "Requested entity was not found.")
        if verb == "update":
            self._update(self.resources[name], asked.query["updateMask"], body)
        return Answered(self.resources[name])

    def _create(self, name: str, body: Json) -> Answered:
        if name in self.resources:
            return google_error(409, "ALREADY_EXISTS", "the repository already exists")
        operation = f"{name.partition('/repositories/')[0]}/operations/{secrets.token_hex(8)}"
        self.operations[operation] = {"name": operation, "left": 1, "of": name, "body": body}
        return Answered({"name": operation, "metadata": {}})

    def _operation(self, name: str) -> Answered:
        operation = self.operations[name]
        if operation["left"] > 0:
            operation["left"] -= 1
            return Answered({"name": name, "done": False})
        made = self.add(operation["of"], **operation["body"])
        return Answered({"name": name, "done": True, "response": made})

    def _update(self, resource: Json, mask: str, body: Json) -> None:
        for part in mask.split(","):
            assert part in ("dockerConfig", "cleanupPolicies", "vulnerabilityScanningConfig"), part
            resource[part] = body[part]

    def _policy(self, name: str, method: str, body: Json) -> Answered:
        if refused := self._refused(f"artifactregistry.repositories.{method}", name):
            return refused
        if name not in self.resources:
            return google_error(404, "NOT_FOUND", "Requested entity was not found.")
        now = self.policies.setdefault(name, {"etag": f"BwX{next(self._etags)}=", "version": 1})
        if method == "getIamPolicy":
            return Answered(now)
        if body["policy"].get("etag") != now["etag"]:
            return google_error(409, "ABORTED", "There were concurrent policy changes.")
        self.policies[name] = {**body["policy"], "etag": f"BwX{next(self._etags)}="}
        return Answered(self.policies[name])

    def _refused(self, permission: str, name: str) -> Answered | None:
        if permission not in self.denied:
            return None
        where = f"'//artifactregistry.googleapis.com/{name}' (or it may not exist)"
        said = f"Permission '{permission}' denied on resource {where}."
        return google_error(403, "PERMISSION_DENIED", said)


def google_error(status: int, name: str, said: str, *, reason: str = "") -> Answered:
    """A google.rpc.Status, as AIP-193 has it."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    error = {"code": status, "message": said, "status": name, "details": details}
    return Answered({"error": error}, status)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
