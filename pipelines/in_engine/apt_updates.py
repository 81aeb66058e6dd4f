"""Debian's security updates that the image lacks. One line of JSON on standard output.

Usage: python3 -m pipelines.in_engine.apt_updates ROOT SECURITY-MIRROR

apt itself says what it would upgrade, given the image's package list and the security archive of the image's
own release; nothing is installed, and the image is only read. The archive's signature is checked with the
keyring of the tools container, never with the image's. Only the security archive is asked: every update there
is one, and its lists are a few hundred kilobytes. apt's candidates are taken rather than a simulated
dist-upgrade, whose solver leaves out what is on hold or kept back, and gives up on a broken dependency.
"""

import email.utils
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pipelines.in_engine.os_package_lists import dpkg_status
from pipelines.in_engine.rootfs import os_release, tell

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
COMPONENTS = "main contrib non-free non-free-firmware"
OLD_COMPONENTS = "main contrib non-free"
"""Before Debian 12."""
SECONDS = 120
POLICY = re.compile(r"^(\S+):\n  Installed: (\S+)\n  Candidate: (\S+)\n", re.MULTILINE)
AT_ONCE = 500


class CannotLookError(Exception):
    """Why there is no answer: it is the answer then."""


def main(arguments: list[str]) -> int:
    """Look; the exit code is 1 when that wasn't possible, so that no engine keeps the answer."""
    root, mirror = Path(arguments[0]), arguments[1]
    own = os_release(root)
    if own.get("ID", "debian") != "debian":
        tell({"other": own.get("PRETTY_NAME") or own["ID"]})
        return 0
    try:
        status = package_list(root)
        release = codename(own)
        with tempfile.TemporaryDirectory() as directory:
            apt = Apt(Path(directory), status, architecture(status), sources(release, mirror))
            apt.run("apt-get", "update")
            archive = apt.archive()
            names = installed(status, apt.architecture)
            told = [
                apt.run("apt-cache", "policy", *names[at : at + AT_ONCE])
                for at in range(0, len(names), AT_ONCE)
            ]
    except CannotLookError as err:
        tell({"could_not_look": str(err)})
        return 1
    found = updates("".join(told))
    tell({"suite": f"{release}-security", "updates": found, "packages": len(names), **archive})
    return 0


def package_list(root: Path) -> str:
    """dpkg's status of the image, of distroless' too. Raises CannotLookError when it has none."""
    text = "\n\n".join(map(_as_installed, dpkg_status(root)))
    if not text.strip():
        raise CannotLookError(
            f"no dpkg package list in {os_release(root).get('PRETTY_NAME', 'an image without os-release')}"
        )
    return text


def _as_installed(text: str) -> str:
    """distroless' parts have no ``Status``, without which apt takes a package for one that is not there."""
    if re.search(r"^Status: ", text, re.MULTILINE):
        return text
    return re.sub(r"^(Package: .*)$", r"\1\nStatus: install ok installed", text, flags=re.MULTILINE)


def codename(release: dict[str, str]) -> str:
    """The codename of the image's Debian release. Raises CannotLookError for another distribution."""
    name = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not re.fullmatch(r"[a-z]+", name):
        raise CannotLookError(f"{release.get('PRETTY_NAME') or 'the image'} is not a release of Debian")
    if name in ("sid", "forky"):
        raise CannotLookError(f"Debian {name} has no security archive")
    return name


def architecture(status: str) -> str:
    """The architecture of the image's packages. Raises CannotLookError when they name none."""
    match = re.search(r"^Architecture: (?!all$)([a-z0-9-]+)$", status, re.MULTILINE)
    if not match:
        raise CannotLookError("dpkg's package list names no architecture")
    return match.group(1)


def installed(status: str, native: str) -> list[str]:
    """The installed packages by the names that apt-cache wants."""
    names = []
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Architecture): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            foreign = fields.get("Architecture") not in (native, "all", None)
            names.append(f"{fields['Package']}:{fields['Architecture']}" if foreign else fields["Package"])
    return names


def sources(release: str, mirror: str) -> str:
    """The one line of sources.list: the security archive of ``release``."""
    suite = f"{release}/updates" if release == "buster" else f"{release}-security"
    components = OLD_COMPONENTS if release in ("buster", "bullseye") else COMPONENTS
    return f"deb [signed-by={KEYRING}] {mirror} {suite} {components}\n"


class Apt:
    """apt with its whole state in a directory of our own, and the image's package list as its status.

    Configuration is left alone: proxies and certificates are those of the container.
    """

    def __init__(self, directory: Path, status: str, architecture: str, source: str) -> None:
        self.architecture = architecture
        self.lists = directory / "lists"
        (self.lists / "partial").mkdir(parents=True)
        (directory / "cache/archives/partial").mkdir(parents=True)
        (directory / "sources.list").write_text(source)
        (directory / "status").write_text(status)
        self.options = {
            "Dir::State::status": directory / "status",
            "Dir::State::extended_states": "/dev/null",
            "Dir::State::lists": self.lists,
            "Dir::Cache": directory / "cache",
            "Dir::Etc::sourcelist": directory / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "APT::Update::Post-Invoke": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
            "Debug::NoLocking": "1",
        }

    def run(self, program: str, *arguments: str) -> str:
        """The standard output of one command. Raises CannotLookError with the reason that apt gives."""
        options = [word for key, value in self.options.items() for word in ("-o", f"{key}={value}")]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(
                [program, "-q", *options, *arguments],
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError as err:
            raise CannotLookError(
                f"the tools image has no {program} (see tools: image: in modelport.yaml)"
            ) from err
        except subprocess.TimeoutExpired as err:
            raise CannotLookError(f"{program} {arguments[0]} took more than {SECONDS} seconds") from err
        if done.returncode or not any(self.lists.glob("*_Packages*")):
            raise CannotLookError(f"{program} {arguments[0]}: {reason(done.stderr)}")
        return done.stdout

    def archive(self) -> dict[str, str]:
        """When the archive was last signed, by its own word, and the digest of what is signed."""
        for file in sorted(self.lists.glob("*Release")):
            content = file.read_bytes()
            match = re.search(r"^Date: (.+)$", content.decode("utf-8", "replace"), re.MULTILINE)
            if match:
                return {
                    "archive": match.group(1),
                    "archive_date": day(match.group(1)),
                    "archive_digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
                }
        return {"archive": "", "archive_date": "", "archive_digest": ""}


def day(date: str) -> str:
    """The date of a Release file (RFC 2822, Debian's archive format) as ISO 8601; "" for what is none."""
    try:
        return email.utils.parsedate_to_datetime(date).isoformat()
    except (TypeError, ValueError, IndexError):
        return ""


def reason(stderr: str) -> str:
    """apt's first error, or its first warning, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.startswith(("E: ", "W: "))]
    chosen = sorted(lines, key=lambda line: (line.startswith("W: "), "Failed to fetch" not in line))
    return (chosen[0][3:] if chosen else stderr.strip() or "it gave no reason")[:300]


def updates(told: str) -> list[dict[str, str]]:
    """The packages in ``apt-cache policy``'s answer that apt would replace."""
    return [
        {"name": name, "installed": version, "fixed": candidate}
        for name, version, candidate in POLICY.findall(told)
        if candidate not in (version, "(none)") and version != "(none)"
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
