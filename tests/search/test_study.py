"""The study by itself: what it draws, decides and remembers; no worker here."""

import warnings

import optuna
import pytest
from optuna.trial import TrialState

from osteo_models.core.errors import InputError, StoreError
from osteo_models.core.params import parse_params
from osteo_models.search.leaderboard import Timing
from osteo_models.search.study import Study, StudySpec
from osteo_models.search.study_storage import (
    find_latest,
    list_candidates,
    open_storage,
    open_study,
    read_record,
    storage_url,
)
from osteo_models.training.recipe import Recipe
from osteo_models.training.trial import EpochReport

TIMING = Timing(1.0, "here-1", 2.0, 3.0, 0.5)


@pytest.fixture
def make_spec(raw_params):
    def make(candidates=6, epochs=3, learning_rate=None, **space):
        raw_params["search"]["budgets"]["quick"] |= {"candidates": candidates, "folds": 2, "epochs": epochs}
        raw_params["search"]["space"] |= space
        search = parse_params(raw_params).search
        recipe = Recipe(epochs, precision="float32")
        return StudySpec(
            search.space, search.budgets["quick"], learning_rate, recipe, 7, 1, "cpu", {"folds": "f"}, {"search": 1}
        )

    return make


@pytest.fixture
def url(tmp_path):
    return storage_url(tmp_path, None)


def load_trials(url, spec):
    return open_study(open_storage(url), url, spec.key)


def report(epoch, value, epochs=3):
    return EpochReport(epoch, epoch == epochs, value, 0.25, 0.125)


def score(record):
    """A value that hangs on the network alone: small networks are good."""
    return 1 - record.macs / 1e8


def train(study, record, from_epoch=1):
    epoch = from_epoch
    epochs = study.spec.budget.epochs
    while not study.take(record.number, report(epoch, score(record) - 0.01 / epoch, epochs), TIMING):
        epoch += 1


def search(study, most=99):
    """Run candidates one by one; gives those that were run."""
    done = []
    while len(done) < most and (record := study.next()) is not None:
        train(study, record)
        done.append(record)
    return done


def facts(study):
    return [(record.number, record.status, record.spec, record.values) for record in study.records()]


def test_a_search_from_end_to_end(url, make_spec):
    spec = make_spec(learning_rate=(1e-4, 1e-2))
    study = Study(url, spec)
    assert study.count_left() == 6
    records = search(study)
    assert (records[0].number, records[0].spec, records[0].learning_rate) == (0, {}, 1e-3)
    assert len(records) == 6 and study.count_left() == 0 and study.next() is None
    found = study.records()
    assert {record.status for record in found} == {"finished", "pruned"}
    for record in found:
        assert record.timing == TIMING and record.seconds_per_epoch == 0.125
        assert record.epochs == (3 if record.status == "finished" else 1)  # rungs: after epoch 1 and after epoch 3
    # What optuna-dashboard reads: every state is final, and values are the last epoch's.
    trials = load_trials(url, spec).get_trials()
    assert all(trial.state.is_finished() for trial in trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert [trial.value for trial in complete] == [record.balanced_accuracy for record in found if record.epochs == 3]
    refused = [trial.user_attrs["refused"] for trial in trials if "refused" in trial.user_attrs]
    assert len(trials) == 6 + len(refused) and sum(study.count_refused().values()) == len(refused) > 0
    assert list_candidates(load_trials(url, spec))[0].params["filters_1"] == 64


@pytest.mark.fault
def test_killed_after_each_step_nothing_is_lost_or_doubled(url, make_spec, tmp_path):
    spec = make_spec()
    whole = Study(f"sqlite:///{tmp_path / 'whole.db'}", spec)
    search(whole)
    while Study(url, spec).count_left():  # a process for every epoch
        study = Study(url, spec)
        record = study.next()
        epoch = len(record.values) + 1
        study.take(record.number, report(epoch, score(record) - 0.01 / epoch), TIMING)
    assert facts(Study(url, spec)) == facts(whole)


def test_an_epoch_that_is_known_is_taken_once(url, make_spec):
    study = Study(url, make_spec())
    first = study.next()
    assert not study.take(first.number, report(1, 0.9), TIMING)
    again = Study(url, make_spec())  # killed, and without a checkpoint
    assert again.next().number == first.number
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not again.take(first.number, report(1, 0.9), TIMING)
        assert not again.take(first.number, report(2, 0.8), TIMING)
        assert again.take(first.number, report(3, 0.85), TIMING)
    assert again.records()[0].values == {1: 0.9, 2: 0.8, 3: 0.85}


def test_what_comes_next_hangs_on_what_is_known_alone(url, make_spec, tmp_path):
    first, second = Study(url, make_spec()), Study(f"sqlite:///{tmp_path / 'other.db'}", make_spec())
    search(first, 3)
    search(second, 3)
    resumed = Study(url, make_spec())
    assert resumed.next().spec == second.next().spec


def test_a_failure_is_kept_with_its_reason_and_the_search_goes_on(url, make_spec):
    study = Study(url, make_spec())
    study.fail(study.next().number, "out of memory", TIMING)
    study.fail(study.next().number, "the worker died")
    records = study.records()
    assert [(record.status, record.reason) for record in records] == [
        ("failed", "out of memory"),
        ("failed", "the worker died"),
    ]
    assert [record.timing for record in records] == [TIMING, None]
    assert len(search(study)) == 4


def test_more_candidates_go_on_with_the_study_and_fewer_look_at_its_beginning(url, make_spec):
    search(Study(url, make_spec(candidates=3)))
    more = Study(url, make_spec(candidates=5))
    before = facts(more)
    assert len(search(more)) == 2
    assert facts(more)[:3] == before
    assert facts(Study(url, make_spec(candidates=3))) == before


def test_the_key_holds_everything_else(make_spec):
    spec = make_spec()
    assert make_spec(candidates=9).key == spec.key
    others = [make_spec(epochs=2), make_spec(learning_rate=(1e-4, 1e-2)), make_spec(pools=[2, 3])]
    assert len({spec.key, *(other.key for other in others)}) == 4


def test_a_space_without_further_networks_says_so(url, make_spec, monkeypatch):
    monkeypatch.setattr("osteo_models.search.study.MOST_REFUSED", 30)
    lists = {"layers": [2], "filters": [64, 32], "kernels": [3], "strides": [1], "poolings": ["max"], "pools": [2]}
    study = Study(url, make_spec(20, 1, **lists, dense_layers=[2], dense=[128, 64]))
    with pytest.raises(InputError, match=r"search\.space: 30 networks in a row were refused .* widen the space"):
        search(study)
    assert study.count_refused()["tried before"] >= 30
    specs = [str(record.spec) for record in study.records()]
    assert len(specs) == len(set(specs)) > 6 and specs[0] == "{}"


def test_the_newest_study_is_found(url, make_spec, tmp_path):
    with pytest.raises(InputError, match="no search has run; run `osteo search`"):
        find_latest(url)
    assert not list(tmp_path.iterdir())  # asking makes nothing
    for epochs in (2, 3):
        study = Study(url, make_spec(epochs=epochs))
        study.begin_session(2)
    assert find_latest(url).study_name.endswith(make_spec(epochs=3).key)
    assert [session.slots for session in study.sessions()] == [2]
    assert isinstance(find_latest(url), optuna.Study)
    study.next()
    assert read_record(list_candidates(find_latest(url))[0]).status == "running"


def test_a_storage_that_cannot_be_used_is_named_without_its_password(tmp_path):
    path = tmp_path / "search.db"
    path.write_text("no database")
    with pytest.raises(StoreError, match=r"search\.db: .*not a database.*check `search\.storage`"):
        open_storage(f"sqlite:///{path}")
    with pytest.raises(StoreError) as caught:
        open_storage("nonsense://user:secret@host/name")
    assert "secret" not in str(caught.value)


def test_the_papers_network_is_trained_to_the_end_whatever_its_rank(url, make_spec):
    study = Study(url, make_spec())
    paper, other, worst = study.next(), study.next(), study.next()
    assert not study.take(other.number, report(1, 0.9), TIMING)
    assert not study.take(paper.number, report(1, 0.5), TIMING)
    assert study.take(worst.number, report(1, 0.6), TIMING)
