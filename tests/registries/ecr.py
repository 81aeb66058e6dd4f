"""Amazon ECR on loopback: moto is its API, a real registry keeps the images, and what is ECR's own is here.

    async with ecr_cloud(registry, script) as cloud:
        cloud.environ                 # AWS_ENDPOINT_URL and the like
        cloud.host                    # kind: ecr

moto's tokens are the same for everybody and ended in 2015, so GetAuthorizationToken is answered here: a token
is random, ends, and belongs to this data plane. On the data plane (what users' reports quote is quoted):

- 401 asks for Basic; a token that ended is refused with 403, "Your authorization token has expired";
- a repository that was not created is 404 NAME_UNKNOWN; a push doesn't make it;
- a part of an upload is answered with 201, `Range` stays at the end of the first part
  (aws/containers-roadmap#2831); a part at a wrong place gets 416 (apple/containerization#790); a part is
  there as a whole or not at all; parts but the last have at least 5 MiB, which is found out at the end
  (dotnet/sdk-container-builds#424; no report shows its code on the wire: 400 BLOB_UPLOAD_INVALID is ours);
- the progress of an upload can't be asked for;
- a tag that is there in a repository with immutable tags is refused, whichever digest it names, with the
  words that Docker shows (moby/buildkit#3776).
"""

from __future__ import annotations

import base64
import fnmatch
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.registries.exchange import immutable_message
from tests.registries.faults import Script
from tests.registries.proxy import FaultProxy
from tests.registries.wire import Ask, Front, Reply
from tests.registry_process import RegistryProcess, free_port

ACCOUNT = "123456789012"
"""moto's own, for keys that it did not make."""
REGION = "eu-central-1"
LEAST_PART = 5 * 1024 * 1024
_MINT = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"


class Tokens(Front):
    """Before moto: mints the tokens; everything else is moto's."""

    def __init__(self, life_s: float = 12 * 3600) -> None:
        self.life_s = life_s
        self.minted = 0
        self.endpoint = ""
        self._ends: dict[str, float] = {}

    async def answer(self, ask: Ask) -> Reply | None:
        """GetAuthorizationToken (Amazon ECR API reference)."""
        if ask.headers.get("x-amz-target") != _MINT:
            return None
        token = self.mint()
        data = {
            "authorizationToken": base64.b64encode(f"AWS:{token}".encode()).decode(),
            "expiresAt": self._ends[token],
            "proxyEndpoint": self.endpoint,
        }
        body = json.dumps({"authorizationData": [data]}).encode()
        return Reply(200, {"Content-Type": "application/x-amz-json-1.1"}, body)

    def mint(self) -> str:
        """A new token."""
        self.minted += 1
        token = secrets.token_urlsafe(48)
        self._ends[token] = time.time() + self.life_s
        return token

    def expire(self) -> None:
        """Every token that there is ends now."""
        self._ends = dict.fromkeys(self._ends, 0.0)

    def refusal(self, authorization: str) -> tuple[int, str]:
        """The status and the reason why a header is not taken; 0 where it is."""
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "basic":
            return 401, "no basic auth credentials"
        try:
            user, _, token = base64.b64decode(credentials).decode().partition(":")
        except ValueError:
            return 400, "Your Authorization Token is invalid."
        if user != "AWS" or token not in self._ends:
            return 403, "Your Authorization Token is invalid."
        if time.time() >= self._ends[token]:
            return 403, "Your authorization token has expired. Reauthenticate and try again."
        return 0, ""


@dataclass(slots=True)
class _Upload:
    """One upload: the registry's newest address of it, and its parts."""

    target: str
    parts: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(self.parts)


class DataPlane(Front):
    """Before the registry: what ``NUMBER.dkr.ecr.REGION.amazonaws.com`` does."""

    def __init__(self, registry: RegistryProcess, tokens: Tokens) -> None:
        self.host = ""
        self._registry = registry
        self._tokens = tokens
        self._uploads: dict[str, _Upload] = {}

    @property
    def challenge(self) -> str:  # type: ignore[override]  # read-only here
        """As ECR's."""
        return f'Basic realm="http://{self.host}/",service="ecr.amazonaws.com"'

    async def answer(self, ask: Ask) -> Reply | None:
        """What ECR refuses before, or other than, the registry would."""
        status, reason = self._tokens.refusal(ask.headers.get("authorization", ""))
        if status == 401:
            return Reply(
                401, {"WWW-Authenticate": self.challenge, "Content-Type": "text/plain"}, b"Not Authorized\n"
            )
        if status:
            return Reply.error(status, "DENIED", reason)
        name = ask.repository
        if not name:
            return None
        settings = repository_of(name)
        if settings is None:
            said = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
            return Reply.error(404, "NAME_UNKNOWN", said)
        if ask.method == "PUT" and "/manifests/" in ask.path:
            return self._held_fast(ask, settings)
        return self._upload_refusal(ask)

    def _held_fast(self, ask: Ask, settings: Any) -> Reply | None:
        """Any: moto's repository, which has no types."""
        tag = ask.path.rpartition("/")[2]
        if ":" in tag or tag not in self._registry.tags(ask.repository) or not _is_immutable(settings, tag):
            return None
        return Reply.error(400, "TAG_INVALID", immutable_message(ask))

    # Uploads

    def _upload_refusal(self, ask: Ask) -> Reply | None:
        upload = self._uploads.get(_uuid(ask))
        if upload is None or ask.method not in ("PATCH", "PUT", "GET"):
            return None
        if ask.method == "GET":
            return Reply.error(405, "UNSUPPORTED", "The operation is unsupported.")
        start = ask.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
        if start.isdigit() and int(start) != upload.size:
            said = f"First byte of the layer part is {start} instead of {upload.size}"
            return Reply.error(416, "BLOB_UPLOAD_INVALID", said)
        if ask.method == "PUT":
            before = upload.parts if ask.length else upload.parts[:-1]
            if any(part < LEAST_PART for part in before):
                said = "All layer parts except the last part should be at least 5MB"
                return Reply.error(400, "BLOB_UPLOAD_INVALID", said)
        return None

    def target(self, ask: Ask) -> str:
        """The registry's own address of an upload; ours never changes, as ECR's doesn't."""
        upload = self._uploads.get(_uuid(ask))
        if upload is None:
            return ask.target
        query = ask.target.partition("?")[2]
        return f"{upload.target}{'&' if '?' in upload.target else '?'}{query}" if query else upload.target

    def is_all_or_nothing(self, ask: Ask) -> bool:
        """A part is."""
        return ask.method == "PATCH" and _uuid(ask) in self._uploads

    async def change(self, ask: Ask, status: int, headers: dict[str, str]) -> int:
        """ECR's answers to the steps of an upload."""
        if "/blobs/uploads/" not in ask.path or status != 202:
            return status
        place = headers.get("location", "").partition(f"//{self.host}")[2]
        number = headers.get("docker-upload-uuid", "")
        if not place or not number:
            return status
        upload = self._uploads.setdefault(number, _Upload(place))
        upload.target = place
        headers["location"] = f"http://{self.host}{place.partition('?')[0]}"
        if ask.method != "PATCH":
            return status
        upload.parts.append(int(headers["range"].partition("-")[2]) + 1 - upload.size)
        headers["range"] = f"0-{upload.parts[0] - 1}"
        return 201


@dataclass(frozen=True, slots=True)
class EcrCloud:
    """A running ECR."""

    data: FaultProxy
    control: FaultProxy
    tokens: Tokens

    @property
    def host(self) -> str:
        """Of the data plane."""
        return self.data.host

    @property
    def environ(self) -> dict[str, str]:
        """The variables that lead the AWS SDK here."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self.control.host}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
        }


@asynccontextmanager
async def ecr_cloud(
    registry: RegistryProcess, script: Script, *, life_s: float = 12 * 3600, port: int = 0, place: str = ""
) -> AsyncIterator[EcrCloud]:
    """ECR before ``registry``, until the block ends. moto forgets all repositories then."""
    tokens = Tokens(life_s)
    front = DataPlane(registry, tokens)
    data = FaultProxy(registry.host, script, front=front, place=place)
    with moto() as api:
        control = FaultProxy(api, Script(), front=tokens)
        async with data.running(port), control.running():
            front.host = data.host
            tokens.endpoint = f"http://{data.host}"
            yield EcrCloud(data, control, tokens)


@contextmanager
def moto() -> Iterator[str]:
    """moto's server in a thread of this process; its address."""
    from moto.ecr.models import ecr_backends
    from moto.server import ThreadedMotoServer

    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop()
        ecr_backends.reset()


def repository_of(name: str) -> Any:
    """What the API was told of a repository; None: it was not created. (Any: moto is untyped.)"""
    from moto.ecr.models import ecr_backends

    return ecr_backends[ACCOUNT][REGION].repositories.get(name)


def _is_immutable(settings: Any, tag: str) -> bool:
    """Any: as above."""
    mode = str(settings.image_tag_mutability.value)
    filters: list[Mapping[str, str]] = settings.image_tag_mutability_exclusion_filters or []
    matches = any(fnmatch.fnmatchcase(tag, one["filter"]) for one in filters)
    return (mode.startswith("IMMUTABLE") and not matches) or (mode.startswith("MUTABLE_WITH") and matches)


def _uuid(ask: Ask) -> str:
    """The number of the upload that a request is about; "" for none."""
    return ask.path.partition("/blobs/uploads/")[2]
