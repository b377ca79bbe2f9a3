"""Reads samples: the payloads of their fields, as one batch of ranged reads, decoded.

Strategy: in the main process, threads decode ahead. A worker of a DataLoader decodes in its own thread, because there are
other workers for the other processors.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack.errors import MemberNotFoundError
from blobpack.integrations.torch.samples import find_field, group_members
from blobpack.opening.open import open as open_source
from blobpack.opening.reader import Reader
from blobpack.quoting import quoted
from blobpack.reading.decode_ahead import Named
from blobpack.reading.groups_ahead import decode_groups, keep_freed_memory
from blobpack.tar.names import split_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.integrations.torch.fields import Decoders
    from blobpack.model import Which
    from blobpack.stores.location import Location

KEY = "__key__"


class Wish(NamedTuple):
    """A sample to read.

    Attributes:
        fields: Names of the fields to read.
        rows: The row of each.
    """

    fields: list[str]
    rows: list[int]


class SampleReader:
    """Reads samples of a blob or collection by their numbers.

    Attributes:
        reader: The blob or collection.
        samples: Which members belong to which sample.
    """

    def __init__(
        self,
        source: Reader | Location,
        members: Iterable[Which] | None,
        fields: tuple[str, ...] | None,
        decoders: Decoders,
        transform: Callable[[Any], Any] | None,
    ) -> None:
        """Open the source, and group its members.

        Args:
            source: An open blob or collection, or its place.
            members: Names, Members or rows of the members that count; None: all.
            fields: The fields of each sample, in the order in which they are returned; None: all, as a dict.
            decoders: Decode payloads.
            transform: Called with each decoded sample; its result takes the sample's place.

        Raises:
            MemberNotFoundError: no sample has one of the fields.
            BlobpackError: the source can't be opened.
        """
        self.reader = source if isinstance(source, Reader) else open_source(source)
        rows = None if members is None else self.reader.index.rows(members)
        self.samples = group_members(self.reader, rows)
        for field in fields or ():
            if len(self.samples) and not set(field.split(";")) & set(self.samples.fields):
                listed = ", ".join(self.samples.fields)
                raise MemberNotFoundError(
                    f"{self.reader.url}: no sample has the field {field}, only {listed}"
                )
        self._fields = fields
        self._decoders = decoders
        self._transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, numbers: Iterable[int], *, threads: bool) -> Iterator[Any]:
        """Read and decode samples, in the order asked.

        Args:
            numbers: Numbers of samples, from 0; they are taken as they are needed.
            threads: Whether threads decode ahead of the caller.

        Raises:
            MemberNotFoundError: a sample has not the fields that are wanted.
            BlobpackError: a member can't be read or decoded.
        """
        stored = self._stored(numbers)
        if threads:
            yield from decode_groups(partial(map, self._decoded), stored, _size_of)
        else:
            keep_freed_memory()
            yield from map(self._decoded, stored)

    def _stored(self, numbers: Iterable[int]) -> Iterator[tuple[Wish, list[bytes]]]:
        """Read the payloads of samples, in the order asked, as one batch."""
        wishes: deque[Wish] = deque()
        failures: list[MemberNotFoundError] = []

        def rows() -> Iterator[int]:
            for number in numbers:
                try:
                    wish = self._wish(number)
                # read_many takes rows far ahead: the samples before this one come first
                except MemberNotFoundError as exc:
                    failures.append(exc)
                    return
                wishes.append(wish)
                yield from wish.rows

        payloads = self.reader.read_many(rows())
        for first in payloads:
            wish = wishes.popleft()
            yield wish, [first, *islice(payloads, len(wish.rows) - 1)]
        for failure in failures:
            raise failure

    def _wish(self, number: int) -> Wish:
        rows_of = self.samples.rows_of(number)
        if self._fields is None:
            return Wish(list(rows_of), list(rows_of.values()))
        fields, rows = [], []
        for wanted in self._fields:
            found = find_field(rows_of, wanted)
            if found is None:
                key = self._key(next(iter(rows_of.values())))
                raise MemberNotFoundError(
                    f"{self.reader.url}: the sample {quoted(key)} has no field {wanted}, only {', '.join(rows_of)}"
                )
            fields.append(found[0])
            rows.append(found[1])
        return Wish(fields, rows)

    def _key(self, row: int) -> str:
        """Return the stem of the sample that has a member."""
        return split_sample(self.reader.index.names[row])[0]

    def _decoded(self, stored: tuple[Wish, list[bytes]]) -> Any:
        wish, payloads = stored
        values = [
            self._decoders.value(field, payload, Named(self.reader, row))
            for field, row, payload in zip(wish.fields, wish.rows, payloads, strict=True)
        ]
        sample: Any = tuple(values)
        if self._fields is None:
            key = self._key(wish.rows[0])
            sample = {KEY: key, **dict(zip(wish.fields, values, strict=True))}
        return sample if self._transform is None else self._transform(sample)


def _size_of(stored: tuple[Wish, list[bytes]]) -> int:
    return sum(map(len, stored[1]))
