"""The log of an import in progress: one row per input in an SQLite file, so that a killed import continues."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from osteo_models.data.intake.sources import Input

SCHEMA: Final = """
create table if not exists about (name text primary key, value text);
create table if not exists inputs (
    id text primary key, name blob, size integer, stamp text, entry integer,
    state text, reason text, patient text, study text, modality text, plane text, stack text, height real, images text
);
create index if not exists by_name on inputs (name);
create index if not exists by_state_and_name on inputs (state, name);
create index if not exists by_stack_and_name on inputs (stack, name);
create index if not exists by_study on inputs (patient, study);
"""
PAGE: Final = 512  # rows read at once

Row = dict[str, Any]


class ImportLog:
    """Inputs by state: `new`, `readable` (its header is usable), `accepted`, `refused`."""

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
                    "insert into inputs (id, name, size, stamp, entry, state) values (?, ?, ?, ?, ?, 'new')"
                    " on conflict (id) do update set size = excluded.size, stamp = excluded.stamp,"
                    " entry = excluded.entry, state = 'new', reason = null, images = null"
                    " where stamp != excluded.stamp",
                    (identifier, os.fsencode(source.name), source.size, source.stamp, source.entry),
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
                yield row | {"name": os.fsdecode(row["name"]), "images": json.loads(row["images"] or "[]")}

    def stacks(self) -> Iterator[list[Row]]:
        """The readable inputs of each axial series."""
        query = "select distinct stack from inputs where state = 'readable' and stack is not null order by stack"
        for (stack,) in self._database.execute(query).fetchall():
            yield list(self.rows("stack = ? and state = 'readable'", stack))

    def update(self, changes: Iterable[tuple[str, Row]]) -> None:
        """Set columns of inputs by id, all or none; `images` is stored as JSON."""
        with self._transaction() as database:
            for identifier, columns in changes:
                names = ", ".join(f"{name} = ?" for name in columns)
                values = [json.dumps(value) if name == "images" else value for name, value in columns.items()]
                database.execute(f"update inputs set {names} where id = ?", (*values, identifier))

    def has_sagittal_ct(self, patient: str, study: str) -> bool:
        """Whether a study has sagittal CT of its own."""
        query = "select 1 from inputs where patient = ? and study = ? and modality = 'ct' and plane = 'sagittal'"
        return self._database.execute(f"{query} limit 1", (patient, study)).fetchone() is not None

    def _transaction(self) -> sqlite3.Connection:
        self._database.execute("begin immediate")
        return self._database
