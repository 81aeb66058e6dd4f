"""Environments as the providers document them, one per kind of run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.ci_systems import PROVIDERS, CiSystem, detect
from pipelines.errors import ConfigError, PipelineError, Place

SHA = "8f3c2a1b9d0411111111111111111111111111aa"
HEAD = "1111111111111111111111111111111111111111"

GITHUB = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "team/models",
    "GITHUB_RUN_ID": "1658821493",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SHA": SHA,
    "GITHUB_HEAD_REF": "",
    "GITHUB_BASE_REF": "",
}
CIRCLE = {
    "CI": "true",
    "CIRCLECI": "true",
    "CIRCLE_BUILD_URL": "https://circleci.com/gh/team/models/22",
    "CIRCLE_REPOSITORY_URL": "git@github.com:team/models.git",
    "CIRCLE_SHA1": SHA,
}
JENKINS = {
    "JENKINS_URL": "https://ci.example/",
    "BUILD_URL": "https://ci.example/job/models/job/main/7/",
    "GIT_COMMIT": SHA,
    "GIT_URL": "https://git.example/team/models.git",
}
GITLAB = {
    "CI": "true",
    "GITLAB_CI": "true",
    "CI_JOB_URL": "https://gitlab.example/team/models/-/jobs/5",
    "CI_PROJECT_URL": "https://gitlab.example/team/models",
    "CI_COMMIT_SHA": SHA,
}
AZURE = {
    "TF_BUILD": "True",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/team/",
    "SYSTEM_TEAMPROJECT": "models",
    "BUILD_BUILDID": "9",
    "BUILD_REPOSITORY_URI": "https://dev.azure.com/team/models/_git/models",
    "BUILD_SOURCEVERSION": SHA,
    "BUILD_REASON": "IndividualCI",
}


@pytest.mark.parametrize(
    ("environ", "branch", "tag", "pull_request", "target"),
    [
        (GITHUB | {"GITHUB_REF": "refs/heads/main", "GITHUB_EVENT_NAME": "push"}, "main", None, None, None),
        (
            GITHUB | {"GITHUB_REF": "refs/heads/feature/a", "GITHUB_EVENT_NAME": "push"},
            "feature/a",
            None,
            None,
            None,
        ),
        (
            GITHUB | {"GITHUB_REF": "refs/tags/v1.2.0", "GITHUB_EVENT_NAME": "push"},
            None,
            "v1.2.0",
            None,
            None,
        ),
        (
            GITHUB
            | {
                "GITHUB_REF": "refs/pull/17/merge",
                "GITHUB_EVENT_NAME": "pull_request",
                "GITHUB_HEAD_REF": "fix",
                "GITHUB_BASE_REF": "main",
            },
            "fix",
            None,
            "17",
            "main",
        ),
        (
            GITHUB
            | {
                "GITHUB_REF": "refs/heads/main",
                "GITHUB_EVENT_NAME": "pull_request_target",
                "GITHUB_HEAD_REF": "main",
                "GITHUB_BASE_REF": "main",
            },
            "main",
            None,
            "?",
            "main",
        ),
        (
            GITHUB
            | {
                "GITHUB_REF": "refs/heads/gh-readonly-queue/main/pr-17-abc",
                "GITHUB_EVENT_NAME": "merge_group",
            },
            "gh-readonly-queue/main/pr-17-abc",
            None,
            None,
            None,
        ),
        (CIRCLE | {"CIRCLE_BRANCH": "main"}, "main", None, None, None),
        (
            CIRCLE
            | {"CIRCLE_BRANCH": "main", "CIRCLE_PULL_REQUEST": "https://github.com/team/models/pull/3"},
            "main",
            None,
            None,
            None,
        ),
        (CIRCLE | {"CIRCLE_TAG": "v1.2.0"}, None, "v1.2.0", None, None),
        (CIRCLE | {"CIRCLE_BRANCH": "pull/17", "CIRCLE_PR_NUMBER": "17"}, "pull/17", None, "17", None),
        (CIRCLE | {"CIRCLE_BRANCH": "pull/17"}, "pull/17", None, "17", None),
        (JENKINS | {"BRANCH_NAME": "main", "BRANCH_IS_PRIMARY": "true"}, "main", None, None, None),
        (JENKINS | {"GIT_BRANCH": "origin/feature/a"}, "feature/a", None, None, None),
        (JENKINS | {"BRANCH_NAME": "v1.2.0", "TAG_NAME": "v1.2.0"}, None, "v1.2.0", None, None),
        (
            JENKINS
            | {"BRANCH_NAME": "PR-17", "CHANGE_ID": "17", "CHANGE_BRANCH": "fix", "CHANGE_TARGET": "main"},
            "fix",
            None,
            "17",
            "main",
        ),
        (JENKINS, None, None, None, None),
        (GITLAB | {"CI_COMMIT_BRANCH": "main"}, "main", None, None, None),
        (GITLAB | {"CI_COMMIT_TAG": "v1.2.0", "CI_COMMIT_REF_NAME": "v1.2.0"}, None, "v1.2.0", None, None),
        (
            GITLAB
            | {
                "CI_MERGE_REQUEST_IID": "17",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "fix",
                "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            },
            "fix",
            None,
            "17",
            "main",
        ),
        (AZURE | {"BUILD_SOURCEBRANCH": "refs/heads/main"}, "main", None, None, None),
        (AZURE | {"BUILD_SOURCEBRANCH": "refs/tags/v1.2.0"}, None, "v1.2.0", None, None),
        (
            AZURE
            | {
                "BUILD_SOURCEBRANCH": "refs/pull/17/merge",
                "BUILD_REASON": "PullRequest",
                "SYSTEM_PULLREQUEST_PULLREQUESTID": "17",
                "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/fix",
                "SYSTEM_PULLREQUEST_TARGETBRANCH": "main",
            },
            "fix",
            None,
            "17",
            "main",
        ),
        ({}, None, None, None, None),
    ],
)
def test_branch_tag_and_pull_request(
    environ: dict[str, str], branch: str | None, tag: str | None, pull_request: str | None, target: str | None
) -> None:
    ci = detect(environ)
    assert (ci.branch, ci.tag, ci.pull_request, ci.target_branch) == (branch, tag, pull_request, target)
    assert ci.is_pull_request == (pull_request is not None)
    assert ci.commit == (SHA if environ else None)


@pytest.mark.parametrize(
    ("environ", "name", "run_url", "repository"),
    [
        (
            GITHUB,
            "GitHub Actions",
            "https://github.com/team/models/actions/runs/1658821493/attempts/2",
            "https://github.com/team/models",
        ),
        (CIRCLE, "CircleCI", "https://circleci.com/gh/team/models/22", "git@github.com:team/models.git"),
        (
            JENKINS,
            "Jenkins",
            "https://ci.example/job/models/job/main/7/",
            "https://git.example/team/models.git",
        ),
        (
            GITLAB,
            "GitLab CI",
            "https://gitlab.example/team/models/-/jobs/5",
            "https://gitlab.example/team/models",
        ),
        (
            AZURE,
            "Azure Pipelines",
            "https://dev.azure.com/team/models/_build/results?buildId=9",
            "https://dev.azure.com/team/models/_git/models",
        ),
        ({"CI": "true", "GITHUB_ACTIONS": "false", "JENKINS_URL": ""}, "", None, None),
    ],
)
def test_who_runs_us_and_where_to_look(
    environ: dict[str, str], name: str, run_url: str | None, repository: str | None
) -> None:
    ci = detect(environ)
    assert (ci.name, ci.run_url, ci.repository_url) == (name, run_url, repository)


@pytest.mark.parametrize(
    ("environ", "number"),
    [
        (GITHUB | {"GITHUB_RUN_NUMBER": "41", "GITHUB_RUN_ATTEMPT": "2"}, "41"),
        (CIRCLE | {"CIRCLE_BUILD_NUM": "22"}, "22"),
        (JENKINS | {"BUILD_NUMBER": "7"}, "7"),
        (GITLAB | {"CI_PIPELINE_IID": "5", "CI_PIPELINE_ID": "90210"}, "5"),
        (AZURE, "9"),
        (JENKINS, None),
        ({"CI": "true", "BUILD_NUMBER": "7"}, None),
    ],
)
def test_the_run_s_number(environ: dict[str, str], number: str | None) -> None:
    assert detect(environ).run_number == number


def test_a_pull_request_s_head_is_not_the_merge_commit(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"number": 17, "pull_request": {"number": 17, "head": {"sha": HEAD}}}))
    pull = GITHUB | {"GITHUB_EVENT_NAME": "pull_request_target", "GITHUB_EVENT_PATH": str(event)}
    assert (detect(pull).head_commit, detect(pull).pull_request) == (HEAD, "17")
    merged = GITLAB | {"CI_MERGE_REQUEST_IID": "17", "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": HEAD}
    assert detect(merged).head_commit == HEAD
    assert detect(AZURE | {"SYSTEM_PULLREQUEST_SOURCECOMMITID": HEAD}).head_commit == HEAD


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"pull_request": 1}', '{"pull_request": {"head": {"sha": ""}}}']
)
def test_an_event_file_that_can_not_be_read_is_no_event(tmp_path: Path, content: str) -> None:
    event = tmp_path / "event.json"
    event.write_text(content)
    environ = GITHUB | {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}
    assert (detect(environ).head_commit, detect(environ).pull_request) == (None, "?")
    assert detect(environ | {"GITHUB_EVENT_PATH": str(tmp_path / "none")}).head_commit is None


def test_log_groups() -> None:
    github, gitlab, jenkins = detect(GITHUB), detect(GITLAB), detect(JENKINS)
    assert (github.open_group("build"), github.close_group("build")) == ("::group::build", "::endgroup::")
    opened = gitlab.open_group("check a model", 12.9)
    assert opened == "\x1b[0Ksection_start:12:check_a_model\r\x1b[0Kcheck a model"
    assert gitlab.close_group("check a model", 15) == "\x1b[0Ksection_end:15:check_a_model\r\x1b[0K"
    assert (jenkins.open_group("build"), CiSystem().open_group("build")) == ("", "")


def test_an_error_becomes_an_annotation_beside_its_line() -> None:
    error = ConfigError(
        "100% wrong\nreally", hint="do: this", place=Place(Path("/repo/a, b/modelport.yaml"), 7)
    )
    line = detect(GITHUB).annotation(error, Path("/repo"))
    assert line == "::error file=a%2C b/modelport.yaml,line=7::100%25 wrong%0Areally%0Ado: this"
    azure = detect(AZURE).annotation(error, Path("/repo"))
    assert azure == (
        "##vso[task.logissue type=error;sourcepath=a, b/modelport.yaml;linenumber=7]"
        "100%AZP25 wrong%0Areally%0Ado: this"
    )
    assert detect(GITHUB).annotation(PipelineError("no place")) == "::error::no place"
    assert detect(GITHUB).annotation(error, Path("/elsewhere")).startswith("::error file=/repo/a%2C b/")
    assert detect(JENKINS).annotation(error) == "", "Jenkins has no such thing"


def test_text_from_outside_can_not_give_commands() -> None:
    error = ConfigError("x\n::add-mask::y", place=Place(Path("a\n::set-env name=B::c"), 1))
    assert "\n" not in detect(GITHUB).annotation(error)
    assert "\n" not in detect(GITHUB).open_group("x\n::add-mask::y")


def test_secrets_are_masked_line_by_line_where_the_system_can() -> None:
    assert detect(GITHUB).mask("one\n\ntwo%") == ("::add-mask::one", "::add-mask::two%25")
    assert detect(AZURE).mask("one") == ("##vso[task.setsecret]one",)
    assert detect(CIRCLE).mask("one") == ()


def test_the_summary_is_added_to_and_never_fails_a_run(tmp_path: Path) -> None:
    page = tmp_path / "summary.md"
    ci = detect(GITHUB | {"GITHUB_STEP_SUMMARY": str(page)})
    assert ci.write_summary("# one")
    assert ci.write_summary("two\n")
    assert page.read_text() == "# one\ntwo\n"
    assert not detect(GITHUB | {"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "page")}).write_summary("x")
    assert not detect(JENKINS).write_summary("x")


def test_no_two_systems_are_recognised_by_the_same_variable() -> None:
    assert len({provider.marker for provider in PROVIDERS}) == len(PROVIDERS)
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)
