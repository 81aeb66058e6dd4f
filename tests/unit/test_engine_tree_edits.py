"""Pure edits of trees."""

from __future__ import annotations

import pytest

from embedded_engine.entries import EPOCH, DirEntry, FileEntry, LinkEntry, TreeError, walk
from embedded_engine.filters import Filter
from embedded_engine.tree_edits import (
    Stamp,
    change,
    difference,
    filtered,
    find,
    find_directory,
    find_file,
    glob,
    listing,
    make_directory,
    merge,
    put,
    put_file,
    remove,
    resolve,
    stamped_at,
    with_mtime,
)


def file(text: str, mode: int = 0o644) -> FileEntry:
    return FileEntry(text, len(text), mode)


def tree(**files: str) -> DirEntry:
    root = DirEntry()
    for path, text in files.items():
        root = put(root, path.replace("__", "/"), file(text))
    return root


def paths(root: DirEntry) -> list[str]:
    return [path for path, _ in walk(root)]


def test_put_makes_parents_and_leaves_the_old_tree_alone() -> None:
    before = tree(a="1")
    after = put(before, "/x/y/z", file("2"))
    assert paths(before) == ["a"]
    assert paths(after) == ["a", "x", "x/y", "x/y/z"]
    assert find_file(after, "x/y/z").sha256 == "2"
    assert find_directory(after, "x").mode == 0o755


def test_dots_in_paths_never_leave_the_tree() -> None:
    assert paths(put(DirEntry(), "../../a/./b/../c", file("1"))) == ["a", "a/c"]


def test_links_on_the_way_are_followed_inside_the_tree() -> None:
    root = put(tree(usr__lib__x="1"), "lib", LinkEntry("usr/lib"))
    root = put(root, "abs", LinkEntry("/usr"))
    root = put(root, "up", LinkEntry("../../../usr/lib"))
    assert find_file(root, "lib/x").sha256 == "1"
    assert find_file(root, "abs/lib/x").sha256 == "1"
    assert find_file(root, "up/x").sha256 == "1"
    assert paths(merge(root, "lib", tree(y="2"))) == [
        "abs",
        "lib",
        "up",
        "usr",
        "usr/lib",
        "usr/lib/x",
        "usr/lib/y",
    ]


def test_a_link_in_the_last_place_is_replaced_by_put_and_kept_by_find_without_follow() -> None:
    root = put(tree(a="1"), "l", LinkEntry("a"))
    assert isinstance(find(root, "l", follow=False), LinkEntry)
    replaced = put(root, "l", file("2"))
    assert find_file(replaced, "a").sha256 == "1"
    assert find_file(replaced, "l").sha256 == "2"


def test_a_circle_of_links_and_a_link_to_nowhere() -> None:
    root = put(put(DirEntry(), "a", LinkEntry("b")), "b", LinkEntry("a"))
    with pytest.raises(TreeError, match="too many levels of symbolic links"):
        find(root, "a")
    assert find(put(DirEntry(), "gone", LinkEntry("nowhere")), "gone") is None
    assert resolve(put(DirEntry(), "gone", LinkEntry("nowhere/x")), "gone/y") == ["nowhere", "x", "y"]


def test_a_missing_path_is_told_in_the_users_words() -> None:
    with pytest.raises(TreeError, match=r"^stat src/no: no such file or directory$"):
        find_file(DirEntry(), "src/no")
    with pytest.raises(TreeError, match=r"^a: not a directory$"):
        find_directory(tree(a="1"), "a")
    with pytest.raises(TreeError, match=r"^d: is a directory, not a file$"):
        find_file(tree(d__a="1"), "d")


def test_put_file_goes_into_a_directory() -> None:
    root = tree(d__a="1")
    assert paths(put_file(root, "d", file("2"), "b")) == ["d", "d/a", "d/b"]
    assert paths(put_file(root, "new/", file("2"), "b")) == ["d", "d/a", "new", "new/b"]
    assert paths(put_file(root, "new", file("2"), "b")) == ["d", "d/a", "new"]


def test_merge_adds_and_replaces_and_keeps_the_targets_mode() -> None:
    root = make_directory(tree(d__a="1", d__b__c="1"), "d", 0o700)
    merged = merge(root, "d", tree(a="2", b__e="2"))
    assert paths(merged) == ["d", "d/a", "d/b", "d/b/c", "d/b/e"]
    assert find_file(merged, "d/a").sha256 == "2"
    assert find_directory(merged, "d").mode == 0o700


def test_merge_replaces_a_file_by_a_directory_and_the_reverse() -> None:
    assert paths(merge(tree(x="1"), "/", tree(x__y="2"))) == ["x", "x/y"]
    assert paths(merge(tree(x__y="1"), "/", tree(x="2"))) == ["x"]


def test_merge_stamps_owner_and_mode_on_all_that_comes() -> None:
    merged = merge(tree(old="1"), "new", tree(d__a="1"), Stamp(5, 6, 0o750))
    assert find_file(merged, "new/d/a") == FileEntry("1", 1, 0o750, 5, 6)
    assert find_directory(merged, "new/d").uid == 5
    assert find_file(merged, "old").uid == 0


def test_remove_is_no_error_for_what_is_not_there_and_takes_patterns() -> None:
    root = tree(a_txt="1", b_txt="1", d__c_txt="1", keep="1")
    assert remove(root, "no/such") is root
    assert paths(remove(root, "d")) == ["a_txt", "b_txt", "keep"]
    assert paths(remove(root, "*_txt")) == ["d", "d/c_txt", "keep"]
    assert paths(remove(root, "**/c*")) == ["a_txt", "b_txt", "d", "keep"]
    assert paths(remove(root, "/")) == []


def test_a_name_that_looks_like_a_pattern_is_removed_itself_first() -> None:
    root = put(tree(ax="1"), "a*", file("2"))
    assert paths(remove(root, "a*")) == ["ax"]


def test_filter_keeps_empty_directories_only_when_they_are_meant() -> None:
    root = make_directory(tree(src__a_py="1", docs__x="1"), "empty", 0o755)
    read = lambda entry: entry.sha256  # noqa: E731
    assert paths(filtered(root, Filter(include=("**/*_py",)), read)) == ["src", "src/a_py"]
    assert paths(filtered(root, Filter(exclude=("docs",)), read)) == ["empty", "src", "src/a_py"]
    assert paths(filtered(root, Filter(exclude=("**", "!docs/x")), read)) == ["docs", "docs/x"]


def test_filter_reads_gitignore_files() -> None:
    root = put(tree(x_log="1", src__y_log="1", src__keep_log="1"), ".gitignore", file("*_log"))
    root = put(put(root, "src/.gitignore", file("!keep_log")), ".git/x_log", file("1"))
    got = paths(filtered(root, Filter(gitignore=True), lambda entry: entry.sha256))
    assert got == [".git", ".git/x_log", ".gitignore", "src", "src/.gitignore", "src/keep_log"]


def test_difference_is_what_is_new_or_changed() -> None:
    lower = tree(same="1", changed="1", d__same="1", gone="1")
    upper = tree(same="1", changed="2", d__same="1", d__new="1", e__x="1")
    assert paths(difference(lower, upper)) == ["changed", "d", "d/new", "e", "e/x"]
    assert paths(difference(lower, lower)) == []


def test_listing_and_glob_are_sorted_and_mark_directories() -> None:
    root = put(tree(b="1", a__x_py="1", a__y="1"), "z", LinkEntry("a"))
    assert listing(root) == ["a/", "b", "z"]
    assert glob(root, "**") == ["a/", "a/x_py", "a/y", "b", "z"]
    assert glob(root, "*/*_py") == ["a/x_py"]
    assert glob(root, "no") == []


def test_the_digest_counts_names_bytes_modes_owners_and_set_times_only() -> None:
    base = tree(a="1")
    assert tree(a="1").digest == base.digest
    others = [
        tree(b="1"),
        tree(a="2"),
        put(base, "a", file("1", 0o600)),
        stamped_at(base, "a", Stamp(uid=1)),
        with_mtime(base, 7),
        make_directory(base, "a2", 0o755),
        put(base, "a", LinkEntry("1")),
    ]
    digests = {one.digest for one in others if isinstance(one, DirEntry)}
    assert len(digests) == len(others)
    assert base.digest not in digests
    assert isinstance(reset := with_mtime(with_mtime(base, 7), EPOCH), DirEntry)
    assert reset.digest == base.digest


def test_a_long_chain_of_edits_is_no_deep_recursion() -> None:
    root = DirEntry()
    for number in range(3000):
        root = change(root, [f"f{number}"], lambda _: file("1"))
    assert len(root.children) == 3000
