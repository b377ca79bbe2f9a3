"""Read SQLite files of other programs, without running SQL that is stored in them, and make new ones.

Strategy: a view, a virtual table or a generated column can hold SQL that runs when it is read, and that may never end. So
only plain columns of plain tables are read. The sqlite3 of the standard library does the rest.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobpack.foreign.index_file import IndexFile

# These two bytes of a database are 2 in WAL mode, and else 1 (sqlite.org/fileformat.html, 1.3). SQLite can't read a database
# in WAL mode from memory.
WAL_PLACE, NOT_WAL = slice(18, 20), b"\1\1"


class Database:
    """The plain tables of a SQLite file.

    Attributes:
        tables: Name of each plain table → the names of its plain columns.
        names: The names of all tables and views.
    """

    def __init__(self, file: IndexFile) -> None:
        """Read which tables there are.

        Raises:
            FormatError: the file is no database that SQLite can read.
        """
        self._file = file
        with self._connection() as database:
            found = database.execute(
                "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view')"
            ).fetchall()
            self.names = {str(name) for name, _ in found}
            plain = [name for name, sql in found if str(sql).upper().startswith("CREATE TABLE")]
            # A row has number, name, type, notnull, default, key and hidden. hidden is 0 if the column is not computed.
            self.tables = {
                name: {
                    row[1]
                    for row in database.execute("SELECT * FROM pragma_table_xinfo(?)", [name])
                    if row[6] == 0
                }
                for name in plain
            }

    def has(self, table: str, *columns: str) -> bool:
        """Return whether there is a plain table with these plain columns."""
        return set(columns) <= self.tables.get(table, set())

    def select(self, table: str, *columns: str, where: str = "") -> list[tuple[Any, ...]]:
        """Read columns of a table.

        Args:
            table: A plain table.
            columns: Its plain columns.
            where: The rest of the statement; written by blobpack, never taken from the file.

        Raises:
            FormatError: the file is damaged.
        """
        listed = ", ".join(f'"{column}"' for column in columns)
        with self._connection() as database:
            return database.execute(f'SELECT {listed} FROM "{table}" {where}').fetchall()  # noqa: S608 (no text of the file)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        file = self._file
        try:
            if file.location.is_local:
                # immutable: SQLite takes no lock and keeps no journal, so it makes no file beside this one.
                place = f"file:{quote(file.location.path)}?mode=ro&immutable=1"
                database = sqlite3.connect(place, uri=True)
            else:
                database = sqlite3.connect(":memory:")
            with closing(database):
                if not file.location.is_local:
                    content = bytearray(file.content)
                    content[WAL_PLACE] = NOT_WAL
                    database.deserialize(bytes(content))
                database.execute("PRAGMA trusted_schema = OFF")
                yield database
        # a text that is not UTF-8 is an OperationalError, a number that is too large an OverflowError
        except (sqlite3.Error, OverflowError) as exc:
            raise file.fault(f"SQLite can't read it: {exc}") from exc
        # SQLite's own message quotes a text of the file that is not UTF-8
        except UnicodeDecodeError as exc:
            said = exc.object.decode(errors="backslashreplace")
            raise file.fault(f"SQLite can't read it: {said}") from exc


def encode_database(
    schema: str, tables: dict[str, Iterable[Sequence[object]]], indexes: str = ""
) -> bytes:
    """Return the bytes of a new SQLite file.

    Args:
        schema: Statements that create its tables.
        tables: Table → its rows.
        indexes: Statements that run when the rows are in place.
    """
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(schema)
        for table, rows in tables.items():
            columns = len(database.execute(f'SELECT * FROM "{table}"').description)  # noqa: S608 (names of blobpack)
            # one statement for all rows is parsed once
            database.executemany(
                f'INSERT INTO "{table}" VALUES ({", ".join("?" * columns)})',  # noqa: S608
                rows,
            )
        database.executescript(f"{indexes}; VACUUM;")
        return database.serialize()
