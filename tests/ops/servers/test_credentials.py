"""Secrets are made once, kept tightly, and never quietly replaced."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from osteo_models.core.errors import InputError
from osteo_models.ops.servers.credentials import load_credentials, write_password_file

GIVEN = "from-the-environment"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    found = load_credentials(folder, {})
    values = dataclasses.astuple(found)
    assert len(set(values)) == len(values) and min(map(len, values)) >= 32
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert load_credentials(folder, {}) == found


def test_a_folder_that_was_left_open_is_closed(tmp_path: Path) -> None:
    load_credentials(tmp_path / "secrets", {})
    (tmp_path / "secrets").chmod(0o755)
    load_credentials(tmp_path / "secrets", {})
    assert mode(tmp_path / "secrets") == 0o700


def test_taken_from_the_environment_at_first_and_then_held_to_it(tmp_path: Path) -> None:
    environ = {"OSTEO_SECRET_S3_KEY": GIVEN}
    assert load_credentials(tmp_path / "secrets", environ).s3_key == GIVEN
    assert load_credentials(tmp_path / "secrets", environ).s3_key == GIVEN
    with pytest.raises(InputError) as caught:
        load_credentials(tmp_path / "secrets", {"OSTEO_SECRET_S3_KEY": "another-one-as-long"})
    told = str(caught.value)
    assert told.startswith("OSTEO_SECRET_S3_KEY: not the one that the servers were set up with; unset it")
    assert GIVEN not in told and "another" not in told


@pytest.mark.parametrize("given", ["", "short", "with a blank inside it", "with-a-line-break\nin-it"])
def test_a_secret_that_cannot_be_one_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(InputError, match="OSTEO_SECRET_MLFLOW: .*allowed: at least 16 characters, or unset"):
        load_credentials(tmp_path / "secrets", {"OSTEO_SECRET_MLFLOW": given})
    assert not (tmp_path / "secrets" / "mlflow").exists()


def test_the_password_file_escapes_what_has_a_meaning_in_it(tmp_path: Path) -> None:
    found = load_credentials(tmp_path / "secrets", {"OSTEO_SECRET_JOURNAL_DATABASE": r"colon:and\backslash"})
    path = write_password_file(tmp_path / "pgpass", found)
    assert mode(path) == 0o600
    lines = dict(line.split(":", 4)[3:] for line in path.read_text().splitlines())
    assert sorted(lines) == ["journal", "mlflow", "optuna", "postgres", "prefect"]
    assert lines["journal"] == r"colon\:and\\backslash"
