"""What the site needs to reach its package indexes: CA certificates, pip's and apt's settings, given to
execs.

They come as one directory mounted at /run/.engine while a command runs, and variables that point into it; the
program that is containers' first process (init.py) comes with them. Nothing of it is in a layer: the mount
leaves with the command, and its empty mount point is dropped. The values themselves (an index URL may hold a
password) are in the mounted files only, never in an argument or a stored config.
"""

from __future__ import annotations

import configparser
import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath

from embedded_engine.entries import EPOCH
from embedded_engine.runtime.init import TARGET as INIT
from embedded_engine.runtime.init import init_args

TARGET = "/run/.engine"
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
_CA_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
)
_PIP_KEYS = (
    "index-url",
    "extra-index-url",
    "trusted-host",
    "find-links",
    "no-index",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
    "disable-pip-version-check",
)
_APT_KEYS = ("Acquire::http::", "Acquire::https::", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
_APT_LOCAL = ("::CAInfo", "::CAPath", "::SslCert", "::SslKey", "::ProxyAutoDetect", "::Proxy-Auto-Detect")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """A host directory to mount at ``TARGET``, if there is anything to put in it, and variables."""

    directory: Path | None
    env: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[Path, str], ...] = ()  # local wheel directories: (host, in the container)
    init: tuple[str, ...] = ()  # what stands before a command

    def mounts(self) -> tuple[tuple[Path, str], ...]:
        """(host path, target) pairs, all read-only."""
        return ((self.directory, TARGET), *self.links) if self.directory else ()


def host_settings(
    base: Path, environ: Mapping[str, str], apt_dump: Iterable[str], *, one_id: bool = False, init: str = ""
) -> HostSettings:
    """Collect the machine's settings into a directory under ``base``, named by its content.

    ``apt_dump`` is what ``apt-config dump`` prints (nothing where there is no apt). ``one_id``: in the user
    namespace there is no user for apt to download as. ``init``: a program to be containers' first process.
    """
    files: dict[str, bytes] = {}
    # Layers have constant times, and Python believes byte code by its source's time: told so, compilers go by
    # content instead (https://reproducible-builds.org/specs/source-date-epoch/, PEP 552).
    env: dict[str, str] = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    bundle = ca_bundle(environ)
    if bundle is not None:
        files["ca.pem"] = bundle.read_bytes()
        env |= dict.fromkeys(_CA_VARIABLES, f"{TARGET}/ca.pem")
    pip = pip_settings(environ)
    links = wheel_directories(pip.pop("find-links", ""))
    if links:
        remote = [link for link in links if isinstance(link, str)]
        pip["find-links"] = " ".join([*remote, *(target for _, target in _mounted(links))])
    if pip:
        files["pip.conf"] = pip_conf(pip).encode()
        env["PIP_CONFIG_FILE"] = f"{TARGET}/pip.conf"
    apt = apt_conf(apt_dump, ca=bundle is not None)
    if one_id:
        apt += 'APT::Sandbox::User "root";\n'
    if apt:
        files["apt.conf"] = apt.encode()
        env["APT_CONFIG"] = f"{TARGET}/apt.conf"
    if init:
        files[PurePosixPath(INIT).name] = Path(init).read_bytes()
    if not files:
        return HostSettings(None, tuple(env.items()))
    directory = written(base, files)
    return HostSettings(directory, tuple(sorted(env.items())), tuple(_mounted(links)), init_args(init))


def ca_bundle(environ: Mapping[str, str]) -> Path | None:
    """The machine's CA bundle: what SSL_CERT_FILE names, else the distribution's."""
    for name in (environ.get("SSL_CERT_FILE", ""), *_BUNDLES):
        if name and Path(name).is_file():
            return Path(name)
    return None


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What the machine's pip.conf files and PIP_* variables say of indexes; a variable beats a file, as in
    pip."""
    home = Path(environ.get("HOME", "/root"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", config / "pip/pip.conf"]
    if environ.get("PIP_CONFIG_FILE"):
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read([file for file in files if file.is_file()])
    except (configparser.Error, UnicodeDecodeError):
        parser.clear()  # pip itself will say what is wrong with the file when the user runs it
    found = dict(parser.items("global")) if parser.has_section("global") else {}
    for key in _PIP_KEYS:
        value = environ.get("PIP_" + key.replace("-", "_").upper())
        if value is not None:
            found[key] = value
    return {key: found[key] for key in _PIP_KEYS if found.get(key)}


def pip_conf(settings: Mapping[str, str]) -> str:
    """A pip.conf; several values of one key are a line each."""
    parser = configparser.RawConfigParser()
    parser["global"] = {key: "\n".join(value.split()) for key, value in settings.items()}
    text = StringIO()
    parser.write(text)
    return text.getvalue()


def wheel_directories(find_links: str) -> list[str | Path]:
    """The places of pip's find-links: URLs as text, local directories that hold something as paths."""
    places: list[str | Path] = []
    for place in find_links.split():
        if "://" in place:
            places.append(place)
        elif Path(place).is_dir() and any(Path(place).iterdir()):
            places.append(Path(place))
    return places


def apt_conf(dump: Iterable[str], *, ca: bool) -> str:
    """apt settings for APT_CONFIG: proxies and date checks as on the machine, our CA bundle for https."""
    lines = [
        line for line in dump if line.startswith(_APT_KEYS) and not any(key in line for key in _APT_LOCAL)
    ]
    lines = [line for line in lines if not line.endswith(' "";')]
    if ca:
        lines.append(f'Acquire::https::CAInfo "{TARGET}/ca.pem";')
    return "".join(f"{line}\n" for line in lines)


def _mounted(links: Iterable[str | Path]) -> list[tuple[Path, str]]:
    local = [link for link in links if isinstance(link, Path)]
    return [(path, f"{TARGET}-wheels-{number}") for number, path in enumerate(local)]


def written(base: Path, files: Mapping[str, bytes]) -> Path:
    """The directory that holds these files. Its parent is the owner's only; in the container everyone may
    read."""
    digests = [(file, hashlib.sha256(data).hexdigest()) for file, data in sorted(files.items())]
    name = hashlib.sha256(repr(digests).encode()).hexdigest()[:16]
    directory = base / name
    if directory.is_dir():
        return directory
    fresh = base / f".new-{name}"
    fresh.mkdir(parents=True, exist_ok=True)
    base.chmod(0o700)
    for file, data in files.items():
        (fresh / file).write_bytes(data)
        (fresh / file).chmod(0o755 if f"{TARGET}/{file}" == INIT else 0o644)
    fresh.chmod(0o755)
    try:
        fresh.rename(directory)
    except OSError:  # another session was quicker
        shutil.rmtree(fresh, ignore_errors=True)
    return directory
