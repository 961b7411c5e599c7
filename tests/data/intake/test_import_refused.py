import pytest

from osteo_models.core.errors import InputError, TableError
from osteo_models.data.intake.importer import import_source
from osteo_models.data.intake.pseudonyms import Pseudonyms, load_key
from tests.data.intake_files import KEY, as_bytes, clinical_table, make_dicom, tree


def test_nothing_is_changed_by_a_wrong_table_or_source(source, tmp_path):
    (source / "a.dcm").write_bytes(as_bytes(make_dicom()))
    clinical_table("P1").assign(sex="X", age_years="old").to_csv(tmp_path / "clinical.csv", index=False)
    before = tree(tmp_path)
    with pytest.raises(TableError, match="2 faults: row 2, sex: .*; row 2, age_years"):
        import_source(source, tmp_path / "clinical.csv", tmp_path / "data", KEY)
    with pytest.raises(InputError, match="no such folder or file"):
        clinical_table("P1").to_csv(tmp_path / "good.csv", index=False)
        import_source(tmp_path / "nowhere", tmp_path / "good.csv", tmp_path / "data", KEY)
    assert not (tmp_path / "data").exists()
    assert before.items() <= tree(tmp_path).items()


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("export.zip", lambda path: path.write_bytes(b"PK\x03\x04cut"), "a damaged zip archive: it has no end"),
        ("export.txt", lambda path: path.write_text("no"), "neither a folder nor a zip archive; allowed: a folder or"),
        ("empty", lambda path: path.mkdir(), "holds no file; allowed: a folder or a zip archive of DICOM, PNG or JPEG"),
    ],
)
def test_a_source_of_no_use_says_what_it_is(name, make, said, source, tmp_path):
    make(tmp_path / name)
    with pytest.raises(InputError, match=said):
        import_source(tmp_path / name, tmp_path / "clinical.csv", tmp_path / "data", KEY)
    assert not (tmp_path / "data").exists()


def test_a_data_set_cannot_be_made_in_place_of_a_file(source, tmp_path):
    (source / "a.dcm").write_bytes(as_bytes(make_dicom()))
    (tmp_path / "notes").write_text("keep")
    for out, said in (("notes", "not a folder"), ("notes/data", r"nothing can be written beside it \(")):
        with pytest.raises(InputError, match=said + ".*; name another folder"):
            import_source(source, tmp_path / "clinical.csv", tmp_path / out, KEY)
    assert (tmp_path / "notes").read_text() == "keep"


def test_another_key_would_let_everybody_in_twice(source, run_import, tmp_path):
    (source / "a.dcm").write_bytes(as_bytes(make_dicom()))
    run_import()
    before = tree(tmp_path / "data")
    with pytest.raises(InputError, match="made with another key; name its key with --key or OSTEO_KEY_FILE: under"):
        import_source(source, tmp_path / "clinical.csv", tmp_path / "data", Pseudonyms(bytes(32)))
    assert tree(tmp_path / "data") == before
    with pytest.raises(InputError, match="the key of this data set is missing"):
        load_key(tmp_path / "private" / "lost", data=tmp_path / "data")
    assert not (tmp_path / "private").exists()
    assert KEY.key.hex() not in (tmp_path / "data" / "key.csv").read_text()
