"""Which CI system runs us, and what it says about the commit. Every provider's quirk is a row of this table.

The variables are those that the providers document: GitHub "Variables reference" and "Workflow commands",
CircleCI "Built-in environment variables", Jenkins "Global variable reference" (branch and Git plugins),
GitLab "Predefined CI/CD variables reference", Azure "Use predefined variables" and "Logging commands".
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipelines.errors import PipelineError

Escape = tuple[tuple[str, str], ...]
"""Characters to replace, in order."""

_GITHUB_TEXT: Final[Escape] = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))
_GITHUB_PROPERTY: Final[Escape] = (*_GITHUB_TEXT, (":", "%3A"), (",", "%2C"))
_AZURE_TEXT: Final[Escape] = (("%", "%AZP25"), ("\r", "%0D"), ("\n", "%0A"))
_AZURE_PROPERTY: Final[Escape] = (*_AZURE_TEXT, ("]", "%5D"), (";", "%3B"))


@dataclass(frozen=True, slots=True)
class Commands:
    """The lines of its log that a CI system acts upon. Empty text: it has no such thing."""

    open_group: str = ""
    close_group: str = ""
    error: str = ""
    """With ``{message}``; used where the place is not known."""
    error_at: str = ""
    """With ``{file}``, ``{line}`` and ``{message}``."""
    mask: str = ""
    """With ``{value}``."""
    escape_text: Escape = ()
    escape_property: Escape = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """One CI system as data. Names are environment variables; of several the first that is set counts."""

    name: str
    marker: str
    """Set by this system, and by no other."""
    run_url: tuple[str, ...] = ()
    """Templates over the environment; the first whose variables are all set counts."""
    run_number: tuple[str, ...] = ()
    """Counts the runs; where attempts of one run are counted too, those don't matter: it is one release."""
    repository_url: tuple[str, ...] = ()
    commit: tuple[str, ...] = ()
    branch: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    ref: tuple[str, ...] = ()
    """A full ref (refs/heads/…, refs/tags/…, refs/pull/…): the branch and tag are taken from it."""
    pull_request: tuple[str, ...] = ()
    """The pull request's number, where it is a variable."""
    pull_request_events: tuple[str, frozenset[str]] = ("", frozenset())
    """A variable, and its values in runs for pull requests."""
    head_branch: tuple[str, ...] = ()
    target_branch: tuple[str, ...] = ()
    head_commit: tuple[str, ...] = ()
    event_file: str = ""
    """A JSON file that describes the event; GitHub tells a pull request's head only there."""
    summary_file: str = ""
    commands: Commands = Commands()


PROVIDERS: Final[tuple[Provider, ...]] = (
    Provider(
        name="GitHub Actions",
        marker="GITHUB_ACTIONS",
        run_url=(
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/{GITHUB_RUN_ATTEMPT}",
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        ),
        run_number=("GITHUB_RUN_NUMBER",),
        repository_url=("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}",),
        commit=("GITHUB_SHA",),
        ref=("GITHUB_REF",),
        # In pull_request_target GITHUB_REF is the *base* branch, whatever was checked out since.
        pull_request_events=("GITHUB_EVENT_NAME", frozenset({"pull_request", "pull_request_target"})),
        head_branch=("GITHUB_HEAD_REF",),
        target_branch=("GITHUB_BASE_REF",),
        event_file="GITHUB_EVENT_PATH",
        summary_file="GITHUB_STEP_SUMMARY",
        commands=Commands(
            open_group="::group::{title}",
            close_group="::endgroup::",
            error="::error::{message}",
            error_at="::error file={file},line={line}::{message}",
            mask="::add-mask::{value}",
            escape_text=_GITHUB_TEXT,
            escape_property=_GITHUB_PROPERTY,
        ),
    ),
    Provider(
        name="CircleCI",
        marker="CIRCLECI",
        run_url=("{CIRCLE_BUILD_URL}",),
        run_number=("CIRCLE_BUILD_NUM",),
        repository_url=("{CIRCLE_REPOSITORY_URL}",),
        commit=("CIRCLE_SHA1",),
        branch=("CIRCLE_BRANCH",),
        tag=("CIRCLE_TAG",),
        # Only for pull requests from forks. CIRCLE_PULL_REQUEST is no evidence: it is also set for a push to
        # main while some pull request *from* main is open.
        pull_request=("CIRCLE_PR_NUMBER",),
        head_branch=("CIRCLE_BRANCH",),
    ),
    Provider(
        name="GitLab CI",
        marker="GITLAB_CI",
        run_url=("{CI_JOB_URL}",),
        run_number=("CI_PIPELINE_IID",),
        repository_url=("{CI_PROJECT_URL}",),
        commit=("CI_COMMIT_SHA",),
        branch=("CI_COMMIT_BRANCH",),
        tag=("CI_COMMIT_TAG",),
        pull_request=("CI_MERGE_REQUEST_IID", "CI_EXTERNAL_PULL_REQUEST_IID"),
        head_branch=("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME"),
        target_branch=("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME"),
        # Set in pipelines for merged results only; elsewhere CI_COMMIT_SHA is the head.
        head_commit=("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA"),
        commands=Commands(
            open_group="\x1b[0Ksection_start:{time}:{slug}\r\x1b[0K{title}",
            close_group="\x1b[0Ksection_end:{time}:{slug}\r\x1b[0K",
        ),
    ),
    Provider(
        name="Azure Pipelines",
        marker="TF_BUILD",
        run_url=("{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",),
        run_number=("BUILD_BUILDID",),
        repository_url=("{BUILD_REPOSITORY_URI}",),
        commit=("BUILD_SOURCEVERSION",),
        ref=("BUILD_SOURCEBRANCH",),
        pull_request=("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"),
        pull_request_events=("BUILD_REASON", frozenset({"PullRequest"})),
        head_branch=("SYSTEM_PULLREQUEST_SOURCEBRANCH",),
        target_branch=("SYSTEM_PULLREQUEST_TARGETBRANCH",),
        head_commit=("SYSTEM_PULLREQUEST_SOURCECOMMITID",),
        commands=Commands(
            open_group="##[group]{title}",
            close_group="##[endgroup]",
            error="##vso[task.logissue type=error]{message}",
            error_at="##vso[task.logissue type=error;sourcepath={file};linenumber={line}]{message}",
            mask="##vso[task.setsecret]{value}",
            escape_text=_AZURE_TEXT,
            escape_property=_AZURE_PROPERTY,
        ),
    ),
    Provider(
        name="Jenkins",
        marker="JENKINS_URL",
        run_url=("{BUILD_URL}",),
        run_number=("BUILD_NUMBER",),
        repository_url=("{GIT_URL}",),
        commit=("GIT_COMMIT",),
        # BRANCH_NAME in multibranch jobs (PR-12 for a change, a tag's name for a tag), GIT_BRANCH elsewhere.
        branch=("BRANCH_NAME", "GIT_BRANCH"),
        tag=("TAG_NAME",),
        pull_request=("CHANGE_ID",),
        head_branch=("CHANGE_BRANCH",),
        target_branch=("CHANGE_TARGET",),
    ),
)

_PULL_REF = re.compile(r"(?:refs/)?(?:pull|pull-requests|merge-requests)/(\d+)(?:/.*)?")


@dataclass(frozen=True, slots=True)
class CiSystem:
    """The CI system that runs us, or none (``name`` is empty), and its facts about this run."""

    name: str = ""
    run_url: str | None = None
    run_number: str | None = None
    repository_url: str | None = None
    commit: str | None = None
    """The commit that the run is for; what the checkout holds is for Git to say."""
    head_commit: str | None = None
    """A pull request's own last commit, where that is not the commit built."""
    branch: str | None = None
    """The branch; of a pull request the one that it comes from."""
    target_branch: str | None = None
    tag: str | None = None
    pull_request: str | None = None
    """Its number, or "?" where the system does not tell it."""
    summary_file: Path | None = None
    commands: Commands = Commands()

    @property
    def is_pull_request(self) -> bool:
        """Whether the run is for a pull request: such code may be anyone's and is never released."""
        return self.pull_request is not None

    def open_group(self, title: str, time_s: float = 0) -> str:
        """The line that starts a foldable part of the log; empty where there are none."""
        return self._group(self.commands.open_group, title, time_s)

    def close_group(self, title: str, time_s: float = 0) -> str:
        """The line that ends it."""
        return self._group(self.commands.close_group, title, time_s)

    def _group(self, template: str, title: str, time_s: float) -> str:
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", title)
        return (
            template.format(title=title.replace("\n", " "), time=int(time_s), slug=slug) if template else ""
        )

    def annotation(self, error: PipelineError, root: Path | None = None) -> str:
        """The line that shows ``error`` beside the source; empty where there is no such thing.

        Files are named relative to ``root``, the repository, as the providers want it.
        """
        commands, text = self.commands, error.message + (f"\n{error.hint}" if error.hint else "")
        message = _escaped(text, commands.escape_text)
        if error.place is None:
            return commands.error.format(message=message)
        file = error.place.file
        if root is not None and file.is_absolute() and file.is_relative_to(root):
            file = file.relative_to(root)
        name = _escaped(str(file), commands.escape_property)
        return commands.error_at.format(file=name, line=error.place.line or 1, message=message)

    def mask(self, secret: str) -> tuple[str, ...]:
        """The lines that make the system hide ``secret`` in its log. They hold it: for that system only."""
        if not self.commands.mask:
            return ()
        lines = [line for line in secret.splitlines() if line.strip()]
        return tuple(
            self.commands.mask.format(value=_escaped(line, self.commands.escape_text)) for line in lines
        )

    def write_summary(self, markdown: str) -> bool:
        """Add to the run's summary page. False where there is none, or where it can't be written."""
        if self.summary_file is None:
            return False
        try:
            with self.summary_file.open("a", encoding="utf-8") as file:
                file.write(markdown.rstrip("\n") + "\n")
        except OSError:
            return False  # a summary is a courtesy: it does not fail a release
        return True


def detect(environ: Mapping[str, str]) -> CiSystem:
    """The CI system that ``environ`` tells of. Outside of any: a value with an empty name and no facts."""
    for provider in PROVIDERS:
        if environ.get(provider.marker, "").lower() not in ("", "false", "0"):
            return _facts(provider, environ)
    return CiSystem()


def _facts(provider: Provider, environ: Mapping[str, str]) -> CiSystem:
    branch, tag, number = _ref(_first(provider.ref, environ))
    branch = branch or _branch(_first(provider.branch, environ))
    tag = tag or _first(provider.tag, environ)
    if tag is not None:
        branch = None  # Jenkins gives the tag's name as the branch
    event = _event(environ.get(provider.event_file, ""))
    number = _first(provider.pull_request, environ) or number or _number_of(branch)
    variable, values = provider.pull_request_events
    if number is None and environ.get(variable) in values:
        number = str(event.get("number") or "?")
    if number is not None:
        branch = _branch(_first(provider.head_branch, environ)) or branch
    summary = environ.get(provider.summary_file)
    return CiSystem(
        name=provider.name,
        run_url=_filled(provider.run_url, environ),
        run_number=_first(provider.run_number, environ),
        repository_url=_filled(provider.repository_url, environ),
        commit=_first(provider.commit, environ),
        head_commit=_first(provider.head_commit, environ) or _head_of(event),
        branch=branch,
        target_branch=_branch(_first(provider.target_branch, environ)),
        tag=tag,
        pull_request=number,
        summary_file=Path(summary) if summary else None,
        commands=provider.commands,
    )


def _first(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    return next((value for name in names if (value := environ.get(name))), None)


def _filled(templates: Iterable[str], environ: Mapping[str, str]) -> str | None:
    for template in templates:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
        if all(environ.get(name) for name in names):
            return template.format_map(environ)
    return None


def _ref(ref: str | None) -> tuple[str | None, str | None, str | None]:
    """Branch, tag and pull request number of a full ref."""
    if ref is None:
        return None, None, None
    if ref.startswith("refs/tags/"):
        return None, ref.removeprefix("refs/tags/"), None
    if number := _number_of(ref):
        return None, None, number
    return _branch(ref), None, None


def _number_of(branch: str | None) -> str | None:
    found = _PULL_REF.fullmatch(branch or "")
    return found[1] if found else None


def _branch(name: str | None) -> str | None:
    """A branch's short name: Jenkins writes ``origin/main``, Azure ``refs/heads/main``."""
    if name is None:
        return None
    for prefix in ("refs/heads/", "refs/remotes/origin/", "remotes/origin/", "origin/"):
        if name.startswith(prefix):
            return name.removeprefix(prefix) or None
    return None if name in ("HEAD", "detached") else name


def _event(file: str) -> dict[str, Any]:
    """GitHub's description of the event; empty where there is none that can be read."""
    try:
        event = json.loads(Path(file).read_text("utf-8")) if file else {}
    except (OSError, ValueError):
        return {}
    return event if isinstance(event, dict) else {}


def _head_of(event: Mapping[str, Any]) -> str | None:
    """The head commit of the event's pull request."""
    pull_request = event.get("pull_request")
    head = pull_request.get("head") if isinstance(pull_request, dict) else None
    sha = head.get("sha") if isinstance(head, dict) else None
    return sha if isinstance(sha, str) and sha else None


def _escaped(text: str, escape: Escape) -> str:
    for plain, code in escape:
        text = text.replace(plain, code)
    return text
