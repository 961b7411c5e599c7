import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from tests.conftest import ROOT

OSTEO = [sys.executable, "-c", "from osteo_models.cli.main import main; main()"]


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*OSTEO, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_help_imports_no_engine():
    engines = ("torch", "ray", "mlflow", "prefect", "pandas", "numpy", "monai", "matplotlib")
    code = "import sys; from osteo_models.cli.main import main; main(['--help'], standalone_mode=False)"
    code += f"; print([m for m in {engines} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "promote" in done.stdout and done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["params"], 2, "params.yaml: file not found; run the command in the project's folder"),
        (["demo"], 2, "params.yaml: file not found"),
        (["search"], 2, "params.yaml: file not found"),
        (["search", "--status"], 2, "params.yaml: file not found"),
        (["promote", "osteo-unimodal-mri"], 2, "params.yaml: file not found"),
        (["predict", "nothing.dcm", "--model", "osteo-multimodal@champion"], 2, "'nothing.dcm' does not exist"),
        (["explain", "nothing.dcm", "--model", "osteo-multimodal@champion"], 2, "'nothing.dcm' does not exist"),
        (["explain", ".", "--model", "y", "--device", "abacus"], 2, "no device 'abacus'; allowed: auto, cpu, or cuda"),
        (["versions", "osteo-nothing"], 2, "no registered model 'osteo-nothing'"),
        (["data", "synth", "--scale", "huge"], 2, "Invalid value for '--scale'"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(tmp_path, arguments, code, message):
    done = run(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_came_from(tmp_path):
    assert "Traceback" in run(tmp_path, "--debug", "params").stderr


def test_synth_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("precious")
    done = run(tmp_path, "data", "synth", "--scale", "small")
    assert done.returncode == 2 and "error: " in done.stderr
    assert (tmp_path / "data" / "mine.txt").read_text() == "precious"


def test_params_prints_what_is_in_force(monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(main, ["params", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["splits"]["folds"] == 5
