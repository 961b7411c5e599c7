"""Two models on the same images: both intervals count patients, and the detectable difference is that of the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from osteo_models.core.errors import InputError
from osteo_models.evaluation.delong import delong_test
from osteo_models.evaluation.metrics import summarize
from osteo_models.evaluation.paired import Difference, PairedScores, compare_pair


def make_scores(patients: int = 80, images: int = 4, seed: int = 1, gain: float = 0.1) -> PairedScores:
    """Scores that agree within a patient; the first model is better by `gain`."""
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(patients) % 2, images)
    names = np.repeat([f"p{number:03d}" for number in range(patients)], images)
    shared = np.repeat(rng.normal(0, 0.2, patients), images)

    def score(signal: float) -> np.ndarray:
        own = np.repeat(rng.normal(0, 0.1, patients), images) + rng.normal(0, 0.05, target.size)
        return np.clip(0.5 + (target - 0.5) * signal + shared + own, 0, 1)

    return PairedScores(target, names, score(0.3 + gain), score(0.3))


def test_the_patient_level_is_delong_of_mean_scores() -> None:
    scores = make_scores()
    found = compare_pair(scores)
    means = [part.reshape(-1, 4).mean(axis=1) for part in (scores.first, scores.second)]
    expected = delong_test(scores.target[::4], *means)
    assert (found.n, found.n_patients) == (320, 80)
    assert found.delong == pytest.approx((expected.ci_low, expected.ci_high), abs=1e-12)
    assert found.difference == pytest.approx(expected.auc_a - expected.auc_b, abs=1e-12)
    error = found.difference / expected.z
    assert found.detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * error, rel=1e-9)


def test_the_interval_of_the_images_allows_for_what_both_share() -> None:
    scores = make_scores()
    found = compare_pair(scores)
    areas = [
        summarize(scores.target, part, patient_id=scores.patient_id).roc_auc.value
        for part in (scores.first, scores.second)
    ]
    assert found.image_difference == pytest.approx(areas[0] - areas[1], abs=1e-12)
    low, high = found.by_image
    assert low < found.image_difference < high
    single = summarize(scores.target, scores.first, patient_id=scores.patient_id).roc_auc
    assert high - low < single.ci_high - single.ci_low  # what both share cancels


def test_turned_round_it_says_the_opposite() -> None:
    scores = make_scores()
    found = compare_pair(scores)
    turned = compare_pair(replace(scores, first=scores.second, second=scores.first))
    assert turned.difference == pytest.approx(-found.difference, abs=1e-12)
    assert turned.delong == pytest.approx((-found.delong[1], -found.delong[0]), abs=1e-12)
    assert turned.by_image == pytest.approx((-found.by_image[1], -found.by_image[0]), abs=1e-12)


def test_the_same_scores_do_not_differ() -> None:
    scores = make_scores()
    found = compare_pair(replace(scores, second=scores.first))
    assert (found.difference, found.delong, found.by_image) == (0, (0, 0), (0, 0))
    assert found.detectable is None


def test_without_spread_nothing_is_claimed() -> None:
    target = np.repeat([0, 1], 20)
    names = np.asarray([f"p{number:02d}" for number in range(40)])
    first = np.where(target == 1, 0.9, 0.1) + np.linspace(0, 0.05, 40)
    found = compare_pair(PairedScores(target, names, first, first**2))
    assert (found.auc_first, found.auc_second) == (1, 1)
    assert found.detectable is None
    low, high = found.by_image  # two perfect areas of 20 patients per class may still differ
    assert low == -high and 0.1 < high < 0.25


def test_an_undefined_difference_is_undefined_and_not_zero(monkeypatch) -> None:
    scores = make_scores(4)
    found = compare_pair(scores)
    assert found.delong is None and found.by_image is None and found.detectable is None
    undefined = {"roc_auc": Difference(None, 0.5, None, None)}
    monkeypatch.setattr("osteo_models.evaluation.paired.compare_scores", lambda *_: undefined)
    assert compare_pair(make_scores()).image_difference is None


def test_more_patients_detect_less() -> None:
    found = [compare_pair(make_scores(patients, seed=3)).detectable for patients in (40, 160, 640)]
    assert found[0] > found[1] > found[2] > 0


@pytest.mark.slow
def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    found = [compare_pair(make_scores(120, 1, seed=seed, gain=0.1)) for seed in range(2000)]
    least, mean = (np.mean([getattr(each, name) for each in found]) for name in ("detectable", "difference"))
    hits = np.mean([each.delong[0] > 0 for each in found])
    expected = norm.cdf(mean / (least / (norm.ppf(0.975) + norm.ppf(0.8))) - norm.ppf(0.975))
    assert hits == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"second": np.full(320, 0.5)}, "`score_b` is 0.5 everywhere"),
        ({"first": np.full(320, np.nan)}, "not finite|NaN"),
        ({"target": np.zeros(320, dtype=np.int64)}, "class 1 has 0 case"),
    ],
)
def test_what_cannot_be_compared(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        compare_pair(replace(make_scores(), **change))
