import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osteo_models.core.errors import SplitError
from osteo_models.core.params import Splits
from osteo_models.data.pairs import make_pairs, pair_images
from osteo_models.data.splits import (
    SPLIT_COLUMNS,
    check_splits,
    count_splits,
    extend_splits,
    find_subset,
    find_subset_of_bins,
    make_splits,
    save_splits,
)
from osteo_models.data.tables import read_frame


@pytest.fixture
def table(images_table, params):
    return make_splits(images_table, params.splits)


def test_hold_out_and_patient_test_are_whole_patients_of_the_right_ages(table, params):
    check_splits(table)
    holdout = table[table["holdout"] == 1]
    sizes = holdout.groupby(["modality", "target"]).size()
    wanted = pd.Series({("ct", 0): 34, ("ct", 1): 34, ("mri", 0): 24, ("mri", 1): 24})
    assert (sizes <= wanted).all()
    assert (sizes >= wanted - 10).all()  # no more than one patient short, where the sizes do not add up
    for (modality, target), group in holdout.groupby(["modality", "target"]):
        asked = params.splits.holdout[modality]
        ages = asked.osteoporosis_age_years if target else asked.control_age_years
        assert group["age_years"].between(*ages).all()
    tested = table[table["patient_test"] == 1]
    assert tested.groupby(["modality", "target"])["patient_id"].nunique().to_dict() == {
        ("ct", 0): 6,
        ("ct", 1): 6,
        ("mri", 0): 7,
        ("mri", 1): 8,
    }
    left = table[table["holdout"] == 0].drop_duplicates("patient_id").sort_values(["age_years", "patient_id"])
    for _, group in left.groupby(["modality", "target"]):  # one of each of as many age groups as there are patients
        parts = np.array_split(group["patient_test"].to_numpy(), group["patient_test"].sum())
        assert [part.sum() for part in parts] == [1] * len(parts)


def test_folds_leave_the_hold_out_alone_and_are_of_even_size(table):
    assert table.loc[table["holdout"] == 1, ["fold_image", "fold_patient"]].isna().all(axis=None)
    development = table[table["holdout"] == 0]
    sizes = development.groupby(["modality", "target", "fold_image"]).size().unstack()
    assert (sizes.max(axis=1) - sizes.min(axis=1) <= 1).all()


def test_the_image_protocol_mixes_patients_and_the_patient_protocol_does_not(table):
    development = table[table["holdout"] == 0]
    per_patient = development.groupby("patient_id")
    assert (per_patient["fold_image"].nunique() > 1).mean() > 0.9
    assert (per_patient["fold_patient"].nunique() == 1).all()


def test_the_same_seed_gives_the_same_splits_and_another_gives_others(images_table, params, table):
    assert make_splits(images_table, params.splits).equals(table)
    other = make_splits(images_table, params.splits.model_copy(update={"seed": 1}))
    assert not other["fold_patient"].equals(table["fold_patient"])


@pytest.mark.parametrize(
    ("column", "value"), [("holdout", 1), ("patient_test", 1), ("fold_patient", 9), ("fold_patient", pd.NA)]
)
def test_a_patient_on_two_sides_is_named(table, column, value):
    patients = table[(table["holdout"] == 0) & (table["patient_test"] == 0)]
    row = patients.index[0]
    name = table.loc[row, "patient_id"]
    table.loc[row, column] = value
    with pytest.raises(SplitError, match=rf"{column}: {name}\b"):
        check_splits(table)


def test_at_most_half_of_the_patients_are_tested(images_table, params, table):
    left = table[(table["holdout"] == 0) & (table["modality"] == "ct") & (table["target"] == 1)]["patient_id"].nunique()
    raw = params.splits.model_dump()
    raw["patient_test"]["ct"]["osteoporosis_patients"] = left // 2
    tested = make_splits(images_table, Splits.model_validate(raw)).query("patient_test == 1 and modality == 'ct'")
    assert tested[tested["target"] == 1]["patient_id"].nunique() == left // 2
    raw["patient_test"]["ct"]["osteoporosis_patients"] = left // 2 + 1
    with pytest.raises(SplitError, match=f"{left} ct osteoporosis patients are left, {left // 2 + 1} are wanted"):
        make_splits(images_table, Splits.model_validate(raw))


def test_ten_patients_are_named_and_the_others_counted(table):
    rest = table[(table["holdout"] == 0) & (table["patient_test"] == 0)].drop_duplicates("patient_id")
    table.loc[rest.index[:12], "patient_test"] = 1
    names = ", ".join(rest["patient_id"].iloc[:10])
    with pytest.raises(SplitError, match=f"patients on two sides: patient_test: {names} and 2 more; make"):
        check_splits(table)
    table.loc[rest.index[10:12], "patient_test"] = 0
    with pytest.raises(SplitError, match=f"patients on two sides: patient_test: {names}; make"):
        check_splits(table)


@pytest.mark.parametrize("column", ["patient_test", "fold_image"])
def test_who_is_held_out_stands_in_no_other_set(table, column):
    person = table.loc[table["holdout"] == 1, "patient_id"].iloc[0]
    table.loc[table["patient_id"] == person, column] = 1
    with pytest.raises(SplitError, match=f"patients on two sides: hold-out and development: {person}; make"):
        check_splits(table)


def test_too_few_patients_is_an_error_with_the_way_out(images_table, params):
    few = images_table[images_table["patient_id"].str[-3:].astype(int) < 10]
    with pytest.raises(SplitError, match="are left, . are wanted for testing"):
        raw = params.splits.model_dump()
        for name in ("mri", "ct"):
            raw["holdout"][name] |= {"control_age_years": (18, 90), "osteoporosis_age_years": (18, 90)}
        make_splits(few, Splits.model_validate(raw))
    with pytest.raises(SplitError, match="no mri control patients aged 39-44 with at most 24 images"):
        make_splits(few, params.splits)


def test_pairs_share_a_class_and_cut_the_larger_modality(table):
    development = table[table["holdout"] == 0]
    pairs = pair_images(development, 2023)
    by_id = table.set_index("image_id")
    for modality in ("mri", "ct"):
        own = by_id.loc[pairs[f"{modality}_image_id"]]
        assert set(own["modality"]) == {modality}
        assert (own["target"].to_numpy() == pairs["target"].to_numpy()).all()
        assert pairs[f"{modality}_image_id"].is_unique
    sizes = development.groupby(["target", "modality"]).size().unstack().min(axis=1)
    assert pairs.groupby("target").size().to_dict() == sizes.to_dict()


def test_pairs_never_cross_folds_nor_touch_what_must_not_be_trained_on(table, params):
    pairs = make_pairs(table, params.splits)
    by_id = table.set_index("image_id")
    for split in ("image", "patient"):
        of_split = pairs[pairs["split"] == split]
        for modality in ("mri", "ct"):
            folds = by_id.loc[of_split[f"{modality}_image_id"], f"fold_{split}"].to_numpy()
            assert (folds == of_split["fold"].to_numpy()).all()
    used = pd.concat([pairs["mri_image_id"], pairs["ct_image_id"]])
    assert by_id.loc[used, "holdout"].sum() == 0
    rest = pairs[pairs["split"] == "patient_rest"]
    assert by_id.loc[[*rest["mri_image_id"], *rest["ct_image_id"]], "patient_test"].sum() == 0
    assert list(pairs.columns) == ["split", "fold", "target", "mri_image_id", "ct_image_id"]
    assert set(pairs["split"]) == {"image", "patient", "development", "patient_rest"}
    assert pairs.index.equals(pd.RangeIndex(len(pairs)))
    development = table[table["holdout"] == 0]
    for split, part in (("development", development), ("patient_rest", development[development["patient_test"] == 0])):
        found = pairs[pairs["split"] == split].reset_index(drop=True)
        assert found.equals(pair_images(part, params.splits.seed).assign(split=split, fold=0)[list(pairs.columns)])
    assert not pair_images(development, 1).equals(pair_images(development, 2))


def test_counts_are_those_of_the_tables():
    rows = [("a", "mri", 0, 1, 0), ("b", "mri", 1, 0, 1), ("b", "mri", 1, 0, 1), ("c", "ct", 0, 0, 0)]
    table = pd.DataFrame(rows, columns=["patient_id", "modality", "target", "holdout", "patient_test"])
    assert count_splits(table, pd.DataFrame({"split": ["image", "image", "development"]})) == {
        "mri.development.images": 2,
        "ct.development.images": 1,
        "combined.development.images": 3,
        "holdout.images": 1,
        "holdout.patients": 1,
        "patient_test.images": 2,
        "patient_test.patients": 1,
        "pairs.image": 2,
        "pairs.development": 1,
    }


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 60))
def test_a_subset_is_the_best_one_there_is(sizes, wanted):
    chosen = find_subset(sizes, wanted)
    total = sum(sizes[index] for index in chosen)
    reachable = {0}
    for size in sizes:
        reachable |= {other + size for other in reachable}
    assert len(set(chosen)) == len(chosen)
    assert total == max(other for other in reachable if other <= wanted)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=5), st.integers(1, 60))
def test_one_of_each_bin_comes_as_near_as_can_be(bins, wanted):
    chosen = find_subset_of_bins(bins, wanted)
    totals = {0}
    for sizes in bins:
        totals = {total + size for total in totals for size in sizes}
    total = sum(sizes[position] for sizes, position in zip(bins, chosen, strict=True))
    assert abs(total - wanted) == min(abs(other - wanted) for other in totals)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16))
def test_a_data_set_that_grows_or_shrinks_moves_nobody(images_table, params, seed):
    patients = images_table["patient_id"].unique()
    rng = np.random.default_rng(seed)
    start = make_splits(images_table, params.splits)
    gone = set(rng.choice(patients, 12, replace=False))
    kept = start[~start["patient_id"].isin(gone)]
    grown = extend_splits(images_table, params.splits, kept)  # those who left come back as new patients
    check_splits(grown)
    assert list(grown.columns) == list(SPLIT_COLUMNS)
    old = grown[~grown["patient_id"].isin(gone)].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, kept.reset_index(drop=True), check_dtype=False)
    new = grown[grown["patient_id"].isin(gone)]
    assert (new["holdout"] == 0).all() and new["fold_patient"].notna().all() and new["fold_image"].notna().all()
    shrunk = extend_splits(images_table[~images_table["patient_id"].isin(gone)], params.splits, start)
    pd.testing.assert_frame_equal(shrunk.reset_index(drop=True), kept.reset_index(drop=True), check_dtype=False)


def test_new_patients_even_out_the_folds(images_table, params):
    start = make_splits(images_table, params.splits)
    lost = start[(start["fold_patient"] == 2) & (start["modality"] == "mri")]["patient_id"].unique()[:8]
    grown = extend_splits(images_table, params.splits, start[~start["patient_id"].isin(lost)])
    assert (grown[grown["patient_id"].isin(lost)]["fold_patient"] == 2).mean() > 0.5
    sizes = grown[grown["modality"] == "mri"].groupby(["target", "fold_patient"]).size()
    assert sizes.max() - sizes.min() < 30


def test_a_new_patient_comes_into_the_fold_with_the_fewest_images_of_the_group(images_table, params):
    start = make_splits(images_table, params.splits)
    development = start[start["holdout"] == 0].drop_duplicates("patient_id")
    for (modality, target), group in development.groupby(["modality", "target"]):
        person = group["patient_id"].iloc[0]
        kept = start[start["patient_id"] != person]
        alike = kept[(kept["modality"] == modality) & (kept["target"] == target)]
        (fold,) = (
            extend_splits(images_table, params.splits, kept)
            .set_index("patient_id")
            .loc[[person], "fold_patient"]
            .unique()
        )
        assert fold == alike.groupby("fold_patient").size().idxmin()


def test_a_fold_without_any_image_of_the_group_comes_first(params):
    columns = ["image_id", "patient_id", "modality", "target", "age_years", "sex"]
    rows = [("a-1", "a", "mri", 0, 30, "F"), ("b-1", "b", "ct", 0, 30, "F"), ("c-1", "c", "mri", 0, 30, "F")]
    images = pd.DataFrame(rows, columns=columns)
    kept = images[:2].assign(holdout=0, patient_test=0, fold_image=[0, 1], fold_patient=[0, 1])
    grown = extend_splits(images, params.splits.model_copy(update={"folds": 2}), kept)
    assert grown["fold_patient"].tolist() == grown["fold_image"].tolist() == [0, 1, 1]


def test_a_new_patient_with_both_modalities_has_one_fold(images_table, params):
    start = make_splits(images_table, params.splits)
    mri, ct = (
        (start["modality"] == name) & (start["target"] == 1) & (start["fold_patient"] == fold)
        for name, fold in (("mri", 2), ("ct", 4))
    )
    gone = [*start.loc[mri, "patient_id"].unique(), *start.loc[ct, "patient_id"].unique()]
    both = images_table.assign(patient_id=images_table["patient_id"].replace({gone[0]: "both", gone[-1]: "both"}))
    grown = extend_splits(both, params.splits, start[~start["patient_id"].isin(gone)])
    found = grown[grown["patient_id"] == "both"]
    assert set(found["modality"]) == {"mri", "ct"} and found["fold_patient"].nunique() == 1


def test_kept_splits_of_other_folds_are_refused(images_table, params):
    start = make_splits(images_table, params.splits)
    with pytest.raises(SplitError, match=r"the kept splits have the folds \[0, 1, 2, 3\]; allowed: 0 to 4; set"):
        extend_splits(images_table, params.splits, start[start["fold_patient"] != 4])


def test_places_are_kept_of_those_who_are_still_there(images_table, params, tmp_path):
    table = make_splits(images_table, params.splits)
    table.to_csv(tmp_path / "splits.csv", index=False)
    data = tmp_path / "data"
    save_splits(tmp_path / "none.csv", data)
    (data / "dicom").mkdir(parents=True)
    save_splits(tmp_path / "splits.csv", data)  # another data set's
    assert not (data / "splits.csv").exists()
    stays = table["patient_id"].iloc[0]
    (data / "dicom" / stays).mkdir()
    save_splits(tmp_path / "splits.csv", data)
    own = table[table["patient_id"] == stays].reset_index(drop=True)
    pd.testing.assert_frame_equal(read_frame(data / "splits.csv"), own, check_dtype=False)
    assert sorted(path.name for path in data.iterdir()) == ["dicom", "splits.csv"]
