"""The same with a tracking server, which alone reaches the artifacts."""

from __future__ import annotations

import dataclasses
import random
import socket

import pytest

from osteo_models.ops.servers import start_servers, stop_servers
from osteo_models.registry.garbage import find_garbage
from osteo_models.registry.lineage import read_data_usage
from osteo_models.registry.retention import read_runs
from osteo_models.registry.runs import JobRun
from osteo_models.registry.tracking import open_tracking
from osteo_models.registry.verify import check_version

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def served(project, tmp_path):
    """The project with its store behind a server of its own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    (server,) = start_servers(tmp_path / "state", ports={"mlflow": port})
    yield dataclasses.replace(project, tracking=open_tracking(server.url, tmp_path / "nowhere"))
    stop_servers(tmp_path / "state")


def test_a_version_behind_a_server_is_kept_and_checked(served, tmp_path) -> None:
    for job in served.jobs:
        run = JobRun(job.key, job.stage, job.name, {}, {}, "lumbar-cohort", "d" * 32, "data.dvc", 192)
        served.tracking.finish_run(served.tracking.begin_job(run), {})
    version = served.register()
    place = served.tracking.client.get_logged_model(version.model_id).artifact_location
    assert place.startswith("mlflow-artifacts:")
    runs = read_runs(served.tracking)
    assert list(check_version(served.tracking, version, runs)) == []
    assert served.register().tags["osteo.manifest"] == version.tags["osteo.manifest"]
    assert read_data_usage(served.tracking, version).trained
    assert find_garbage(served.tracking, served.settings, "data", older_than_seconds=0) == []

    (stored,) = (tmp_path / "state" / "mlartifacts").rglob("artifacts/model.safetensors")
    content = bytearray(stored.read_bytes())
    content[random.Random(4).randrange(len(content))] ^= 4
    stored.write_bytes(content)
    (told,) = check_version(served.tracking, version, runs)
    assert told.found == "artifacts/model.safetensors is changed"
