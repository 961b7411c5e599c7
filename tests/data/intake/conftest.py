"""An export to be imported, and the import."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from osteo_models.data.intake.importer import import_source
from tests.data.intake_files import KEY, clinical_table


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder to be imported, with a clinical table beside it."""
    folder = tmp_path / "export"
    folder.mkdir()
    clinical_table("P1", "P2", "P3").to_csv(tmp_path / "clinical.csv", index=False)
    return folder


@pytest.fixture
def run_import(source: Path, tmp_path: Path):
    """Import the source; gives the outcome and the reason of each file, by name."""

    def run(**options):
        names = tmp_path / "key.names.csv"
        options = {"workers": 1, "names": names} | options
        outcome = import_source(source, tmp_path / "clinical.csv", tmp_path / "data", KEY, **options)
        rows = pd.read_csv(tmp_path / "data" / "intake.csv", dtype=str, keep_default_na=False)
        named = pd.read_csv(names, dtype=str).set_index("input")["file"]
        return outcome, {named[row["input"]]: row["reason"] or row["status"] for row in rows.to_dict("records")}

    return run
