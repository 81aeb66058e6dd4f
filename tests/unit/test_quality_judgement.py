"""What answers are worth: intervals, slices, and the decision beside the published version."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.config_quality import Quality
from pipelines.in_engine.check_metrics import f1_macro
from pipelines.quality_bootstrap import DRAWS, draw, draw_means
from pipelines.quality_judgement import Given, _samples, decide, measure, told
from pipelines.quality_memo import Memo
from pipelines.quality_metrics import Column, metric_of


def quality(**more: Any) -> Quality:
    return Quality.model_validate(
        {"data": "data.jsonl", "metric": "accuracy", "answer": "language", "at_least": 0.5, **more}
    )


def right(hits: int, rows: int = 300) -> list[str]:
    """Answers to ``rows`` rows that expect "a", of which ``hits`` are right."""
    return ["a"] * hits + ["b"] * (rows - hits)


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path)


def test_the_interval_is_that_of_the_binomial_distribution(memo: Memo) -> None:
    figures = measure(Given(quality(), ["a"] * 300, right(285)), memo)
    low, high = figures["interval"]
    assert figures["value"] == 0.95
    # The standard error of 0.95 over 300 rows is 0.0126.
    assert low == pytest.approx(0.95 - 1.96 * 0.0126, abs=0.005)
    assert high == pytest.approx(0.95 + 1.96 * 0.0126, abs=0.005)


def test_the_same_answers_have_the_same_interval(tmp_path: Path) -> None:
    given = Given(quality(), ["a"] * 300, right(285))
    assert measure(given, Memo(tmp_path / "one")) == measure(given, Memo(tmp_path / "two"))


def test_numpy_draws_where_there_are_many_rows_and_agrees() -> None:
    rows = [float(number % 10 < 8) for number in range(3000)]
    many, few = draw_means([rows]), draw_means([rows[:300]])
    assert (many.by, few.by) == ("numpy", "stdlib")
    assert many.draws == few.draws == DRAWS
    low, high = many.interval(lambda one: one[0], 0.95) or (0.0, 0.0)
    assert low == pytest.approx(0.8 - 1.96 * 0.0073, abs=0.004)
    assert high == pytest.approx(0.8 + 1.96 * 0.0073, abs=0.004)


def test_a_metric_that_most_draws_lack_has_no_interval() -> None:
    samples = draw(10, lambda index: None if 0 not in index else (1.0,))
    assert samples.interval(lambda one: one[0], 0.95) is None


def test_f1_of_many_classes_is_that_of_the_plain_definition() -> None:
    generator = random.Random(1)
    expected = [generator.choice("abcde") for _ in range(200)]
    said = [one if generator.random() < 0.7 else generator.choice("abcdef") for one in expected]
    fast = metric_of(quality(metric="f1_macro")).compute(Column(expected, said))
    assert fast == pytest.approx(f1_macro(expected, said), abs=1e-12)


def noisy(answers: list[str], share: float, seed: int) -> list[str]:
    """``answers``, of which a share is turned at random: right ones into wrong ones, and back."""
    generator = random.Random(seed)
    turned = {"a": "b", "b": "a"}
    return [turned[one] if generator.random() < share else one for one in answers]


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_is_not_worse(memo: Memo, seed: int) -> None:
    """As many rows lost as won: another seed of the training, another library."""
    wanted = quality(no_worse_than="published")
    before = right(270)
    lost, won = random.Random(seed).sample(range(270), 4), random.Random(seed).sample(range(270, 300), 3)
    own = ["b" if at in lost else "a" if at in won else one for at, one in enumerate(before)]
    figures = measure(Given(wanted, ["a"] * 300, own, published=before), memo)
    assert figures["before"]["better_by"] < 0
    assert figures["before"]["differ"] == 7
    assert decide(wanted, figures, 300, "1.2.0").ok


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_a_real_degradation_is_worse(memo: Memo, metric: str) -> None:
    wanted = quality(metric=metric, no_worse_than="published")
    expected = ["a", "b"] * 150
    own = noisy(expected, 0.15, seed=1)
    figures = measure(Given(wanted, expected, own, published=noisy(expected, 0.03, seed=2)), memo)
    decision = decide(wanted, figures, 300, "1.2.0")
    assert not decision.ok
    assert "is worse than" in decision.reasons[0]
    assert "of the published 1.2.0 by" in decision.reasons[0]
    assert "on the same 300 rows" in decision.reasons[0]


def test_the_margin_lets_a_known_loss_pass(memo: Memo) -> None:
    expected = ["a"] * 300
    strict = quality(no_worse_than="published")
    figures = measure(Given(strict, expected, right(270), published=right(290)), memo)
    assert not decide(strict, figures, 300).ok
    assert decide(quality(no_worse_than="published", margin=0.1), figures, 300).ok


def test_the_comparison_is_paired(memo: Memo) -> None:
    """Eight rows of 300 lost and none won: neither version's own interval would tell them apart."""
    wanted = quality(no_worse_than="published")
    figures = measure(Given(wanted, ["a"] * 300, right(262), published=right(270)), memo)
    assert figures["interval"][1] > figures["before"]["value"]
    assert not decide(wanted, figures, 300).ok


def test_smaller_is_better_the_other_way_round(memo: Memo) -> None:
    wanted = quality(metric="mae", at_least=None, at_most=10, no_worse_than="published")
    expected = [float(number) for number in range(100)]
    before, own = [one + 0.1 for one in expected], [one + 0.5 for one in expected]
    worse = measure(Given(wanted, expected, own, published=before), memo)
    better = measure(Given(wanted, expected, before, published=own), memo)
    assert not decide(wanted, worse, 100).ok
    assert decide(wanted, better, 100).ok
    assert better["before"]["better_by"] == pytest.approx(0.4)


def test_the_same_answers_are_no_worse_whatever_the_metric(memo: Memo) -> None:
    wanted = quality(metric="spearman", no_worse_than="published", at_least=-1)
    figures = measure(Given(wanted, [1, 2, 3], [1, 3, 2], published=[1, 3, 2]), memo)
    assert figures["before"]["interval"] == [0.0, 0.0]
    assert decide(wanted, figures, 3).ok


def test_the_worst_slice_is_named(memo: Memo) -> None:
    wanted = quality(slices={"by": "language", "at_least": 0.9, "minimum_rows": 20})
    slices = [("nl",)] * 30 + [("fr",)] * 30 + [("de",)] * 230 + [("is",)] * 10
    said = ["a"] * 24 + ["b"] * 6 + ["a"] * 26 + ["b"] * 4 + ["a"] * 230 + ["b"] * 10
    figures = measure(Given(wanted, ["a"] * 300, said, slices), memo)
    decision = decide(wanted, figures, 300)
    assert decision.reasons == (
        "accuracy 0.800 over the 30 rows of language=nl is below 0.9 (and 1 more slices)",
    )
    assert {one["of"][0]: one["rows"] for one in figures["slices"]} == {
        "de": 230,
        "fr": 30,
        "is": 10,
        "nl": 30,
    }
    assert "worst slice language=nl 0.800" in told(wanted, figures)


def test_a_slice_without_the_metric_does_not_pass_silently(memo: Memo) -> None:
    wanted = quality(metric="spearman", slices={"by": "kind", "at_least": 0.5, "minimum_rows": 3})
    figures = measure(
        Given(wanted, [1, 2, 3, 4, 4, 4], [1, 2, 3, 4, 5, 6], [("x",)] * 3 + [("y",)] * 3), memo
    )
    assert decide(wanted, figures, 6).reasons == ("spearman is not defined for kind=y (3 rows)",)


def test_what_a_person_reads(memo: Memo) -> None:
    wanted = quality(at_least=0.95, no_worse_than="published")
    figures = measure(Given(wanted, ["a"] * 300, right(289), published=right(288)), memo)
    low, high = figures["interval"]
    assert told(wanted, figures) == f"accuracy 0.963 [{low:.3f}, {high:.3f}] (≥ 0.95; published 0.960)"
    alone = {key: value for key, value in figures.items() if key != "before"}
    assert told(wanted, alone, nothing_published=True).endswith("(≥ 0.95; nothing published to compare with)")


def test_what_is_known_is_not_computed_again(memo: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given(quality(), ["a"] * 300, right(285))
    first = measure(given, memo)

    def never(_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("pipelines.quality_judgement.metric_of", never)
    assert measure(given, memo) == first
    with pytest.raises(AssertionError):
        measure(Given(quality(), ["a"] * 300, right(284)), memo)


def test_a_changed_limit_computes_nothing(memo: Memo) -> None:
    given = Given(quality(at_least=0.5), ["a"] * 300, right(285))
    measure(given, memo)
    assert Given(quality(at_least=0.99), ["a"] * 300, right(285)).key() == given.key()
    assert decide(quality(at_least=0.99), measure(given, memo), 300).reasons == (
        "accuracy 0.950 over 300 rows is below 0.99",
    )


def test_rows_that_repeat_are_drawn_as_kinds() -> None:
    """The interval is the same as that of single rows, but for the luck of the draws."""
    generator = random.Random(5)
    expected = [generator.choice("abc") for _ in range(4000)]
    said = [one if generator.random() < 0.8 else generator.choice("abc") for one in expected]
    metric = metric_of(quality(metric="f1_macro"))
    kinds = _samples(metric, Column(expected, said), None)
    rows = _samples(replace(metric, weighted=False), Column(expected[:400], said[:400]), None)
    few = _samples(metric, Column(expected[:400], said[:400]), None)
    assert (kinds.draws, kinds.by, few.by) == (DRAWS, "numpy", "stdlib")
    assert few.interval(lambda one: one[0], 0.95) == pytest.approx(
        rows.interval(lambda one: one[0], 0.95), abs=0.005
    )
    low, high = kinds.interval(lambda one: one[0], 0.95) or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.96 * (0.867 * 0.133 / 4000) ** 0.5, rel=0.2)
