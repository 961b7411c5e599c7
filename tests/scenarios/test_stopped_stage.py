"""A DVC stage that Ctrl-C ended is no failure to be mended, even where the command itself was not told of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.core.settings import load_settings
from osteo_models.ops.dvc_stages import Stages


@pytest.mark.parametrize(
    ("code", "error", "message"), [(130, KeyboardInterrupt, "^$"), (1, OsteoError, "exited with 1; fix it")]
)
def test_how_a_stage_ended(tmp_path: Path, code: int, error: type[BaseException], message: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(f"stages: {{search: {{cmd: sh -c 'exit {code}'}}}}\n", encoding="utf-8")
    (tmp_path / ".osteo").mkdir()
    with pytest.raises(error, match=message):
        Stages(load_settings(tmp_path), lambda _: None, subprocess.DEVNULL).reproduce("search")
