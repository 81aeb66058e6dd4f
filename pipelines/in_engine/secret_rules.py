"""What a secret looks like. Each rule finds the place and the value; a value is only ever told masked.

A match has to be usable, not only look right: a private key needs its body, an AWS key id its secret beside
it. That is what keeps libraries' source code, which is full of markers, from being reported.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence

Found = Iterator[tuple[int, bytes, str]]
"""Where (byte), which value, how severe."""

PLACEHOLDER = re.compile(
    rb"""(?ix) ^ (?: | \$\{?\w+.* | <.*> | \{\{.*\}\} | %\w*%? | x{3,}.* | \*+ | \.{3,}
    | none | null | true | false | .*(?:example|change.?me|placeholder|your[_-]|dummy|redacted|todo).*
    | secret | password | token | test ) $"""
)
SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:PASSWORD|PASSWD|PASS|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(?:$|_)"
)
NAMES_A_PLACE = re.compile(
    r"(?i)_(?:FILE|PATH|DIR|URL|URI|HOST|NAME|ID|USER|LENGTH|TTL|EXPIRY|TYPE|ALGORITHM)$"
)
SHORTEST = 6


class Hit:
    """One secret in one file."""

    __slots__ = ("line", "rule", "severity", "title", "value")

    def __init__(self, rule: str, title: str, severity: str, line: int, value: bytes) -> None:
        self.rule = rule
        self.title = title
        self.severity = severity
        self.line = line
        self.value = value


class Rule:
    """One kind of secret: where to look (markers in the bytes, or globs of paths) and how to find it there.

    A marker starts with a literal: such expressions are searched for at 0.5 GB/s, others at 0.03. Literals
    are searched for at more than 1 GB/s each.
    """

    def __init__(  # noqa: PLR0913  two ways to say where, each by its keyword
        self,
        rule: str,
        title: str,
        find: Callable[[bytes], Found],
        *,
        marker: bytes = b"",
        literals: Sequence[bytes] = (),
        paths: Sequence[str] = (),
    ) -> None:
        self.id = rule
        self.title = title
        self.find = find
        self.marker = re.compile(marker) if marker else None
        self.literals = tuple(literals)
        self.paths = tuple(paths)

    def may_be_in(self, data: bytes) -> bool:
        """Is a marker there? Without one, nothing else is looked for."""
        if self.marker is not None:
            return bool(self.marker.search(data))
        return any(literal in data for literal in self.literals)


def masked(value: bytes) -> str:
    """The first four characters of a long value, enough to find it again; nothing of a short one."""
    text = value.decode("ascii", "replace")
    return f"{text[:4]}…({len(text)} characters)" if len(text) >= 16 else f"…({len(text)} characters)"


def is_placeholder(value: bytes) -> bool:
    """Is ``value`` what examples put where a secret belongs, or too short to be one?"""
    return len(value) < SHORTEST or bool(PLACEHOLDER.match(value)) or len(set(value)) < 4


def is_secret_name(name: str) -> bool:
    """Does a variable of this name hold a secret (and not the place of one)?"""
    return bool(SECRET_NAME.search(name)) and not NAMES_A_PLACE.search(name)


def matching(pattern: bytes, severity: str = "critical") -> Callable[[bytes], Found]:
    """The first group of each match of ``pattern`` that is no placeholder."""
    compiled = re.compile(pattern)

    def find(data: bytes) -> Found:
        for match in compiled.finditer(data):
            value = match.group(1)
            if not is_placeholder(value):
                yield match.start(1), value, severity

    return find


_AWS_ID = re.compile(rb"(?<![A-Za-z0-9])((?:AKIA|ASIA)[A-Z2-7]{16})(?![A-Za-z0-9])")
_AWS_SECRET = re.compile(rb"(?<![A-Za-z0-9/+=_-])([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=_-])")


def _aws(data: bytes) -> Found:
    """A key id with its secret within a few lines; an id alone opens nothing, but says where to look."""
    for match in _AWS_ID.finditer(data):
        if match.group(1).endswith(b"EXAMPLE"):
            continue
        around = data[max(0, match.start() - 400) : match.end() + 400]
        mixed = (b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789")
        secrets = [
            found.group(1)
            for found in _AWS_SECRET.finditer(around)
            if all(set(found.group(1)) & set(kind) for kind in mixed)
        ]
        if secrets:
            yield match.start(1), secrets[0], "critical"
        else:
            yield match.start(1), match.group(1), "medium"


def _service_account(data: bytes) -> Found:
    """A Google service account: JSON with the type, the key's id and the key."""
    for match in re.finditer(rb'"private_key_id"\s*:\s*"([0-9a-f]{20,64})"', data):
        around = data[max(0, match.start() - 4096) : match.end() + 8192]
        if b"-----BEGIN" in around and b"service_account" in around:
            yield match.start(1), match.group(1), "critical"


def _docker_config(data: bytes) -> Found:
    try:
        registries = json.loads(data).get("auths", {})
    except (ValueError, AttributeError):
        return
    for entry in registries.values() if isinstance(registries, dict) else ():
        for key in ("auth", "identitytoken", "registrytoken"):
            value = entry.get(key, "") if isinstance(entry, dict) else ""
            if isinstance(value, str) and not is_placeholder(value.encode()):
                yield max(0, data.find(value.encode())), value.encode(), "critical"


_ASSIGNED = re.compile(
    rb"(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*[\"']?([^\s\"'#]*)"
)


def _dotenv(data: bytes) -> Found:
    for match in _ASSIGNED.finditer(data):
        if is_secret_name(match.group(1).decode("ascii")) and not is_placeholder(match.group(2)):
            yield match.start(2), match.group(2), "critical"


def _kubeconfig(data: bytes) -> Found:
    """The client's key or token in a kubeconfig: YAML or JSON, one key to a line."""
    for match in re.finditer(
        rb"(?:client-key-data|token|password)[\"']?[ \t]*:[ \t]*[\"']?([^\s\"',]{8,12000})",
        data,
    ):
        if not is_placeholder(match.group(1)):
            yield match.start(1), match.group(1), "critical"


CONTENT_RULES = (
    Rule("aws-key", "AWS access key", _aws, marker=rb"A[KS]IA"),
    Rule(
        "private-key",
        "private key",
        matching(
            rb"-----BEGIN (?:(?:RSA|EC|DSA|OPENSSH|ENCRYPTED|PGP) )?PRIVATE KEY(?: BLOCK)?-----"
            rb"(?:\\[rn]|\s)+(?:[A-Za-z-]+:[^\n]{0,200}(?:\\n|\s)+){0,4}([A-Za-z0-9+/=]{40,})"
        ),
        marker=rb"PRIVATE KEY(?: BLOCK)?-----",
    ),
    Rule(
        "github-token",
        "GitHub token",
        matching(rb"(?<![A-Za-z0-9_])(gh[pousr]_[A-Za-z0-9]{36,255})"),
        marker=rb"gh[pousr]_",
    ),
    Rule(
        "github-token",
        "GitHub token",
        matching(rb"(?<![A-Za-z0-9_])(github_pat_[A-Za-z0-9_]{60,255})"),
        marker=rb"github_pat_",
    ),
    Rule(
        "huggingface-token",
        "Hugging Face token",
        matching(rb"(?<![A-Za-z0-9_])(hf_[A-Za-z]{34})(?![A-Za-z0-9_])"),
        marker=rb"hf_[A-Za-z]{34}",
    ),
    Rule(
        "slack-token",
        "Slack token",
        matching(rb"(?<![A-Za-z0-9])(xox[abeprs]-[0-9A-Za-z-]{20,250})"),
        marker=rb"xox[abeprs]-",
    ),
    Rule(
        "gitlab-token",
        "GitLab token",
        matching(rb"(?<![A-Za-z0-9_])(glpat-[A-Za-z0-9_-]{20,64})"),
        marker=rb"glpat-",
    ),
    Rule(
        "pypi-token",
        "PyPI token",
        matching(rb"(?<![A-Za-z0-9_])(pypi-AgE[A-Za-z0-9_-]{60,300})"),
        marker=rb"pypi-AgE",
    ),
    Rule("gcp-service-account", "Google service account key", _service_account, marker=rb'"private_key_id"'),
)

_URL_PASSWORD = matching(rb"[a-z][a-z0-9+.-]*://[^/\s:@\"']*:([^@\s/\"']{3,})@")

FILE_RULES = (
    Rule(
        "netrc",
        "password in .netrc",
        matching(rb"(?m)^(?!\s*#).*?\bpassword\s+(\S+)"),
        paths=("*/.netrc", "*/_netrc", "/etc/apt/auth.conf", "/etc/apt/auth.conf.d/*"),
    ),
    Rule(
        "docker-config",
        "registry login",
        _docker_config,
        paths=("*/.docker/config.json", "*/.dockerconfigjson", "*/containers/auth.json"),
    ),
    Rule(
        "url-password",
        "password in an address",
        _URL_PASSWORD,
        paths=(
            *(
                "*/pip.conf",
                "*/.pip/pip.conf",
                "*/pip/pip.conf",
                "*/pip.ini",
                "*/.git/config",
                "*/.gitconfig",
            ),
            *(
                "*/.git-credentials",
                "*/.npmrc",
                "*/uv.toml",
                "*/requirements*.txt",
                "*/Pipfile",
                "*/poetry.toml",
            ),
            *("/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "*/.env", "*/.env.*", "*.env"),
        ),
    ),
    Rule(
        "kubeconfig",
        "login to a Kubernetes cluster",
        _kubeconfig,
        paths=("*/.kube/config", "*kubeconfig", "*kubeconfig.y*ml", "/etc/rancher/k3s/k3s.yaml"),
    ),
    Rule(
        "npm-token",
        "npm token",
        matching(rb"_(?:authToken|auth|password)\s*=\s*[\"']?([^\s\"']+)"),
        paths=("*/.npmrc",),
    ),
    Rule(
        "pypirc",
        "package index password",
        matching(rb"(?m)^\s*password\s*[=:]\s*(\S+)"),
        paths=("*/.pypirc",),
    ),
    Rule(
        "dotenv",
        "secret in an environment file",
        _dotenv,
        paths=("*/.env", "*/.env.local", "*/.env.prod*", "*/.env.dev*", "*/.env.stag*", "*.env"),
    ),
    Rule(
        "aws-credentials",
        "AWS secret key",
        matching(rb"(?mi)^\s*aws_secret_access_key\s*=\s*([A-Za-z0-9/+=]{40})"),
        paths=("*/.aws/credentials", "*/.aws/config", "*/.boto", "*/.s3cfg"),
    ),
)
