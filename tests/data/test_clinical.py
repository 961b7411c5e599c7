import pandas as pd
import pytest

from osteo_models.core.errors import TableError
from osteo_models.data.clinical import read_clinical
from tests.data.conftest import person


def test_values_get_their_types(write_table):
    table = read_clinical(write_table([person("a1"), person("a2", t_score_l1="", mri_date="")]))
    assert table["age_years"].tolist() == [60, 60]
    assert table["t_score_l1"].isna().tolist() == [False, True]
    assert table["mri_date"].tolist()[0] == pd.Timestamp("2020-03-01")
    assert pd.isna(table["mri_date"].tolist()[1])


def test_every_wrong_value_is_told_with_its_row_and_column(write_table):
    path = write_table(
        [
            person("a1", sex="X", age_years="60.5", t_score_l3="low"),
            person("a1", mri_date="01.03.2020", findings="tumoral_lesion;flu", postmenopausal="yes"),
        ]
    )
    with pytest.raises(TableError) as caught:
        read_clinical(path)
    text = str(caught.value)
    assert "7 faults" in text
    for fault in (
        "row 2, sex: the value is not F or M",
        "row 2, age_years: the value is not whole years",
        "row 2, t_score_l3: the value is not a number",
        "row 3, mri_date: the value is not YYYY-MM-DD",
        "row 3, findings: the value is not codes",
        "row 3, postmenopausal: the value is not 0 or 1",
        "row 3, patient_id: stands in an earlier row too",
    ):
        assert fault in text


def test_missing_columns_are_named_together(write_table):
    rows = [{name: value for name, value in person("a1").items() if name not in ("sex", "ct_date")}]
    with pytest.raises(TableError, match=r"missing columns \['sex', 'ct_date'\]"):
        read_clinical(write_table(rows))


def test_a_table_of_names_alone_is_no_table(write_table):
    path = write_table([person("a1")])
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(TableError, match="no rows below the names"):
        read_clinical(path)


def test_missing_columns_and_wrong_values_are_told_together(write_table):
    rows = [{name: value for name, value in person("a1", sex="X").items() if name != "ct_date"}]
    with pytest.raises(TableError, match=r"2 faults: missing columns \['ct_date'\]; row 2, sex: .*; allowed: columns"):
        read_clinical(write_table(rows))


def test_a_row_cut_short_is_told_by_its_row(write_table):
    path = write_table([person("a1"), person("a2")])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "a2,dxa"]) + "\n")
    with pytest.raises(TableError, match="row 3, sex: the value is not F or M; row 3, age_years"):
        read_clinical(path)
    path.write_text("\n".join([lines[0], *(f"{line},more" for line in lines[1:])]) + "\n")
    with pytest.raises(TableError, match=r"not a readable CSV table \(ParserWarning\)"):
        read_clinical(path)


def test_many_faults_are_counted_and_twenty_shown(write_table):
    with pytest.raises(TableError, match=r"30 faults: .*; and 10 more; correct the table"):
        read_clinical(write_table([person(f"a{number}", sex="x") for number in range(30)]))


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(TableError, match="osteo data synth"):
        read_clinical(tmp_path / "clinical.csv")


def test_a_patient_identifier_is_never_repeated_in_an_error(write_table):
    with pytest.raises(TableError) as caught:
        read_clinical(write_table([person("Jane Doe\x07 1970")]))
    assert "Jane" not in str(caught.value)
    assert "row 2, patient_id: the value is not printable characters" in str(caught.value)
