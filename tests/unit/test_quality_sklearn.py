"""Metrics against scikit-learn, and scikit-learn's as metrics."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.config_quality import Quality
from pipelines.in_engine.check_metrics import UndefinedMetricError
from pipelines.quality_metrics import Column, MetricProblem, as_text_says, metric_of
from pipelines.quality_table import METRICS, Answers

metrics = pytest.importorskip("sklearn.metrics", reason="needs modelport[metrics]")

GENERATOR = random.Random(3)
CLASSES = [GENERATOR.choice(["de", "fr", "nl"]) for _ in range(200)]
SAID = [one if GENERATOR.random() < 0.8 else GENERATOR.choice(["de", "fr", "nl"]) for one in CLASSES]
NUMBERS = [GENERATOR.uniform(1, 9) for _ in range(200)]
NEAR = [one + GENERATOR.uniform(-0.9, 0.9) for one in NUMBERS]
BINARY = [GENERATOR.randrange(2) for _ in range(200)]
SCORES = [min(1.0, max(0.0, 0.6 * one + GENERATOR.uniform(0, 0.5))) for one in BINARY]


def quality(metric: str, **more: Any) -> Quality:
    known = METRICS.get(metric)
    limit = {"at_most": 1.0} if known and known.smaller_is_better else {"at_least": 0.0}
    return Quality.model_validate({"data": "d.jsonl", "metric": metric, "answer": "a", **limit, **more})


def value(metric: str, expected: list[Any], predicted: list[Any], **more: Any) -> float:
    return metric_of(quality(metric, **more)).compute(Column(expected, predicted))


@pytest.mark.parametrize(
    ("own", "theirs", "expected", "said"),
    [
        ("accuracy", metrics.accuracy_score, CLASSES, SAID),
        ("f1_macro", lambda true, said: metrics.f1_score(true, said, average="macro"), CLASSES, SAID),
        ("mae", metrics.mean_absolute_error, NUMBERS, NEAR),
        ("rmse", metrics.root_mean_squared_error, NUMBERS, NEAR),
    ],
)
def test_ours_are_theirs(
    own: str, theirs: Callable[..., float], expected: list[Any], said: list[Any]
) -> None:
    assert value(own, expected, said) == pytest.approx(theirs(expected, said), abs=1e-12)


def test_every_name_of_the_table_is_a_function_that_computes() -> None:
    data: dict[Answers, tuple[list[Any], list[Any]]] = {
        Answers.CLASSES: (BINARY, [int(one > 0.4) for one in SCORES]),
        Answers.NUMBERS: (NUMBERS, NEAR),
        Answers.SCORES: (BINARY, SCORES),
        Answers.RANKING: ([[1, 0, 0], [0, 1, 1]], [[0.9, 0.1, 0.2], [0.1, 0.4, 0.3]]),
    }
    more = {
        "fbeta_score": {"options": {"beta": 2}},
        "top_k_accuracy_score": {"options": {"k": 1}},
        "hinge_loss": {},
    }
    for name, known in METRICS.items():
        expected, said = data[known.answers]
        found = value(name, expected, said, **more.get(name, {}))
        assert isinstance(found, float), name
        if known.answers is Answers.CLASSES and not known.built_in:
            best = value(name, expected, expected, **more.get(name, {}))
            assert (found > best) is known.smaller_is_better, name


def test_the_direction_is_that_of_scikit_learns_scorers() -> None:
    """Its scorers turn what is an error into a negative score."""
    checked = 0
    for name in metrics.get_scorer_names():
        scorer = metrics.get_scorer(name)
        known = METRICS.get(scorer._score_func.__name__)
        if known is not None:
            assert known.smaller_is_better is (scorer._sign < 0), name
            checked += 1
    assert checked > 20


def test_options_reach_the_function() -> None:
    wanted = metrics.f1_score(CLASSES, SAID, average="weighted")
    assert value("f1_score", CLASSES, SAID, options={"average": "weighted"}) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("metric", "more", "said"),
    [
        ("f1_score", {}, "can't be computed"),
        ("f1_score", {"options": {"averge": "macro"}}, 'f1_score has no option "averge"'),
        ("f1_scor", {"answers": "classes"}, "sklearn.metrics has no function f1_scor"),
        ("confusion_matrix", {"answers": "classes"}, "not one number"),
        ("accuracy", {"options": {"normalize": True}}, "accuracy takes no options"),
    ],
)
def test_what_can_not_be_computed_is_told(metric: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(MetricProblem, match=said):
        value(metric, CLASSES, SAID, **more)


def test_a_score_stands_for_the_positive_class() -> None:
    texts = ["spam" if one else "ham" for one in BINARY]
    wanted = metrics.roc_auc_score(BINARY, SCORES)
    assert value("roc_auc_score", BINARY, SCORES) == pytest.approx(wanted)
    assert value("roc_auc_score", texts, SCORES, positive="spam") == pytest.approx(wanted)
    assert value("roc_auc_score", texts, SCORES, positive="ham") == pytest.approx(1 - wanted)
    with pytest.raises(MetricProblem, match="which class does the score stand for"):
        value("roc_auc_score", texts, SCORES)


def test_probabilities_of_each_class_as_lists_and_objects() -> None:
    lists = [[0.7, 0.2, 0.1] if one == "de" else [0.1, 0.6, 0.3] for one in CLASSES]
    objects = [dict(zip(("de", "fr", "nl"), one, strict=True)) for one in lists]
    wanted = metrics.log_loss(CLASSES, lists, labels=["de", "fr", "nl"])
    assert value("log_loss", CLASSES, lists) == pytest.approx(wanted)
    assert value("log_loss", CLASSES, objects) == pytest.approx(wanted)
    with pytest.raises(MetricProblem, match="2 scores, and there are 3 classes"):
        value("log_loss", CLASSES, [[0.5, 0.5]] * 200)


def test_undefined_is_not_zero() -> None:
    with pytest.raises(UndefinedMetricError):
        value("roc_auc_score", [1, 1], [0.1, 0.2])


def test_mixed_classes_are_compared_by_type() -> None:
    assert value("accuracy_score", [True, 1, "1"], [True, True, "1"]) == pytest.approx(2 / 3)


def test_the_texts_of_a_csv_file_stand_for_numbers() -> None:
    assert as_text_says(["3", "4"], [3, 3]) == [3, 4]
    assert as_text_says(["true", "False"], [True, True]) == [True, False]
    assert as_text_says(["3", "x"], [3, 3]) == ["3", "x"]
    assert as_text_says(["3"], ["3"]) == ["3"]
