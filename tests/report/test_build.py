"""The page as a whole: everything in it, nothing from outside, honest about what is missing."""

import csv
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from osteo_models.core.errors import InputError, StaleDataError
from osteo_models.core.stage_table import StageRow, StageTable
from osteo_models.evaluation import evaluate_predictions
from osteo_models.report import build_report
from osteo_models.report.build import SECTIONS
from osteo_models.report.report_data import flatten_params
from tests.conftest import STAGES
from tests.report.conftest import STUDY
from tests.report.page import Page


@pytest.fixture(scope="module")
def page(artifacts, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "deep" / "index.html"
    given = build_report(
        artifacts,
        out,
        STAGES,
        provenance={"git.commit": "0123456789abcdef", "data (DVC md5)": "d41d8cd9.dir"},
        params={"profile": "quick", "experiments": {"seed": 2023}},
        synthetic=True,
        left_out=["image folds for the <baselines>"],
    )
    assert given == out
    return Page(out.read_text(encoding="utf-8"))


def test_the_page_is_well_formed(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_nothing_is_fetched(page):
    outside = [link for link in page.links if not link.startswith("#")]
    assert outside == ["https://doi.org/10.4274/dir.2023.232116"]  # a link to follow, not to load
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert page.find("script") == [{}]  # inline, nothing loaded
    sources = [image["src"] for image in page.images]
    assert len(sources) > 20 and all(re.match(r"data:image/(png|webp);base64,", source) for source in sources)


def test_synthetic_data_is_told_in_plain_sight(page):
    assert page.text.index("Synthetic cohort: a test bed, not evidence.") < page.text.index("Osteoporosis from lumbar")
    assert "Not a medical device." in page.text


def test_profile_and_what_it_leaves_out(page):
    assert "Profile quick" in page.text
    assert "image folds for the <baselines>" in page.text  # escaped, so it is text


def test_figures_stand_beside_the_papers(page, artifacts):
    with (artifacts / "evaluation" / "summary.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["stage"], row["architecture"], row["protocol"], row["subset"], row["level"], row["metric"])
            == ("stage-1", "unimodal", "patient", "all", "image", "balanced_accuracy")
        ]
    (row,) = rows
    value, low, high = (f"{100 * float(row[name]):.1f}" for name in ("value", "ci_low", "ci_high"))
    assert f"{value} ({low}–{high})" in page.text  # at a glance
    assert f"Patient folds {value} {low}–{high}" in page.text  # in the stage's table
    assert row["source"] in page.text
    for printed in ("96.54", "95.4–97.7", "0.965", "95.32", "88.6", "82.8–94.4", "0.574, 0.566", "0.952"):
        assert printed in page.text


def test_networks_that_were_not_run_are_shown(page):
    assert "ConvNeXt Tiny MRI not run" in page.text
    assert "Unimodal MRI not run" not in page.text


def test_every_section_is_there(page):
    told = page.text
    for section in SECTIONS:
        assert section.name in page.ids
        assert f"#{section.name}" in page.links
    assert "osteo-unimodal-mri 3 champion PROMOTE 91.3 88.1–94.2 85.4" in told
    assert "1,800 examined −1,390: not “mean T-score of L1-L4 below the threshold” 410 left" in told
    assert "curves/stage-4/multimodal-multimodal-image.csv" in told
    assert "Multimodal from scratch 1,409,922 1,409,410 21.0" in told
    assert "d41d8cd9.dir" in told
    assert "experiments.seed 2023" in told
    assert " by image, " in told  # the optimism of image folds
    missing = [told[found.start() : found.start() + 60] for found in re.finditer("Missing:", told)]
    assert [one.split(" over ")[0] for one in missing] == ["Missing: SmoothGrad map"]  # frames.py leaves it out
    alt = [image["alt"] for image in page.images]
    assert (
        sum(bool(re.match(r"(MRI|CT) slice of .*, (control|osteoporosis), (wo)?man of \d+ years", one)) for one in alt)
        == 20
    )
    assert sum(" map over MRI image Pmri1000-mri-00" in one for one in alt) == 3


def test_drawings_speak(page):
    drawings = [found for tag, found in page.tags if tag == "svg"]
    assert len(drawings) > 40
    assert all(found["role"] == "img" and found["aria-label"] for found in drawings)
    assert any(one["aria-label"].startswith("ROC curves. Stage 1: MRI. Area") for one in drawings)


def test_the_same_artifacts_give_the_same_bytes(artifacts, options, tmp_path):
    options |= {"clock": lambda: 0.0}  # but for the time that building took
    one = build_report(artifacts, tmp_path / "a.html", STAGES, **options).read_bytes()
    assert one == build_report(artifacts, tmp_path / "b.html", STAGES, **options).read_bytes()
    assert len(one) < 1_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_only_the_evaluation_must_be_there(artifacts, options, tmp_path):
    shutil.copytree(artifacts / "evaluation", tmp_path / "evaluation")
    options |= {"synthetic": False, "left_out": [], "provenance": {}, "params": {}}
    page = Page(build_report(tmp_path, tmp_path / "index.html", STAGES, **options).read_text(encoding="utf-8"))
    assert page.text.count("Missing:") >= 7
    for name in ("jobs.json", "register.json", "cohort/selection.json", "splits/splits.csv", "cohort/images.csv"):
        assert name in page.text
    assert "synthetic cohort" not in page.text.lower()
    assert "Not a medical device." in page.text
    assert "leaves nothing out" in page.text


def test_missing_stages_are_shown_as_missing(artifacts, options, tmp_path):
    shutil.copytree(artifacts / "evaluation", tmp_path / "evaluation")
    for path in (tmp_path / "evaluation").glob("*.csv"):
        head, *lines = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(line for line in lines if line.startswith("stage-2")))
    page = Page(build_report(tmp_path, tmp_path / "index.html", STAGES, **options).read_text(encoding="utf-8"))
    assert "Stage 4. MRI and CT as two inputs, five folds" in page.text
    assert "Not run at all: stage 1, stage 3, stage 4, stage 5, stage 6." in page.text
    assert "Missing: stage 6 (evaluation/table10.csv)." in page.text


def test_a_stage_of_its_own_has_its_section(options, tmp_path):
    row = StageRow("stage-12", "patient_test", ("mri",), ("unimodal",))
    named = StageRow("stage-9", "folds", ("mri", "ct"), ("unimodal",), folds=3, title="Scanners apart")
    stages = StageTable((*STAGES.rows, named, row))
    images = STUDY["make_images"](0.3)
    for stage in ("stage-6", "stage-9", "stage-12"):
        STUDY["write_job"](tmp_path, stage, "unimodal", "mri", "patient", images, 2.0, stages=stages)
    evaluate_predictions(tmp_path, stages)
    page = Page(build_report(tmp_path, tmp_path / "index.html", stages, **options).read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    assert {"stage-9", "stage-12", "table-stage-12", "stage-12-patients"} <= set(page.ids)
    for text in (
        "Stages 1, 2, 3, 4, 5, 6, 9 and 12, with the paper's figures",
        "Stage 9. Scanners apart",
        "Stage 12. Patient-based test, MRI",
        "Stage 12, patient by patient",
        "Stage 12: MRI",
        "Stage 9: MRI",
    ):
        assert text in page.text
    with pytest.raises(InputError, match=r"no stage 'stage-12'; allowed: stage-1, .*; add it to `stages` in params"):
        build_report(tmp_path, tmp_path / "other.html", StageTable((*STAGES.rows, named)), **options)


def test_without_an_evaluation_there_is_no_page(options, tmp_path):
    with pytest.raises(InputError) as caught:
        build_report(tmp_path, tmp_path / "index.html", STAGES, **options)
    assert "no evaluation/summary.csv" in str(caught.value)
    assert "dvc repro evaluate" in str(caught.value)
    assert not (tmp_path / "index.html").exists()


def test_unreadable_files_are_told_together(artifacts, options, tmp_path):
    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    (root / "jobs.json").write_text("{")
    (root / "splits" / "splits.csv").write_text("")
    with pytest.raises(InputError) as caught:
        build_report(root, tmp_path / "index.html", STAGES, **options)
    assert "jobs.json cannot be read" in str(caught.value)
    assert "splits/splits.csv cannot be read" in str(caught.value)


def test_images_that_do_not_fit_their_table_are_refused(artifacts, options, tmp_path):
    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    np.save(root / "cohort" / "images.npy", np.zeros((3, 80, 60), dtype=np.uint8))
    with pytest.raises(StaleDataError, match="3 images for"):
        build_report(root, tmp_path / "index.html", STAGES, **options)


def test_names_from_files_are_text_and_never_markup(artifacts, options, tmp_path):
    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    versions = json.loads((root / "register.json").read_text())
    versions[0]["name"] = hostile
    (root / "register.json").write_text(json.dumps(versions))
    for name, column in (
        ("patients", "patient_id"),
        ("table10", "patient_id"),
        ("groups", "group"),
        ("ledger", "note"),
    ):
        path = root / "evaluation" / f"{name}.csv"
        table = pd.read_csv(path)
        table[column] = hostile
        table.to_csv(path, index=False)
    for path in root.glob("predictions/stage-6/*.parquet"):
        table = pd.read_parquet(path)
        table.assign(patient_id=hostile).to_parquet(path)
    cases = pd.read_csv(root / "explain" / "cases.csv").assign(patient_id=hostile, method=hostile, image_id=hostile)
    cases.to_csv(root / "explain" / "cases.csv", index=False)
    page = Page(build_report(root, tmp_path / "index.html", STAGES, **options).read_text(encoding="utf-8"))
    assert page.find("script") == [{}]
    assert not any(name.startswith("on") for _, found in page.tags for name in found)
    assert page.text.count("<script>alert(1)</script>") > 5


def test_a_picture_outside_its_folder_is_not_read(artifacts, options, tmp_path):
    root = tmp_path / "artifacts"
    shutil.copytree(artifacts, root)
    shutil.copy(next(root.glob("explain/*/*.png")), root / "secret.png")
    cases = pd.read_csv(root / "explain" / "cases.csv").assign(file="../secret.png")
    cases.to_csv(root / "explain" / "cases.csv", index=False)
    page = Page(build_report(root, tmp_path / "index.html", STAGES, **options).read_text(encoding="utf-8"))
    assert not [image for image in page.images if image["src"].startswith("data:image/webp")]


def test_params_are_flattened():
    params = {"a": {"b": 1, "c": [1, 2]}, "gate": [{"rule": "x", "value": None}], "d": True}
    found = dict(flatten_params(params))
    assert found == {"a.b": "1", "a.c": "1, 2", "gate[0].rule": "x", "gate[0].value": "–", "d": "True"}


def test_every_row_of_a_table_has_a_cell_for_each_title(page):
    assert len(page.tables) > 25
    for name, (heads, *rows) in page.tables.items():
        cells = {len(row.cells) for row in rows if row.kind != "group"}
        assert cells == {len(heads.cells)}, name
