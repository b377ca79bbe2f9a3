"""Parts of payloads, read as one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobpack.opening.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobpack.errors import BlobpackError
    from blobpack.opening.batch import Located
    from blobpack.opening.reader import Reader


class Part(NamedTuple):
    """A part of a payload, spelled as a slice: negative numbers count from the end, and None means the start or the end.

    Attributes:
        row: Row of the member.
        start: First byte, from the start of the payload.
        end: Its end.
    """

    row: int
    start: int | None
    end: int | None


def read_parts(reader: Reader, parts: Iterable[Part]) -> Iterator[bytes]:
    """Read parts of payloads, in the order asked, as `Reader.read_many` reads whole payloads.

    Only whole payloads are compared with their checksums.

    Raises:
        BlobpackError: a part can't be read; the iterator raises it when it reaches that part.
        IndexError: there is no such row; the iterator raises it when it reaches that row.
    """

    def locate(
        some: Sequence[Part],
    ) -> tuple[list[Located], BlobpackError | IndexError | None]:
        located, failure = reader._locate([part.row for part in some])
        return [
            _part_of(member, part) for member, part in zip(located, some, strict=False)
        ], failure

    return iter(Batch(locate, iter(parts), hedge=reader.hedge != "never"))


def _part_of(member: Located, part: Part) -> Located:
    size = member.end - member.start
    first, last, _ = slice(part.start, part.end).indices(size)
    # The index has a checksum of the whole payload only.
    if (first, last) == (0, size):
        return member
    return member._replace(
        start=member.start + first, end=member.start + max(first, last), crc32c=None
    )
