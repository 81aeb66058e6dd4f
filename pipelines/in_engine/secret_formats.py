"""More kinds of secrets, by the shape that their issuers gave them: for text and for small files.

The shapes are those that gitleaks and detect-secrets know. Beyond the shape a secret has to be usable: a JWT
has to be one and not expired, a connection string needs a host that is not the reader's own machine. Each
marker is one more pass over the bytes, so tokens of one issuer that begin alike share one.
"""

import base64
import binascii
import json
import re
import time

from pipelines.in_engine.secret_rules import CONTENT_RULES, Found, Rule, is_placeholder, matching

EARLIER = rb"(?<![A-Za-z0-9_-])"
LATER = rb"(?![A-Za-z0-9_-])"

_JWT = re.compile(
    rb"(?<![A-Za-z0-9_-])(eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{16,1400})"
)


def _jwt(data: bytes) -> Found:
    """A signed token (RFC 7519) that has not expired, and is not the one of every manual."""
    for match in _JWT.finditer(data):
        head, claims = (_json_of(part) for part in match.group(1).split(b".")[:2])
        if not head.get("alg") or not claims or claims.get("sub") == "1234567890":
            continue
        expires = claims.get("exp")
        if isinstance(expires, (int, float)) and expires < time.time():
            continue
        yield match.start(1), match.group(1), "high"


def _json_of(part: bytes) -> "dict[str, object]":
    try:
        found = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_ADDRESS = re.compile(
    rb"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|mongodb|rediss?|amqps?|clickhouse|cockroachdb|snowflake"
    rb"|s?ftp|ldaps?|smtps?)(?:\+[a-z0-9]+)*://([^\s:@/\"'<>]{0,64}):([^\s@/\"'<>]{3,200})@([A-Za-z0-9.-]+)"
)
_NOBODY = re.compile(
    rb"(?i)^(?:localhost|127\.|0\.0\.0\.0|host|hostname|server|address|my|some|db$|\.|.*example|.*\.(?:test|invalid)$)"
)
_OF_MANUALS = re.compile(
    rb"(?i)^(?:tiger|.*pass(?:word|wd)?\d*|pwd|foo|bar|hunter2|guest|.*secret|[%{$\[(].*|.*\})$"
)


def _connection(data: bytes) -> Found:
    """A database's address with the password in it (RFC 3986 §3.2.1), for a host that others could reach."""
    for match in _ADDRESS.finditer(data):
        _, password, host = match.groups()
        if is_placeholder(password) or _OF_MANUALS.match(password) or _NOBODY.match(host):
            continue
        yield match.start(2), password, "critical"


_KEY_VALUE = re.compile(
    rb"(?i)(?:server|data source|host)\s*=\s*(?P<host>[^;\"'\n]{2,200});(?:[^\"'\n]{0,300};)?"
    rb"(?:password|pwd)=(?P<password>[^;\"'\s]{4,128})"
)


def _key_value_connection(data: bytes) -> Found:
    """A connection string of ADO.NET or ODBC: ``Server=…;…;Password=…``."""
    for match in _KEY_VALUE.finditer(data):
        password, host = match.group("password"), match.group("host")
        if is_placeholder(password) or _OF_MANUALS.match(password) or _NOBODY.match(host.strip()):
            continue
        yield match.start("password"), password, "critical"


_SIGNED = re.compile(rb"[?&]sig=([A-Za-z0-9%+/]{40,128}={0,2})")


def _sas(data: bytes) -> Found:
    """A shared access signature of Azure storage: a version, an expiry and a signature."""
    for match in _SIGNED.finditer(data):
        around = data[max(0, match.start() - 400) : match.end() + 400]
        if b"sv=20" in around and b"se=20" in around and not is_placeholder(match.group(1)):
            yield match.start(1), match.group(1), "critical"


_ENCODED = re.compile(
    rb"(?<![A-Za-z0-9+/])((?:LS0tLS1CRUdJTi|Z2hwX|Z2l0aHViX3BhdF|QUtJQ)"
    rb"[A-Za-z0-9+/]{16,12000}={0,2})"
)


def _encoded(data: bytes) -> Found:
    """A known secret in base64 (RFC 4648 §4), as Kubernetes and CI systems like it."""
    for match in _ENCODED.finditer(data):
        text = match.group(1).rstrip(b"=")
        try:
            plain = base64.b64decode(text + b"=" * (-len(text) % 4))
        except (ValueError, binascii.Error):
            continue
        for rule in (*CONTENT_RULES, *_TOKENS):
            found = next(rule.find(plain), None) if rule.may_be_in(plain) else None
            if found is not None:
                yield match.start(1), match.group(1), found[2]
                break


def _token(rule: str, title: str, start: bytes, rest: bytes, severity: str = "critical") -> Rule:
    """A token that begins with ``start``, which is looked for as it is."""
    pattern = EARLIER + b"(" + re.escape(start) + rest + b")" + LATER
    return Rule(rule, title, matching(pattern, severity), literals=(start,))


_TOKENS = (
    Rule(
        "openai-key",
        "OpenAI API key",
        matching(
            EARLIER
            + rb"(sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,200}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}))"
            + LATER
        ),
        marker=rb"sk-(?:proj|svcacct|admin|[A-Za-z0-9]{20}T3Blbk)",
    ),
    _token("anthropic-key", "Anthropic API key", b"sk-ant-", rb"[a-z0-9]{4,10}-[A-Za-z0-9_-]{60,140}"),
    _token("npm-token", "npm token", b"npm_", rb"[A-Za-z0-9]{36}"),
    Rule(
        "gitlab-token",
        "GitLab token",
        matching(EARLIER + rb"(gl(?:dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{20,64})" + LATER),
        marker=rb"gl[a-z]{2,4}-[A-Za-z0-9_-]{20}",
    ),
    _token("slack-token", "Slack token", b"xapp-", rb"\d-[A-Z0-9]{8,14}-\d{8,16}-[a-z0-9]{30,80}"),
    Rule(
        "stripe-key",
        "Stripe key",
        matching(rb"(?<![A-Za-z0-9])([sr]k_live_[A-Za-z0-9]{20,120})" + LATER),
        literals=(b"k_live_",),
    ),
    _token("vault-token", "HashiCorp Vault token", b"hvs.", rb"[A-Za-z0-9_-]{80,200}"),
    _token("docker-hub-token", "Docker Hub token", b"dckr_pat_", rb"[A-Za-z0-9_-]{24,40}"),
    _token("databricks-token", "Databricks token", b"dapi", rb"[a-f0-9]{32}(?:-\d)?"),
    _token("google-api-key", "Google API key", b"AIza", rb"[A-Za-z0-9_-]{35}", "medium"),
    Rule(
        "sendgrid-key",
        "SendGrid key",
        matching(EARLIER + rb"(SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50})" + LATER),
        literals=(b"SG.",),
    ),
    Rule(
        "slack-webhook",
        "Slack webhook",
        matching(rb"hooks\.slack\.com/((?:services|workflows)/[A-Z0-9]{8,12}/[A-Za-z0-9/]{20,60})", "high"),
        literals=(b"hooks.slack.com/",),
    ),
    Rule(
        "azure-storage-key",
        "Azure storage or service bus key",
        matching(rb"(?:AccountKey|AccessKey)=([A-Za-z0-9+/]{43,86}={1,2})"),
        literals=(b"AccountKey=", b"AccessKey="),
    ),
    Rule(
        "azure-client-secret",
        "Azure client secret",
        matching(rb"(?<![A-Za-z0-9_~.-])([A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{31,34})(?![A-Za-z0-9_~.-])"),
        literals=(b"7Q~", b"8Q~"),
    ),
    Rule(
        "private-key",
        "PuTTY private key",
        matching(rb"PuTTY-User-Key-File-\d[\s\S]{0,4000}?Private-Lines: \d+\s+([A-Za-z0-9+/=]{40,})"),
        literals=(b"PuTTY-User-Key-File-",),
    ),
)

MORE_RULES = (
    *_TOKENS,
    Rule("azure-sas", "Azure shared access signature", _sas, literals=(b"sig=",)),
    Rule("jwt", "signed token (JWT)", _jwt, literals=(b".eyJ",)),
    Rule(
        "connection-string",
        "password in a connection string",
        _connection,
        marker=rb"://[^\s/@]{0,64}:[^\s/@]{3,200}@",
    ),
    Rule(
        "connection-string",
        "password in a connection string",
        _key_value_connection,
        literals=(b";Password=", b";password=", b";Pwd="),
    ),
    Rule(
        "encoded-secret",
        "secret in base64",
        _encoded,
        # "-----BEGIN", "ghp_", "github_pat", "AKI": the expression asks for more.
        literals=(b"LS0tLS1CRUdJTi", b"Z2hwX", b"Z2l0aHViX", b"QUtJQ"),
    ),
)
