from __future__ import annotations

import pytest

from pipelines.versions import ParsedVersion, highest, version_of_tag


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


def test_a_model_s_own_tag_counts_before_a_higher_one_that_is_for_all() -> None:
    assert highest("langid", ["v9.0.0", "langid-v1.2.0"]) == "1.2.0"
