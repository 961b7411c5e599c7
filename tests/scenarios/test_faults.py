"""Whatever fails, nothing finished is lost, nothing is doubled, and the result is the same to the bit.

Each scenario prints its figures: `make test-faults` shows them with `-rP`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from osteo_models.core.params import load_params
from osteo_models.core.processes import stop_groups
from osteo_models.core.settings import embedded_store
from osteo_models.ops.servers import running_servers, start_servers, stop_servers
from osteo_models.training.job_data import as_arrays, load_tables, select_rows
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe
from osteo_models.training.trial import TrialSettings
from tests.scenarios.laboratory import CURVES, Laboratory, interrupt, make_laboratory
from tests.training.small_fits import train_fold

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]

EPOCHS = 3
ONE = ("stage-1",)  # of two folds: one for each worker


def tell(figures: str) -> None:
    sys.stdout.write(f"{figures}\n")


@pytest.fixture(scope="module")
def prefect_state(tmp_path_factory):
    """The folder of a Prefect server that all scenarios share."""
    state = tmp_path_factory.mktemp("prefect")
    start_servers(state, ports={"prefect": 14200})
    yield state
    stop_servers(state)


@pytest.fixture(scope="module")
def prefect(prefect_state) -> str:
    """Where it is asked."""
    (server,) = running_servers(prefect_state)
    return f"{server.url}/api"


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """What the same seed gives where nothing fails: each fold trained straight through, in this process."""

    def run(**given) -> dict:
        laboratory = make_laboratory(tmp_path_factory.mktemp("unharmed"), **given)
        train_straight(laboratory)
        found = read_results(laboratory.state)
        assert len(found) == laboratory.trials
        return found

    return run


def train_straight(laboratory: Laboratory) -> None:
    """Every fold of every job in this process, without Ray, Prefect or MLflow."""
    params, tables = load_params(laboratory.root / "params.yaml"), load_tables(laboratory.root / "artifacts")
    profile, item = params.active_profile, params.experiments
    recipe = Recipe(profile.epochs, item.batch_size, item.learning_rate, item.precision, profile.batch_norm_momentum)
    for job in plan_jobs(params, tables, recipe):
        rows = {fold: select_rows(job, fold, tables) for fold in range(job.folds)}
        for fold in rows:
            train_fold(TrialSettings(rows, laboratory.state / "jobs", 1, 0), job, as_arrays(tables), fold)


def read_results(state) -> dict:
    """Scores, weights and curves of every fold; how long an epoch took is left out."""
    found = {}
    for path in state.glob("jobs/*/fold-*/result.json"):
        content = json.loads(path.read_text())
        history = [{name: value for name, value in row.items() if name != "seconds"} for row in content["history"]]
        folder = path.parent
        found[str(folder.relative_to(state))] = (content["sha256"], history, (folder / "scores.npy").read_bytes())
    return found


def query(database, text: str):
    with sqlite3.connect(database, timeout=60) as connection:
        return connection.execute(text).fetchall()


def check_books(database, laboratory: Laboratory, epochs: int) -> None:
    """MLflow: a run for each job and each fold, all finished, every point once."""
    jobs_of, trials = len(laboratory.folds), laboratory.trials
    jobs = "select value, count(*) from tags where key = 'osteo.job' group by value"
    assert [count for _, count in query(database, jobs)] == [1] * jobs_of
    active = "select status, count(*) from runs where lifecycle_stage = 'active' group by status"
    assert query(database, active) == [("FINISHED", jobs_of + trials)]
    once = "select count(*), count(distinct run_uuid || key || step) from metrics where key in "
    once += "('train_loss', 'test_loss', 'test_balanced_accuracy', 'seconds')"
    assert query(database, once) == [(trials * epochs * CURVES, trials * epochs * CURVES)]
    doubled = "select count(*) from (select 1 from metrics group by run_uuid, key, step having count(*) > 1)"
    assert query(database, doubled) == [(0,)]


def count_states(api: str, process: int) -> dict[str, int]:
    """Prefect's states of the flow runs of a process."""
    body = json.dumps({"limit": 200, "sort": "ID_DESC"}).encode()
    request = urllib.request.Request(f"{api}/flow_runs/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        runs = json.load(reply)
    own = [run["state_type"] for run in runs if any(f":{process}:" in tag for tag in run["tags"])]
    return {state: own.count(state) for state in own}


def kill_a_worker(laboratory: Laboratory) -> None:
    """SIGKILL to one that trains: Ray makes the method that runs its title."""
    for _ in range(500):
        for process in laboratory.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline()).strip()
                if title.startswith("ray::") and title.endswith(".train"):
                    process.kill()
                    return
        time.sleep(0.01)
    pytest.fail(f"no worker trains: {[process.cmdline() for process in laboratory.processes()]}")


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_drivers_and_a_killed_worker(tmp_path, prefect, unharmed, kills) -> None:
    epochs = 4 * kills  # some are left in the end
    laboratory = make_laboratory(tmp_path, epochs=epochs, PREFECT_API_URL=prefect)
    moments, waits, ends, drivers, finished = random.Random(kills), [], [], [], {}
    for number in range(kills):
        known, early = laboratory.written.total(), number % 4 == 0  # amid imports, Ray's start, the first writes
        with laboratory.start() as process:
            if not early:
                waits.append(laboratory.watch(process, lambda known=known: laboratory.written.total() > known))
            deadline, enough = time.monotonic() + moments.uniform(*((1, 20) if early else (0, 1))), known + 6
            laboratory.watch(
                process,
                lambda: time.monotonic() > deadline or laboratory.written.total() > enough,  # noqa: B023
            )
            process.kill()
            killed = time.monotonic()
        drivers.append(process.pid)
        ends.append(laboratory.wait_for_end())
        laboratory.note()
        assert finished.items() <= laboratory.results().items()  # none lost, none trained again
        finished = laboratory.results()
    assert count_states(prefect, drivers[-1]) == {"RUNNING": 1}

    known = laboratory.written.total()
    with laboratory.start() as process:
        while count_states(prefect, drivers[-1]) != {"CRASHED": 1}:
            assert time.monotonic() - killed < 400, "not marked as crashed"
            time.sleep(0.5)
        marked = time.monotonic() - killed
        waits.append(laboratory.watch(process, lambda: laboratory.written.total() > known) + marked)
        kill_a_worker(laboratory)
        # A driver that was killed early had told Prefect of nothing.
        states = [count_states(prefect, driver) for driver in drivers]
        assert [state for state in states if state] == [{"CRASHED": 1}] * len([state for state in states if state])
        assert all(state for number, state in enumerate(states) if number % 4)
        laboratory.watch(process, lambda: len(laboratory.results()) == laboratory.trials)
        output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert output.count("marked as crashed") == 1
    assert f"{len(laboratory.results()) - len(finished)} folds trained, {len(finished)} reused" in output
    laboratory.wait_for_end()

    # An epoch that was finished is never trained again: at most the running one is lost.
    assert max(laboratory.written.values()) == 1
    assert read_results(laboratory.state) == unharmed(epochs=epochs)
    check_books(embedded_store(laboratory.state), laboratory, epochs)
    tell(f"{kills} drivers killed, 1 worker killed: first new epoch after {max(waits):.0f} s at most, no process left ")
    tell(f"after {max(ends):.1f} s at most, marked as crashed {marked:.0f} s after the kill, ")
    tell(f"load {os.getloadavg()[0]:.1f}; {laboratory.written.total()} checkpoints, none twice")


def test_interrupted(tmp_path, prefect_state) -> None:
    """Ctrl-C at `osteo search`, whose stage here is the experiments: osteo, DVC, flow, Prefect's server, Ray."""
    laboratory = make_laboratory(tmp_path, epochs=200, OSTEO_DIE_WITH_PARENT="1")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    laboratory = make_stage(laboratory, path)
    copy_database(prefect_state, laboratory.state)
    command = [sys.executable, "-c", "from osteo_models.cli.main import main; main()", "search"]
    with subprocess.Popen(
        command,
        cwd=laboratory.root,
        env=laboratory.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        laboratory.watch(process, lambda: laboratory.written.total() > 1)
        names = [" ".join(each.cmdline()) for each in laboratory.processes()]
        assert any("raylet" in name for name in names) and any("prefect.server" in name for name in names)
        begun = time.monotonic()
        interrupt(process)
        output, _ = process.communicate(timeout=120)
        ended = time.monotonic() - begun
    left = laboratory.wait_for_end()
    assert process.returncode == 130, output
    assert "stopped; what is finished is kept, and `osteo search` goes on from there" in output
    assert "Traceback" not in output and "ERROR" not in output, output
    assert dict(query(embedded_store(laboratory.state), "select status, count(*) from runs group by status")) == {
        "KILLED": len(laboratory.folds)
    }
    flows = query(laboratory.state / "prefect" / "prefect.db", "select state_type from flow_run")
    assert flows == [("CRASHED",)]
    tell(f"Ctrl-C: ended after {ended:.1f} s, the last process {left:.1f} s later, load {os.getloadavg()[0]:.1f}")


def copy_database(source: Path, target: Path) -> None:
    """Give a project Prefect's tables, as an earlier run leaves them: to make them takes long."""
    (target / "prefect").mkdir(parents=True)
    with (
        contextlib.closing(sqlite3.connect(source / "prefect" / "prefect.db")) as there,
        contextlib.closing(sqlite3.connect(target / "prefect" / "prefect.db")) as here,
    ):
        there.backup(here)
        here.execute("DELETE FROM flow_run")
        here.commit()


def make_stage(laboratory: Laboratory, path: str) -> Laboratory:
    """Put the experiments under DVC, as its stage `search`."""
    laboratory.environment["PATH"] = path
    (laboratory.root / "data").mkdir()
    (laboratory.root / "data" / "one").write_text("1")
    stage = {"stages": {"search": {"cmd": "python -m pipelines.experiments", "deps": ["data"]}}}
    (laboratory.root / "dvc.yaml").write_text(json.dumps(stage))
    init = [sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"]
    subprocess.run(init, cwd=laboratory.root, env=laboratory.environment, check=True)
    return laboratory


def enter_namespace(folder) -> tuple[subprocess.Popen, list[str]]:
    """A process that keeps a mount namespace with a small disk at `folder`, and what enters it."""
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=14m tmpfs {folder} && echo ready && exec sleep 900"
    keeper = subprocess.Popen([*apart, "sh", "-c", mount], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if keeper.stdout.readline() != "ready\n":
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no small disk: {keeper.communicate()[1].strip()}")
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return keeper, ["nsenter", "--target", str(keeper.pid), *user, "--mount", "--wd=."]


@pytest.mark.skipif(not shutil.which("nsenter"), reason="util-linux is missing: no small disk can be mounted")
def test_disk_full_while_checkpointing(tmp_path, prefect, unharmed) -> None:
    laboratory = make_laboratory(tmp_path, epochs=EPOCHS, PREFECT_API_URL=prefect)
    (laboratory.state / "jobs").mkdir(parents=True)
    keeper, inside = enter_namespace(laboratory.state / "jobs")
    experiments = [*inside, sys.executable, "-m", "pipelines.experiments"]
    given = {"cwd": laboratory.root, "env": laboratory.environment, "capture_output": True, "text": True}
    try:
        full = subprocess.run(experiments, check=False, timeout=900, **given)
        there = Path(f"/proc/{keeper.pid}/root{laboratory.state}")
        known = {path: read_epochs(path) for path in there.glob("jobs/*/fold-*/*.safetensors")}
        assert not list(there.glob("jobs/*/fold-*/.*"))  # nothing half-written
        subprocess.run([*inside, "mount", "-o", "remount,size=200m", laboratory.state / "jobs"], check=True)
        again = subprocess.run(experiments, check=False, timeout=900, **given)
        results = read_results(there)
        kept = [json.loads(path.read_text())["history"] for path in there.glob("jobs/*/fold-*/result.json")]
    finally:
        keeper.kill()
        keeper.communicate()
    assert full.returncode == 1, full.stdout + full.stderr
    (error,) = [line for line in full.stderr.splitlines() if line.strip()]
    assert error.startswith("error: ") and "No space left on device" in error, error
    assert "check free space and permissions, then run the same command again" in error
    assert known, "no checkpoint was whole before the disk was full"
    assert again.returncode == 0, again.stdout + again.stderr
    assert results == unharmed(epochs=EPOCHS)
    # Resumed: the epochs of the checkpoints are those of the results, how long they took included.
    assert all(any(history[: len(epochs)] == epochs for history in kept) for epochs in known.values() if epochs)
    check_books(embedded_store(laboratory.state), laboratory, EPOCHS)
    tell(f"disk full: {len(known)} checkpoints, all whole; {error[:300]}")


def read_epochs(path) -> list[dict]:
    """The epochs in a checkpoint, none in weights; reading checks the file's form."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["osteo"])["facts"]
        for name in file.keys():  # noqa: SIM118
            file.get_tensor(name)
    return facts.get("history", [])


@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_mlflow_away(tmp_path, prefect, seconds) -> None:
    store, epochs = tmp_path / "store", 10 if seconds == 10 else 40
    (server,) = start_servers(store, ports={"mlflow": 15000})
    try:
        there = {"PREFECT_API_URL": prefect, "MLFLOW_TRACKING_URI": server.url}
        laboratory = make_laboratory(tmp_path / "project", epochs=epochs, stages=ONE, **there)
        with laboratory.start() as process:
            laboratory.watch(process, lambda: laboratory.written.total() > 0)
            stop_groups([server])
            away, known = time.monotonic(), laboratory.written.total()
            laboratory.watch(process, lambda: time.monotonic() - away > seconds)
            trained = laboratory.written.total() - known
            (again,) = start_servers(store, ports={"mlflow": 15000})
            assert again.url == server.url
            output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        assert trained > 0
        check_books(store / "mlflow.db", laboratory, epochs)
    finally:
        stop_servers(store)
    tell(f"MLflow away for {seconds} s: {trained} epochs trained meanwhile, no point missing")


@pytest.mark.slow
def test_mlflow_stays_away(tmp_path, prefect, unharmed) -> None:
    store = tmp_path / "store"
    (server,) = start_servers(store, ports={"mlflow": 15000})
    try:
        there = {"PREFECT_API_URL": prefect, "MLFLOW_TRACKING_URI": server.url}
        laboratory = make_laboratory(tmp_path / "project", epochs=EPOCHS, stages=ONE, **there)
        with laboratory.start() as process:
            laboratory.watch(process, lambda: laboratory.written.total() > 0)
            stop_groups([server])
            output, _ = process.communicate(timeout=900)
        assert process.returncode == 1
        error = output.strip().splitlines()[-1]
        assert error.startswith(f"error: {server.url}: the MLflow server does not answer; every result is kept"), error
        finished = laboratory.results()
        assert len(finished) == laboratory.trials
        start_servers(store, ports={"mlflow": 15000})
        assert f"0 folds trained, {laboratory.trials} reused" in laboratory.run()
        assert laboratory.results() == finished
        check_books(store / "mlflow.db", laboratory, EPOCHS)
        assert read_results(laboratory.state) == unharmed(epochs=EPOCHS, stages=ONE)
    finally:
        stop_servers(store)
