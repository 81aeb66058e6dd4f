"""The metrics against the values in scikit-learn's and SciPy's documentation, or computed by hand."""

from __future__ import annotations

import pytest

from pipelines.in_engine.check_metrics import (
    UndefinedMetricError,
    accuracy,
    f1_macro,
    mae,
    rmse,
    same,
    spearman,
)


def test_accuracy() -> None:
    assert accuracy(["a", "b", "c", "a"], ["a", "b", "b", "a"]) == 0.75
    assert accuracy([1, True], [1.0, 1]) == 0.5  # 1.0 is the class 1, true is not


def test_f1_macro_counts_classes_that_were_only_predicted() -> None:
    # by hand: class 0: 2*2/(3+2) = 0.8; class 1: 2*1/(1+2) = 2/3
    assert f1_macro([0, 0, 0, 1], [0, 0, 1, 1]) == pytest.approx((0.8 + 2 / 3) / 2)
    # sklearn.metrics.f1_score(["a", "b"], ["a", "c"], average="macro") = 1/3
    assert f1_macro(["a", "b"], ["a", "c"]) == pytest.approx(1 / 3)
    # the example of scikit-learn's documentation: 0.2666...
    assert f1_macro([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]) == pytest.approx(0.26666, abs=1e-4)


def test_mae_and_rmse() -> None:
    # the examples of scikit-learn's documentation
    assert mae([3, -0.5, 2, 7], [2.5, 0.0, 2, 8]) == 0.5
    assert rmse([3, -0.5, 2, 7], [2.5, 0.0, 2, 8]) == pytest.approx(0.375**0.5)


def test_spearman() -> None:
    # the example of SciPy's documentation: 0.82078
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.82078, abs=1e-5)
    assert spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


@pytest.mark.parametrize(("expected", "predicted"), [([1, 1], [1, 2]), ([1, 2], [1, 1]), ([1], [1])])
def test_spearman_of_equal_values_is_undefined(expected: list[float], predicted: list[float]) -> None:
    with pytest.raises(UndefinedMetricError, match="all the same"):
        spearman(expected, predicted)


def test_classes() -> None:
    assert same("a", "a")
    assert not same("1", 1)
    assert not same(True, 1)
