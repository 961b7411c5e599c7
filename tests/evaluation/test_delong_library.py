"""DeLong's test against a library of its own making, and unpaired against the formulas with scipy's distributions."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from MLstatkit import Delong_test
from scipy import stats

from osteo_models.core.errors import InputError
from osteo_models.evaluation import auc_interval, delong_test, delong_unpaired
from osteo_models.evaluation.delong import CLUSTERED


def scored(size, decimals, seed, shift=1.0):
    rng = np.random.default_rng(seed)
    target = np.append([0, 0, 1, 1], rng.integers(0, 2, size - 4))
    common = rng.normal(size=size) + shift * target
    return target, np.round(common + rng.normal(size=size), decimals), np.round(common, decimals)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 200), st.sampled_from([0, 1, 10]), st.integers(0, 10_000))
def test_equals_the_library(size, decimals, seed):
    target, a, b = scored(size, decimals, seed)
    assume(np.ptp(a) > 0 and np.ptp(b) > 0)
    found = delong_test(target, a, b)
    z, p_value, ci_a, _, auc_a, auc_b, info = Delong_test(target, a, b, random_state=0, n_boot=10)
    assert (found.auc_a, found.auc_b) == pytest.approx((auc_a, auc_b), abs=1e-12)
    assume(info["method"] == "delong" and info["var_diff"] >= 1e-12)  # else it bootstraps, and we return "undefined"
    assert found.z == pytest.approx(-z, abs=1e-9)  # its difference is the second minus the first
    assert found.p_value == pytest.approx(p_value, abs=1e-9)
    one = auc_interval(target, a)
    ill, well = a[target == 1], a[target == 0]
    apart = ill.min() > well.max() or well.min() > ill.max()
    assert (one.ci_low, one.ci_high) == ((None, None) if apart else pytest.approx(ci_a, abs=1e-9))


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 90), st.integers(6, 90), st.sampled_from([0, 1, 10]), st.integers(0, 10_000))
def test_unpaired_equals_the_definition(size_a, size_b, decimals, seed):
    sides, moments = [], []
    for size, place in ((size_a, 0), (size_b, 1)):
        target, score, _ = scored(size, decimals, seed + 20_000 * place, shift=0.5 + place)
        if np.ptp(score) == 0:
            return
        positive, negative = score[target == 1][:, None], score[target == 0][None, :]
        kernel = (positive > negative) + 0.5 * (positive == negative)
        rows, columns = kernel.mean(axis=1), kernel.mean(axis=0)
        variance = rows.var(ddof=1) / rows.size + columns.var(ddof=1) / columns.size
        sides += [target, score]
        moments.append((kernel.mean(), variance, size - 1))
    found = delong_unpaired(*sides)
    (auc_a, var_a, df_a), (auc_b, var_b, df_b) = moments
    assert (found.auc_a, found.auc_b) == pytest.approx((auc_a, auc_b), abs=1e-12)
    if var_a + var_b < 1e-12:
        return
    t = (auc_a - auc_b) / np.sqrt(var_a + var_b)
    df = (var_a + var_b) ** 2 / (var_a**2 / df_a + var_b**2 / df_b)
    assert (found.z, found.df) == pytest.approx((t, df), abs=1e-9, rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), df), abs=1e-9)
    half = stats.t.ppf(0.975, df) * np.sqrt(var_a + var_b)
    assert (found.ci_low, found.ci_high) == pytest.approx((auc_a - auc_b - half, auc_a - auc_b + half), abs=1e-9)


def test_the_same_curve_on_other_cases_is_no_difference():
    target, a, _ = scored(60, 1, 3)
    found = delong_unpaired(target, a, target, a)
    assert (found.z, found.p_value, found.ci_low + found.ci_high) == (0.0, 1.0, 0.0)
    perfect = ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    found = delong_unpaired(*perfect, *perfect)
    assert (found.z, found.df, found.p_value, found.ci_low, found.ci_high) == (0.0, None, 1.0, 0.0, 0.0)
    reverse = delong_unpaired(*perfect, [0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1])
    assert (reverse.auc_a, reverse.auc_b) == (1.0, 0.0)
    assert (reverse.z, reverse.df, reverse.p_value, reverse.ci_low) == (None, None, None, None)


def test_a_patient_on_both_sides_is_not_unpaired():
    target, a, b = scored(8, 3, 1)
    names = [f"P{number}" for number in range(8)]
    with pytest.raises(InputError) as caught:
        delong_unpaired(target, a, target, b, patient_a=names, patient_b=["P3", *[f"Q{n}" for n in range(7)]])
    assert "1 patient(s) on both sides: P3; allowed: different patients" in str(caught.value)
    assert "delong_test" in str(caught.value)


def test_patients_of_one_side_alone_are_enough():
    target, a, b = scored(8, 3, 1)
    names = [f"P{number}" for number in range(8)]
    assert delong_unpaired(target, a, target, b, patient_a=names) == delong_unpaired(target, a, target, b)


@pytest.mark.parametrize("side", ["score_a", "score_b"])
def test_a_fault_names_its_side(side):
    given = {"score_a": [0.1, 0.4, 0.3, 0.9], "score_b": [0.2, 0.1, 0.6, 0.5]} | {side: [0.1, np.nan, 0.3, 0.9]}
    with pytest.raises(InputError, match=f"`{side}` has 1 value"):
        delong_unpaired([0, 0, 1, 1], given["score_a"], [0, 0, 1, 1], given["score_b"])


def clustered(seed=2):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(24), 6)
    target = owner % 2
    level = rng.normal(0, 1, 24)[owner] + target
    return target, level + rng.normal(0, 0.5, owner.size), level + rng.normal(0, 0.9, owner.size), owner


def test_clustered_cases_carry_a_warning_and_the_patient_level_is_offered():
    target, a, b, owner = clustered()
    plain = delong_test(target, a, b)
    image = delong_test(target, a, b, patient_id=owner)
    patient = delong_test(target, a, b, patient_id=owner, level="patient")
    assert (plain.warning, image.warning, patient.warning) == ("", CLUSTERED, "")
    assert (image.z, image.p_value) == (plain.z, plain.p_value)
    means = [np.asarray([score[owner == one].mean() for one in range(24)]) for score in (a, b)]
    expected = delong_test(np.arange(24) % 2, *means)
    assert (patient.z, patient.p_value) == (expected.z, expected.p_value)
    assert delong_test(target[::6], a[::6], b[::6], patient_id=owner[::6]).warning == ""
    unpaired = delong_unpaired(target, a, target, b, patient_a=owner, patient_b=owner + 100)
    assert unpaired.warning == CLUSTERED
    apart = {"patient_a": owner, "patient_b": owner + 100, "level": "patient"}
    assert delong_unpaired(target, a, target, b, **apart).warning == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"level": "patient"}, "`level` is 'patient' and no `patient_id` is given"),
        ({"level": "slice"}, "`level` is 'slice'"),
        ({"patient_id": ["a", "b"]}, "lengths differ: `target` 4, `score_a` 4, `score_b` 4, `patient_id` 2"),
        ({"patient_id": ["a", "", "b", "c"]}, "`patient_id` is empty in 1 row(s)"),
        ({"patient_id": ["a", "b", "b", "c"], "level": "patient"}, "1 patient(s) with both targets: b"),
        ({"patient_id": ["a", "a", "b", "b"], "level": "patient"}, "class 0 has 1 case(s): no variance without two"),
    ],
)
def test_levels_that_cannot_be_had_are_an_error(options, told):
    with pytest.raises(InputError) as caught:
        delong_test([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9], [0.2, 0.1, 0.6, 0.5], **options)
    assert told in str(caught.value)
