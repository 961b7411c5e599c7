from osteo_models.data.tables import read_frame


def test_identifiers_stay_text_and_an_empty_fold_is_a_gap(tmp_path):
    path = tmp_path / "splits.csv"
    path.write_text("image_id,patient_id,target,fold_image,fold_patient\n1-ct-001,007,1,3,\nNA-ct-001,NA,0,,2\n")
    table = read_frame(path)
    assert table["patient_id"].tolist() == ["007", "NA"]
    assert table["image_id"].tolist() == ["1-ct-001", "NA-ct-001"]
    assert table["fold_image"].isna().tolist() == [False, True]
    assert table["fold_patient"].iloc[1] == 2 and table["target"].tolist() == [1, 0]
