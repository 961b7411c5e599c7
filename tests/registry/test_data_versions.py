"""What a new revision of the data means for registered versions: as `osteo data diff` and `withdraw` tell it."""

from __future__ import annotations

import json
import subprocess

import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.data.revisions import read_data_digest
from osteo_models.data.tables import read_frame

PATIENT = "mri000"


@pytest.fixture
def osteo(project, monkeypatch: pytest.MonkeyPatch):
    """Run `osteo` in the project and give what it printed."""
    monkeypatch.chdir(project.root)
    for name in ("MLFLOW_TRACKING_URI", "OSTEO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_withdrawal_lists_the_versions_to_retrain_and_the_difference_the_stale_ones(osteo, project) -> None:
    table = read_frame(project.settings.artifacts / "splits" / "splits.csv")
    place = table[table["patient_id"] == PATIENT].iloc[0]
    saw = "tested on 4" if place["holdout"] else "trained on 4 images, tested on 4"
    said = osteo("data", "withdraw", PATIENT)
    assert f"{PATIENT}: 1 images and 1 table rows taken out\n" in said
    assert f"  retrain osteo-unimodal-mri version 1 @challenger: {saw}\n" in said
    kept = read_frame(project.root / "data" / "splits.csv")
    assert PATIENT not in set(kept["patient_id"]) and len(kept) > 0
    found = json.loads(osteo("data", "diff", "HEAD", "--json"))
    assert found["patients_removed"] == found["people_touched"] == [PATIENT]
    (stale,) = found["stale_versions"]
    counts = "trained on 0, tested on 1" if place["holdout"] else "trained on 1, tested on 1"
    assert stale == ("osteo-unimodal-mri version 1 @challenger: made from HEAD; of the people who changed, " + counts)
    assert f"stale: {stale}" in osteo("data", "diff", "HEAD")

    again = osteo("data", "withdraw", PATIENT)  # killed on the way, it is given again
    assert f"{PATIENT}: 0 images and 0 table rows taken out\n" in again
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "withdrawn"]
    subprocess.run(commit, cwd=project.root, check=True)
    project.tracking.client.set_model_version_tag(
        project.version.name, str(project.version.version), "dvc.data", read_data_digest(project.root) or ""
    )
    assert json.loads(osteo("data", "diff", "HEAD~1", "--json"))["stale_versions"] == []
