"""What names mean in a repository's list of refs, and what a git URL is taken for."""

from __future__ import annotations

import pytest

from embedded_engine.git_refs import Found, RefUnknown, parse_refs
from embedded_engine.git_urls import UrlRefused, candidates
from embedded_engine.git_values import GitRepository
from embedded_engine.runtime.git import Access, git_environ, http_access

A, B, C = "a" * 40, "b" * 40, "c" * 40
TEXT = f"""ref: refs/heads/main\tHEAD
{A}\tHEAD
{A}\trefs/heads/main
{B}\trefs/heads/v1
{C}\trefs/tags/v1
{B}\trefs/tags/v1^{{}}
{C}\trefs/tags/v1.2.10
{C}\trefs/tags/v1.2.9
{A}\trefs/tags/v1.3.0-rc.2
{A}\trefs/tags/v1.3.0-rc.10
{A}\trefs/tags/other
{A}\trefs/pull/7/head
"""
REFS = parse_refs(TEXT)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("HEAD", Found("refs/heads/main", A)),
        ("main", Found("refs/heads/main", A)),
        ("v1", Found("refs/heads/v1", B)),  # git checkout prefers the branch
        ("refs/tags/v1", Found("refs/tags/v1", B)),  # the commit, not the tag's object
        ("v1.2.9", Found("refs/tags/v1.2.9", C)),
        ("pull/7/head", Found("refs/pull/7/head", A)),
        (C, Found("", C)),
    ],
)
def test_a_name_means_what_git_checkout_takes_it_for(name: str, found: Found) -> None:
    assert REFS.lookup(name) == found


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(RefUnknown, match='does not contain ref "none"'):
        REFS.lookup("none")
    with pytest.raises(RefUnknown, match='does not contain ref "HEAD"'):
        parse_refs("").lookup("HEAD")


def test_lists_are_short_names_and_patterns_match_from_the_end() -> None:
    assert REFS.branches() == ["main", "v1"]
    assert REFS.tags(["v1.2.*"]) == ["v1.2.10", "v1.2.9"]
    assert REFS.tags(["tags/oth?r", "nothing"]) == ["other"]
    assert REFS.tags(["rc"]) == []


def test_the_latest_version_is_by_number_and_a_release_beats_its_candidates() -> None:
    assert REFS.latest_version().name == "refs/tags/v1.3.0-rc.10"
    released = parse_refs(TEXT + f"{B}\trefs/tags/v1.3.0\n")
    assert released.latest_version() == Found("refs/tags/v1.3.0", B)


@pytest.mark.parametrize(
    ("url", "texts"),
    [
        ("https://example.org/a/b.git#main:sub", ["https://example.org/a/b.git"]),
        ("HTTP://example.org:8080/a", ["http://example.org:8080/a"]),
        ("example.org/a/b", ["https://example.org/a/b", "ssh://git@example.org/a/b"]),
        ("git@example.org:a/b.git", ["git@example.org:a/b.git"]),
        ("ssh://example.org/a", ["ssh://git@example.org/a"]),
        ("file:///srv/a.git", ["file:///srv/a.git"]),
        ("https://[::1]:8443/a", ["https://[::1]:8443/a"]),
    ],
)
def test_what_a_url_is_asked_as(url: str, texts: list[str]) -> None:
    assert [one.text for one in candidates(url)] == texts


@pytest.mark.parametrize(
    "url", ["ext::sh -c true", "--upload-pack=x", "/srv/a", "", "ftp://x/y", "https:///x"]
)
def test_what_is_no_repository_s_url(url: str) -> None:
    with pytest.raises(UrlRefused):
        candidates(url)


def test_a_password_in_a_url_is_taken_out_of_it() -> None:
    (one,) = candidates("https://me:p%40ss@example.org/a")
    assert (one.text, one.username, one.password) == ("https://example.org/a", "me", "p@ss")
    assert "p@ss" not in repr(one)


def test_credentials_travel_in_the_environment_for_their_host_only() -> None:
    environ = git_environ(
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b"}, http_access("https://h", "X y"), hermetic=False
    )
    count = int(environ["GIT_CONFIG_COUNT"])
    pairs = {environ[f"GIT_CONFIG_KEY_{n}"]: environ.get(f"GIT_CONFIG_VALUE_{n}") for n in range(count)}
    assert pairs["http.https://h/.extraheader"] == "Authorization: X y"
    assert "a.b" in pairs, "what a CI system set stays"
    assert "X y" not in repr(http_access("https://h", "X y"))


def test_a_checkout_does_not_depend_on_the_user_s_configuration() -> None:
    environ = git_environ(
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.eol", "GIT_DIR": "/x"}, Access(), hermetic=True
    )
    assert environ["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert "GIT_DIR" not in environ
    assert "core.eol" not in environ.values()


def test_a_repository_is_another_one_with_other_credentials() -> None:
    assert GitRepository("https://h/a").digest != GitRepository("https://h/a", username="x").digest
