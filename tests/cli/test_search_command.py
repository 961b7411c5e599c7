"""What `osteo search` prints."""

import json
import shutil

import pytest

from osteo_models.cli.search_command import as_lines, describe_dashboard
from osteo_models.core.settings import load_settings
from osteo_models.registry.run_context import RunContext
from tests.conftest import ROOT

SPEC = {"filters": [32, 64], "kernels": [5, 3], "strides": [2, 1], "pools": [2, 1], "pooling": "average", "dense": [16]}
ROW = {"macs": 8_716_816, "parameters": 328_161, "seconds_per_epoch": 0.766, "epochs": 2, "pareto": 1}
FOUND = {
    "candidates": [
        {"candidate": 4, "status": "failed", "balanced_accuracy": None, "spec": json.dumps(SPEC | {"dense": []})}
        | {**ROW, "seconds_per_epoch": None, "pareto": 0, "epochs": 0, "reason": "out of memory on a worker (why)"},
        {"candidate": 0, "status": "finished", "balanced_accuracy": 0.5, "spec": "{}", **ROW, "pareto": 0},
        {"candidate": 3, "status": "finished", "balanced_accuracy": 0.8314, "spec": json.dumps(SPEC), **ROW},
    ],
    "summary": {"candidates": 3, "finished": 2, "pruned": 0, "failed": 1, "rejected_shapes": 2, "rejected_costs": 0}
    | {"rejected_repeats": 1, "overhead_seconds_per_candidate": 0.123, "idle_share": 0.05, "wall_seconds": 31.4}
    | {"best_candidate": 3, "best_balanced_accuracy": 0.8314},
}


def test_the_best_stands_first_and_both_numbers_in_the_end():
    again = {"reestimated_balanced_accuracy": 0.738, "reestimated_low": 0.6665, "reestimated_high": 0.809}
    head, *rows, failed, counts, use, winner = as_lines({**FOUND, "summary": FOUND["summary"] | again})
    assert head.split()[:3] == ["candidate", "status", "bal."]
    assert rows[0].split()[:6] == ["3", "finished", "0.831*", "8.7", "328,161", "0.77"]
    assert rows[0].endswith("32@5/2 average2, 64@3 | 16")
    assert rows[1].endswith("the paper's") and rows[2].endswith("| no dense layer")
    assert failed == "  candidate 4 failed: out of memory on a worker (why)"
    assert counts == "3 candidates (2 finished, 1 failed); refused untrained: 2 impossible, 1 tried before"
    assert use == "Overhead 0.12 s per candidate; workers idle 5.0 % of 31 s; * Pareto front"
    assert winner == (
        "Winner: candidate 3, balanced accuracy of patients 0.831 in the search, 0.738 (0.666-0.809) on fresh folds: "
        "the best of many is chosen for its luck too"
    )


def test_a_search_that_is_at_work_has_no_second_number_yet():
    assert as_lines(FOUND)[-1].endswith("0.831 in the search")
    nothing = FOUND["summary"] | {"best_candidate": None, "best_balanced_accuracy": None}
    assert not any("Winner" in line for line in as_lines({**FOUND, "summary": nothing}))


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        (None, "sqlite:///.osteo/search.db"),
        ("sqlite:////elsewhere/my studies.db", "'sqlite:////elsewhere/my studies.db'"),
        ("postgresql://host/name", "postgresql://host/name"),
    ],
)
def test_the_dashboards_command_is_told(storage, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    if storage:
        text = (tmp_path / "params.yaml").read_text()
        (tmp_path / "params.yaml").write_text(text.replace("storage: null", f"storage: {storage}"))
    assert (
        describe_dashboard(RunContext(load_settings(tmp_path)))
        == f"Look at it in the browser: optuna-dashboard {shown}"
    )
