"""A file that may be a foreign index: its first bytes, and its content as JSON or SQLite, each read at most once."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from blobpack.errors import FormatError

if TYPE_CHECKING:
    from blobpack.foreign.database import Database
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location

# more than any of the formats needs to be told from the others
HEAD_BYTES = 4096
SQLITE_MAGIC = b"SQLite format 3\0"
# white space that may stand before a JSON text (RFC 8259, 2)
JSON_BLANKS = b" \t\r\n"


class IndexFile:
    """A file or object that was given as an index.

    Attributes:
        location: Its path or URL.
        store: Reads it.
        url: Path or URL of it, for messages.
        head: Its first bytes.
        format: Its format, when it is known; empty for an offsets file.
    """

    format = ""

    def __init__(self, location: Location, store: Store) -> None:
        """Read the first bytes of an open file or object."""
        self.location, self.store, self.url = location, store, store.url
        self.head = store.read_range(0, min(HEAD_BYTES, store.size))

    @cached_property
    def content(self) -> bytes:
        """All of its bytes."""
        return self.store.read_range(0, self.store.size)

    @cached_property
    def json(self) -> Any:
        """The JSON object in it; None if it does not begin as one.

        Raises:
            FormatError: it begins as a JSON object, and is not well-formed; or holds NaN or Infinity.
        """
        # Editors on Windows write a byte order mark (BOM); json.loads skips it.
        if self.head.removeprefix(BOM_UTF8).lstrip(JSON_BLANKS)[:1] != b"{":
            return None
        try:
            # NaN and Infinity are no JSON (RFC 8259, 6), but Python reads them
            return json.loads(self.content, parse_constant=self._refuse_constant)
        except json.JSONDecodeError as exc:
            raise self.fault(f"not well-formed JSON: {exc.msg}", exc.pos) from exc
        # a number of more than 4,300 digits, bytes that are not UTF-8, or brackets nested too deeply
        except (ValueError, RecursionError) as exc:
            raise self.fault(f"not well-formed JSON: {exc}") from exc

    def _refuse_constant(self, name: str) -> NoReturn:
        raise self.fault(f"not well-formed JSON: it holds {name}")

    @cached_property
    def database(self) -> Database | None:
        """The SQLite database in it; None if it does not begin as one.

        Raises:
            FormatError: it begins as one, and can't be read.
        """
        if not self.head.startswith(SQLITE_MAGIC):
            return None
        # imported here, because importing sqlite3 takes 5 ms
        from blobpack.foreign.database import Database

        return Database(self)

    @property
    def found_database(self) -> Database:
        """The SQLite database in it, which is there, as `matches` of a format has found.

        Raises:
            FormatError: there is none.
        """
        if self.database is None:
            raise self.fault("not a SQLite database", 0)
        return self.database

    def fault(self, reason: str, offset: int | None = None) -> FormatError:
        """Make the error for a file that is damaged, or holds what its format does not allow."""
        where = "" if offset is None else f", at byte {offset}"
        return FormatError(f"{self.url}: {reason}{where}", offset=offset)

    def checked(self, member: object, value: object, what: str) -> int:
        """Return a value that must be a whole number from 0 to 2⁶³ - 1.

        Raises:
            FormatError: it is something else.
        """
        # isinstance would accept True and False, too.
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise self.fault(
                f"{member!r} has {what} {value!r}, expected a whole number of 0 to 2⁶³ - 1"
            )
        return value
