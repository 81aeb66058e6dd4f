"""The masker: nothing of a value is shown, however its stream is cut and whatever encoded it."""

from __future__ import annotations

import base64
import html
import itertools
import json
import random
import shlex
import time
import urllib.parse

import pytest

from embedded_engine.disguises import disguises_of
from embedded_engine.masking import Hidden, Masker, mask_bytes, mask_text

SECRETS = ["hunter2", " padded value\n", "hunter2-and-more", "zweite\nzeile", "pässwörd"]
TEXT = "x hunter2 y hunter2-and-more hunter hunter22 padded value zweite\nzeile pässwörd b hunte"
AWKWARD = 'p@ss/w<o>rd+"quo\'ted" \\ & 100%=ü?~~>>'
KEY = "-----BEGIN K-----\n" + "\n".join(f"{n:02d}abcDEF/+{n * 7919 % 100003:06d}" * 3 for n in range(12))


def fed(chunks: list[bytes], values: Hidden) -> bytes:
    masker = Masker(values)
    return b"".join([*(masker.feed(chunk) for chunk in chunks), masker.finish()])


def test_values_and_their_trimmed_forms_are_masked() -> None:
    assert mask_text("v=hunter2; padded value.", SECRETS[:2]) == "v=***; ***."
    assert mask_text("zweite\nzeile", SECRETS[3:4]) == "***"


def test_the_longest_value_wins_where_two_begin_and_overlapping_ones_are_hidden_whole() -> None:
    assert mask_text("hunter2-and-more hunter2", SECRETS) == "*** ***"
    assert mask_text("abcdefgh.", ["abcdef", "defgh"]) == "***."
    assert mask_text("hunter2hunter2", SECRETS) == "******"


def test_a_value_split_at_every_point_is_masked() -> None:
    data, hidden = TEXT.encode(), Hidden.of(SECRETS)
    whole = mask_bytes(data, hidden)
    for cut in range(len(data) + 1):
        assert fed([data[:cut], data[cut:]], hidden) == whole


def test_a_value_split_into_three_at_every_pair_of_points_is_masked() -> None:
    data, hidden = b"a hunter2 hunter2-and-more b", Hidden.of(SECRETS)
    whole = mask_bytes(data, hidden)
    for first, second in itertools.combinations(range(len(data) + 1), 2):
        assert fed([data[:first], data[first:second], data[second:]], hidden) == whole


def test_a_stream_of_single_bytes_is_masked_as_the_whole() -> None:
    data, hidden = TEXT.encode(), Hidden.of(SECRETS)
    assert fed([bytes([byte]) for byte in data], hidden) == mask_bytes(data, hidden)


@pytest.mark.parametrize("seed", range(20))
def test_overlapping_values_come_out_the_same_however_they_are_cut(seed: int) -> None:
    dice = random.Random(seed)
    hidden = Hidden.of("".join(dice.choices("ab", k=dice.randint(4, 9))) for _ in range(4))
    data = "".join(dice.choices("aabbc", k=200)).encode()
    cuts = sorted(dice.sample(range(len(data)), 12))
    chunks = [data[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(data)])]
    assert fed(chunks, hidden) == mask_bytes(data, hidden)
    shown = mask_bytes(data, hidden)
    assert not any(value in shown for value in hidden.values)


def test_what_cannot_be_a_beginning_is_shown_at_once() -> None:
    masker = Masker(Hidden.of(["hunter2"]))
    assert masker.feed(b"hello hun") == b"hello "
    assert masker.feed(b"g") == b"hung"
    assert masker.finish() == b""


def test_no_values_or_empty_or_short_ones_change_nothing() -> None:
    for values in ([], ["", "\n"], ["a", "na", "ban"], [" na \n"]):
        assert mask_text("banana", values) == "banana"


def test_bytes_that_are_no_text_pass_through() -> None:
    assert mask_bytes(b"\xff\x00hunter2\xfe", SECRETS[:1]) == b"\xff\x00***\xfe"


def test_the_repr_holds_no_value() -> None:
    masker = Masker(Hidden.of(["hunter2"]))
    masker.feed(b"hunter")
    assert "hunter" not in repr(masker)


@pytest.mark.parametrize("value", ["hunter22", AWKWARD, "tok_" + "Z9+/" * 20, KEY], ids=len)
def test_every_encoding_of_a_value_is_masked(value: str) -> None:
    data, hidden = value.encode(), Hidden.of([value])
    go = json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    for told in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps(json.loads(go)),
        go,
        urllib.parse.quote(value),
        urllib.parse.quote(value, safe=""),
        urllib.parse.urlencode({"q": value}),
        html.escape(value),
        repr(value),
        data.hex(),
        data.hex().upper(),
    ):
        shown = mask_text(f"<<{told}>>", hidden)
        assert "***" in shown and len(shown) < 24, shown
    assert "***" in mask_text(shlex.quote(value), hidden)


@pytest.mark.parametrize("value", ["hunter22", AWKWARD, KEY], ids=len)
@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_base64_is_masked_at_every_alignment_in_both_alphabets(value: str, before: int, after: int) -> None:
    data, hidden = value.encode(), Hidden.of([value])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(b"u" * before + data + b"\xff" * after)
        for told in (text, text.rstrip(b"=")):
            shown = mask_bytes(told, hidden)
            kept = shown.replace(b"***", b"")
            assert b"***" in shown and len(kept) <= 4 * (before // 3 + 1 + after // 3 + 1), shown
            assert len(told) - len(kept) >= len(data) * 8 // 6 - 3


@pytest.mark.parametrize("width", [64, 76])
def test_base64_wrapped_into_lines_is_masked(width: int) -> None:
    text = base64.b64encode(KEY.encode())
    wrapped = b"\n".join(text[start : start + width] for start in range(0, len(text), width))
    shown = mask_bytes(wrapped, [KEY])
    assert set(shown) <= set(b"*\n="), shown


def test_each_telling_line_of_a_value_of_several_is_masked() -> None:
    value = '{\n  "id": "x",\n  "password": "hunter2"\n}\n---------\n'
    shown = mask_text(value.splitlines()[2] + " --------- { }", [value])
    assert shown == "  *** --------- { }"


def test_overlong_values_are_masked_too() -> None:
    value = "".join(random.Random(1).choices("abcdef0123456789", k=130_000))
    assert mask_text(f"<{value}>", [value]) == "<***>"
    assert len(disguises_of(value.encode())) == 1


def test_five_megabytes_with_fifty_secrets_take_a_fraction_of_a_second() -> None:
    dice = random.Random(2)
    values = ["".join(dice.choices("abcdefgh-_.XYZ", k=dice.randint(6, 50))) for _ in range(49)]
    hidden = Hidden.of([*values, KEY])
    words = [bytes(dice.choices(range(97, 123), k=7)) for _ in range(5000)]
    data = b" ".join(dice.choices(words, k=625_000))
    begin = time.process_time()
    shown = fed([data[start : start + 65536] for start in range(0, len(data), 65536)], hidden)
    assert shown == data
    assert time.process_time() - begin < 1.0  # 0.2 s when measured
