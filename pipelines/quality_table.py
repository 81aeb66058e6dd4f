"""The metrics that are known by name: what they compare, and whether smaller values are better.

Ours need nothing installed. The others are functions of ``sklearn.metrics``, which is imported only where one
of them is computed; a name that is not listed here is looked up there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Answers(StrEnum):
    """What a metric compares."""

    CLASSES = "classes"
    """Texts, whole numbers, true or false."""
    NUMBERS = "numbers"
    """Numbers, or lists of as many numbers."""
    SCORES = "scores"
    """Classes are expected; the answer is a number, or one for each class: a list or an object."""
    RANKING = "ranking"
    """Lists of numbers: what each is worth, and the scores that were given."""


@dataclass(frozen=True, slots=True)
class KnownMetric:
    """One metric."""

    name: str
    answers: Answers
    smaller_is_better: bool = False
    built_in: bool = False


def _known(answers: Answers, larger: str, smaller: str = "", *, built_in: bool = False) -> list[KnownMetric]:
    return [
        *(KnownMetric(name, answers, built_in=built_in) for name in larger.split()),
        *(KnownMetric(name, answers, smaller_is_better=True, built_in=built_in) for name in smaller.split()),
    ]


METRICS: Final = {
    one.name: one
    for one in [
        *_known(Answers.CLASSES, "accuracy f1_macro", built_in=True),
        *_known(Answers.NUMBERS, "spearman", "mae rmse", built_in=True),
        *_known(
            Answers.CLASSES,
            "accuracy_score balanced_accuracy_score cohen_kappa_score f1_score fbeta_score jaccard_score "
            "matthews_corrcoef precision_score recall_score adjusted_mutual_info_score adjusted_rand_score "
            "completeness_score fowlkes_mallows_score homogeneity_score mutual_info_score "
            "normalized_mutual_info_score rand_score v_measure_score",
            "hamming_loss zero_one_loss",
        ),
        *_known(
            Answers.NUMBERS,
            "r2_score explained_variance_score d2_absolute_error_score d2_pinball_score d2_tweedie_score",
            "mean_absolute_error mean_squared_error root_mean_squared_error mean_squared_log_error "
            "root_mean_squared_log_error median_absolute_error mean_absolute_percentage_error "
            "mean_pinball_loss mean_poisson_deviance mean_gamma_deviance mean_tweedie_deviance max_error",
        ),
        *_known(
            Answers.SCORES,
            "roc_auc_score average_precision_score top_k_accuracy_score d2_log_loss_score d2_brier_score",
            "log_loss brier_score_loss hinge_loss",
        ),
        *_known(
            Answers.RANKING,
            "ndcg_score dcg_score label_ranking_average_precision_score",
            "coverage_error label_ranking_loss",
        ),
    ]
}
SMALLER_IS_BETTER: Final = frozenset(one.name for one in METRICS.values() if one.smaller_is_better)
