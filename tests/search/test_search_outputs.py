import json

import pytest

from osteo_models.evaluation import Estimate
from osteo_models.search.leaderboard import (
    Record,
    Session,
    Timing,
    read_candidates,
    summarize_search,
    tabulate,
    write_search,
)

RECORDS = [
    Record(0, "finished", {}, None, {1: 0.6, 2: 0.8}, 30, 5, 0.5, timing=Timing(1.0, "a", 2.0, 6.0, 3.5)),
    Record(2, "pruned", {"filters": [8]}, 0.01, {1: 0.5}, 10, 3, 0.25),
    Record(3, "failed", {"filters": [4]}, None, {}, 9, 2, reason="out of memory"),
]
REFUSED = {"impossible": 4, "too costly": 1, "tried before": 2}


def test_the_summary_in_numbers():
    again = Estimate(0.7, 0.65, 0.75, "effective patients")
    found = summarize_search(RECORDS, [Session(1.0, 1)], REFUSED, reestimate=again)
    assert found["candidates"] == 3
    assert (found["finished"], found["pruned"], found["failed"], found["rejected_shapes"]) == (1, 1, 1, 4)
    assert (found["best_candidate"], found["best_balanced_accuracy"]) == (0, 0.8)
    assert [found[f"reestimated_{name}"] for name in ("balanced_accuracy", "low", "high")] == [0.7, 0.65, 0.75]
    assert (found["overhead_seconds_per_candidate"], found["wall_seconds"]) == (0.5, 5.0)
    assert "reestimated_balanced_accuracy" not in summarize_search(RECORDS, [], REFUSED)


def test_without_a_finished_candidate_there_is_no_best():
    found = summarize_search(RECORDS[1:], [], REFUSED)
    assert found["best_candidate"] is None and found["best_balanced_accuracy"] is None


def test_the_table_comes_back_as_it_was_written(tmp_path):
    write_search(tmp_path, RECORDS, {"candidates": 3})
    assert json.loads((tmp_path / "search" / "summary.json").read_text()) == {"candidates": 3}
    rows = read_candidates(tmp_path / "search" / "candidates.csv")
    assert rows == tabulate(RECORDS)
    assert [row["pareto"] for row in rows] == [1, 0, 0]
    assert rows[2]["balanced_accuracy"] is None and rows[2]["reason"] == "out of memory"
    assert json.loads(rows[1]["spec"]) == {"filters": [8]} and rows[1]["learning_rate"] == pytest.approx(0.01)
