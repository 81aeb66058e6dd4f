"""What a push tells: each registry by itself, the policy, and what to do next."""

from __future__ import annotations

import pytest

from pipelines.errors import PartialPush, PipelineError, PushFailed
from pipelines.receipt import Delivery, NothingPushed, PushedInPart, Receipt, State, megabytes
from pipelines.registries.errors import TagRefused, Unreachable

DIGEST = "sha256:" + "1" * 64


def delivery(repository: str = "one/m", **parts: object) -> Delivery:
    values: dict[str, object] = {
        "tags": ("1.0.0", "latest"),
        "uploaded": 1_200_000,
        "total": 118_000_000,
        "seconds": 0.8,
        "is_held": True,
        "is_named": True,
        **parts,
    }
    return Delivery(repository, DIGEST, **values)  # type: ignore[arg-type]  # the fields of a Delivery


def failure(repository: str = "two/m", error: PipelineError | None = None, **parts: object) -> Delivery:
    error = error or Unreachable("two: nothing listens there", hint="is it running?")
    values = {"tags": (), "is_held": False, "is_named": False, "error": error, **parts}
    return delivery(repository, **values)


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        ({}, State.PUSHED),
        ({"uploaded": 0, "already": ("1.0.0", "latest")}, State.UNCHANGED),
        ({"uploaded": 0, "already": ("1.0.0",)}, State.PUSHED),
        ({"uploaded": 0, "mounted": 5, "already": ("1.0.0", "latest")}, State.PUSHED),
        ({"is_named": False}, State.HELD),
        ({"is_named": False, "is_held": False}, State.WITHHELD),
        ({"error": Unreachable("gone")}, State.FAILED),
    ],
)
def test_the_state_of_a_registry(parts: dict[str, object], state: State) -> None:
    one = delivery(**parts)
    assert one.state is state
    assert one.to_json()["state"] == state.value


def test_the_summary_tells_the_most_that_was_sent_to_one_registry() -> None:
    receipt = Receipt(DIGEST, (delivery(), delivery("two/m", uploaded=7)))
    assert receipt.summary() == "1.2 of 118 MB uploaded to 2 of 2 registries"


def test_the_policy_is_told_where_it_mattered() -> None:
    three = (delivery(), delivery("three/m"), failure())
    receipt = Receipt(DIGEST, three, enough=2)
    assert receipt.summary() == (
        "1.2 of 118 MB uploaded to 2 of 3 registries, at least 2 asked"
        " · two/m failed: two: nothing listens there"
    )
    assert Receipt(DIGEST, three[:2], enough=1).summary() == "1.2 of 118 MB uploaded to 2 of 2 registries"
    assert Receipt(DIGEST, three[:2], enough=9).asked == 2


def test_what_did_not_have_to_be_sent_is_told() -> None:
    receipt = Receipt(DIGEST, (delivery(uploaded=0, mounted=2_000_000, resumed=30_000_000),))
    assert receipt.summary().endswith(
        "· 30 MB were sent by an earlier run · 2.0 MB taken over from other repositories"
    )
    again = Receipt(DIGEST, (delivery(uploaded=0, already=("1.0.0", "latest")),), notes=("a note",))
    assert again.summary() == "0 of 118 MB uploaded to 1 of 1 registry · already released · a note"


def test_a_tag_that_was_not_moved_is_told_with_its_reason() -> None:
    receipt = Receipt(DIGEST, (delivery(kept={"latest": "it is 2.0.0, which is newer"}),))
    assert receipt.summary().endswith("· latest not moved: it is 2.0.0, which is newer")


def test_nothing_named() -> None:
    held = delivery(tags=(), is_named=False)
    error = NothingPushed(Receipt(DIGEST, (held, failure())))
    assert isinstance(error, PushFailed)
    assert str(error) == (
        "two: nothing listens there; 1 of 2 registries holds the image, so nothing was named"
    )
    assert error.hint == "is it running?"
    nowhere = NothingPushed(Receipt(DIGEST, (failure(), failure("three/m", Unreachable("three: gone")))))
    assert str(nowhere) == "two: nothing listens there (and 1 more, above)"
    assert nowhere.detail == "three: gone"


def test_named_in_part() -> None:
    error = PushedInPart(Receipt(DIGEST, (delivery(), failure()), enough=2))
    assert isinstance(error, PartialPush)
    assert str(error) == ("pushed to 1 of 2 registries (one/m), at least 2 asked: two: nothing listens there")


def test_whether_anything_is_named() -> None:
    half = failure(tags=("1.0.0",))
    assert Receipt(DIGEST, (half,)).is_named
    assert str(PushedInPart(Receipt(DIGEST, (half,)))).startswith("pushed to 0 of 1 registry: ")
    before = failure(tags=("1.0.0",), already=("1.0.0",))
    assert not Receipt(DIGEST, (before,)).is_named
    conflict = failure(error=TagRefused("1.0.0 is another image"))
    assert Receipt(DIGEST, (delivery(), conflict)).conflicts == (conflict,)


def test_the_record_has_all_of_it() -> None:
    told = Receipt(DIGEST, (delivery(resumed=3, mounted=4), failure()), enough=1, notes=("n",)).to_json()
    assert told["registries_asked"] == 1
    assert told["notes"] == ["n"]
    one, other = told["deliveries"]
    assert (one["resumed_bytes"], one["mounted_bytes"], one["holds_image"]) == (3, 4, True)
    assert (other["error"], other["hint"]) == ("two: nothing listens there", "is it running?")


def test_something_is_never_shown_as_nothing() -> None:
    assert [megabytes(count) for count in (0, 1, 1_249_999, 118_400_000)] == ["0", "0.1", "1.2", "118"]
