from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from pipelines.config import Model
from pipelines.source import SourceRevision
from pipelines.stages.tag import OCI, names
from pipelines.tag_templates import PLACEHOLDERS, render, sanitise

COMMIT = "8f3c2a1b9d04" + "a" * 28
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


def model(**values: object) -> Model:
    base = {"name": "langid", "directory": Path("/m"), "file": Path("/m/modelport.yaml")}
    return Model.model_validate({**base, **values})


def revision(**values: object) -> SourceRevision:
    base: dict[str, object] = {
        "commit": COMMIT,
        "head_commit": COMMIT,
        "committed_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "branch": "main",
        "version": None,
        "remote": "https://git.example/team/models",
        "dirty": (),
        "shallow": False,
        "root": Path("/m"),
    }
    return SourceRevision(**{**base, **values})  # type: ignore[arg-type]


def test_by_default_a_release_is_its_commit_and_latest() -> None:
    made = names(model(), revision())
    assert made.version_tags == ("8f3c2a1b9d04",)
    assert made.moving_tags == ("latest",)
    assert made.tags == ("8f3c2a1b9d04", "latest"), "moving tags are set last"
    assert made.summary() == "8f3c2a1b9d04, latest"


def test_a_version_tag_adds_the_version() -> None:
    tagged = revision(branch=None, tags=("v1.2.0",), version="1.2.0")
    assert names(model(), tagged).tags == ("8f3c2a1b9d04", "1.2.0", "latest")
    own = revision(tags=("v1.0.0", "langid-v1.2.0", "filetype-v7.0.0"))
    assert names(model(), own).version_tags == ("8f3c2a1b9d04", "1.2.0"), "the model's own tag, not another's"


def test_moving_tags_only_for_what_is_released() -> None:
    feature = names(model(), revision(branch="feature"))
    assert (feature.version_tags, feature.moving_tags) == (("8f3c2a1b9d04",), ())
    assert names(model(), revision(pull_request="17")).moving_tags == ()
    assert names(model(), revision(branch=None)).moving_tags == ()


def test_latest_stays_where_it_is_for_pre_releases_and_maintenance_branches() -> None:
    rule = {"branches": ["main", "release/*"]}
    maintained = revision(branch="release/1.1", tags=("v1.1.9",))
    made = names(model(release=rule, moving_tags=["latest", "{major}.{minor}", "{branch}"]), maintained)
    assert made.version_tags == ("8f3c2a1b9d04", "1.1.9")
    assert made.moving_tags == ("1.1", "release-1.1")
    candidate = names(model(), revision(branch=None, tags=("v2.0.0-rc.1",)))
    assert candidate.tags == ("8f3c2a1b9d04", "2.0.0-rc.1")
    moving = model(moving_tags=["{major}", "latest"])
    assert names(moving, revision(branch=None, tags=("v2.0.0-rc.1",))).moving_tags == ()
    assert names(moving, revision(branch=None, tags=("v2.0.0",))).moving_tags == ("2", "latest")


def test_uncommitted_changes_never_get_the_commit_s_or_a_version_s_name() -> None:
    made = names(model(tags=["{version}", "{commit}"]), revision(dirty=("a.py",), tags=("v1.2.0",)))
    assert made.version_tags == ()
    assert made.moving_tags == ("8f3c2a1b9d04-dirty",)
    assert made.labels[f"{OCI}.revision"] == f"{COMMIT}-dirty"
    assert made.labels[f"{OCI}.version"] == "8f3c2a1b9d04-dirty"


def test_a_template_without_its_value_is_left_out_but_one_immutable_tag_remains() -> None:
    only_version = model(tags=["{version}"], moving_tags=["{branch}"])
    assert names(only_version, revision(branch="main")).tags == ("8f3c2a1b9d04", "main")
    tagged = revision(branch=None, tags=("v1.2.0",))
    assert names(only_version, tagged).tags == ("1.2.0",)


def test_every_placeholder() -> None:
    template = "{name}-{version}-{major}-{minor}-{patch}-{branch}-{date}-{run}-{commit:7}"
    late = datetime(2026, 1, 2, 1, 0, tzinfo=timezone(timedelta(hours=9)))
    made = names(model(tags=[template]), revision(tags=("v1.2.3",), committed_at=late, run="41"))
    assert made.version_tags == ("langid-1.2.3-1-2-3-main-20260101-41-8f3c2a1",)
    assert all("{" + name in template for name in PLACEHOLDERS)


def test_a_run_s_number_is_only_there_in_ci() -> None:
    counted = model(tags=["build-{run}", "{version}-{run}"])
    assert names(counted, revision(run="41")).version_tags == ("build-41",)
    assert names(counted, revision(run="41", tags=("v1.0.0",))).version_tags == ("build-41", "1.0.0-41")
    assert names(counted, revision()).version_tags == ("8f3c2a1b9d04",), "on a laptop"


def test_a_moving_tag_may_stand_among_the_others() -> None:
    mixed = model(tags=["{commit:12}", {"tag": "newest", "moving": True}, {"tag": "{version}"}])
    made = names(mixed, revision(tags=("v1.2.0",)))
    assert (made.version_tags, made.moving_tags) == (("8f3c2a1b9d04", "1.2.0"), ("newest",))
    both = model(tags=["{version}", {"tag": "newest", "moving": True}], moving_tags=["latest", "newest"])
    assert names(both, revision(tags=("v1.2.0",))).moving_tags == ("newest", "latest")
    assert names(both, revision(tags=("v1.2.0-rc.1",), branch=None)).moving_tags == ()


def test_a_branch_s_own_tags_are_known_as_such() -> None:
    made = names(model(moving_tags=["latest", "{branch}", "{branch}-{date}"]), revision())
    assert made.moving_tags == ("latest", "main", "main-20260102")
    assert made.branch_tags == ("main", "main-20260102")
    assert names(model(moving_tags=["{branch}"]), revision(branch="feature")).branch_tags == ()


def test_pre_releases_of_both_schemes_move_nothing() -> None:
    moving = model(moving_tags=["latest", "{major}", "{major}.{minor}"])
    for version in ("1.2.0-rc.1", "1.2.0rc1", "1.2.0.dev4", "1.2.0-alpha", "1.2.0-7", "1.2.0.post1.dev2"):
        made = names(moving, revision(branch=None, tags=(f"v{version}",)))
        assert (made.version_tags[-1], made.moving_tags) == (version, ()), version
    for version in ("1.2.0", "1.2.0.post1", "1.2.0+cpu"):
        made = names(moving, revision(branch=None, tags=(f"v{version}",)))
        assert made.moving_tags == ("latest", "1", "1.2"), version


def test_the_same_name_twice_is_one_immutable_name() -> None:
    twice = model(tags=["{commit:12}", "{commit:12}"], moving_tags=["{name}", "langid"])
    assert names(twice, revision()).tags == ("8f3c2a1b9d04", "langid")
    assert names(model(moving_tags=["{version}"]), revision(tags=("v1.0.0",))).moving_tags == ()


def test_labels_are_facts_of_the_commit() -> None:
    described = model(title="Language id", description="Says it.", license="bsd-3-clause", version="1.4.0")
    zone = timezone(timedelta(hours=1))
    made = names(
        described,
        revision(committed_at=datetime(2026, 1, 2, 4, 4, 5, tzinfo=zone)),
        base_name="docker.io/library/python:3.11-slim",
        base_digest="sha256:" + "b" * 64,
    )
    assert made.labels == {
        f"{OCI}.base.digest": "sha256:" + "b" * 64,
        f"{OCI}.base.name": "docker.io/library/python:3.11-slim",
        f"{OCI}.created": "2026-01-02T03:04:05Z",
        f"{OCI}.description": "Says it.",
        f"{OCI}.licenses": "BSD-3-Clause",
        f"{OCI}.revision": COMMIT,
        f"{OCI}.source": "https://git.example/team/models",
        f"{OCI}.title": "Language id",
        f"{OCI}.version": "1.4.0",
    }


def test_labels_without_a_value_are_left_out() -> None:
    labels = names(model(), revision(remote=None)).labels
    assert sorted(labels) == [f"{OCI}.{name}" for name in ("created", "revision", "title", "version")]
    assert labels[f"{OCI}.title"] == "langid"
    built = names(model(build={"python": {"base": "python:3.12-slim"}}), revision())
    assert built.labels[f"{OCI}.base.name"] == "python:3.12-slim"


def test_a_tag_set_later_does_not_change_the_image() -> None:
    """Merge to main, release, tag the commit: the tagged build is the same image with one more name."""
    merged = names(model(), revision())
    tagged = names(model(), revision(branch=None, tags=("v1.2.0",), version="1.2.0"))
    assert merged.labels == tagged.labels
    assert set(merged.version_tags) < set(tagged.version_tags)


def test_a_merge_made_by_the_ci_system_names_the_author_s_commit() -> None:
    labels = names(model(), revision(head_commit="b" * 40, pull_request="17")).labels
    assert labels["modelport.source.head-revision"] == "b" * 40
    assert labels[f"{OCI}.revision"] == COMMIT


def test_names_for_the_record_are_plain_json() -> None:
    assert names(model(), revision()).to_json()["version_tags"] == ["8f3c2a1b9d04"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("feature/new model", "feature-new-model"),
        ("1.2.0+cpu.5", "1.2.0_cpu.5"),
        ("dependabot/pip/numpy-2.0", "dependabot-pip-numpy-2.0"),
        ("..hidden", "hidden"),
        ("--x--", "x"),
        ("héllo", "h-llo"),
        ("日本", None),
        ("", None),
        ("x" * 200, "x" * 128),
        ("x" * 127 + "/y", "x" * 127),
        ("a\nb", "a-b"),
    ],
)
def test_what_can_not_stand_in_a_tag(text: str, tag: str | None) -> None:
    assert sanitise(text) == tag


def test_any_branch_makes_a_valid_tag_or_none() -> None:
    chance = random.Random(20260102)
    alphabet = "abzAZ09._-/+@ {}~^:?*[\\\té日🙂"
    for _ in range(3000):
        branch = "".join(chance.choices(alphabet, k=chance.randint(0, 160)))
        tag = render("{branch}", {"branch": branch})
        assert tag is None or TAG.fullmatch(tag), (branch, tag)
        assert tag is None or sanitise(tag) == tag, "a tag that is valid stays as it is"
        longer = render("{branch}-{commit:7}", {"branch": branch, "commit": COMMIT})
        assert longer is None or TAG.fullmatch(longer)


def test_a_long_branch_does_not_push_the_commit_out_of_the_tag() -> None:
    tags = {
        render("{branch}-{commit:12}", {"branch": "x" * 200, "commit": commit * 40}) for commit in ("a", "b")
    }
    assert len(tags) == 2
