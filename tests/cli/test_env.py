"""`osteo env`: variables that a shell can read, whatever the project's folder is called."""

import subprocess

from click.testing import CliRunner

from osteo_models.cli.main import main


def test_a_shell_reads_the_addresses_of_the_stores(tmp_path, monkeypatch):
    project = tmp_path / "my project's folder"
    project.mkdir()
    monkeypatch.chdir(project)
    for name in ("MLFLOW_TRACKING_URI", "OSTEO_STATE_DIR", "PREFECT_API_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    printed = CliRunner().invoke(main, ["env"], catch_exceptions=False)
    assert printed.exit_code == 0
    script = f'{printed.output}\necho "$MLFLOW_TRACKING_URI|$PREFECT_HOME|$PREFECT_API_URL"'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.stdout.strip() == f"sqlite:///{project / 'mlflow.db'}|{project / '.osteo' / 'prefect'}|"
