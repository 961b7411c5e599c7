"""A search's runs: one parent, one child per candidate, and no call doubles anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mlflow.tracking import MlflowClient

from osteo_models.registry.search_runs import begin_search, log_candidate
from osteo_models.registry.tracking import Tracking
from osteo_models.search.leaderboard import Record, Timing

TAGS = {"git.commit": "1f3a", "profile": "quick", "synthetic": "true"}
CANDIDATE = Record(
    number=3,
    status="pruned",
    spec={"filters": [8, 4]},
    learning_rate=0.01,
    values={1: 0.6, 2: 0.7},
    macs=5_000,
    parameters=120,
    seconds_per_epoch=0.5,
    timing=Timing(1.0, "worker", 1_700_000_000.0, 1_700_000_012.5, 10.0),
)


def children(tracking: Tracking, run_id: str) -> list:
    experiment = tracking.client.get_run(run_id).info.experiment_id
    return tracking.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")


def history(tracking: Tracking, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracking.client.get_metric_history(run_id, name)]


@pytest.fixture
def key(keys) -> str:
    return f"search{next(keys)}"


def test_a_search_and_its_candidates(tracking, key) -> None:
    run_id = begin_search(tracking, key, {"seed": 7}, TAGS)
    log_candidate(tracking, run_id, CANDIDATE)
    tracking.finish_run(run_id, {"best_balanced_accuracy": 0.7})
    run = tracking.client.get_run(run_id)
    assert tracking.client.get_experiment(run.info.experiment_id).name == "osteo/search"
    assert (run.info.status, run.data.params) == ("FINISHED", {"seed": "7"})
    assert (run.data.tags["osteo.job"], run.data.tags["git.commit"]) == (key, "1f3a")
    assert "test bed, not evidence" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics == {"best_balanced_accuracy": 0.7}
    (child,) = children(tracking, run_id)
    assert (child.info.run_name, child.info.status) == ("candidate-3", "FINISHED")
    assert (child.info.start_time, child.info.end_time) == (1_700_000_000_000, 1_700_000_012_500)
    assert child.data.params == {"spec.filters": "[8, 4]", "learning_rate": "0.01"}
    assert (child.data.tags["osteo.status"], child.data.tags["osteo.candidate"]) == ("pruned", "3")
    assert history(tracking, child.info.run_id, "balanced_accuracy") == [(1, 0.6), (2, 0.7)]
    assert child.data.metrics["macs"] == 5_000


def test_repeating_everything_doubles_nothing(tracking, key) -> None:
    for _ in range(2):
        run_id = begin_search(tracking, key, {"seed": 7}, TAGS)
        assert tracking.client.get_run(run_id).info.status == "RUNNING"
        log_candidate(tracking, run_id, CANDIDATE)
        tracking.finish_run(run_id, {"best_balanced_accuracy": 0.7})
    (child,) = children(tracking, run_id)
    assert history(tracking, child.info.run_id, "balanced_accuracy") == [(1, 0.6), (2, 0.7)]
    assert history(tracking, run_id, "best_balanced_accuracy") == [(0, 0.7)]
    assert begin_search(tracking, f"{key}-other", {}, TAGS) != run_id


def test_a_run_that_was_killed_half_way_is_completed(tracking, key, monkeypatch) -> None:
    run_id = begin_search(tracking, key, {}, TAGS)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            log_candidate(tracking, run_id, replace(CANDIDATE, values={1: 0.6}))
    (child,) = children(tracking, run_id)
    assert child.info.status == "RUNNING"
    log_candidate(tracking, run_id, CANDIDATE)
    (child,) = children(tracking, run_id)
    assert child.info.status == "FINISHED"
    assert history(tracking, child.info.run_id, "balanced_accuracy") == [(1, 0.6), (2, 0.7)]
    assert history(tracking, child.info.run_id, "macs") == [(0, 5_000)]


def test_an_answer_that_was_lost_and_asked_for_again_makes_one_run(tracking, key, monkeypatch) -> None:
    original = MlflowClient.create_run

    def create_twice(*given, **named):
        original(*given, **named)
        return original(*given, **named)

    monkeypatch.setattr(MlflowClient, "create_run", create_twice)
    run_id = begin_search(tracking, key, {"seed": 7}, TAGS)
    log_candidate(tracking, run_id, CANDIDATE)
    experiment = tracking.find_experiment("osteo/search")
    assert [run.info.run_id for run in tracking.find_runs([experiment], {"osteo.job": key})] == [run_id]
    (child,) = children(tracking, run_id)
    assert (child.info.status, child.info.start_time) == ("FINISHED", 1_700_000_000_000)
    assert all(":" in run.data.tags["osteo.process"] for run in (tracking.client.get_run(run_id), child))


def test_a_failed_candidate_says_why(tracking, key) -> None:
    run_id = begin_search(tracking, key, {}, TAGS)
    failed = replace(CANDIDATE, status="failed", values={}, reason="out of memory", timing=None)
    log_candidate(tracking, run_id, failed)
    (child,) = children(tracking, run_id)
    assert (child.info.status, child.data.tags["osteo.failure"]) == ("FAILED", "out of memory")


def test_a_search_that_failed_is_reopened(tracking, key) -> None:
    run_id = begin_search(tracking, key, {}, TAGS)
    tracking.fail_run(run_id, "the disk is full")
    assert begin_search(tracking, key, {}, TAGS) == run_id
    run = tracking.client.get_run(run_id)
    assert run.info.status == "RUNNING" and "osteo.failure" not in run.data.tags
