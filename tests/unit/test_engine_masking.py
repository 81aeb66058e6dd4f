"""The masker: nothing of a value is shown, however its stream is cut."""

from __future__ import annotations

import itertools
import random

import pytest

from embedded_engine.masking import Masker, mask_bytes, mask_tail, mask_text

SECRETS = ["hunter2", " padded value\n", "a", "hunter2-and-more", "zweite\nzeile", "pässwörd"]
TEXT = "x hunter2 y hunter2-and-more hunter hunter22 padded value zweite\nzeile pässwörd b hunte"


def fed(chunks: list[bytes], values: list[str]) -> bytes:
    masker = Masker.of(values)
    return b"".join([*(masker.feed(chunk) for chunk in chunks), masker.finish()])


def test_values_and_their_trimmed_forms_are_masked() -> None:
    assert mask_text("v=hunter2; padded value.", SECRETS[:2]) == "v=***; ***."
    assert mask_text("zweite\nzeile", SECRETS[4:5]) == "***"


def test_the_longest_value_wins_where_two_begin() -> None:
    assert mask_text("hunter2-and-more hunter2", SECRETS) == "*** ***"


def test_a_value_split_at_every_point_is_masked() -> None:
    data = TEXT.encode()
    whole = mask_bytes(data, SECRETS)
    for cut in range(len(data) + 1):
        assert fed([data[:cut], data[cut:]], SECRETS) == whole


def test_a_value_split_into_three_at_every_pair_of_points_is_masked() -> None:
    data = b"a hunter2 hunter2-and-more b"
    whole = mask_bytes(data, SECRETS)
    for first, second in itertools.combinations(range(len(data) + 1), 2):
        assert fed([data[:first], data[first:second], data[second:]], SECRETS) == whole


def test_a_stream_of_single_bytes_is_masked_as_the_whole() -> None:
    data = TEXT.encode()
    assert fed([bytes([byte]) for byte in data], SECRETS) == mask_bytes(data, SECRETS)


@pytest.mark.parametrize("seed", range(20))
def test_overlapping_values_come_out_the_same_however_they_are_cut(seed: int) -> None:
    dice = random.Random(seed)
    values = ["".join(dice.choices("ab", k=dice.randint(1, 5))) for _ in range(3)]
    data = "".join(dice.choices("abc", k=60)).encode()
    cuts = sorted(dice.sample(range(len(data)), 5))
    chunks = [data[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(data)])]
    assert fed(chunks, values) == mask_bytes(data, values)


def test_what_cannot_be_a_beginning_is_shown_at_once() -> None:
    masker = Masker.of(["hunter2"])
    assert masker.feed(b"hello hun") == b"hello "
    assert masker.feed(b"g") == b"hung"
    assert masker.finish() == b""


def test_no_values_or_empty_ones_change_nothing() -> None:
    assert mask_text("text", []) == "text"
    assert mask_text("text", ["", "\n"]) == "text"


def test_bytes_that_are_no_text_pass_through() -> None:
    assert mask_bytes(b"\xff\x00hunter2\xfe", SECRETS[:1]) == b"\xff\x00***\xfe"


def test_a_maskers_repr_holds_no_value() -> None:
    masker = Masker.of(["hunter2"])
    masker.feed(b"hunter")
    assert "hunter" not in repr(masker)


def test_a_value_cut_in_two_where_a_tail_begins_is_masked() -> None:
    text = "log hunter2 and more hunter2\n"
    for cut in range(len(text)):
        shown = mask_tail(text[cut:], ["hunter2"])
        assert "unter2" not in shown
        assert not any(shown.startswith("hunter2"[n:]) for n in range(6))
    assert mask_tail("2 files", ["hunter2"]) == "*** files"
    assert mask_tail("no secret", ["hunter2"]) == "no secret"
