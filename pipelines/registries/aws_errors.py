"""What an error of the AWS SDK means for the user: a RegistryError with the missing permission or next step.

The codes are those of the ECR API reference ("Common Errors" and each action's own) and of STS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipelines.registries.errors import (
    AccessRefused,
    Busy,
    NotFound,
    RegistryError,
    RepositoryMissing,
    ServerFault,
    Unreachable,
)
from pipelines.registries.reference import Repository

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

DOCS: Final = "docs/registries/ecr.md"
_TEXT_LIMIT: Final = 500

_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_UNKNOWN_KEY = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_WEB_IDENTITY = frozenset({"InvalidIdentityToken", "IDPRejectedClaim", "IDPCommunicationError"})
_BUSY = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown"}
)
_NO_REGION = frozenset({"OptInRequired", "RegionDisabledException"})
_WRONG_VALUE = frozenset(
    {"InvalidParameterException", "InvalidTagParameterException", "ValidationException", "ValidationError"}
)
_OTHER_SERVICES = {"AssumeRole": "sts", "AssumeRoleWithWebIdentity": "sts", "DescribeKey": "kms"}


class NoCredentials(AccessRefused):
    """The AWS SDK found no credentials anywhere."""


class AlreadyThere(RegistryError):
    """Somebody else made the repository first."""


class WrongValue(RegistryError):
    """AWS does not take a value as it is."""


def explained(err: Exception, repository: Repository, action: str) -> RegistryError:
    """``err``, raised by the SDK on the way to ``action`` (``ecr:CreateRepository``), in plain words.

    Raises:
        Exception: ``err`` itself, where it is not the SDK's: a mistake of ours.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  the SDK takes 0.4 s to import

    if isinstance(err, ClientError):
        return _refusal(err, repository)
    if isinstance(err, BotoCoreError):
        return _own_failure(err, repository, action)
    raise err


def _refusal(err: ClientError, repository: Repository) -> RegistryError:
    """An answer of AWS that is an error."""
    code = err.response.get("Error", {}).get("Code", "unknown")
    said = " ".join(err.response.get("Error", {}).get("Message", "").split())[:_TEXT_LIMIT] or code
    status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    action = f"{_OTHER_SERVICES.get(err.operation_name, 'ecr')}:{err.operation_name}"
    found = _access_refusal(code, said, action, repository.host) or _state_refusal(code, said, repository)
    if found is not None:
        return found
    host = repository.host
    if code in _BUSY:
        return Busy(f"{host}: AWS wants {action} less often ({code})", hint="run again later")
    if code in _WRONG_VALUE:
        return WrongValue(f"{host}: AWS does not take a value of {action}: {said}", hint="check settings:")
    if status >= 500 or code in ("ServerException", "InternalFailure", "ServiceUnavailable"):
        return ServerFault(f"{host}: {action} failed on AWS's side ({code})", hint="run again later")
    return RegistryError(f"{host}: AWS answered {code} to {action}: {said}")


def _access_refusal(code: str, said: str, action: str, host: str) -> RegistryError | None:
    """About who asks. What AWS says of a wrong signature is not shown: it repeats the request's headers."""
    if code in _REFUSED:
        return AccessRefused(f"{host}: AWS refuses {action}: {said}", hint=_permission_hint(action))
    if code in _EXPIRED:
        return AccessRefused(
            f"{host}: the AWS credentials have expired ({code} to {action})",
            hint="get new ones (a new job, `aws sso login`), and check this machine's clock; then run again",
        )
    if code in _UNKNOWN_KEY:
        return AccessRefused(
            f"{host}: AWS does not take the credentials ({code} to {action})",
            hint="check the access key, its secret, the session token, and this machine's clock",
        )
    if code in _WEB_IDENTITY:
        return AccessRefused(
            f"{host}: AWS does not take the web identity token: {said}",
            hint=f"check the identity provider, its audience and the token's age: {DOCS}",
        )
    if code in _NO_REGION:
        return AccessRefused(f"{host}: the account has not enabled this region ({code})", hint=said)
    return None


def _state_refusal(code: str, said: str, repository: Repository) -> RegistryError | None:
    """About what is there and what is not."""
    host, path = repository.host, repository.path
    match code:
        case "RepositoryNotFoundException":
            return RepositoryMissing(
                f"{host} has no repository {path}", hint="`modelport registry apply` makes it"
            )
        case "RepositoryAlreadyExistsException":
            return AlreadyThere(f"{host} has the repository {path} already")
        case "LifecyclePolicyNotFoundException" | "RepositoryPolicyNotFoundException":
            return NotFound(f"{host}: {path} has no such policy")
        case "LimitExceededException":
            return RegistryError(f"{host}: a quota of ECR is used up: {said}", hint="have the quota raised")
        case "KmsException":
            return AccessRefused(
                f"{host}: the key can't be used: {said}",
                hint="it has to be in the same region, and the identity needs kms:CreateGrant and "
                f"kms:DescribeKey: {DOCS}",
            )
    return None


def _permission_hint(action: str) -> str:
    if action == "sts:AssumeRole":
        return (
            "the role has to trust this identity (and ask for the same external_id), and the identity needs "
            f"sts:AssumeRole on the role: {DOCS}"
        )
    if action == "sts:AssumeRoleWithWebIdentity":
        return f"the role's trust policy has to match the token's audience and subject: {DOCS}"
    return f"give the identity {action} on this repository: {DOCS} has the policies"


def _own_failure(  # noqa: PLR0911  a table
    err: BotoCoreError, repository: Repository, action: str
) -> RegistryError:
    """A failure on this side: no credentials, no region, nobody there; never what a helper program said."""
    from botocore import exceptions as sdk  # noqa: PLC0415

    host = repository.host
    match err:
        case sdk.NoCredentialsError():
            return NoCredentials(
                f"{host} wants AWS credentials and there are none",
                hint=f"set a profile, AWS_ACCESS_KEY_ID, a web identity or an instance role: {DOCS}",
            )
        case sdk.PartialCredentialsError():
            return AccessRefused(
                f"{host}: the AWS credentials are incomplete: {err}",
                hint="an access key needs its secret: set both, or neither",
            )
        case sdk.ProfileNotFound() | sdk.ConfigNotFound() | sdk.ConfigParseError():
            return AccessRefused(
                f"{host}: {err}", hint="check ecr.profile, AWS_PROFILE and ~/.aws/config on this machine"
            )
        case sdk.CredentialRetrievalError() | sdk.MetadataRetrievalError():
            return AccessRefused(
                f"{host}: a provider of AWS credentials failed ({type(err).__name__})",
                hint="run `aws sts get-caller-identity`: it asks the same providers and says more",
            )
        case sdk.SSOError() | sdk.TokenRetrievalError() | sdk.LoginError() | sdk.NoAuthTokenError():
            return AccessRefused(f"{host}: the AWS login has ended", hint="`aws sso login`, then run again")
        case sdk.NoRegionError():
            return RegistryError(
                f"{host}: it is not known which AWS region this is",
                hint="set ecr.region or AWS_DEFAULT_REGION",
            )
        case sdk.ParamValidationError():
            return WrongValue(f"{host}: {' '.join(str(err).split())[:_TEXT_LIMIT]}", hint="check settings:")
        case sdk.HTTPClientError() | sdk.ConnectionError():
            return Unreachable(
                f"{host}: the AWS API can't be reached ({type(err).__name__} on the way to {action})",
                hint="check the region, the network, the proxy, AWS_ENDPOINT_URL and AWS_CA_BUNDLE",
            )
        case sdk.EndpointProviderError() | sdk.UnknownEndpointError():
            return RegistryError(f"{host}: no such AWS endpoint: {err}", hint="check the host and ecr.region")
    return RegistryError(f"{host}: the AWS SDK failed on the way to {action} ({type(err).__name__})")
