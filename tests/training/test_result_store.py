"""The shared store of jobs, on a real S3 server on this machine."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from osteo_models.core.errors import InputError, OsteoError, StoreError
from osteo_models.training import result_store as module
from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import (
    SCORES,
    WEIGHTS,
    FoldResult,
    ResultStore,
    TrialFolder,
    check_reach,
    find_result,
    fold_name,
    open_result_store,
    read_result,
    write_result,
)
from osteo_models.training.trial import Trial, TrialSettings, make_config
from tests.training.small_fits import train_fold

PATIENCE_SECONDS = 60


@pytest.fixture
def result(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    history = [{"epoch": 1, "train_loss": 0.5, "test_loss": 0.6, "test_balanced_accuracy": 0.7, "seconds": 1.0}]
    scores = np.array([0.25, 0.5], dtype=np.float32)
    return FoldResult(3, scores, history, "float32", "cpu", 10, 9, tmp_path / WEIGHTS)


def test_a_result_comes_back_as_it_was(result, tmp_path):
    write_result(tmp_path, result)
    found = read_result(tmp_path)
    assert found is not None
    assert found.scores.tolist() == [0.25, 0.5]
    assert (found.fold, found.history, found.parameters, found.weights) == (3, result.history, 10, tmp_path / WEIGHTS)


def test_an_unfinished_folder_has_no_result(tmp_path):
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("name", [SCORES, WEIGHTS])
def test_a_flipped_bit_or_a_lost_file_makes_it_unfinished(result, tmp_path, name):
    write_result(tmp_path, result)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    assert read_result(tmp_path) is None
    (tmp_path / name).unlink()
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("name", ["result.json", SCORES, WEIGHTS])
def test_what_cannot_be_read_is_an_error_and_no_unfinished_trial(result, tmp_path, name):
    write_result(tmp_path, result)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(name)  # a loop, which no user can read
    with pytest.raises(OsteoError, match="cannot be read"):
        read_result(tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An S3 server with a bucket; the environment names it as that of a worker does."""
    place = tmp_path_factory.mktemp("s3")
    (place / "s3.json").write_text(
        '{"identities": [{"name": "jobs", "credentials": [{"accessKey": "someone", "secretKey": "something-secret"}],'
        ' "actions": ["Admin", "Read", "Write", "List"]}]}'
    )
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed is not None
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    others = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command = [weed, "server", f"-dir={place}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", *others]
    for name, port in ports.items():
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={free_port()}"]
    command += [f"-s3.config={place / 's3.json'}", "-volume.max=5", "-master.volumeSizeLimitMB=64"]
    with (place / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "something-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        module._connect.cache_clear()
        try:
            make_bucket()
            yield "s3://osteo/jobs"
        finally:
            module._connect.cache_clear()
            server.kill()  # politely, it takes ten seconds
            server.wait()


def make_bucket() -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    client = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5))
    while True:
        try:
            client.create_bucket(Bucket="osteo")
            client.put_object(Bucket="osteo", Key="ready", Body=b"1")
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            client.close()
            return


@pytest.mark.fault
def test_a_trial_goes_on_on_another_machine_from_the_store(store, small_params, tables, tmp_path):
    found = plan_jobs(small_params, tables, Recipe(epochs=3, precision="float32"))
    job = next(job for job in found if (job.stage, job.name) == ("stage-5", "traditional_cnn-mri-patient"))
    rows, arrays, shared = {0: select_rows(job, 0, tables)}, as_arrays(tables), open_result_store(store)
    assert shared is not None
    stored, config = shared / job.key / fold_name(0), make_config(job, 0)

    first = Trial(TrialSettings(rows, tmp_path / "one", 1, 0, shared), config, arrays)
    assert not first.run_epoch().finished and not first.run_epoch().finished
    assert stored.list_names() == ["epoch-0001.safetensors", "epoch-0002.safetensors"]
    second = TrialSettings(rows, tmp_path / "two", 1, 0, shared)  # the first machine is gone, with its files
    assert find_result(second.folder, shared, job.key, 0) is None
    trial = Trial(second, config, arrays)
    assert trial.epoch == 2 and trial.run_epoch().finished
    assert stored.list_names() == ["model.safetensors", "result.json", "scores.npy"]

    expected = train_fold(TrialSettings(rows, tmp_path / "straight", 1, 0), job, arrays)
    result = find_result(tmp_path / "driver", shared, job.key, 0)
    assert result is not None
    assert result.scores.tolist() == expected.scores.tolist()
    assert result.weights.read_bytes() == expected.weights.read_bytes()
    assert result.weights.is_relative_to(tmp_path / "driver")  # where register and report look
    again = Trial(second, config, arrays)  # its worker died before the driver received the last report
    assert again.epoch == 3 and again.run_epoch().finished
    assert stored.list_names() == ["model.safetensors", "result.json", "scores.npy"]
    stored.clear()
    assert stored.list_names() == []


@pytest.mark.fault
def test_half_of_a_result_is_no_result(store, tmp_path):
    shared = open_result_store(store)
    assert shared is not None
    trial_folder = TrialFolder(tmp_path / "unused", shared / "key" / "fold-0")
    (trial_folder.path / "result.json").write_text("{}")
    trial_folder.upload()
    assert find_result(tmp_path, shared, "key", 0) is None
    for name in ("model.safetensors", "scores.npy"):
        (trial_folder.path / name).write_bytes(b"another one's")
    (trial_folder.path / "result.json").write_text('{"sha256": {"scores.npy": "0"}}')
    trial_folder.upload()
    assert (shared / "key" / "fold-0").list_names() == ["model.safetensors", "result.json", "scores.npy"]
    assert find_result(tmp_path, shared, "key", 0) is None


@pytest.mark.fault
def test_a_store_that_cannot_be_used_is_told_at_once(store):
    found = r"s3://nobody/jobs: the store of jobs cannot be used \(there is no bucket `nobody`\); check OSTEO_JOBS_URI"
    with pytest.raises(StoreError, match=found):
        open_result_store("s3://nobody/jobs")


@pytest.mark.parametrize(
    "uri", ["s3://someone:something-secret@osteo/jobs", "s3://osteo/jobs?secret_key=something-secret"]
)
def test_credentials_in_the_address_are_refused_and_not_repeated(uri):
    with pytest.raises(InputError, match="holds more than a place") as told:
        open_result_store(uri)
    assert "something-secret" not in str(told.value)


def test_another_kind_of_address_is_refused():
    with pytest.raises(InputError, match=r"`ftp://host/jobs` is no shared store.*s3://bucket/folder"):
        open_result_store("ftp://host/jobs")
    assert open_result_store(None) is None


def test_a_worker_that_does_not_reach_the_folder_says_so(tmp_path):
    check_reach(tmp_path, None)
    with pytest.raises(StoreError, match="a worker does not reach the folder of jobs; .*set OSTEO_JOBS_URI"):
        check_reach(tmp_path / "elsewhere", None)


WORKER = """
import sys, time
from osteo_models.training.result_store import TrialFolder, ResultStore
ResultStore.list_names = lambda self: []
trial_folder = TrialFolder(None, ResultStore("s3://osteo/jobs"))
(trial_folder.path / "epoch-0001.safetensors").write_bytes(b"20 MB")
print(trial_folder.path, flush=True)
time.sleep(600)
"""


def test_the_folder_of_a_killed_worker_goes_with_the_next_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(ResultStore, "list_names", lambda _: [])
    strange = [tmp_path / "osteo-trial-abc", tmp_path / "osteo-trial-elsewhere:1:1.00-abc", tmp_path / "other"]
    for folder in strange:  # of an older release, of a container that shares the folder
        folder.mkdir()
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        places = [Path(worker.stdout.readline().strip()) for worker in workers if worker.stdout]
        workers[0].send_signal(signal.SIGKILL)
        workers[0].wait()
        own = TrialFolder(tmp_path / "unused", ResultStore("s3://osteo/jobs"))
        assert not places[0].exists() and places[1].is_dir() and own.path.is_dir()
        assert all(folder.is_dir() for folder in strange)
        place = own.path
        del own
        assert not place.exists()
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
