"""The journal of champions: who changed one, when, on what evidence. Events are only appended, in a hash chain.

Two tables beside MLflow's own, in the same database: `osteo_events`, and `osteo_champions`, one row per model that says
how its events end. That row is what two writers at once compete for, and what shows that the last events are gone.
A tracking server shows no database, and its interface cannot compare and set: beside one, OSTEO_JOURNAL_URI names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    select,
    text,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from osteo_models.core.errors import ConflictError, InputError, StoreError
from osteo_models.registry.journal_events import (
    START,
    Author,
    ChampionState,
    Entry,
    Event,
    History,
    apply_event,
    make_event,
)
from osteo_models.registry.store import DATABASES, explain_mlflow

SECONDS_TO_WAIT: Final = 60  # for another writer of an SQLite file

_TABLES: Final = MetaData()
_EVENTS: Final = Table(
    "osteo_events",
    _TABLES,
    Column("name", String(250), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("time", String(40), nullable=False),
    Column("who", String(250), nullable=False),
    Column("action", String(20), nullable=False),
    Column("version_before", Integer),
    Column("version_after", Integer),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("evidence_sha256", String(64), nullable=False),
    Column("git_commit", String(64), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
)
_CHAMPIONS: Final = Table(
    "osteo_champions",
    _TABLES,
    Column("name", String(250), primary_key=True),
    Column("champion", Integer),
    Column("changes", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
)


@dataclass(frozen=True)
class Journal:
    """An open journal."""

    engine: Engine
    uri: str

    def state(self, name: str) -> ChampionState:
        """The state of a model's champion; a model without events has none."""
        with explain_mlflow(self.uri), self.engine.begin() as connection:
            return _read_state(connection, name)

    def names(self) -> list[str]:
        """The models with events."""
        with explain_mlflow(self.uri), self.engine.begin() as connection:
            found = {row.name for table in (_EVENTS, _CHAMPIONS) for row in connection.execute(select(table.c.name))}
        return sorted(found)

    def history(self, name: str) -> list[Event]:
        """A model's events, the oldest first."""
        query = select(_EVENTS).where(_EVENTS.c.name == name).order_by(_EVENTS.c.position)
        with explain_mlflow(self.uri), self.engine.begin() as connection:
            return [Event(**row) for row in connection.execute(query).mappings()]

    def append(
        self, name: str, author: Author, entries: Sequence[Entry], *, expected: ChampionState | None = None
    ) -> list[Event]:
        """Append events, all or none.

        Args:
            name: Registered model.
            author: The person who makes them.
            entries: The events in their order; a promotion or rollback among them changes the champion.
            expected: Compare and set: append only if the champion has not been changed since this was read.

        Raises:
            ConflictError: It has been.
            StoreError: The database cannot be used.
        """
        with explain_mlflow(self.uri), self.engine.begin() as connection:
            state = _lock_state(connection, name)
            if expected is not None and state.changes != expected.changes:
                raise _conflict(connection, name, state)
            made: list[Event] = []
            for entry in entries:
                made.append(make_event(name, entry, author, state))
                connection.execute(_EVENTS.insert().values(**asdict(made[-1])))
                state = apply_event(state, made[-1])
            connection.execute(update(_CHAMPIONS).where(_CHAMPIONS.c.name == name).values(**asdict(state)))
            return made

    def verify(self, name: str) -> list[str]:
        """What is wrong with a model's events: altered, removed, inserted, or not where they end; empty if nothing."""
        faults: list[str] = []
        state = ChampionState()
        for stored in self.history(name):
            if stored.position != state.events + 1:
                gap = f"event {state.events + 1}" if stored.position > state.events else f"event {stored.position}"
                faults.append(f"{gap} is missing or out of place")
            if hashlib.sha256(stored.evidence.encode()).hexdigest() != stored.evidence_sha256:
                faults.append(f"the evidence of event {stored.position} was altered")
            if stored.hash() != stored.sha256:
                faults.append(f"event {stored.position} was altered")
            if stored.previous != state.sha256:
                faults.append(f"event {stored.position} does not follow the event before it")
            state = replace(apply_event(state, stored), events=stored.position)
        recorded = self.state(name)
        if recorded != state:
            ends = f"{recorded.events} events, champion {recorded.champion}"
            faults.append(f"the events do not end as recorded: {ends} recorded, {state.events}, {state.champion} found")
        return faults


def open_journal(uri: str) -> Journal:
    """Open the journal in a database; its tables are made where they are missing.

    Args:
        uri: `sqlite:///FILE` or `postgresql://...`.

    Raises:
        StoreError: The database cannot be used, or the address is that of a tracking server.
    """
    scheme = check_address(uri)
    with explain_mlflow(uri):
        engine = _create_engine(uri, scheme)
        _create_tables(engine)
        return Journal(engine, uri)


def check_address(uri: str) -> str:
    """See that a journal can be kept at an address, and give the kind of database.

    Raises:
        StoreError: It is that of a tracking server, or of nothing known.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in DATABASES:
        raise StoreError(
            f"no journal can be kept at {scheme}://...: the record of promotions needs a database",
            where="OSTEO_JOURNAL_URI",
            allowed="sqlite:///FILE, postgresql://...",
            remedy="beside a tracking server set OSTEO_JOURNAL_URI, best to the server's own database",
        )
    return scheme


def _create_engine(uri: str, scheme: str) -> Engine:
    try:
        url = make_url(uri)
    except ArgumentError as error:
        raise StoreError(str(error).splitlines()[0], where="OSTEO_JOURNAL_URI") from None
    if scheme != "sqlite":
        return create_engine(url, poolclass=NullPool)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": SECONDS_TO_WAIT})

    # SQLite's driver begins a transaction at the first write, when what was read may be old already.
    @event.listens_for(engine, "connect")
    def _disable_driver_transactions(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin_immediate(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _create_tables(engine: Engine) -> None:
    for attempt in (1, 2):
        try:
            with engine.begin() as connection:
                for table in _TABLES.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
            return
        except SQLAlchemyError:  # PostgreSQL: another process makes the same table at the same time
            if attempt == 2:
                raise


def _read_state(connection: Connection, name: str, *, lock: bool = False) -> ChampionState:
    query = select(_CHAMPIONS).where(_CHAMPIONS.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return ChampionState(**{field.name: row[field.name] for field in fields(ChampionState)}) if row else ChampionState()


def _lock_state(connection: Connection, name: str) -> ChampionState:
    """A model's row, held until the transaction ends; both databases take one writer of it at a time."""
    statement = "INSERT INTO osteo_champions (name, changes, events, sha256) VALUES (:name, 0, 0, :start)"
    connection.execute(text(f"{statement} ON CONFLICT (name) DO NOTHING"), {"name": name, "start": START})
    return _read_state(connection, name, lock=True)


def _conflict(connection: Connection, name: str, state: ChampionState) -> ConflictError:
    query = select(_EVENTS).where(_EVENTS.c.name == name).order_by(_EVENTS.c.position.desc())
    changes = (row for row in connection.execute(query).mappings() if row["action"] in ("promotion", "rollback"))
    last = next(changes, None)
    by = f" by {last['who']} at {last['time']}" if last else ""
    return ConflictError(
        f"the champion was changed to version {state.champion}{by} while this version was judged",
        where=name,
        remedy="nothing was changed by this command: run it again, and it is judged against the new champion",
    )


def show_history(journal: Journal, name: str) -> History:
    """Read and verify a model's events.

    Raises:
        InputError: There are none.
    """
    events, faults = journal.history(name), journal.verify(name)
    if not events and not faults:
        names = ", ".join(journal.names())
        raise InputError(f"no events of {name!r}", where="journal", allowed=names or "nothing was promoted yet")
    return History(name, journal.state(name).champion, tuple(events), tuple(faults))
