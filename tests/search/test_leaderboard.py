from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osteo_models.search.leaderboard import Record, Session, Timing, find_best, find_front, summarize_timing

FIRST = Record(0, "finished", {}, None, {1: 0.6, 2: 0.8}, macs=30, parameters=5)


def make(*rows):
    return [
        replace(FIRST, number=number, values={1: value}, macs=macs, status=status)
        for number, (value, macs, status) in enumerate(rows)
    ]


def test_a_record_stands_where_its_last_epoch_left_it():
    assert (FIRST.epochs, FIRST.balanced_accuracy) == (2, 0.8)
    begun = replace(FIRST, values={})
    assert (begun.epochs, begun.balanced_accuracy) == (0, None)


def test_the_best_is_finished_and_of_equals_the_cheapest():
    records = make((0.8, 9, "finished"), (0.9, 9, "pruned"), (0.8, 7, "finished"), (0.8, 7, "finished"))
    best = find_best(records)
    assert best is not None and best.number == 2
    assert find_best(make((0.9, 1, "failed"))) is None


candidates = st.lists(
    st.tuples(st.sampled_from([0.5, 0.6, 0.7]), st.integers(1, 4), st.sampled_from(["finished", "pruned"])), max_size=9
)


@given(candidates)
def test_the_front_is_what_nobody_beats(rows):
    records = make(*rows)
    finished = [record for record in records if record.status == "finished"]

    def beats(one, other):
        least = one.balanced_accuracy >= other.balanced_accuracy and one.macs <= other.macs
        return least and (one.balanced_accuracy, one.macs) != (other.balanced_accuracy, other.macs)

    front = find_front(records)
    points = {(record.balanced_accuracy, record.macs) for record in records if record.number in front}
    unbeaten = [record for record in finished if not any(beats(other, record) for other in finished)]
    assert points == {(record.balanced_accuracy, record.macs) for record in unbeaten}
    assert len(front) == len(points)  # of equals one


def test_overhead_and_idle_time():
    def trained(number, session, worker, started, ended, seconds):
        return replace(FIRST, number=number, timing=Timing(session, worker, started, ended, seconds))

    records = [
        trained(0, 100.0, "a", 103.0, 110.0, 6.5),
        trained(1, 100.0, "a", 110.2, 120.2, 9.8),
        trained(2, 100.0, "b", 104.0, 114.2, 10.0),
        trained(3, 200.0, "a", 202.0, 207.0, 4.9),  # after a restart, alone
        replace(FIRST, number=4, status="failed"),
    ]
    found = summarize_timing(records, [Session(100.0, 2), Session(150.0, 2), Session(200.0, 2)])
    assert found["wall_seconds"] == pytest.approx(20.2 + 7)
    assert found["training_seconds"] == pytest.approx(31.2)
    overhead = (17.2 - 16.3) + 0.2 + 0.1
    assert found["overhead_seconds_per_candidate"] == pytest.approx(overhead / 4)
    assert found["start_seconds_per_worker"] == pytest.approx((3 + 4 + 2) / 3)
    assert found["idle_share"] == pytest.approx((6.0 + 7.0) / (2 * 20.2 + 2 * 7))


def test_nothing_measured_is_nothing():
    assert set(summarize_timing([FIRST], [Session(1.0, 2)]).values()) == {0.0}
