"""Doubtful inputs are held back, shown to a person, and follow the person's decision from then on."""

from __future__ import annotations

import re

import pandas as pd
import pydicom
import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.core.errors import ImageError, InputError
from osteo_models.core.params import load_params
from osteo_models.data.decisions import record_decisions
from osteo_models.data.intake.identity_check import find_in_file
from osteo_models.data.prepare import prepare_bytes
from osteo_models.data.withdrawal import withdraw_patient
from osteo_models.report.contact_sheet import list_series, render_contact_sheet
from tests.conftest import ROOT
from tests.data.case_files import draw_spine, make_slice
from tests.data.intake_files import KEY, as_bytes

DERIVED = {"ImageType": ["DERIVED", "SECONDARY"], "StudyInstanceUID": "1.2.5", "SeriesInstanceUID": "1.2.5.1"}


@pytest.fixture
def export(source):
    """An accepted series, one that states nothing of text, one of unknown weighting, and a whole spine."""
    files = {
        "good.dcm": make_slice(),
        "derived 1.dcm": make_slice(seed=1, **DERIVED),
        "derived 2.dcm": make_slice(seed=2, **DERIVED),
        "no times.dcm": make_slice(seed=3, patient="P2", EchoTime=None),
        "whole.dcm": make_slice(pixels=draw_spine(533), seed=4, BodyPartExamined="WHOLESPINE"),
    }
    for name, dataset in files.items():
        (source / name).write_bytes(as_bytes(dataset))
    return source


def read_series(tmp_path) -> dict[str, str]:
    rows = pd.read_csv(tmp_path / "data" / "intake.csv", dtype=str, keep_default_na=False)
    return dict(zip(rows["reason"], rows["series"], strict=True))


def test_decisions_are_followed_by_every_later_import(export, run_import, tmp_path):
    data, doubtful = tmp_path / "data", tmp_path / "private" / "key.doubtful"
    outcome, reasons = run_import(doubtful=doubtful)
    assert (outcome.accepted, outcome.doubtful, outcome.images) == (1, 4, 1)
    assert reasons == {
        "good.dcm": "accepted", "derived 1.dcm": "unknown_text", "derived 2.dcm": "unknown_text",
        "no times.dcm": "unknown_weighting", "whole.dcm": "unclear_level",
    }  # fmt: skip
    assert len(list((data / "dicom").rglob("*.dcm"))) == 1 and len(list(doubtful.rglob("*.dcm"))) == 4
    assert {path.stat().st_mode & 0o777 for path in doubtful.rglob("*.dcm")} == {0o600}
    series = read_series(tmp_path)
    assert record_decisions(data, [series["unknown_text"]], "accepted", who="Doe", why="no text") == 2
    assert record_decisions(data, [series["unknown_weighting"]], "refused", who="Doe", why="looks like T2") == 1
    for added in (2, 0):
        outcome, reasons = run_import(doubtful=doubtful)
        assert outcome.added == added and reasons["whole.dcm"] == "unclear_level"
        assert reasons["derived 1.dcm"] == reasons["derived 2.dcm"] == "accepted"
        assert reasons["no times.dcm"] == "reviewed"
    images = [pydicom.dcmread(path) for path in (data / "dicom").rglob("*.dcm")]
    assert sorted(str(image.get("BurnedInAnnotation")) for image in images) == ["NO", "NO", "None"]
    table = pd.read_csv(data / "decisions.csv", dtype=str)
    assert table["who"].tolist() == ["Doe", "Doe"] and table["why"].tolist() == ["no text", "looks like T2"]
    withdraw_patient(data, KEY.patient("P2"))
    assert pd.read_csv(data / "decisions.csv", dtype=str)["decision"].tolist() == ["accepted"]


def test_what_no_decision_can_help_is_said_at_once(export, run_import, tmp_path):
    run_import()
    series = read_series(tmp_path)
    with pytest.raises(InputError, match="unclear_level cannot be accepted"):
        record_decisions(tmp_path / "data", [series["unclear_level"]], "accepted", who="Doe", why="x")
    with pytest.raises(InputError, match="no series or input '0123'"):
        record_decisions(tmp_path / "data", ["0123"], "refused", who="Doe", why="x")
    assert not (tmp_path / "data" / "decisions.csv").exists()


def test_a_whole_spine_is_not_predicted_either():
    prepare = load_params(ROOT / "params.yaml").prepare
    whole = as_bytes(make_slice(pixels=draw_spine(533)))
    with pytest.raises(ImageError, match=r"500 mm from head to feet.*up to 350 mm"):
        prepare_bytes(whole, prepare=prepare)


def test_the_contact_sheet_shows_each_series_with_its_reason(export, run_import, tmp_path):
    doubtful = tmp_path / "key.doubtful"
    run_import(doubtful=doubtful)
    cards = list_series(tmp_path / "data", doubtful, load_params(ROOT / "params.yaml").prepare)
    assert [card.reason for card in cards] == ["unclear_level", "unknown_text", "unknown_weighting", ""]
    assert [card.inputs for card in cards] == [1, 2, 1, 1]
    assert [bool(card.picture) for card in cards] == [False, True, True, True]  # no outline on a whole spine
    assert "TR 400 ms, TE 7.7 ms" in cards[-1].facts
    page = render_contact_sheet(cards, "data")
    assert "Doubtful: 3" in page and "Accepted: 1" in page and page.count("data:image/png;base64,") == 3
    words = re.sub(r"base64,[^\"]*", "", page)
    assert not any(name in words for name in ("P1", "derived 1", "1.2.5"))


def test_the_command_records_who_and_why(export, run_import, tmp_path):
    run_import(doubtful=tmp_path / "key.doubtful")
    series = read_series(tmp_path)["unknown_text"]
    sheet, options = tmp_path / "sheet.html", ["--key", str(tmp_path / "key"), "--who", "Doe"]
    given = ["data", "review", str(tmp_path / "data"), "--accept", series, *options]
    silent = CliRunner().invoke(main, given)
    assert silent.exit_code != 0
    done = CliRunner().invoke(main, [*given, "--why", "no text", "--html", str(sheet)], catch_exceptions=False)
    assert "2 files decided: import the source again" in done.output, done.output
    assert series in sheet.read_text()
    assert pd.read_csv(tmp_path / "data" / "decisions.csv")["who"].tolist() == ["Doe"]


def test_the_check_looks_at_pixels():
    quiet = as_bytes(make_slice(BurnedInAnnotation="NO"))
    letters = draw_spine()
    for column in range(8):
        letters[5:15, 20 + 8 * column : 24 + 8 * column] = 4000
    loud = as_bytes(make_slice(pixels=letters))
    assert "pixels: seem to have letters" in find_in_file(loud)
    assert "pixels: seem to have letters" not in find_in_file(quiet)
