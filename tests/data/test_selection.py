import pytest

from osteo_models.core.errors import InputError
from osteo_models.data.clinical import read_clinical
from osteo_models.data.selection import list_images, select_people
from tests.data.conftest import person

CONTROL = {"source": "control_candidate", "age_years": "30", "postmenopausal": "0", "dxa_date": ""} | {
    f"t_score_l{level}": "" for level in (1, 2, 3, 4)
}
EVERY_GROUP = [
    person("s1"),
    person("s2", mri_date="", ct_date="2019-12-01"),
    person("c1", **CONTROL),
    person("c2", **CONTROL, mri_date="", ct_date="2020-05-05"),
]


def chosen(params, write_table, *rows):
    people, _ = select_people(read_clinical(write_table([*EVERY_GROUP, *rows])), params.cohort)
    return set(people["patient_id"]) - {"s1", "s2", "c1", "c2"}


def test_one_of_each_group_is_selected_with_its_class(params, write_table):
    people, flow = select_people(read_clinical(write_table(EVERY_GROUP)), params.cohort)
    found = {row["patient_id"]: (row["modality"], row["target"]) for row in people.to_dict("records")}
    assert found == {"s1": ("mri", 1), "s2": ("ct", 1), "c1": ("mri", 0), "c2": ("ct", 0)}
    assert [step["left"] for step in flow["mri_osteoporosis"]] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({}, True),
        ({f"t_score_l{level}": "-1.0" for level in (1, 2, 3, 4)}, False),  # below the threshold, not at it
        ({"t_score_l1": "-0.7", "t_score_l2": "-1.5", "t_score_l3": "-1.0", "t_score_l4": "-1.0"}, True),
        ({"t_score_l4": ""}, False),
        ({"findings": "severe_scoliosis"}, False),
        ({"findings": "secondary_osteoporosis"}, True),  # a reason against controls only
        ({"mri_date": "2020-07-11"}, True),  # 183 days later
        ({"mri_date": "2020-07-12"}, False),
        ({"mri_date": "2019-07-11"}, True),  # 183 days earlier
        ({"mri_date": ""}, False),
        ({"glucocorticoids": "1"}, True),
    ],
)
def test_rules_of_the_study_group(params, write_table, changes, stays):
    assert chosen(params, write_table, person("x", **changes)) == ({"x"} if stays else set())


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({}, True),
        ({"age_years": "18"}, True),
        ({"age_years": "17"}, False),
        ({"age_years": "44"}, True),
        ({"age_years": "45"}, False),
        ({"postmenopausal": "1"}, False),
        ({"findings": "tumoral_lesion"}, False),
        ({"findings": "secondary_osteoporosis"}, False),
        ({"glucocorticoids": "1"}, False),
        ({"mri_date": ""}, False),
    ],
)
def test_rules_of_the_control_group(params, write_table, changes, stays):
    assert chosen(params, write_table, person("x", **{**CONTROL, **changes})) == ({"x"} if stays else set())


def test_an_empty_group_names_the_rule_that_left_nobody(params, write_table):
    rows = [row for row in EVERY_GROUP if row["patient_id"] != "c2"]
    with pytest.raises(InputError, match="no ct_control is left after the rule 'imaged'"):
        select_people(read_clinical(write_table(rows)), params.cohort)


def test_people_without_an_image_are_named(params, write_table, tmp_path):
    people, _ = select_people(read_clinical(write_table(EVERY_GROUP)), params.cohort)
    for name in ("s1/mri-001.dcm", "s1/mri-002.dcm", "c1/mri-001.dcm", "c2/ct-001.dcm", "nobody/ct-001.dcm"):
        path = tmp_path / "dicom" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(InputError, match=r"1 selected people have no image: s2 \(ct\)"):
        list_images(people, tmp_path / "dicom")
    (tmp_path / "dicom" / "s2").mkdir()
    (tmp_path / "dicom" / "s2" / "ct-001.dcm").touch()
    images = list_images(people, tmp_path / "dicom")
    assert images["image_id"].tolist() == ["c1-mri-001", "s1-mri-001", "s1-mri-002", "c2-ct-001", "s2-ct-001"]
