"""One run per job, one child per fold, and no call doubles anything."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import InputError, StoreError
from osteo_models.registry.store import COLLISIONS
from osteo_models.registry.tracking import Tracking


def _children(tracking: Tracking, run_id: str) -> list:
    experiment = tracking.client.get_run(run_id).info.experiment_id
    return tracking.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")


def _history(tracking: Tracking, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracking.client.get_metric_history(run_id, name)]


def test_a_job_is_recorded_with_all_that_it_came_from(tracking, make_job) -> None:
    job = make_job()
    run = tracking.client.get_run(tracking.begin_job(job))
    assert tracking.client.get_experiment(run.info.experiment_id).name == "osteo/stage-5"
    assert (run.info.run_name, run.info.status) == ("unimodal-mri-patient", "RUNNING")
    assert run.data.params == {"architecture": "unimodal", "epochs": "3"}
    assert run.data.tags["osteo.job"] == job.key
    assert run.data.tags["git.commit"] == run.data.tags["mlflow.source.git.commit"] == "1f3a"
    assert "test bed, not evidence" in run.data.tags["mlflow.note.content"]
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("lumbar-cohort", "d" * 32 + ".dir")
    assert json.loads(given.dataset.source) == {"uri": "data.dvc"}
    assert json.loads(given.dataset.profile) == {"num_rows": 2041}


def test_real_data_carries_no_synthetic_notice(tracking, make_job) -> None:
    run = tracking.client.get_run(tracking.begin_job(make_job(tags={"synthetic": "false"})))
    assert "mlflow.note.content" not in run.data.tags


def test_the_same_key_is_the_same_run(tracking, make_job) -> None:
    job = make_job()
    first = tracking.begin_job(job)
    assert tracking.begin_job(job) == first
    assert tracking.begin_job(make_job()) != first
    assert len(tracking.client.get_run(first).inputs.dataset_inputs) == 1


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_a_killed_job_is_reopened(tracking, make_job, status: str) -> None:
    job = make_job()
    run_id = tracking.begin_job(job)
    tracking.client.set_terminated(run_id, status)
    assert tracking.begin_job(job) == run_id
    assert tracking.find_job(job.key).status == "RUNNING"


def test_a_finished_job_is_left_as_it_is(tracking, make_job) -> None:
    job = make_job()
    run_id = tracking.begin_job(job)
    tracking.finish_run(run_id, {"seconds_per_epoch": 1.5})
    before = tracking.client.get_run(run_id)
    assert tracking.begin_job(dataclasses.replace(job, params={"late": 1}, tags={"late": "1"})) == run_id
    times = tracking.finish_run(run_id, {"seconds_per_epoch": 1.5})
    assert times == (before.info.start_time / 1000, before.info.end_time / 1000)
    after = tracking.client.get_run(run_id)
    assert before.info.status == "FINISHED"
    assert after.to_dictionary() == before.to_dictionary()


@pytest.mark.parametrize("blind", [1, 2])  # looks that find nothing; the second is at the writer's turn
def test_a_run_made_by_another_driver_meanwhile_wins(
    tracking, make_job, monkeypatch: pytest.MonkeyPatch, blind: int
) -> None:
    job = make_job()
    rival = tracking.begin_job(job)
    found, looks = Tracking.find_runs, iter([[]] * blind)
    monkeypatch.setattr(
        Tracking, "find_runs", lambda self, *given: (lambda real: next(looks, real))(found(self, *given))
    )
    assert tracking.begin_job(job) == rival
    experiment = tracking.client.get_run(rival).info.experiment_id
    assert len(tracking.find_runs([experiment], {"osteo.job": job.key})) == 1


def test_what_another_driver_writes_at_the_same_moment_is_found(tracking, make_job, monkeypatch) -> None:
    job, others, refused = make_job(), list[str](), list[int]()
    write = MlflowClient.log_batch

    def collide(client: MlflowClient, *given, **named) -> None:
        if not others:
            others.append("begun")
            others.append(tracking.begin_job(job))
            raise MlflowException("(psycopg.errors.UniqueViolation) duplicate key value violates param_pk")
        write(client, *given, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", collide)
    assert tracking.begin_job(job) == others[1]
    run = tracking.client.get_run(others[1])
    assert run.data.params == {"architecture": "unimodal", "epochs": "3"} and len(run.inputs.dataset_inputs) == 1

    def refuse(*_, **__) -> None:
        refused.append(1)
        raise MlflowException("(psycopg.errors.UniqueViolation) again and again")

    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    with pytest.raises(StoreError, match="again and again"):
        tracking.begin_job(make_job())
    assert len(refused) == COLLISIONS + 1


def test_a_fold_is_a_finished_child_with_its_curves(tracking, make_job, fold) -> None:
    run_id = tracking.begin_job(make_job())
    before = time.time() * 1000
    child_id = tracking.log_fold(run_id, *fold(2))
    after = time.time() * 1000
    child = tracking.client.get_run(child_id)
    assert (child.info.run_name, child.info.status) == ("fold-2", "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == run_id
    assert child.data.params == {"device": "cpu"}
    assert _history(tracking, child_id, "train_loss") == [(1, 0.7), (2, 0.35), (3, pytest.approx(0.7 / 3))]
    trained = child.info.start_time + 4500  # 3 epochs of 1.5 s, then logged
    assert before - 1 <= trained <= child.info.end_time + 1 and child.info.end_time <= after


def test_a_fold_logged_twice_adds_no_point(tracking, make_job, fold) -> None:
    run_id = tracking.begin_job(make_job())
    child_id = tracking.log_fold(run_id, *fold(0))
    end = tracking.client.get_run(child_id).info.end_time
    assert tracking.log_fold(run_id, *fold(0)) == child_id
    assert len(_children(tracking, run_id)) == 1
    assert [step for step, _ in _history(tracking, child_id, "test_loss")] == [1, 2, 3]
    assert tracking.client.get_run(child_id).info.end_time == end


def test_a_fold_killed_between_two_batches_is_completed(
    tracking, make_job, fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = tracking.begin_job(make_job())
    sent = []

    def log_once(client: MlflowClient, run: str, metrics=(), **rest) -> None:
        if metrics and sent:
            raise KeyboardInterrupt
        sent.extend(metrics)
        original(client, run, metrics=metrics, **rest)

    original = MlflowClient.log_batch
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("osteo_models.registry.tracking.BATCH", 5)
        patch.setattr(MlflowClient, "log_batch", log_once)
        tracking.log_fold(run_id, *fold(1))
    (child,) = _children(tracking, run_id)
    assert child.info.status == "RUNNING"
    assert tracking.log_fold(run_id, *fold(1)) == child.info.run_id
    for name in ("train_loss", "test_loss", "test_balanced_accuracy", "seconds"):
        assert [step for step, _ in _history(tracking, child.info.run_id, name)] == [1, 2, 3]


def test_jobs_side_by_side_in_threads(tracking, make_job, fold) -> None:
    def work(job) -> str:
        run_id = tracking.begin_job(job)
        for number in range(3):
            tracking.log_fold(run_id, *fold(number))
        tracking.finish_run(run_id, {"seconds_per_epoch": 1.0})
        return run_id

    jobs = [make_job(stage=f"stage-{1 + number % 4}") for number in range(6)] * 2  # each twice at once
    with ThreadPoolExecutor(12) as pool:
        runs = list(pool.map(work, jobs))
    assert len(set(runs)) == 6
    for run_id in set(runs):
        assert sorted(child.info.run_name for child in _children(tracking, run_id)) == ["fold-0", "fold-1", "fold-2"]
        assert _history(tracking, run_id, "seconds_per_epoch") == [(0, 1.0)]


def test_statistics_are_written_when_they_are_new(tracking, make_job) -> None:
    job = make_job()
    run_id = tracking.begin_job(job)
    tracking.finish_run(run_id, {})
    name = "stage_5.patient.roc_auc"
    for _ in range(2):
        assert tracking.log_statistics(job.key, {name: 0.8, "stage_5.patient.n": math.nan}) == run_id
    assert _history(tracking, run_id, name) == [(0, 0.8)]
    assert len(_history(tracking, run_id, "stage_5.patient.n")) == 1
    tracking.log_statistics(job.key, {name: 0.7})  # a better statistic, not a better number
    assert _history(tracking, run_id, name) == [(0, 0.8), (1, 0.7)]
    assert tracking.find_job(job.key).metrics[name] == 0.7
    assert tracking.find_job(job.key).status == "FINISHED"


def test_statistics_of_a_job_that_never_ran(tracking) -> None:
    with pytest.raises(InputError, match="no run of job ffff; run `dvc repro experiments` first"):
        tracking.log_statistics("ffff", {"a": 1.0})
    assert tracking.find_job("ffff") is None


def test_a_failure_keeps_its_reason_until_the_job_is_begun_again(tracking, make_job) -> None:
    job = make_job()
    run_id = tracking.begin_job(job)
    tracking.fail_run(run_id, "fold 3: out of memory")
    assert tracking.find_job(job.key).status == "FAILED"
    assert tracking.client.get_run(run_id).data.tags["osteo.failure"] == "fold 3: out of memory"
    tracking.begin_job(job)
    assert "osteo.failure" not in tracking.client.get_run(run_id).data.tags


def test_artifacts_lie_under_the_artifact_root(tracking, make_job, tmp_path: Path) -> None:
    run_id = tracking.begin_job(make_job())
    (tmp_path / "scores.csv").write_text("score\n0.5\n")
    tracking.finish_run(run_id, {}, [tmp_path / "scores.csv"])
    tracking.log_artifact(run_id, tmp_path / "scores.csv", "again")
    place = Path(tracking.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    assert place.is_relative_to(tracking.artifacts.removeprefix("file://"))
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*.csv")) == ["again/scores.csv", "scores.csv"]


def test_long_texts_are_cut_to_what_the_store_takes(tracking, make_job) -> None:
    run = tracking.client.get_run(tracking.begin_job(make_job(params={"spec": "x" * 9000}, tags={"why": "y" * 9000})))
    assert len(run.data.params["spec"]) == len(run.data.tags["why"]) == 5000


def test_an_experiment_deleted_by_hand(tracking, make_job) -> None:
    job = make_job(stage="stage-6")
    experiment = tracking.client.get_run(tracking.begin_job(job)).info.experiment_id
    tracking.client.delete_experiment(experiment)
    with pytest.raises(
        StoreError, match=rf"experiment osteo/stage-6 was deleted; run `mlflow experiments restore .*{experiment}"
    ):
        tracking.begin_job(make_job(stage="stage-6"))
    tracking.client.restore_experiment(experiment)


def test_an_address_with_a_password_is_not_repeated(tracking, make_job) -> None:
    shown = dataclasses.replace(tracking, uri="postgresql://osteo:only-for-this-test@host/store")
    experiment = tracking.client.create_experiment("osteo/stage-0")
    tracking.client.delete_experiment(experiment)
    for ask in (lambda: shown.log_statistics("ffff", {}), lambda: shown.find_experiment("osteo/stage-0")):
        with pytest.raises((InputError, StoreError), match="^MLFLOW_TRACKING_URI: ") as told:
            ask()
        assert "only-for-this-test" not in str(told.value)


def test_errors_of_the_store_come_as_one_line(tracking) -> None:
    with pytest.raises(StoreError, match=r"sqlite:.*Run with id=nonesuch not found") as caught:
        tracking.finish_run("nonesuch", {})
    assert "\n" not in str(caught.value)
