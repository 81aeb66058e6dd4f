"""google-auth behind a few functions, all blocking: for worker threads. Imported by them, never before.

Order and files of the application-default credentials: Google's AIP-4110. What is left out of it on purpose
is the project's lookup, for the registry's address names the project.
"""
# google-auth says that it is typed, and most of its functions are not:
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import json
import ssl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config_registries import is_loopback
from pipelines.errors import UsageError
from pipelines.registries.errors import AccessRefused, RegistryError, Unreachable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials as _Credentials
    from google.auth.transport.requests import Request

    Credentials = _Credentials
else:
    Credentials = Any

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
_METADATA_TIMEOUT_S = 1.5
_METADATA_ATTEMPTS = 2


class ExtraMissing(AccessRefused):
    """google-auth is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "Artifact Registry's login needs google-auth, which is not installed",
            hint="pip install 'modelport[gar]'",
        )


def endpoint(service: str, environ: Mapping[str, str]) -> str:
    """Where an API of Google's is, with a slash at the end; gcloud's variable for it is followed.

    Raises:
        UsageError: the variable names a place without TLS that is not this machine.
    """
    variable = f"{_OVERRIDE}{service.upper()}"
    url = environ.get(variable) or f"https://{service}.googleapis.com/"
    scheme, _, rest = url.partition("://")
    if scheme != "https" and not (scheme == "http" and is_loopback(rest.partition("/")[0])):
        raise UsageError(f"{variable} has to be an https:// address", hint="tokens are sent there")
    return url if url.endswith("/") else f"{url}/"


def application_default(environ: Mapping[str, str]) -> Credentials | None:
    """A file that is named, gcloud's file, the metadata server; None: none of them is there.

    Raises:
        ExtraMissing: google-auth is not installed.
        AccessRefused: there is a file, and it is no credentials.
    """
    _need_extra()
    if named := environ.get(CREDENTIALS_VARIABLE):
        return _from_file(Path(named))
    own = environ.get("CLOUDSDK_CONFIG") or str(Path(environ.get("HOME") or "/nonexistent", ".config/gcloud"))
    file = Path(own, "application_default_credentials.json")
    return _from_file(file) if file.is_file() else _from_metadata(environ)


def of_key(key: Mapping[str, Any]) -> Credentials:
    """Those of a service-account key. Raises what ``plain_errors`` explains."""
    _need_extra()
    from google.oauth2 import service_account  # noqa: PLC0415  lazily: see above

    found: Credentials = service_account.Credentials.from_service_account_info(key, scopes=[SCOPE])
    return found


def of_token(token: str) -> Credentials:
    """Those of an access token that somebody else minted: they end with it."""
    _need_extra()
    from google.oauth2 import credentials  # noqa: PLC0415  lazily: see above

    found: Credentials = credentials.Credentials(token)
    return found


def acting_as(source: Credentials, impersonate: str | None, environ: Mapping[str, str]) -> Credentials:
    """``source``, or the service account that it acts as."""
    if not impersonate:
        return source
    from google.auth import impersonated_credentials  # noqa: PLC0415  lazily: see above

    iam = f"{endpoint('iamcredentials', environ)}v1/projects/-/serviceAccounts/{impersonate}"
    found: Credentials = impersonated_credentials.Credentials(
        source, impersonate, [SCOPE], lifetime=3600, iam_endpoint_override=f"{iam}:generateAccessToken"
    )
    return found


def access_token(credentials: Credentials, *, renew: bool) -> str:
    """A token that is valid for some minutes at least; with ``renew`` a new one, whatever is kept.

    google-auth lets go of a token 3 min 45 s before its end. Raises what ``plain_errors`` explains.
    """
    if renew or not credentials.valid:
        credentials.refresh(_transport())
    return str(credentials.token)


@contextmanager
def plain_errors(host: str, impersonate: str | None) -> Iterator[None]:
    """What google-auth raises, as RegistryError. Never with its cause: that may hold what was answered."""
    try:
        yield
    except (RegistryError, UsageError):
        raise
    except Exception as err:  # told apart below, and unknown ones go on: google-auth may not be there to name
        error = _plain(host, impersonate, err)
        if error is None:
            raise
        raise error from None


def _plain(host: str, impersonate: str | None, err: Exception) -> RegistryError | None:
    try:
        from google.auth import exceptions  # noqa: PLC0415  lazily: see above
    except ImportError:
        return None
    said = _said(err)
    if isinstance(err, exceptions.TransportError):
        return Unreachable(
            f"{host}: Google's token service can't be reached: {said}",
            hint="check the network, the proxy, and SSL_CERT_FILE where the site has an authority of its own",
        )
    if isinstance(err, exceptions.DefaultCredentialsError | ValueError):
        detail = f": {said}" if isinstance(err, exceptions.GoogleAuthError) else ""
        return AccessRefused(
            f"{host}: Google's credentials can't be read{detail}",
            hint=f"make the key file or the federation's configuration anew; {CREDENTIALS_VARIABLE} names it",
        )
    if isinstance(err, exceptions.GoogleAuthError):
        return AccessRefused(f"{host}: Google gives no token: {said}", hint=_hint(said, impersonate))
    return None


def _said(err: Exception) -> str:
    """The first argument only: in the second google-auth keeps the whole answer."""
    text = str(err.args[0]) if err.args else type(err).__name__
    return "".join(letter if letter.isprintable() else " " for letter in text[:300]).strip()


def _hint(said: str, impersonate: str | None) -> str:
    if impersonate and "mpersonate" in said:
        return f"grant this identity roles/iam.serviceAccountTokenCreator on {impersonate}"
    if "attribute condition" in said or "invalid_target" in said or "unauthorized_client" in said:
        return (
            "the provider of the workload identity pool does not take this job: see its condition, audience"
        )
    if "subject token" in said or "was not found" in said:
        return "the CI system gave no identity token: GitHub needs `permissions: id-token: write`"
    if "eauthentication" in said or "invalid_rapt" in said:
        return "`gcloud auth application-default login`"
    if "invalid_grant" in said or "JWT" in said:
        return "was the key deleted or the account disabled? Is this machine's clock right?"
    return "`gcloud auth application-default print-access-token` asks in the same way"


def _need_extra() -> None:
    try:
        import google.auth  # noqa: PLC0415  lazily: see above
        import google.auth.transport.requests  # noqa: F401, PLC0415
    except ImportError:
        raise ExtraMissing from None


def _from_file(file: Path) -> Credentials:
    import google.auth  # noqa: PLC0415  lazily: see above
    from google.auth.credentials import with_scopes_if_required  # noqa: PLC0415

    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError as err:
        raise AccessRefused(
            f"Google's credentials {file} can't be read: {err.strerror}",
            hint=f"{CREDENTIALS_VARIABLE} names the file",
        ) from err
    except ValueError:  # without the cause, which holds the whole file
        content = None
    if not isinstance(content, dict):
        raise AccessRefused(
            f"{file} is no JSON of Google's credentials",
            hint="a key file, or `gcloud iam workload-identity-pools create-cred-config`",
        )
    with warnings.catch_warnings():
        # They are about files from strangers, and about a project that pays: neither is so here.
        warnings.simplefilter("ignore")
        # Without scopes: with them a federated identity's project would be looked up, over the network.
        found, _ = google.auth.load_credentials_from_dict(content)
    scoped: Credentials = with_scopes_if_required(found, [SCOPE])
    return scoped


def _from_metadata(environ: Mapping[str, str]) -> Credentials | None:
    """The machine's own account, where it is one of Google's (Compute Engine, GKE, Cloud Build)."""
    if environ.get("NO_GCE_CHECK") == "true":
        return None
    host = environ.get("GCE_METADATA_HOST") or environ.get("GCE_METADATA_ROOT") or "169.254.169.254"
    if not _is_metadata_server(host):
        return None
    from google.auth import compute_engine  # noqa: PLC0415  lazily: see above

    found: Credentials = compute_engine.Credentials(scopes=[SCOPE])
    return found


def _is_metadata_server(host: str) -> bool:
    """Asked shortly: other clouds answer at the same address too, and most machines have nothing there."""
    import requests  # noqa: PLC0415  lazily: see above

    with requests.Session() as session:
        session.trust_env = False  # no proxy can stand between a machine and its metadata
        for _ in range(_METADATA_ATTEMPTS):
            try:
                answer = session.get(
                    f"http://{host}/", headers={"Metadata-Flavor": "Google"}, timeout=_METADATA_TIMEOUT_S
                )
            except requests.Timeout:
                continue
            except requests.RequestException:
                return False
            return answer.headers.get("Metadata-Flavor") == "Google"
    return False


def _transport() -> Request:
    """google-auth's own transport, which trusts the authorities that the rest of modelport trusts."""
    import requests  # noqa: PLC0415  lazily: see above
    from google.auth.transport.requests import Request  # noqa: PLC0415

    session = requests.Session()
    paths = ssl.get_default_verify_paths()  # SSL_CERT_FILE and SSL_CERT_DIR are in it
    session.verify = paths.cafile or paths.capath or True
    return Request(session)
