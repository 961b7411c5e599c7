"""Intervals against statsmodels, the paper's printed figures, and their own limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from osteo_models.core.errors import InputError
from osteo_models.evaluation.intervals import proportion_interval


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_equal_to_statsmodels_and_within_bounds(counts):
    successes, trials = counts
    for ours, theirs in (("wald", "normal"), ("wilson", "wilson")):
        low, high = proportion_interval(successes, trials, method=ours)
        expected = np.clip(proportion_confint(successes, trials, alpha=0.05, method=theirs), 0, 1)
        assert (low, high) == pytest.approx(tuple(expected), abs=1e-9)
        assert 0 <= low <= successes / trials <= high <= 1


def test_wald_is_the_interval_that_the_paper_printed():
    low, high = proportion_interval(46, 48, method="wald")  # table 7, unimodal MRI: 95.83 (90.2-100)
    assert (round(100 * low, 1), round(100 * high, 1)) == (90.2, 100.0)


def test_ends_at_zero_and_one_are_exact():
    assert proportion_interval(0, 7, method="wilson")[0] == 0.0
    assert proportion_interval(7, 7, method="wilson")[1] == 1.0
    assert proportion_interval(7, 7) == (1.0, 1.0)


def test_numpy_counts_are_counts():
    assert proportion_interval(np.int64(3), np.int32(9)) == proportion_interval(3, 9)


@pytest.mark.parametrize(
    ("successes", "trials", "method", "told"),
    [
        (0, 0, "wald", "`trials` is 0; allowed: at least 1"),
        (5, 4, "wilson", "`successes` is 5 of 4 trials; allowed: 0 to 4"),
        (-1, 4, "wald", "`successes` is -1 of 4 trials"),
        (1.5, 4, "wald", "`successes` is 1.5; allowed: a whole number"),
        (1, float("nan"), "wald", "`trials` is nan; allowed: a whole number"),
        (1, 4, "exact", "`method` is 'exact'; allowed: wald, wilson"),
    ],
)
def test_counts_that_make_no_proportion_are_an_error(successes, trials, method, told):
    with pytest.raises(InputError) as caught:
        proportion_interval(successes, trials, method=method)
    assert told in str(caught.value)
