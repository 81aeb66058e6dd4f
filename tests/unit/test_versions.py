from __future__ import annotations

import random
from itertools import pairwise

import pytest

from pipelines.versions import Order, ParsedVersion, highest, version_of_tag


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("v1.2.0", "1.2.0"),
        ("1.2", "1.2"),
        ("1.2.0-rc.1", "1.2.0-rc.1"),
        ("v1.2.0+cpu.5", "1.2.0+cpu.5"),
        ("1.2.0rc1", "1.2.0rc1"),
        ("v1.2.0-experimental.3", "1.2.0-experimental.3"),
        ("langid-v1.2.0", "1.2.0"),
        ("langid/1.2.0", "1.2.0"),
        ("langid@1.2.0", "1.2.0"),
        ("v1", None),
        ("20260101", None),
        ("nightly", None),
        ("other-v1.2.0", None),
        ("langid-latest", None),
        ("version1.2", None),
        ("1.2.0 x", None),
        ("", None),
    ],
)
def test_which_tags_are_versions(tag: str, version: str | None) -> None:
    parsed = version_of_tag("langid", tag)
    assert (parsed.text if parsed else None) == version


def test_order_is_by_version_not_by_text() -> None:
    assert highest("m", ["v1.9.0", "v1.10.0", "v1.10.0-rc.1", "v1.10.0-experimental"]) == "1.10.0"
    assert highest("m", ["v1.0.0-experimental", "v0.9.9"]) == "1.0.0-experimental"
    assert highest("m", ["latest"]) is None


def test_pre_releases_and_numbers() -> None:
    final, candidate = ParsedVersion.parse("1.2"), ParsedVersion.parse("1.2.0-rc.1")
    assert final is not None
    assert candidate is not None
    assert (final.is_final, candidate.is_final) == (True, False)
    assert final.release == (1, 2, 0)


def order_of(text: str) -> Order:
    version = ParsedVersion.parse(text)
    assert version is not None, text
    return version.order


@pytest.mark.parametrize(
    "ascending",
    [
        # SemVer 2.0.0, item 11
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0",
        "1.0.0-1 1.0.0-2 1.0.0-10 1.0.0-A 1.0.0-a 1.0.0-a.b 1.0.0-a-b 1.0.0",
        "1.2.0-rc.2 1.2.0-rc.10 1.2.0",
        # PEP 440, "Summary of permitted suffixes and relative ordering"
        "1.0.dev4 1.0a1.dev2 1.0a1 1.0a2 1.0b1.dev34 1.0b1 1.0rc2 1.0rc10 1.0 1.0.post1.dev1 1.0.post1 1.1",
        # both
        "1.2.0-alpha.1 1.2.0b1 1.2.0-rc.1 1.2.0rc2 1.2.0-rc.3 v1.2.0 1.2.0-post1 1.2.1rc1 1.10.0",
        "1.2.0-rc2 1.2.0-rc10 1.2",
        "0.9.9 1.0.0-experimental 1.0.0",
    ],
)
def test_the_order_is_that_of_semver_and_of_pep_440(ascending: str) -> None:
    versions = ascending.split()
    for older, newer in pairwise(versions):
        assert order_of(older) < order_of(newer), (older, newer)
    shuffled = random.Random(4).sample(versions, len(versions))
    assert sorted(shuffled, key=order_of) == versions


@pytest.mark.parametrize(
    "same",
    [
        "1.2.0+cpu.5 1.2.0 1.2 v1.2.0+20260101",
        "1.2.0-rc.1 1.2.0rc1 1.2.0-rc1 1.2.0.rc1 1.2.0-rc.1+build.7",
        "1.2.0.post1 1.2.0-post1",
    ],
)
def test_build_metadata_and_ways_of_writing_do_not_count(same: str) -> None:
    assert len({order_of(text) for text in same.split()}) == 1


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("1.2.0", True),
        ("1.2.0+cpu", True),
        ("1.2.0.post1", True),
        ("1.2.0-post1", True),
        ("1.2.0-rc.1", False),
        ("1.2.0rc1", False),
        ("1.2.0.dev3", False),
        ("1.2.0.post1.dev1", False),
        ("1.2.0-1", False),
        ("1.2.0-anything+cpu", False),
    ],
)
def test_which_versions_are_final(text: str, final: bool) -> None:
    version = ParsedVersion.parse(text)
    assert version is not None
    assert version.is_final is final
    assert version.release == (1, 2, 0)


def test_a_registry_s_tag_writes_the_plus_as_it_can() -> None:
    assert [v.text if v else None for v in map(ParsedVersion.of_tag, ("1.2.0_cpu.5", "1.2.0", "main_1"))] == [
        "1.2.0+cpu.5",
        "1.2.0",
        None,
    ]


def test_a_model_s_own_tag_counts_before_a_higher_one_that_is_for_all() -> None:
    assert highest("langid", ["v9.0.0", "langid-v1.2.0"]) == "1.2.0"
