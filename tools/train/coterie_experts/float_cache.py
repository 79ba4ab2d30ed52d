"""What was computed once and is asked for again, in a table of an SQLite file that outlives its process."""

from __future__ import annotations

import pathlib
import sqlite3
from typing import Iterable

import numpy as np

from coterie_experts.errors import Refused


class FloatCache:
    """float32 arrays of one axis by a key of type `key_type` (TEXT or BLOB). One thread at a time; any number of processes.

    `what` names it in errors. `table`, `key` and `value` are names on the disk: with others an existing file is not found again.
    """

    def __init__(self, path: pathlib.Path, what: str, *, table: str, key: str, key_type: str, value: str) -> None:
        self._place = f"{what} {path}"
        self._find = f"SELECT {value} FROM {table} WHERE {key} = ?"
        self._keep = f"INSERT OR IGNORE INTO {table} VALUES (?, ?)"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({key} {key_type} PRIMARY KEY, {value} BLOB NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise Refused(f"cannot use the {self._place}: {error}") from error

    def close(self) -> None:
        self._database.close()

    def find(self, key: str | bytes) -> np.ndarray | None:
        row = self._database.execute(self._find, (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype="<f4")

    def keep(self, keys: Iterable[str | bytes], arrays: Iterable[np.ndarray]) -> None:
        """All of them or none; what is there already stays."""
        rows = [(key, np.ascontiguousarray(array, dtype="<f4").tobytes()) for key, array in zip(keys, arrays, strict=True)]
        try:
            with self._database:  # commits, or rolls back
                self._database.execute("BEGIN")
                self._database.executemany(self._keep, rows)
        except sqlite3.Error as error:
            raise Refused(f"cannot write the {self._place}: {error}") from error
