"""The ledger of an import under way: one row an input, in a small database, so that a killed import goes on."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from osteo_models.data.intake.sources import Input

SCHEMA: Final = """
create table if not exists about (name text primary key, value text);
create table if not exists inputs (
    id text primary key, name blob, size integer, stamp text, entry integer,
    state text, reason text, patient text, study text, series text, modality text, plane text, stack text,
    height real, images text
);
create index if not exists by_name on inputs (name);
create index if not exists by_state_and_name on inputs (state, name);
create index if not exists by_stack_and_name on inputs (stack, name);
create index if not exists by_study on inputs (patient, study);
"""
COLUMNS: Final = ("reason", "patient", "study", "series", "modality", "plane", "stack", "height", "images")


class Ledger:
    """Rows of inputs; states: `new`, `readable` (its header is good), `accepted`, `refused`."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        """Open a ledger, or start it anew where the one there is about something else.

        Args:
            path: The database's file.
            about: What decides the result: source, tables, key. A ledger about another import is discarded.
        """
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = normal")
        self._database.executescript(SCHEMA)
        known = dict(self._database.execute("select name, value from about"))
        self.continued = known == about
        if not self.continued:
            self._database.execute("delete from inputs")
            self._database.execute("delete from about")
            self._database.executemany("insert into about values (?, ?)", list(about.items()))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def list_inputs(self, inputs: Iterable[tuple[str, Input]]) -> None:
        """Enter the inputs of a source; what has changed since is read again."""
        with self._transaction() as database:
            for name, item in inputs:
                database.execute(
                    "insert into inputs (id, name, size, stamp, entry, state) values (?, ?, ?, ?, ?, 'new')"
                    " on conflict (id) do update set size = excluded.size, stamp = excluded.stamp,"
                    " entry = excluded.entry, state = 'new', reason = null, images = null"
                    " where stamp != excluded.stamp",
                    (name, os.fsencode(item.name), item.size, item.stamp, item.entry),
                )

    def count(self, *states: str) -> int:
        """Number of inputs in these states; of all, when none is named."""
        marks = ", ".join("?" * len(states))
        where = f" where state in ({marks})" if states else ""
        return int(self._database.execute(f"select count(*) from inputs{where}", states).fetchone()[0])

    def rows(self, query: str = "", values: tuple[Any, ...] = ()) -> Iterator[dict[str, Any]]:
        """Rows in the order of names; `query` is what follows `where`. Rows may be settled while they are read."""
        last = b""
        where = f"and {query}" if query else ""
        while True:
            cursor = self._database.execute(
                f"select * from inputs where name > ? {where} order by name limit 512", (last, *values)
            )
            names = [column[0] for column in cursor.description]
            with closing(cursor):
                found = [dict(zip(names, row, strict=True)) for row in cursor]
            if not found:
                return
            last = found[-1]["name"]
            for row in found:
                yield row | {"name": os.fsdecode(row["name"]), "images": json.loads(row["images"] or "[]")}

    def stacks(self) -> list[str]:
        """The axial series among the readable inputs."""
        query = "select distinct stack from inputs where state = 'readable' and stack is not null order by stack"
        return [row[0] for row in self._database.execute(query)]

    def settle(self, results: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        """Enter results: (id, state, columns) for each input, all or none."""
        with self._transaction() as database:
            for identifier, state, values in results:
                names = [name for name in COLUMNS if name in values]
                changes = ", ".join(f"{name} = ?" for name in names)
                fields = [json.dumps(values[name]) if name == "images" else values[name] for name in names]
                database.execute(
                    f"update inputs set state = ?{', ' if names else ''}{changes} where id = ?",
                    (state, *fields, identifier),
                )

    def sagittal_ct(self, patient: str, study: str) -> bool:
        """Whether a study has sagittal CT of its own."""
        query = (
            "select 1 from inputs where patient = ? and study = ? and modality = 'ct' and plane = 'sagittal' limit 1"
        )
        return self._database.execute(query, (patient, study)).fetchone() is not None

    def _transaction(self) -> sqlite3.Connection:
        self._database.execute("begin immediate")
        return self._database
