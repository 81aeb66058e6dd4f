"""Patterns: dockerignore's meaning, and .gitignore files."""

from __future__ import annotations

import pytest

from embedded_engine.filters import Filter, Glob, PatternError, PatternList, ignore_file, ignored


def kept(paths: list[str], *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[str]:
    selection = Filter(include, exclude).compiled()
    return [path for path in paths if selection.keeps(path, directory=False)]


PATHS = ["a.py", "b.txt", "src/a.py", "src/deep/c.py", "src/deep/d.txt", "docs/x.md", "[odd].txt", "ü/ß.txt"]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        (
            "*.py",
            ["b.txt", "src/a.py", "src/deep/c.py", "src/deep/d.txt", "docs/x.md", "[odd].txt", "ü/ß.txt"],
        ),
        ("**/*.py", ["b.txt", "src/deep/d.txt", "docs/x.md", "[odd].txt", "ü/ß.txt"]),
        ("src", ["a.py", "b.txt", "docs/x.md", "[odd].txt", "ü/ß.txt"]),
        ("/src/", ["a.py", "b.txt", "docs/x.md", "[odd].txt", "ü/ß.txt"]),
        ("./src/deep", ["a.py", "b.txt", "src/a.py", "docs/x.md", "[odd].txt", "ü/ß.txt"]),
        ("src/*", ["a.py", "b.txt", "docs/x.md", "[odd].txt", "ü/ß.txt"]),
        ("**/deep", ["a.py", "b.txt", "src/a.py", "docs/x.md", "[odd].txt", "ü/ß.txt"]),
        ("[ab].*", ["src/a.py", "src/deep/c.py", "src/deep/d.txt", "docs/x.md", "[odd].txt", "ü/ß.txt"]),
        ("[^ab].py", PATHS),
        (
            r"\[odd\].txt",
            ["a.py", "b.txt", "src/a.py", "src/deep/c.py", "src/deep/d.txt", "docs/x.md", "ü/ß.txt"],
        ),
        (
            "?/?.txt",
            ["a.py", "b.txt", "src/a.py", "src/deep/c.py", "src/deep/d.txt", "docs/x.md", "[odd].txt"],
        ),
        ("**", []),
        (".", []),
        ("", PATHS),
        ("nothing", PATHS),
    ],
)
def test_exclude_patterns_are_dockerignores(pattern: str, left: list[str]) -> None:
    assert kept(PATHS, exclude=(pattern,)) == left


def test_the_last_matching_pattern_decides() -> None:
    assert kept(["a.md", "README.md"], exclude=("*.md", "!README.md")) == ["README.md"]
    assert kept(["a.md", "README.md"], exclude=("!README.md", "*.md")) == []
    assert kept(["a.md", "README.md"], exclude=("*.md", "!README.md", "README*")) == []


def test_include_and_exclude_together_are_include_minus_exclude() -> None:
    paths = ["src/a.py", "src/gen/b.py", "other.py"]
    assert kept(paths, include=("src",), exclude=("src/gen",)) == ["src/a.py"]
    assert kept(paths, include=("**/*.py", "!src/gen")) == ["src/a.py", "other.py"]


def test_an_excluded_directory_is_entered_only_for_a_negated_pattern_that_can_match_below() -> None:
    assert not Filter(exclude=("node_modules",)).compiled().enters("node_modules")
    assert not Filter(exclude=("node_modules", "!src/x")).compiled().enters("node_modules")
    assert Filter(exclude=("vendor", "!vendor/keep/*")).compiled().enters("vendor")
    assert Filter(exclude=("vendor", "!vendor/keep/*")).compiled().enters("vendor/keep")
    assert not Filter(exclude=("vendor", "!vendor/keep/*")).compiled().enters("vendor/drop")
    assert Filter(exclude=("vendor", "!**/keep")).compiled().enters("vendor/drop")


def test_a_directory_that_no_include_can_reach_is_not_entered() -> None:
    selection = Filter(include=("src/*/models",)).compiled()
    assert selection.enters("src")
    assert selection.enters("src/a")
    assert selection.enters("src/a/models/deep")
    assert not selection.enters("docs")
    assert not selection.enters("src/a/other")


@pytest.mark.parametrize("pattern", ["[", "a[", "!", "x\\", "[z-a]"])
def test_a_broken_pattern_is_named(pattern: str) -> None:
    with pytest.raises(PatternError, match="pattern"):
        Filter(exclude=(pattern,)).compiled()


def test_names_with_regex_marks_and_newlines_are_plain() -> None:
    assert PatternList(["a+(b).$"]).match("a+(b).$")
    assert not PatternList(["a.b"]).match("axb")
    assert PatternList(["a*"]).match("a\nb")


def test_gitignore_rules_of_inner_files_win_and_dot_git_is_kept() -> None:
    rules = (ignore_file("*.log\nbuild/\n.git\n"), ignore_file("!keep.log\n", directory="src"))
    assert ignored("a.log", rules, directory=False)
    assert ignored("src/b.log", rules, directory=False)
    assert not ignored("src/keep.log", rules, directory=False)
    assert ignored("deep/build", rules, directory=True)
    assert not ignored("deep/build", rules, directory=False)
    assert not ignored(".git", rules, directory=True)


def test_gitignore_files_above_the_directory_count_from_their_own_place() -> None:
    rules = (ignore_file("/model/data\n*.tmp\n", above="model"),)
    assert ignored("data", rules, directory=True)
    assert ignored("x.tmp", rules, directory=False)
    assert not ignored("sub/data", rules, directory=True)


def test_glob_matches_whole_paths_only() -> None:
    assert Glob("src/*.py").match("src/a.py")
    assert not Glob("src").match("src/a.py")
    assert Glob("**/*.py").match("a.py")
    assert not Glob("").match("a")
