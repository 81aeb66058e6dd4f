"""Files: read in part, changed, named, compared."""

from __future__ import annotations

import pytest
from dagger import File, dag

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site, attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("files")
case = THEME.case


def file(contents: str, name: str = "f.txt", permissions: int = 0o644) -> File:
    return dag.file(name, contents, permissions=permissions)


@case
async def contents(site: Site) -> Answer:
    return [await file("").contents(), await file("a\n\nb").contents(), await file("ü\0x").contents()]


@case
async def contents_in_part(site: Site) -> Answer:
    text = file("1\n2\n3\n4\n5")
    pairs = ((0, 2), (1, 2), (3, 9), (4, 1), (5, 1), (9, 1), (0, 0), (2, None), (None, 1), (-1, 1), (1, -1))
    return [await attempt(text.contents(offset_lines=offset, limit_lines=limit)) for offset, limit in pairs]


@case
async def contents_in_part_of_a_final_newline(site: Site) -> Answer:
    text = file("1\n2\n")
    return [
        await attempt(text.contents(offset_lines=offset, limit_lines=limit))
        for offset, limit in ((0, 1), (0, 2), (1, 5), (2, 1))
    ]


@case
async def contents_with_windows_line_ends(site: Site) -> Answer:
    return await file("1\r\n2\r\n3").contents(offset_lines=1, limit_lines=1)


@case
async def size_and_name(site: Site) -> Answer:
    one = dag.directory().with_new_file("d/ü.txt", "über").file("d/ü.txt")
    return [await one.size(), await one.name(), await file("", "x").size(), await file("", "x").name()]


@case
async def a_missing_file(site: Site) -> Answer:
    missing = dag.directory().file("no/such")
    return [
        await attempt(missing.contents()),
        await attempt(missing.size()),
        await attempt(missing.name()),
        await attempt(missing.digest()),
        await attempt(missing.sync()),
        await attempt(missing.stat().size()),
    ]


@case
async def a_directory_is_no_file(site: Site) -> Answer:
    directory = dag.directory().with_new_directory("d").file("d")
    return [await attempt(directory.contents()), await attempt(directory.size())]


@case
async def names_that_are_none(site: Site) -> Answer:
    return {name: await attempt(dag.file(name, "x").name()) for name in ("", "a/b", "/a", ".", "..", "a b")}


@case
async def with_name(site: Site) -> Answer:
    one = file("x").with_name("other")
    return [
        await one.name(),
        await one.contents(),
        await dag.directory().with_file("d/", one).glob("**"),
        await attempt(file("x").with_name("a/b").name()),
        await attempt(file("x").with_name("").name()),
    ]


@case
async def replaced(site: Site) -> Answer:
    text = file("one two\none two\nthree one")
    return [
        await attempt(text.with_replaced("two", "2", all=True).contents()),
        await attempt(text.with_replaced("three", "3").contents()),
        await attempt(text.with_replaced("one", "1").contents()),
        await attempt(text.with_replaced("one", "1", first_from=2).contents()),
        await attempt(text.with_replaced("one", "1", first_from=9).contents()),
        await attempt(text.with_replaced("no", "x").contents()),
        await attempt(text.with_replaced("no", "x", all=True).contents()),
        await attempt(text.with_replaced("", "x").contents()),
        await attempt(text.with_replaced("two\none", "-").contents()),
        await attempt(text.with_replaced("one", "", all=True).contents()),
    ]


@case
async def replaced_keeps_name_and_mode(site: Site) -> Answer:
    one = file("a", "s.sh", 0o755).with_replaced("a", "b")
    return [await one.name(), await one.stat().permissions(), await one.contents()]


@case
async def digests(site: Site) -> Answer:
    first = await file("x").digest()
    bare = await file("x").digest(exclude_metadata=True)
    return {
        "again": first == await file("x").digest(),
        "content": first == await file("y").digest(),
        "mode": first == await file("x", permissions=0o600).digest(),
        "name": first == await file("x", "other").digest(),
        "bare content": bare == await file("y").digest(exclude_metadata=True),
        "bare mode": bare == await file("x", permissions=0o600).digest(exclude_metadata=True),
        "bare name": bare == await file("x", "other").digest(exclude_metadata=True),
        "bare time": bare == await file("x").with_timestamps(5).digest(exclude_metadata=True),
        "time": first == await file("x").with_timestamps(5).digest(),
    }


@case
async def stat(site: Site) -> Answer:
    one = file("abc", permissions=0o640).stat()
    return [await one.name(), (await one.file_type()).value, await one.size(), await one.permissions()]


@case
async def a_link_as_a_file(site: Site) -> Answer:
    made = dag.directory().with_new_file("real", "x").with_symlink("real", "link")
    one = made.file("link")
    return [
        await one.contents(),
        await one.name(),
        await one.size(),
        await dag.directory().with_file("copy", one).stat("copy", do_not_follow_symlinks=True).file_type(),
    ]


@case
async def a_file_of_many_lines(site: Site) -> Answer:
    text = file("".join(f"line {number}\n" for number in range(20_000)))
    return [await text.size(), await text.contents(offset_lines=19_998, limit_lines=1)]


@case
async def a_file_is_read_as_text(site: Site) -> Answer:
    made = site.base.with_exec(["sh", "-c", "printf 'a\\377b' > /bin.dat"]).file("/bin.dat")
    return [await made.contents(), await made.size()]
