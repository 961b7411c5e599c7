"""What is known of the images: read once, and told where the tables contradict each other."""

import numpy as np
import pandas as pd
import pytest

from osteo_models.core.errors import TableError
from osteo_models.evaluation.image_facts import read_facts


def test_rows_are_those_of_the_tables(tmp_path, cohort):
    table = cohort(tmp_path, 0.2)
    facts = read_facts(tmp_path)
    assert facts.image_id.tolist() == table["image_id"].tolist()
    assert facts.sides["fold_patient"].tolist() == table["fold_patient"].fillna(-1).tolist()
    assert facts.development.tolist() == (table["holdout"] == 0).tolist()
    assert set(facts.sides["patient_test"][~facts.development]) == {-1}  # takes no part in stage 6
    assert np.isnan(facts.numbers["kvp"][facts.modality == "mri"]).all()
    assert facts.pixels.shape == (len(table), 12, 9) and isinstance(facts.pixels, np.memmap)
    picked = table["image_id"].to_numpy(str)[[5, 2, 9]]
    assert facts.find_rows(picked).tolist() == [5, 2, 9]


def test_what_is_missing_is_empty(tmp_path, cohort):
    assert read_facts(tmp_path) is None
    cohort(tmp_path, 0.1)
    for path in ("cohort/headers.csv", "cohort/images.npy", "splits/pairs.csv"):
        (tmp_path / path).unlink()
    facts = read_facts(tmp_path)
    assert (facts.pixels, facts.numbers, facts.pairs.image_ids.size) == (None, {}, 0)
    assert set(facts.study) == {""}


def test_an_image_that_nobody_knows_is_named(tmp_path, cohort):
    cohort(tmp_path, 0.1)
    with pytest.raises(TableError) as caught:
        read_facts(tmp_path).find_rows(np.asarray(["zz-1", "aa-2"]))
    assert "2 image(s) of the predictions are unknown, such as zz-1" in str(caught.value)


def spoil_csv(name, change):
    def spoil(root):
        path = root / name
        change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)

    return spoil


def add_line(path, line):
    path.write_text(f"{path.read_text()}{line}\n")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_csv("splits/splits.csv", lambda t: t.drop(columns="sex")), "missing column(s): sex"),
        (spoil_csv("splits/splits.csv", lambda t: t.assign(age_years="old")), "age_years holds values that are not"),
        (spoil_csv("cohort/headers.csv", lambda t: t[1:]), "cohort/headers.csv: not the images of the splits"),
        (spoil_csv("cohort/headers.csv", lambda t: t.assign(kvp="x")), "kvp holds values that are not numbers"),
        (lambda root: np.save(root / "cohort/images.npy", np.zeros((3, 80, 60), np.uint8)), "3 images, "),
        (lambda root: (root / "splits/splits.csv").write_text("image_id\na,b\n"), "missing column(s): patient_id"),
        (lambda root: add_line(root / "splits/pairs.csv", "patient,0"), "rows of different lengths"),
    ],
)
def test_tables_that_contradict_each_other_are_an_error(tmp_path, cohort, spoil, told):
    cohort(tmp_path, 0.1)
    spoil(tmp_path)
    with pytest.raises(TableError) as caught:
        read_facts(tmp_path)
    assert told in str(caught.value)
    assert "dvc repro splits" in str(caught.value)
