"""The paper's ledger says what a close look at its tables says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osteo_models.evaluation.paper import read_printed
from osteo_models.evaluation.paper.paper_ledger import Counts, find_counts, fit_row, ledger_rows, size_rows
from tests.conftest import STAGES


@pytest.fixture(scope="module")
def ledger():
    return list(ledger_rows(STAGES))


def of_table(rows, table, images=None):
    return [row for row in rows if row["table"] == table and images in (None, row["images"])]


def test_fifty_printed_rows(ledger):
    assert len(ledger) == 50
    assert [len(of_table(ledger, table)) for table in "34567"] == [8, 8, 8, 1, 25]


def test_accuracy_intervals_are_wald_in_44_rows_and_the_misses_are_in_table_7(ledger):
    assert sum(row["wald_agrees"] for row in ledger) == 44
    assert {row["table"] for row in ledger if not row["wald_agrees"]} == {"7"}


def test_the_printed_area_is_the_balanced_accuracy_in_44_rows(ledger):
    assert sum(row["auc_is_balanced"] for row in ledger) == 44


def test_table_3_fits_with_its_classes_swapped(ledger):
    rows = of_table(ledger, "3")
    assert {(row["n_positive"], row["n_negative"]) for row in rows} == {(511, 502)}
    assert not any(row["possible"] for row in rows)
    swapped = [row for row in rows if (row["fits_n_positive"], row["fits_n_negative"]) == (502, 511)]
    assert len(swapped) == 6
    sizes = next(row for row in size_rows() if row["table"] == "3")
    assert (sizes["possible_rows"], sizes["best_positive"], sizes["best_negative"], sizes["best_rows"]) == (
        0,
        502,
        511,
        6,
    )


def test_the_sizes_at_which_most_rows_of_each_table_are_possible():
    names = (
        "stated_positive",
        "stated_negative",
        "rows",
        "possible_rows",
        "best_positive",
        "best_negative",
        "best_rows",
    )
    assert {(row["table"], row["images"]): tuple(row.get(name) for name in names) for row in size_rows()} == {
        ("3", "mri"): (511, 502, 8, 0, 502, 511, 6),
        ("4", "ct"): (528, 500, 8, 3, 526, 502, 4),
        ("5", "combined"): (1039, 1002, 8, 0, 1029, 1012, 6),
        ("6", "multimodal"): (None, None, 1, 1, 1004, 1000, 1),
        ("7", "mri"): (24, 24, 8, 7, 24, 24, 7),
        ("7", "ct"): (34, 34, 8, 6, 34, 34, 6),
        ("7", "combined"): (58, 58, 8, 3, 58, 58, 3),
        ("7", "multimodal"): (58, 58, 1, 0, None, None, 0),
    }
    assert [row["note"] for row in size_rows()][2:5] == [
        "6 of 8 rows fit 1029 + 1012, 0 the stated sizes",
        "the text gives the total, not the class sizes",
        "the stated sizes fit best",
    ]


def test_a_class_of_one_image_can_be_fitted_and_of_none_cannot():
    row = {"sensitivity": "100.00", "specificity": "50.00", "accuracy": "66.66"}
    assert fit_row(row, 1, 2) == Counts(1, 1)
    assert fit_row(row, 0, 2) is fit_row(row, 1, 0) is None
    assert fit_row(row | {"specificity": "100.00", "sensitivity": "50.00"}, 2, 1) == Counts(1, 1)


def test_table_6_fits_502_and_500_pairs(ledger):
    (printed,) = [row for row in read_printed("stages") if row["table"] == "6"]
    assert fit_row(printed, 502, 500) is not None
    assert fit_row(printed, 511, 500) is None
    (row,) = of_table(ledger, "6")
    assert (row["fits_n_positive"], row["fits_n_negative"], row["n"]) == (2 * 502, 2 * 500, "2004")


def test_nine_rows_of_table_7_are_impossible(ledger):
    rows = of_table(ledger, "7")
    impossible = [row for row in rows if not row["possible"]]
    assert (len(impossible), len(rows)) == (9, 25)
    assert all(row["note"].startswith("not count-consistent at ") for row in impossible)
    assert all(row["sensitivity_k"] + row["specificity_k"] == row["accuracy_k"] for row in rows if row["possible"])


def test_the_multimodal_hold_out_is_94_of_96(ledger):
    (row,) = of_table(ledger, "7", "multimodal")
    assert row["note"] == "not count-consistent at 58 + 58; fits 48 + 48: 94 of 96"


def test_rows_that_no_size_fits_are_told(ledger):
    row = next(row for row in of_table(ledger, "7", "ct") if row["architecture"] == "efficientnetv2_s")
    assert row["note"] == "not count-consistent at 34 + 34, nor near it"  # an accuracy below both its parts
    assert "fits_n_positive" not in row


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.booleans())
def test_a_count_is_found_behind_its_own_percentage(counts, cut_off):
    count, n = counts
    exact = 100 * count / n
    shown = np.floor(exact * 100 + 1e-9) / 100 if cut_off else round(exact, 2)
    assert count in find_counts(shown, n)


@given(st.floats(0, 100), st.integers(1, 300))
def test_counts_are_those_of_a_search_over_all(percentage, n):
    shown = round(percentage, 2)
    off = 100 * np.arange(n + 1) / n - shown
    assert find_counts(shown, n).tolist() == np.flatnonzero((off > -0.005 - 1e-9) & (off < 0.01 - 1e-9)).tolist()
