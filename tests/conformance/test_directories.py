"""Directories: made, changed, filtered, compared, and read. No command runs."""

from __future__ import annotations

import pytest
from dagger import Directory, ExistsType, dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("directories")
case = THEME.case


def tree(*paths: str) -> Directory:
    """A directory with these files, each holding its own path."""
    made = dag.directory()
    for path in paths:
        made = made.with_new_file(path, path)
    return made


async def listed(directory: Directory) -> list[str]:
    return await directory.glob("**")


SAMPLE = ("a.txt", "b.py", "sub/c.txt", "sub/deep/d.py", ".hidden/e", ".dot")


@case
async def entries_are_sorted_and_marked(site: Site) -> Answer:
    made = tree(*SAMPLE, "B", "a").with_symlink("a.txt", "link").with_symlink("sub", "dirlink")
    return [
        await made.entries(),
        await made.entries(path="sub"),
        await made.entries(path="/sub/"),
        await made.entries(path="./sub/../sub/deep"),
        await dag.directory().entries(),
    ]


@case
async def entries_of_what_is_not_there(site: Site) -> Answer:
    return [
        await attempt(tree("a").entries(path="no")),
        await attempt(tree("a").entries(path="a")),
        await attempt(tree("a").directory("no").entries()),
        await attempt(tree("a").directory("a").entries()),
    ]


@case
async def entries_outside(site: Site) -> Answer:
    return [
        await attempt(tree("a").entries(path="..")),
        await attempt(tree("a", "s/b").directory("s").entries(path="../..")),
        await attempt(tree("a", "s/b").directory("s/../..").entries()),
        await attempt(tree("a", "s/b").directory("s").file("../a").contents()),
    ]


@case
async def entries_through_a_link(site: Site) -> Answer:
    made = (
        tree("real/x")
        .with_symlink("real", "link")
        .with_symlink("/real", "absolute")
        .with_symlink("no", "broken")
    )
    return [
        await made.entries(path="link"),
        await made.directory("link").entries(),
        await made.directory("absolute").entries(),
        await made.file("link/x").contents(),
        await attempt(made.directory("broken").entries()),
    ]


@case
async def globs(site: Site) -> Answer:
    made = tree(*SAMPLE).with_symlink("sub", "link")
    patterns = (
        *("*", "**", "*.txt", "**/*.txt", "sub/*", "sub/**", "**/d.py", "s*/*", "?.py", "[ab].*", "{a,b}.*"),
        *("sub", "sub/", "/sub", "./a.txt", ".*", "**/", "no*", "*/*/*.py", "!a.txt", "sub/**/*.py"),
    )
    return {pattern: await attempt(made.glob(pattern)) for pattern in patterns}


@case
async def a_bad_glob(site: Site) -> Answer:
    return [await attempt(tree("a").glob("[")), await attempt(tree("a").glob(""))]


@case
async def glob_in_a_subdirectory(site: Site) -> Answer:
    return await tree(*SAMPLE).directory("sub").glob("**/*.py")


@case
async def filters(site: Site) -> Answer:
    made = tree(*SAMPLE)
    found = {}
    for name, include, exclude in (
        ("include", ["*.txt"], []),
        ("include deep", ["**/*.txt"], []),
        ("include directory", ["sub"], []),
        ("include directory/", ["sub/"], []),
        ("exclude", [], ["*.txt"]),
        ("exclude deep", [], ["**/*.py"]),
        ("exclude directory", [], ["sub"]),
        ("exclude all but", [], ["*", "!b.py"]),
        ("both", ["**/*.txt"], ["sub"]),
        ("include again", [], ["sub", "!sub/deep"]),
        ("leading slash", [], ["/sub"]),
        ("dot", ["./a.txt"], []),
        ("all", ["**"], []),
        ("star", ["*"], []),
        ("nothing there", ["no"], []),
        ("hidden", [], [".*"]),
        ("negated include", ["**/*.py", "!b.py"], []),
        ("parent", ["../x"], []),
        ("empty pattern", [""], []),
    ):
        found[name] = await attempt(listed(made.filter(include=include, exclude=exclude)))
    return found


@case
async def filters_with_bad_patterns(site: Site) -> Answer:
    return [
        await attempt(listed(tree("a").filter(exclude=["[a"]))),
        await attempt(listed(tree("a").filter(include=["[a"]))),
    ]


@case
async def filter_by_gitignore(site: Site) -> Answer:
    made = (
        tree("keep.py", "drop.log", "sub/drop.log", "sub/keep.txt", "build/x", ".git/config", "sub/build/y")
        .with_new_file(".gitignore", "*.log\n/build\n# note\n!sub/keep.txt\n")
        .with_new_file("sub/.gitignore", "keep.txt\n")
    )
    return [
        await listed(made.filter(gitignore=True)),
        await listed(dag.directory().with_directory("in", made, gitignore=True)),
    ]


@case
async def empty_directories_in_a_filter(site: Site) -> Answer:
    made = tree("a/x.py").with_new_directory("empty").with_new_directory("a/none")
    return [
        await listed(made.filter(include=["**/*.py"])),
        await listed(made.filter(exclude=["**/*.py"])),
        await listed(made.filter(include=["empty"])),
    ]


@case
async def with_directory_merges(site: Site) -> Answer:
    one, other = tree("x/a", "x/both"), dag.directory().with_new_file("b", "b").with_new_file("both", "newer")
    made = one.with_directory("x", other)
    return [await listed(made), await made.file("x/both").contents()]


@case
async def with_directory_at_strange_places(site: Site) -> Answer:
    return {
        place: await attempt(listed(tree("a").with_directory(place, tree("b"))))
        for place in ("", ".", "/", "/x/y", "x/../z", "../out", "a", "a/b")
    }


@case
async def with_directory_include_and_exclude(site: Site) -> Answer:
    made = dag.directory().with_directory("in", tree(*SAMPLE), include=["**/*.txt"], exclude=["sub"])
    return await listed(made)


@case
async def a_file_over_a_directory_and_back(site: Site) -> Answer:
    return [
        await attempt(listed(tree("x/a").with_new_file("x", "file"))),
        await attempt(listed(tree("x").with_new_file("x/a", "file"))),
        await attempt(listed(tree("x").with_directory("x", tree("a")))),
        await attempt(listed(tree("x").with_new_directory("x"))),
        await attempt(listed(tree("d/x/a").with_directory("d", tree("x")))),
    ]


@case
async def with_file_places(site: Site) -> Answer:
    file = tree("src.txt").file("src.txt")
    return {
        place: await attempt(listed(dag.directory().with_new_directory("d").with_file(place, file)))
        for place in ("f", "d", "d/", "new/", "new/f", "/abs", "")
    }


@case
async def with_file_keeps_and_sets_modes(site: Site) -> Answer:
    file = dag.directory().with_new_file("s", "x", permissions=0o750).file("s")
    kept = dag.directory().with_file("f", file)
    given = dag.directory().with_file("f", file, permissions=0o604)
    return [await kept.stat("f").permissions(), await given.stat("f").permissions()]


@case
async def with_files(site: Site) -> Answer:
    files = [tree("a/one").file("a/one"), tree("two").file("two")]
    made = dag.directory().with_files("d", files, permissions=0o600)
    return [
        await listed(made),
        await made.stat("d/one").permissions(),
        await listed(dag.directory().with_files("/", files)),
        await attempt(listed(dag.directory().with_files("d", []))),
        await attempt(listed(tree("d").with_files("d", files))),
    ]


@case
async def without(site: Site) -> Answer:
    made = tree(*SAMPLE)
    return {
        "file": await listed(made.without_file("a.txt")),
        "missing file": await listed(made.without_file("no/such")),
        "directory": await listed(made.without_directory("sub")),
        "missing directory": await listed(made.without_directory("no")),
        "file as directory": await attempt(listed(made.without_directory("a.txt"))),
        "directory as file": await attempt(listed(made.without_file("sub"))),
        "files": await listed(made.without_files(["a.txt", "sub/c.txt", "no"])),
        "pattern": await attempt(listed(made.without_file("*.txt"))),
        "directory pattern": await attempt(listed(made.without_directory("s*"))),
        "root": await attempt(listed(made.without_directory("/"))),
        "outside": await attempt(listed(made.without_file("../x"))),
        "below a file": await attempt(listed(made.without_file("a.txt/x"))),
    }


@case
async def without_through_a_link(site: Site) -> Answer:
    made = tree("real/x", "real/y").with_symlink("real", "link")
    return [
        await listed(made.without_file("link")),
        await listed(made.without_file("link/x")),
        await listed(made.without_directory("link")),
    ]


@case
async def new_file_and_directory_modes(site: Site) -> Answer:
    made = (
        dag.directory()
        .with_new_file("plain", "")
        .with_new_file("private", "", permissions=0o600)
        .with_new_file("p/implied", "")
        .with_new_directory("d")
        .with_new_directory("e", permissions=0o700)
        .with_new_directory("deep/er", permissions=0o711)
        .with_new_file("setuid", "", permissions=0o4755)
        .with_new_file("zero", "", permissions=0)
    )
    names = ("plain", "private", "p", "p/implied", "d", "e", "deep", "deep/er", "setuid", "zero")
    return {name: await made.stat(name).permissions() for name in names}


@case
async def new_file_at_strange_places(site: Site) -> Answer:
    return {
        place: await attempt(listed(dag.directory().with_new_file(place, "x")))
        for place in ("", ".", "/", "a/", "/a", "../a", "a//b", "./a/./b")
    }


@case
async def new_file_through_a_link(site: Site) -> Answer:
    made = tree("real/x").with_symlink("real", "link").with_symlink("real/x", "filelink")
    written = made.with_new_file("link/y", "y").with_new_file("filelink", "changed")
    return [
        await listed(written),
        await attempt(written.file("real/x").contents()),
        await attempt(written.file("filelink").contents()),
    ]


@case
async def symlinks(site: Site) -> Answer:
    made = tree("x").with_symlink("x", "one").with_symlink("../up", "d/two").with_symlink("/abs", "three")
    return [
        await listed(made),
        await made.file("one").contents(),
        await attempt(made.with_symlink("y", "x").file("x").contents()),
        await attempt(made.with_symlink("x", "one").entries()),
    ]


@case
async def exists(site: Site) -> Answer:
    made = tree("f", "d/x").with_symlink("f", "lf").with_symlink("d", "ld").with_symlink("no", "lb")
    found: dict[str, object] = {}
    for name in ("f", "d", "d/", "d/x", "lf", "ld", "lb", "no", "f/x", "", ".", "/"):
        found[name] = await attempt(made.exists(name))
    for name in ("f", "d", "lf", "ld", "lb"):
        for kind in (ExistsType.REGULAR_TYPE, ExistsType.DIRECTORY_TYPE, ExistsType.SYMLINK_TYPE):
            found[f"{name} {kind.value}"] = await attempt(made.exists(name, expected_type=kind))
        found[f"{name} nofollow"] = await made.exists(name, do_not_follow_symlinks=True)
    return found


@case
async def stat(site: Site) -> Answer:
    made = tree("f", "d/x").with_symlink("f", "lf").with_symlink("no", "lb")

    async def of(path: str, **options: bool) -> Answer:
        one = made.stat(path, **options)
        return [await one.name(), (await one.file_type()).value, await one.size(), await one.permissions()]

    return [
        await attempt(of("f")),
        (await of("d"))[:2],
        await attempt(of("lf")),
        await attempt(of("lf", do_not_follow_symlinks=True)),
        await attempt(of("lb")),
        await attempt(of("no")),
        await attempt(of("d/x")),
    ]


@case
async def stat_raw(site: Site) -> Answer:
    document = """{ directory { withNewFile(path: "f", contents: "abc") {
        stat(path: "f") { name fileType size permissions } } } }"""
    return [await site.ask(document), await site.ask('{ directory { stat(path: "no") { name } } }')]


@case
async def diff(site: Site) -> Answer:
    before = tree("same", "changed", "gone", "d/same")
    after = tree("same", "d/same", "new", "e/new").with_new_file("changed", "now")
    return [
        await listed(before.diff(after)),
        await listed(after.diff(before)),
        await listed(before.diff(before)),
        await listed(dag.directory().diff(after)),
    ]


@case
async def diff_of_modes_and_kinds(site: Site) -> Answer:
    before = dag.directory().with_new_file("f", "x").with_new_file("k", "x").with_symlink("a", "l")
    after = (
        dag.directory()
        .with_new_file("f", "x", permissions=0o600)
        .with_new_directory("k")
        .with_symlink("b", "l")
    )
    return await listed(before.diff(after))


@case
async def digests(site: Site) -> Answer:
    first = await tree("a", "b").digest()
    other_order = await tree("b", "a").digest()
    return {
        "order": first == other_order,
        "content": first == await tree("a").with_new_file("b", "x").digest(),
        "mode": first == await tree("a").with_new_file("b", "b", permissions=0o600).digest(),
        "name": first == await tree("a", "c").digest(),
        "filtered": first == await tree("a", "b", "c").filter(exclude=["c"]).digest(),
        "without": first == await tree("a", "b", "c").without_file("c").digest(),
        "sub": first == await tree("s/a").directory("s").with_new_file("b", "b").digest(),
        "empty directory": first == await tree("a", "b").with_new_directory("e").digest(),
        "time": first == await tree("a", "b").with_timestamps(1000).digest(),
        "link": await tree("a").with_symlink("a", "l").digest()
        == await tree("a").with_symlink("b", "l").digest(),
    }


@case
async def names(site: Site) -> Answer:
    made = tree("d/e/f")
    return [
        await made.name(),
        await made.directory("d").name(),
        await made.directory("d/e").name(),
        await made.directory("d/e/..").name(),
        await made.file("d/e/f").name(),
    ]


@case
async def find_up(site: Site) -> Answer:
    made = tree("top", "a/b/mark", "a/b/c/x", "a/top")
    return [
        await made.find_up("mark", "a/b/c"),
        await made.find_up("top", "a/b/c"),
        await made.find_up("no", "a/b/c"),
        await made.find_up("top", "."),
        await attempt(made.find_up("top", "no/such")),
        await attempt(made.find_up("a", "a/b")),
    ]


@case
async def sub_directories_keep_what_they_are(site: Site) -> Answer:
    made = tree(*SAMPLE).directory("sub").with_new_file("more", "x").directory("deep")
    return [await made.entries(), await made.file("d.py").contents()]


@case
async def sync(site: Site) -> Answer:
    done = await tree("a").sync()
    return [await done.entries(), await attempt(tree("a").directory("no").sync())]


@case
async def many_changes_in_a_chain(site: Site) -> Answer:
    made = dag.directory()
    for number in range(60):
        made = made.with_new_file(f"f{number % 7}", str(number))
    return [await made.entries(), await made.file("f3").contents()]


@case
async def names_with_strange_characters(site: Site) -> Answer:
    names = (
        "with space",
        "ümlaut",
        "quote\"'",
        "new\nline",
        "a:b",
        "a,b",
        "-dash",
        "*star",
        "back\\slash",
        "~",
    )
    made = tree(*names)
    return [await made.entries(), [await made.file(name).size() for name in names]]
