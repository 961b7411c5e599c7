"""A search that is killed goes on: every candidate once, none lost, no number twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from osteo_models.core.errors import OsteoError
from osteo_models.search.driver import reestimate
from osteo_models.search.leaderboard import find_best, summarize_timing
from osteo_models.search.study import Study
from pipelines.search import explore
from tests.conftest import ROOT
from tests.scenarios.searching import EPOCHS, open_search, repeat
from tests.training.machines import add_machine, start_machines

pytestmark = [
    pytest.mark.timeout(900),
    # Ray leaves a socket and a log file open when it shuts down.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def rows(folder, file, query):
    path = folder / file
    if not path.is_file():
        return []
    with sqlite3.connect(path, timeout=30) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # not migrated yet
            return []


def count_epochs(folder):
    return len(rows(folder, ".osteo/search.db", "select 1 from trial_intermediate_values"))


def kill_after(folder, candidates, epochs, delay=0.0):
    """Start a search, and kill it some time after it noted so many epochs more."""
    wanted = count_epochs(folder) + epochs
    command = [sys.executable, "-m", "tests.scenarios.searching", str(folder), str(candidates)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 240
            while count_epochs(folder) < wanted:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, "no epoch was finished in time"
                time.sleep(0.05)
            time.sleep(delay)
        finally:
            process.kill()


def check_books(folder, search, candidates):
    """The study and MLflow tell the same, once."""
    records = search.study.records()
    assert len(records) == candidates and {record.status for record in records} <= {"finished", "pruned"}
    assert rows(folder, ".osteo/search.db", "select count(*) from trials where state in ('RUNNING', 'WAITING')") == [
        (0,)
    ]
    tracking, experiment = search.context.tracking, search.context.tracking.find_experiment("osteo/search")
    children = tracking.find_runs([experiment], {"mlflow.parentRunId": search.run_id})
    assert sorted(int(run.data.tags["osteo.candidate"]) for run in children) == [record.number for record in records]
    assert {run.info.status for run in children} == {"FINISHED"}
    doubled = "select count(*) from (select 1 from metrics group by run_uuid, key, step having count(*) > 1)"
    assert rows(folder, "mlflow.db", doubled) == [(0,)]
    points = "select count(*) from metrics where key = 'balanced_accuracy'"
    assert rows(folder, "mlflow.db", points) == [(sum(record.epochs for record in records),)]
    assert count_epochs(folder) == sum(record.epochs for record in records)
    assert not list(folder.rglob("candidate-*/**/*.safetensors"))
    return records


def test_killed_once_and_its_winner(tmp_path):
    kill_after(tmp_path, 4, epochs=2)
    with open_search(tmp_path, 4) as search:
        before = {record.number: record for record in search.study.records() if record.status != "running"}
        explore.fn(search)
        records = check_books(tmp_path, search, 4)
        assert [record for record in records if record.number in before] == list(before.values())
        assert records[0].spec == {} and records[0].epochs == EPOCHS  # the paper's network goes all the way

        # What the code measures of itself is what happened.
        found = summarize_timing(records, search.study.sessions())
        timings = [record.timing for record in records if record.number not in before]
        assert len({timing.worker for timing in timings}) <= search.cluster.slots  # processes are used again
        assert timings and all(0 < timing.training_seconds < timing.ended - timing.started for timing in timings)
        assert 0 < found["overhead_seconds_per_candidate"] < found["wall_seconds"] and 0 <= found["idle_share"] < 1

        best, epochs = find_best(records), []
        arguments = (best, search.study.spec, search.development, search.cluster)
        note = lambda fold, epoch: epochs.append((fold, epoch))  # noqa: E731
        first = reestimate(*arguments, folder=search.context.settings.jobs, on_epoch=note)
        assert sorted(epochs) == [(fold, epoch) for fold in (0, 1) for epoch in range(1, EPOCHS + 1)]
        assert first.value is not None and 0 <= first.value <= 1
        assert reestimate(*arguments, folder=search.context.settings.jobs, on_epoch=note) == first
        assert len(epochs) == 2 * EPOCHS  # found finished

        wild = repeat(search, recipe=replace(search.study.spec.recipe, learning_rate=1e30))
        with pytest.raises(OsteoError, match=r"search: all 4 candidates failed, the first: .*the loss is (nan|inf)"):
            explore.fn(wild)
        assert all(record.timing for record in wild.study.records())  # no worker died of it


class Killer(Study):
    """Kills the worker of one candidate whenever it reports, as Ray's memory monitor does: with SIGKILL."""

    victim, deaths = 0, ()

    def take(self, number, report, timing):
        self.victim = self.victim or number  # the paper's network, number 0, is spared
        if not number or number != self.victim:
            return super().take(number, report, timing)
        worker = int(timing.worker.rpartition("-")[2])
        os.kill(worker, signal.SIGKILL)
        self.deaths = (*self.deaths, worker)
        return False


def want_memory(search):
    """The search with a space in which some networks are larger than any memory, and with a killer."""
    lists = {"layers": (2,), "filters": (64, 32), "kernels": (3,), "strides": (1,), "pools": (2,)}
    spec = search.study.spec
    space = spec.space.model_copy(update=lists | {"dense_layers": (2,), "dense": (128, 64, 32, 10**12)})
    budget = spec.budget.model_copy(update={"million_macs": 1e30, "million_parameters": 1e30})
    return repeat(search, Killer, space=space, budget=budget)


@pytest.mark.slow
def test_without_memory_a_candidate_fails_with_that_reason_and_the_search_goes_on(tmp_path):
    with open_search(tmp_path, 5) as whole:
        search = want_memory(whole)
        records = explore.fn(search)
    assert len(set(search.study.deaths)) == len(search.study.deaths) == 3  # its first worker, and two further tries
    large = {record.number for record in records if 10**12 in record.spec.get("dense", [])}
    reasons = {record.number: record.reason for record in records if record.status == "failed"}
    assert large and set(reasons) == large | {search.study.victim}
    assert reasons.pop(search.study.victim) == "its worker process died, 3 times"
    for reason in reasons.values():
        assert re.fullmatch(r"out of memory on a worker \(RuntimeError: .*can't allocate memory.*\)", reason)
    others = [record for record in records if record.status != "failed"]
    assert len(others) == 5 - len(large) - 1 >= 2 and {record.status for record in others} <= {"finished", "pruned"}
    assert records[0].epochs == EPOCHS

    tracking = search.context.tracking
    children = tracking.find_runs([tracking.find_experiment("osteo/search")], {"mlflow.parentRunId": search.run_id})
    status = {int(run.data.tags["osteo.candidate"]): run.info.status for run in children}
    assert {number for number, each in status.items() if each == "FAILED"} == large | {search.study.victim}
    assert len(status) == 5


class Wrecker(Study):
    """Kills the machine under one candidate whenever it reports; another one joins."""

    victim, deaths, machines = 0, 0, None

    def take(self, number, report, timing):
        self.victim = self.victim or number
        if not number or number != self.victim:
            return super().take(number, report, timing)
        self.deaths += 1
        (machine,) = self.machines.worker_nodes
        self.machines.remove_node(machine, allow_graceful=False)
        add_machine(self.machines, num_cpus=1)
        return False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_candidate_whose_machines_die_is_gone_on_with(tmp_path):
    token = tmp_path / "token"
    token.write_text("a" * 64, encoding="utf-8")
    with start_machines(token) as machines:
        add_machine(machines, num_cpus=1)
        with open_search(tmp_path, 2, machines.address) as search:
            wrecked = repeat(search, Wrecker)
            study = wrecked.study
            study.machines = machines
            found = (
                "^search: candidates left unfinished, as their machines died: [1-9][0-9]*; run the same command again"
            )
            with pytest.raises(OsteoError, match=found):
                explore.fn(wrecked)
            assert study.deaths == 3
            left = {record.number: record.status for record in study.records()}
            assert left == {0: "finished", study.victim: "running"}
            again = repeat(search)
            explore.fn(again)
            check_books(tmp_path, again, 2)


def ask_dashboard(folder, study):
    """What optuna-dashboard, opened as `osteo search` says, tells of a study."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tool = str(Path(sys.executable).with_name("optuna-dashboard"))
    command = [tool, "sqlite:///.osteo/search.db", "--host", "127.0.0.1", "--port", str(port)]

    def get(path):
        with urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=30) as answer:
            return json.load(answer)

    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, "no answer in time"
                with suppress(URLError):
                    studies = get("studies")["study_summaries"]
                    break
                time.sleep(0.2)
            (number,) = [each["study_id"] for each in studies if each["study_name"] == study]
            return get(f"studies/{number}")
        finally:
            process.terminate()


@pytest.mark.slow
def test_killed_three_times_at_random(tmp_path):
    moments = random.Random(11)
    for _ in range(3):
        kill_after(tmp_path, 8, epochs=moments.randint(1, 4), delay=moments.random())
    with open_search(tmp_path, 8) as search:
        explore.fn(search)
        check_books(tmp_path, search, 8)
        explore.fn(search)  # nothing is left to do
        records = check_books(tmp_path, search, 8)
        name = f"traditional_cnn-{search.study.spec.key}"
    trials = {trial["number"]: trial for trial in ask_dashboard(tmp_path, name)["trials"]}
    for record in records:
        shown = trials[record.number]
        assert shown["state"] == {"finished": "Complete", "pruned": "Pruned"}[record.status]
        assert {each["step"]: each["value"] for each in shown["intermediate_values"]} == dict(record.values)
