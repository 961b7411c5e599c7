"""The log of an import in progress: one row per input in an SQLite file, so that a killed import continues."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from osteo_models.data.intake.sources import Input

SCHEMA: Final = """
create table if not exists about (name text primary key, value text);
create table if not exists inputs (
    id text primary key, name blob, size integer, stamp text, entry integer, archive blob, fault text,
    state text, reason text, doubt text, patient text, study text, series text, modality text, plane text,
    frames integer, rank text, stack text, acquisition text, geometry text, images text
);
create index if not exists by_name on inputs (name);
create index if not exists by_state_and_name on inputs (state, name);
create index if not exists by_stack_and_name on inputs (stack, name);
create index if not exists by_study on inputs (patient, study);
"""
PAGE: Final = 512  # rows read at once
JSON_COLUMNS: Final = ("images", "geometry")

Row = dict[str, Any]


class ImportLog:
    """Inputs by state: `new`, `readable` (its header is usable), `spare` (readable CT of a study with a better series),
    `accepted`, `doubtful`, `refused`.
    """

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        """Open a log; one of another import is emptied.

        Args:
            path: The database file.
            about: What decides the result: source, tables, key.
        """
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = normal")
        self._database.executescript(SCHEMA)
        if dict(self._database.execute("select name, value from about")) != about:
            self._database.execute("delete from inputs")
            self._database.execute("delete from about")
            self._database.executemany("insert into about values (?, ?)", list(about.items()))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add_inputs(self, inputs: Iterable[tuple[str, Input]]) -> None:
        """Add the inputs of a source; what has changed since is read again."""
        with self._transaction() as database:
            for identifier, source in inputs:
                database.execute(
                    "insert into inputs (id, name, size, stamp, entry, archive, fault, state)"
                    " values (?, ?, ?, ?, ?, ?, ?, 'new')"
                    " on conflict (id) do update set size = excluded.size, stamp = excluded.stamp,"
                    " entry = excluded.entry, fault = excluded.fault, state = 'new', reason = null, images = null"
                    " where stamp != excluded.stamp",
                    (
                        identifier,
                        os.fsencode(source.name),
                        source.size,
                        source.stamp,
                        source.entry,
                        os.fsencode(source.archive),
                        source.fault,
                    ),
                )

    def count(self, *states: str) -> int:
        """Number of inputs in these states, or of all inputs."""
        where = f" where state in ({', '.join('?' * len(states))})" if states else ""
        return int(self._database.execute(f"select count(*) from inputs{where}", states).fetchone()[0])

    def rows(self, condition: str = "true", *values: object) -> Iterator[Row]:
        """Rows in the order of names; they may be changed while they are read."""
        last = b""
        while True:
            query = f"select * from inputs where name > ? and {condition} order by name limit {PAGE}"
            cursor = self._database.execute(query, (last, *values))
            columns = [column[0] for column in cursor.description]
            with closing(cursor):
                page = [dict(zip(columns, row, strict=True)) for row in cursor]
            if not page:
                return
            last = page[-1]["name"]
            for row in page:
                yield (
                    row
                    | {name: os.fsdecode(row[name]) for name in ("name", "archive")}
                    | {name: json.loads(row[name] or "[]") for name in JSON_COLUMNS}
                )

    def stacks(self) -> Iterator[list[Row]]:
        """The readable inputs of each axial series."""
        query = "select distinct stack from inputs where state = 'readable' and stack is not null order by stack"
        for (stack,) in self._database.execute(query).fetchall():
            yield list(self.rows("stack = ? and state = 'readable'", stack))

    def update(self, changes: Iterable[tuple[str, Row]]) -> None:
        """Set columns of inputs by id, all or none; `JSON_COLUMNS` are stored as JSON."""
        with self._transaction() as database:
            for identifier, columns in changes:
                names = ", ".join(f"{name} = ?" for name in columns)
                values = [json.dumps(value) if name in JSON_COLUMNS else value for name, value in columns.items()]
                database.execute(f"update inputs set {names} where id = ?", (*values, identifier))

    def ct_series(self, state: str) -> Iterator[list[Row]]:
        """The CT series of each study: what identifies each, its frames, its best rank and any doubt."""
        query = (
            "select patient, study, series, stack, plane, sum(frames) frames, min(rank) rank, max(doubt) doubt"
            " from inputs where state = ? and modality = 'ct' and plane != 'picture'"
            " group by patient, study, series, stack, plane order by patient, study, series, stack, plane"
        )
        cursor = self._database.execute(query, (state,))
        columns = [column[0] for column in cursor.description]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor]
        for _, group in groupby(rows, key=lambda row: (row["patient"], row["study"])):
            yield list(group)

    def move_series(self, series: Row, state: str) -> None:
        """Set the state of the readable or spare inputs of a series that `ct_series` gave."""
        with self._transaction() as database:
            database.execute(
                "update inputs set state = ? where state in ('readable', 'spare') and patient = ? and study = ?"
                " and series = ? and stack is ? and plane = ?",
                (state, *(series[name] for name in ("patient", "study", "series", "stack", "plane"))),
            )

    def has_images(self, series: Row) -> bool:
        """Whether a CT series of the same study has images."""
        query = "select 1 from inputs where patient = ? and study = ? and modality = 'ct' and images not in ('', '[]')"
        found = self._database.execute(f"{query} limit 1", (series["patient"], series["study"])).fetchone()
        return found is not None

    def _transaction(self) -> sqlite3.Connection:
        self._database.execute("begin immediate")
        return self._database
