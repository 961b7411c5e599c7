"""The card says what a version is and is not."""

from __future__ import annotations

import pytest

from osteo_models.registry.model_card import add_waivers, describe_champion, format_metric, link_pages, write_card
from osteo_models.serving.model_record import ModelRecord, read_record


@pytest.fixture
def record(make_model) -> ModelRecord:
    folder = make_model("ab12", architecture="multimodal", images="multimodal", spec={"fusion": "loss"})
    return read_record(folder / "model.json")


def test_the_card_of_a_synthetic_multimodal_network(record: ModelRecord, stage) -> None:
    metrics = {**stage(4, 0.9), **stage(4, 0.97, protocol="image"), **stage(5, 0.8)}
    card = write_card(
        record, metrics, {"git.commit": "1f3a", "git.tree": "5e7d", "dvc.data": "dd", "synthetic": "true"}, "5ha"
    )
    lines = card.splitlines()
    assert lines[0].startswith("**Synthetic cohort.**")
    assert "**multimodal** on multimodal images (fusion loss)" in card
    assert "one sagittal MRI or CT image" in card
    rows = [line for line in lines if line.startswith("| stage-")]
    assert rows == [
        "| stage-4 | image | 500 | 40 | 0.970 [0.920, 1.000] | - | - | - |",
        "| stage-4 | patient | 500 | 40 | 0.900 [0.850, 0.940] | - | - | - |",
        "| stage-5 | patient | 500 | 40 | 0.800 [0.750, 0.840] | - | - | - |",
    ]
    for fact in (
        "code, as a git tree: `5e7d`",
        "commit checked out: `1f3a`",
        "data: `dd`",
        "job: `ab12`",
        "SHA-256 `5ha`",
        "No medical device",
    ):
        assert fact in card


def test_links_lead_within_mlflow_s_pages(record: ModelRecord, stage) -> None:
    links = link_pages(name="osteo-multimodal", experiment="3", run="r1", job_run="r2", model_id="m-1")
    card = write_card(record, stage(4), {}, "5ha", links)
    for link in (
        "[its metrics](#/experiments/3/runs/r1)",
        "[the job that trained it](#/experiments/3/runs/r2)",
        "[all jobs of that stage](#/experiments/3/runs)",
        "[its files](#/experiments/3/models/m-1/artifacts)",
        "[the report](#/experiments/3/runs/r2/artifacts/report/index.html)",
        "[all versions](#/models/osteo-multimodal)",
    ):
        assert link in card
    assert "See " not in write_card(record, stage(4), {}, "5ha")
    noted = add_waivers(card, ["why (who)"])
    assert noted == f"{card}\n- **waived rule** why (who)"
    assert add_waivers(noted, ["why (who)"]) == noted  # once


def test_a_model_says_its_champion_in_the_place_of_the_one_before() -> None:
    first = describe_champion("About it.", "osteo-a", 1, None)
    assert first == "About it.\n\nChampion: [version 1](#/models/osteo-a/versions/1)."
    second = describe_champion(first, "osteo-a", 2, 1)
    assert second == (
        "About it.\n\nChampion: [version 2](#/models/osteo-a/versions/2), "
        "before it [version 1](#/models/osteo-a/versions/1)."
    )


def test_the_card_of_real_data_has_no_synthetic_notice(record: ModelRecord, stage) -> None:
    card = write_card(record, stage(4), {"synthetic": "false"}, "5ha")
    assert "ynthetic" not in card
    assert "code:" not in card


def test_a_metric_without_an_interval_and_one_that_is_undefined() -> None:
    assert format_metric({"a": 0.12345}, "a") == "0.123"
    assert format_metric({"a": 0.5, "a.ci_low": 0.25}, "a") == "0.500"
    assert format_metric({}, "a") == "-"
