"""Intervals that count patients: known values, properties, and their coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from osteo_models.evaluation import summarize
from osteo_models.evaluation.intervals import Spread, balanced_interval, find_spread, interval_of, mean_interval
from osteo_models.evaluation.metrics import Measure
from osteo_models.evaluation.paired import compare_scores
from osteo_models.evaluation.scored_cases import check_cases
from tests.evaluation.coverage import (
    CALIBRATION,
    METRICS,
    Setting,
    count,
    list_calibration,
    list_pairs,
    list_settings,
    measure,
)

RATES = ("accuracy", "sensitivity", "specificity", "balanced_accuracy", "roc_auc", "brier")


def exact(right: int, patients: int) -> tuple[float, float]:
    found = binomtest(right, patients).proportion_ci(method="exact")
    return pytest.approx((found.low, found.high), abs=1e-9)


def ends(one) -> tuple[float, float]:
    return one.ci_low, one.ci_high


@pytest.mark.parametrize(("right", "images"), [(12, 1), (9, 1), (12, 7), (9, 7), (0, 3)])
def test_patients_of_one_mind_are_one_trial_each(right, images):
    target = np.ones(12 * images, dtype=int)
    score = np.repeat(np.where(np.arange(12) < right, 0.9, 0.1), images)
    found = summarize(target, score, patient_id=np.repeat(np.arange(12), images))
    assert ends(found.sensitivity) == ends(found.accuracy) == exact(right, 12)
    assert found.sensitivity.interval == "effective patients"


def test_slices_that_do_not_agree_count_more_than_their_patients_and_less_than_images():
    rng = np.random.default_rng(3)
    score = np.where(rng.random(400) < 0.8, 0.9, 0.1)
    found = summarize(np.ones(400), score, patient_id=np.repeat(np.arange(40), 10)).sensitivity
    alone = summarize(np.ones(400), score).sensitivity
    width, least = found.ci_high - found.ci_low, alone.ci_high - alone.ci_low
    assert least < 1.3 * width < 2.5 * least


def test_a_perfect_class_keeps_its_own_uncertainty():
    # every positive patient is right: the interval of the balanced accuracy was (1 + that of the other class) / 2
    target, patients = np.repeat([1, 0], 30), np.repeat(np.arange(12), 5)
    score = np.where(target == 1, 0.9, np.tile([0.1, 0.1, 0.1, 0.8, 0.1], 12))
    found = summarize(target, score, patient_id=patients)
    assert found.sensitivity.value == 1 and ends(found.sensitivity) == exact(6, 6)
    assert found.balanced_accuracy.ci_low < (1 + found.specificity.ci_low) / 2 - 0.05
    perfect = summarize(target, np.where(target == 1, 0.9, 0.1), patient_id=patients)
    for name in ("accuracy", "balanced_accuracy", "roc_auc", "brier"):
        one = perfect.estimates()[name]
        assert one.ci_low < one.ci_high and one.interval == "effective patients"
    assert perfect.roc_auc.ci_high == 1.0 and 0.4 < perfect.roc_auc.ci_low < 0.8


def test_the_interval_of_the_balanced_accuracy_is_the_wider_of_two_at_each_end():
    rng = np.random.default_rng(5)
    ill, well = (np.full(size, 4.0) for size in (6, 30))
    hits, rejections = (rng.binomial(4, share, size) for share, size in ((0.95, 6), (0.7, 30)))
    low, high = balanced_interval(hits, ill, rejections, well)
    parts = [
        (total.sum() / size.sum(), *mean_interval(total, size)) for total, size in ((hits, ill), (rejections, well))
    ]
    value = (parts[0][0] + parts[1][0]) / 2
    below = ((parts[0][0] - parts[0][1]) ** 2 + (parts[1][0] - parts[1][1]) ** 2) ** 0.5 / 2
    above = ((parts[0][2] - parts[0][0]) ** 2 + (parts[1][2] - parts[1][0]) ** 2) ** 0.5 / 2
    spreads = [find_spread(hits, ill), find_spread(rejections, well)]
    centre = (spreads[0].centre + spreads[1].centre) / 2
    together = interval_of(value, Spread(centre, (spreads[0].variance + spreads[1].variance) / 4))
    assert low == pytest.approx(max(0.0, min(value - below, together[0])))
    assert high == pytest.approx(min(1.0, max(value + above, together[1])))


def test_below_five_patients_of_a_class_there_is_no_interval():
    target = np.repeat([1] * 4 + [0] * 20, 6)
    rng = np.random.default_rng(1)
    found = summarize(target, rng.random(target.size), patient_id=np.repeat(np.arange(24), 6))
    assert found.specificity.interval == found.accuracy.interval == "effective patients"
    for name, one in found.estimates().items():
        assert one.value is not None
        if name not in ("specificity", "accuracy", "brier"):
            assert (one.ci_low, one.ci_high, one.interval) == (None, None, "too few patients")
    one_more = summarize(
        np.append(target, 1), np.append(rng.random(target.size), 0.7), patient_id=[*np.repeat(np.arange(24), 6), 24]
    )
    assert one_more.sensitivity.ci_low is not None and one_more.roc_auc.ci_low is not None


@pytest.mark.parametrize(("sizes", "shares", "correlation"), [((26, 2), (0.85, 0.6), 0.5), ((8, 2), (0.95, 0.9), 0.8)])
def test_the_accuracy_of_a_group_with_few_of_one_class_is_covered(sizes, shares, correlation):
    """Such as an age band: patients of 8 images, right with a beta-distributed share of each patient."""
    rng, covered = np.random.default_rng(3), 0
    target = np.repeat([1, 0], sizes)
    share = np.where(target == 1, *shares)
    for _ in range(300):
        scale = (1 - correlation) / correlation
        right = rng.random((8, target.size)) < rng.beta(share * scale, (1 - share) * scale)
        score = np.where(right == (target == 1), 0.9, 0.1)
        patients = np.broadcast_to(np.arange(target.size), score.shape)
        labels = np.broadcast_to(target, score.shape)
        found = summarize(labels.ravel(), score.ravel(), patient_id=patients.ravel()).accuracy
        covered += found.ci_low <= share.mean() <= found.ci_high
    assert covered >= 0.93 * 300


def test_classes_that_share_a_patient_have_no_interval_of_both():
    target, patients = np.repeat([1, 0], 30), np.repeat(np.arange(12), 5)
    patients[-1] = 0  # an image of the other class
    found = summarize(target, np.linspace(0.9, 0.1, 60) ** 2, patient_id=patients)
    assert {name for name, one in found.estimates().items() if one.interval == "undefined"} == {
        *("balanced_accuracy", "roc_auc", "balanced_accuracy_as_auc", "calibration_slope", "calibration_intercept")
    }


IMAGES = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), min_size=1, max_size=4)
COHORT = st.tuples(st.lists(IMAGES, min_size=5, max_size=9), st.lists(IMAGES, min_size=5, max_size=9))


def lay_out(cohort, times: int = 1):
    """Columns of a cohort: target, score, patient."""
    rows = [
        (label, score, f"{label}-{number}-{copy}")
        for copy in range(times)
        for label, patients in enumerate(cohort)
        for number, images in enumerate(patients)
        for score in images
    ]
    return [np.asarray(column) for column in zip(*rows, strict=True)]


@settings(max_examples=80, deadline=None)
@given(COHORT, st.randoms(use_true_random=False))
def test_properties(cohort, random):
    target, score, patient = lay_out(cohort)
    found = summarize(target, score, patient_id=patient).estimates()
    known = [name for name in RATES if found[name].value is not None]
    for name in known:
        one = found[name]
        assert 0 <= one.ci_low <= one.value <= one.ci_high <= 1
        assert one.ci_low < one.ci_high

    swapped = summarize(1 - target, 1 - score, patient_id=patient).estimates()
    other = {"sensitivity": "specificity", "specificity": "sensitivity"}
    for name in known:
        assert ends(swapped[other.get(name, name)]) == pytest.approx(ends(found[name]), abs=1e-9)

    order = random.sample(range(target.size), target.size)
    names = {name: str(place) for place, name in enumerate(random.sample(sorted(set(patient)), len(set(patient))))}
    again = summarize(target[order], score[order], patient_id=[names[name] for name in patient[order]]).estimates()
    for name in found:
        if found[name].ci_low is not None:
            assert ends(again[name]) == pytest.approx(ends(found[name]), abs=1e-6)

    many = summarize(*lay_out(cohort, 3)[:2], patient_id=lay_out(cohort, 3)[2]).estimates()
    for name in known:
        assert many[name].value == pytest.approx(found[name].value)
        assert many[name].ci_high - many[name].ci_low < found[name].ci_high - found[name].ci_low


@settings(max_examples=40, deadline=None)
@given(COHORT, st.integers(0, 1000))
def test_a_difference_turns_round_and_is_zero_for_equal_scores(cohort, seed):
    target, score, patient = lay_out(cohort)
    other = np.random.default_rng(seed).permutation(score)
    first, second = (check_cases(target, part, patient.tolist()) for part in (score, other))
    found, turned = (compare_scores(*pair, RATES, Measure()) for pair in ((first, second), (second, first)))
    for name, one in found.items():
        if one.value is None:
            continue
        assert -1 <= one.ci_low <= one.value <= one.ci_high <= 1
        assert (turned[name].ci_low, turned[name].ci_high) == pytest.approx((-one.ci_high, -one.ci_low), abs=1e-9)
    same = compare_scores(first, first, ("accuracy",), Measure())["accuracy"]
    assert (same.value, same.ci_low, same.ci_high) == (0, 0, 0)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(6, 6, "beta", 0.5, 0.8, (4, 4)),  # the hold-out: 24 images of 6 patients per class
        Setting(6, 6, "beta", 1.0, 0.95, (1, 1)),
        Setting(5, 12, "probit", 0.8, 0.95),
    ],
    ids=["hold-out", "patients", "unequal"],
)
def test_intervals_cover(setting):
    for one in count(setting, 300):
        assert one.covered >= 0.93, (one.metric, one.covered)
        assert one.missing == 0


@pytest.mark.slow
def test_every_metric_covers_in_every_setting():
    for one in measure(list_settings(), 2000):
        assert one.missing == 0
        assert one.covered >= 0.93, one
    assert {one.metric for one in measure(list_settings()[:1], 2)} == set(METRICS)


@pytest.mark.slow
def test_calibration_covers():
    for one in measure(list_calibration(), 1000):
        assert one.metric in CALIBRATION
        assert one.covered >= 0.93, one


@pytest.mark.slow
def test_differences_cover():
    for one in measure(list_pairs(), 1000):
        assert one.covered >= 0.93, one
