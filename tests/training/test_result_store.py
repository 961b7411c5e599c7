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
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from osteo_models.core.errors import InputError, StoreError
from osteo_models.training import result_store as module
from osteo_models.training.job_data import as_arrays, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import Drawer, Shelf, check_reach, find_result, open_shelf
from osteo_models.training.results import fold_folder, fold_name, read_result
from osteo_models.training.trial import Plan, Trial

PATIENCE_SECONDS = 60


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
    rows, arrays, shelf = {0: select_rows(job, 0, tables)}, as_arrays(tables), open_shelf(store)
    assert shelf is not None
    there = shelf / job.key / fold_name(0)

    first = Trial(Plan(job, rows, tmp_path / "one", 1, 0, shelf), arrays, 0)
    assert not first.advance() and not first.advance()
    assert there.list_names() == ["epoch-0001.safetensors", "epoch-0002.safetensors"]
    second = Plan(job, rows, tmp_path / "two", 1, 0, shelf)  # the first machine is gone, with all that lay there
    assert find_result(second.folder, shelf, job.key, 0) is None
    trial = Trial(second, arrays, 0)
    assert trial.epoch == 2 and trial.advance()
    assert there.list_names() == ["model.safetensors", "result.json", "scores.npy"]

    straight = Trial(Plan(job, rows, tmp_path / "straight", 1, 0), arrays, 0)
    while not straight.advance():
        pass
    expected = read_result(fold_folder(tmp_path / "straight", job.key, 0))
    result = find_result(tmp_path / "driver", shelf, job.key, 0)
    assert result is not None and expected is not None
    assert result.scores.tolist() == expected.scores.tolist()
    assert result.weights.read_bytes() == expected.weights.read_bytes()
    assert result.weights.is_relative_to(tmp_path / "driver")  # where register and report look
    again = Trial(second, arrays, 0)  # its worker died before the driver heard of the end
    assert again.epoch == 3 and again.advance()
    assert there.list_names() == ["model.safetensors", "result.json", "scores.npy"]
    there.clear()
    assert there.list_names() == []


@pytest.mark.fault
def test_half_of_a_result_is_no_result(store, tmp_path):
    shelf = open_shelf(store)
    assert shelf is not None
    drawer = Drawer(tmp_path / "unused", shelf / "key" / "fold-0")
    (drawer.folder / "result.json").write_text("{}")
    drawer.keep()
    assert find_result(tmp_path, shelf, "key", 0) is None
    for name in ("model.safetensors", "scores.npy"):
        (drawer.folder / name).write_bytes(b"another one's")
    (drawer.folder / "result.json").write_text('{"sha256": {"scores.npy": "0"}}')
    drawer.keep()
    assert (shelf / "key" / "fold-0").list_names() == ["model.safetensors", "result.json", "scores.npy"]
    assert find_result(tmp_path, shelf, "key", 0) is None


@pytest.mark.fault
def test_a_store_that_cannot_be_used_is_told_at_once(store):
    found = r"s3://nobody/jobs: the store of jobs cannot be used \(there is no bucket `nobody`\); check OSTEO_JOBS_URI"
    with pytest.raises(StoreError, match=found):
        open_shelf("s3://nobody/jobs")


@pytest.mark.parametrize(
    "uri", ["s3://someone:something-secret@osteo/jobs", "s3://osteo/jobs?secret_key=something-secret"]
)
def test_credentials_in_the_address_are_refused_and_not_repeated(uri):
    with pytest.raises(InputError, match="holds more than a place") as told:
        open_shelf(uri)
    assert "something-secret" not in str(told.value)


def test_another_kind_of_address_is_refused():
    with pytest.raises(InputError, match=r"`ftp://host/jobs` is no shared store.*s3://bucket/folder"):
        open_shelf("ftp://host/jobs")
    assert open_shelf(None) is None


def test_a_worker_that_does_not_reach_the_folder_says_so(tmp_path):
    check_reach(tmp_path, None)
    with pytest.raises(StoreError, match="a worker does not reach the folder of jobs; .*set OSTEO_JOBS_URI"):
        check_reach(tmp_path / "elsewhere", None)


WORKER = """
import sys, time
from osteo_models.training.result_store import Drawer, Shelf
Shelf.list_names = lambda self: []
drawer = Drawer(None, Shelf("s3://osteo/jobs"))
(drawer.folder / "epoch-0001.safetensors").write_bytes(b"20 MB")
print(drawer.folder, flush=True)
time.sleep(600)
"""


def test_the_folder_of_a_killed_worker_goes_with_the_next_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(Shelf, "list_names", lambda _: [])
    strange = [tmp_path / "osteo-trial-abc", tmp_path / "osteo-trial-elsewhere:1:1.00-abc", tmp_path / "other"]
    for folder in strange:  # of an older release, of a container that shares the folder
        folder.mkdir()
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        places = [Path(worker.stdout.readline().strip()) for worker in workers if worker.stdout]
        workers[0].send_signal(signal.SIGKILL)
        workers[0].wait()
        own = Drawer(tmp_path / "unused", Shelf("s3://osteo/jobs"))
        assert not places[0].exists() and places[1].is_dir() and own.folder.is_dir()
        assert all(folder.is_dir() for folder in strange)
        place = own.folder
        del own
        assert not place.exists()
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
