from osteo_models.core.settings import TELEMETRY_OFF, load_settings, prepare_environment


def test_a_temporary_experiment_uses_the_state_of_its_project(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", "strict")
    settings = load_settings(copy)
    assert (settings.root, settings.state) == (copy, tmp_path / ".osteo")
    assert settings.experiment == {"dvc.exp.name": "strict"}
    other = load_settings(tmp_path / "elsewhere")  # another project, which a stage of this one looks at
    assert other.state == tmp_path / "elsewhere" / ".osteo"


def test_unset_everything_is_embedded(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "OSTEO_STATE_DIR", "OSTEO_DIE_WITH_PARENT", "OSTEO_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    settings = load_settings(tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.ray_address is None
    assert not settings.die_with_parent
    assert settings.weights_dir is None


def test_the_tools_own_variables_are_honoured(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setenv("OSTEO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OSTEO_WEIGHTS_DIR", str(tmp_path / "weights"))
    settings = load_settings(tmp_path)
    assert settings.tracking_uri == "http://127.0.0.1:5000"
    assert settings.ray_address == "127.0.0.1:6379"
    assert settings.jobs == tmp_path / "state" / "jobs"
    assert settings.features == tmp_path / "state" / "features"
    assert settings.weights_dir == tmp_path / "weights"


def test_telemetry_is_off_and_what_the_caller_set_stays(monkeypatch):
    environ = {"PREFECT_HOME": "/somewhere", "DO_NOT_TRACK": "0"}
    prepare_environment(environ)
    assert environ["PREFECT_HOME"] == "/somewhere"
    assert environ.items() >= TELEMETRY_OFF.items() >= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}.items()
