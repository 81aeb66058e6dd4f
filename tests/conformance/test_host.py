"""What the host gives and takes: directories with filters, files, exports."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagger import dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("host")
case = THEME.case
FILES = {name: name for name in ("a.txt", "b.py", "sub/c.txt", "sub/deep/d.py", ".hidden/e", ".dot")}


@case
async def a_directory_with_filters(site: Site) -> Answer:
    path = site.write(FILES)
    found = {}
    for name, include, exclude in (
        ("all", [], []),
        ("include", ["*.txt"], []),
        ("include deep", ["**/*.txt"], []),
        ("include directory", ["sub"], []),
        ("include directory/", ["sub/"], []),
        ("exclude", [], ["*.txt"]),
        ("exclude deep", [], ["**/*.py"]),
        ("exclude directory", [], ["sub"]),
        ("exclude all but", [], ["*", "!b.py"]),
        ("both", ["**/*.txt"], ["sub"]),
        ("leading slash", [], ["/sub"]),
        ("include leading slash", ["/sub"], []),
        ("nothing there", ["no"], []),
        ("negated include", ["**/*.py", "!b.py"], []),
        ("dot", [], ["./a.txt"]),
        ("class", [], ["[ab].*"]),
        ("space", [], [" a.txt "]),
        ("comment", [], ["#", "# a.txt"]),
    ):
        found[name] = await attempt(dag.host().directory(path, include=include, exclude=exclude).glob("**"))
    return found


@case
async def bad_patterns(site: Site) -> Answer:
    path = site.write(FILES)
    return [
        await attempt(dag.host().directory(path, exclude=["[a"]).entries()),
        await attempt(dag.host().directory(path, include=["[a"]).entries()),
    ]


@case
async def gitignore(site: Site) -> Answer:
    path = site.write(
        {
            **dict.fromkeys(
                ("keep.py", "drop.log", "sub/drop.log", "sub/keep.log", "build/x", "src/build/y"), "x"
            ),
            ".gitignore": "*.log\n/build\n# a note\n",
            "sub/.gitignore": "!keep.log\n",
            ".git/config": "x",
        }
    )
    return [
        await dag.host().directory(path, gitignore=True).glob("**"),
        await dag.host().directory(path).glob("**"),
        await dag.host().directory(path, gitignore=True, exclude=["*.py"]).glob("**"),
    ]


@case
async def dockerignore_is_not_for_directories(site: Site) -> Answer:
    path = site.write({".dockerignore": "a\n", "a": "1"})
    return await dag.host().directory(path).entries()


@case
async def missing_paths(site: Site) -> Answer:
    path = site.write({"f": "x"})
    return [
        await attempt(dag.host().directory(f"{path}/no").entries()),
        await attempt(dag.host().file(f"{path}/no").contents()),
        await attempt(dag.host().directory(f"{path}/f").entries()),
        await attempt(dag.host().file(path).contents()),
        await attempt(dag.host().file(f"{path}/f/x").contents()),
    ]


@case
async def absolute_paths_and_parents(site: Site) -> Answer:
    path = site.write({"d/f": "x"})
    whole = site.workdir / path
    return [
        await dag.host().directory(str(whole)).glob("**"),
        await dag.host().file(str(whole / "d/f")).contents(),
        await dag.host().directory(f"{path}/d/..").entries(),
        await dag.host().directory(f"./{path}/").entries(),
    ]


@case
async def names(site: Site) -> Answer:
    path = site.write({"d/f": "x"})
    return [
        await dag.host().file(f"{path}/d/f").name(),
        await dag.host().directory(f"{path}/d").name(),
        await dag.host().directory(f"{path}/d").file("f").name(),
    ]


@case
async def links_are_kept(site: Site) -> Answer:
    path = site.write({"real/f": "x", "other/g": "y"})
    root = site.workdir / path
    (root / "link").symlink_to("real")
    (root / "broken").symlink_to("no/such")
    (root / "up").symlink_to("../elsewhere")
    (root / "filelink").symlink_to("real/f")
    made = dag.host().directory(path)
    return [
        await made.glob("**"),
        await made.file("filelink").contents(),
        await made.directory("link").entries(),
        await attempt(dag.host().directory(f"{path}/link").entries()),
        await attempt(dag.host().file(f"{path}/filelink").contents()),
        await attempt(dag.host().file(f"{path}/filelink").name()),
        await attempt(dag.host().file(f"{path}/broken").contents()),
    ]


@case
async def modes(site: Site) -> Answer:
    path = site.write({"f": "x", "d/g": "y"})
    root = site.workdir / path
    (root / "f").chmod(0o4751)
    (root / "d").chmod(0o700)
    made = dag.host().directory(path)
    return [await made.stat("f").permissions(), await made.stat("d").permissions()]


@case
async def what_is_in_a_container(site: Site) -> Answer:
    path = site.write({"f": "x", "d/g": "y"})
    (site.workdir / path / "f").chmod(0o640)
    (site.workdir / path / "l").symlink_to("f")
    made = site.base.with_directory("/w", dag.host().directory(path))
    return await made.with_exec(
        ["sh", "-c", "cd /w && find . -exec stat -c '%n %a %u:%g %F' {} + | sort"]
    ).stdout()


@case
async def digests_by_content(site: Site) -> Answer:
    one, two = site.write({"f": "x"}, "one"), site.write({"f": "x"}, "two")
    three = site.write({"f": "x", "g": "y"}, "three")
    four = site.write({"f": "x"}, "four")
    (site.workdir / four / "f").chmod(0o600)
    first = await dag.host().directory(one).digest()
    return {
        "path": first == await dag.host().directory(two).digest(),
        "excluded": first == await dag.host().directory(three, exclude=["g"]).digest(),
        "mode": first == await dag.host().directory(four).digest(),
        "built": first == await dag.directory().with_new_file("f", "x").digest(),
    }


@case
async def a_change_in_the_session_is_not_seen(site: Site) -> Answer:
    path = site.write({"f": "first"})
    before = await dag.host().directory(path).file("f").contents()
    (site.workdir / path / "f").write_text("second")
    return [
        before,
        await dag.host().directory(path).file("f").contents(),
        await dag.host().directory(path, no_cache=True).file("f").contents(),
        await dag.host().directory(path, exclude=["other"]).file("f").contents(),
    ]


@case
async def a_changed_file_in_the_session(site: Site) -> Answer:
    path = site.write({"f": "first"})
    before = await dag.host().file(f"{path}/f").contents()
    (site.workdir / path / "f").write_text("second")
    return [
        before,
        await dag.host().file(f"{path}/f").contents(),
        await dag.host().file(f"{path}/f", no_cache=True).contents(),
    ]


@case
async def special_files_are_left_out(site: Site) -> Answer:
    import os

    path = site.write({"f": "x"})
    os.mkfifo(site.workdir / path / "pipe")
    return await attempt(dag.host().directory(path).entries())


@case
async def names_with_strange_characters(site: Site) -> Answer:
    path = site.write(dict.fromkeys(("with space", "ümlaut", "new\nline", "a:b", "a,b", "-dash", "~"), "x"))
    return await dag.host().directory(path).entries()


@case
async def find_up(site: Site) -> Answer:
    site.write({"mark-of-find-up": "x"}, "..")
    return [
        await attempt(dag.host().find_up("mark-of-find-up")),
        await attempt(dag.host().find_up("no-such-mark-anywhere")),
    ]


def held(root: Path) -> list[str]:
    """What is below a host directory: names, contents, links."""
    found = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found.append(f"{name} -> {path.readlink()}")
        elif path.is_dir():
            found.append(f"{name}/")
        else:
            found.append(f"{name} {path.stat().st_mode & 0o7777:o} {path.read_text()}")
    return found


@case
async def export_of_a_directory_merges(site: Site) -> Answer:
    path = site.write({"kept": "1", "both": "old", "d/kept": "2"})
    made = (
        dag.directory().with_new_file("both", "new").with_new_file("d/new", "3").with_symlink("both", "link")
    )
    answer = await made.export(path)
    return [answer, held(site.workdir / path)]


@case
async def export_of_a_directory_wipes(site: Site) -> Answer:
    path = site.write({"gone": "1", "d/gone": "2", ".dot": "3"})
    answer = await dag.directory().with_new_file("new", "4").export(path, wipe=True)
    return [answer, held(site.workdir / path)]


@case
async def export_makes_parents(site: Site) -> Answer:
    path = site.write({})
    made = dag.directory().with_new_file("f", "1", permissions=0o755)
    return [
        await made.export(f"{path}/to/be/made"),
        await made.file("f").export(f"{path}/other/file"),
        held(site.workdir / path),
    ]


@case
async def export_of_a_file(site: Site) -> Answer:
    path = site.write({"old": "much longer than the new one", "dir/x": "1"})
    file = dag.file("n", "new")
    return [
        await file.export(f"{path}/old"),
        await attempt(file.export(f"{path}/dir")),
        await attempt(file.export(f"{path}/dir", allow_parent_dir_path=True)),
        await attempt(file.export(f"{path}/dir/", allow_parent_dir_path=True)),
        await attempt(file.export(f"{path}/fresh/")),
        held(site.workdir / path),
    ]


@case
async def export_of_a_directory_onto_a_file(site: Site) -> Answer:
    path = site.write({"f": "1"})
    return [
        await attempt(dag.directory().with_new_file("x", "1").export(f"{path}/f")),
        held(site.workdir / path),
    ]


@case
async def export_of_a_file_over_a_directory_entry(site: Site) -> Answer:
    path = site.write({"x/inside": "1"})
    return [
        await attempt(dag.directory().with_new_file("x", "now a file").export(path)),
        held(site.workdir / path),
    ]


@case
async def export_of_what_is_not_there(site: Site) -> Answer:
    path = site.write({})
    return [
        await attempt(dag.directory().directory("no").export(f"{path}/a")),
        await attempt(dag.directory().file("no").export(f"{path}/b")),
        held(site.workdir / path),
    ]


@case
async def export_outside_of_the_working_directory(site: Site) -> Answer:
    target = site.home.scratch / f"outside-{site.nonce}"
    await dag.directory().with_new_file("f", "1").export(str(target))
    return held(target)


@case
async def export_of_what_an_exec_made(site: Site) -> Answer:
    path = site.write({})
    made = site.sh("mkdir -p /o/d; echo x > /o/d/f; chmod 600 /o/d/f; ln -s d/f /o/l; echo y > /o/g")
    await made.directory("/o").export(path)
    return held(site.workdir / path)


@case
async def export_of_an_empty_directory(site: Site) -> Answer:
    path = site.write({"kept": "1"})
    await dag.directory().export(path)
    await dag.directory().with_new_directory("empty", permissions=0o755).export(f"{path}/in")
    return held(site.workdir / path)
