"""Extract members into objects below a prefix, in S3 or in another cloud.

Strategy: all names are checked before the first object is written. Payloads are read as one batch, in the order of the
members, and threads upload them. Each object is one PUT, or several parts if it is large, so it appears whole or not at
all. Memory holds the payloads that are read ahead and those being sent.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import StorageError
from blobpack.look_ahead import map_ahead
from blobpack.reading.chosen import read_chosen
from blobpack.reading.target_names import check_keys
from blobpack.stores.access.objects import put_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.opening.reader import Reader
    from blobpack.progress import CountCallback
    from blobpack.reading.chosen import ByParts
    from blobpack.stores.location import Location

# A small PUT waits about 30 ms for the server, so 32 of them write a thousand objects a second.
PUTS_AT_ONCE = 32
# payloads being sent or waiting to be sent; a larger one goes alone
PUT_BYTES_AHEAD = 64 << 20


class _Object(NamedTuple):
    """An object to write."""

    target: Location
    payload: bytes
    media_type: str | None


def put_members(
    blob: Reader,
    chosen: ByParts,
    prefix: Location,
    progress: CountCallback | None,
) -> None:
    """Write members as objects below a prefix.

    Args:
        blob: The blob or collection that holds the members.
        chosen: The name of each member, split by split_name, and the member.
        prefix: A bucket or prefix, with "/" at its end.
        progress: progress(members, bytes), called after each member.

    Raises:
        UnsafeNameError: a name can't be a key there. Nothing was written then.
        StorageError: a member can't be read, or an object can't be written. A note says how many objects were written.
            Or an object would replace a blob that is read; nothing was written then.
    """
    check_keys(chosen, prefix)
    _check_sources(blob, chosen, prefix)
    # a list and not a number: threads append to it, which is atomic
    written: list[str] = []

    def put(each: _Object) -> int:
        put_object(each.target, each.payload, each.media_type)
        written.append(each.target.key)
        return len(each.payload)

    puts = map_ahead(
        put,
        _objects(blob, chosen, prefix),
        threads=PUTS_AT_ONCE,
        most=2 * PUTS_AT_ONCE,
        most_size=PUT_BYTES_AHEAD,
        size_of=lambda each: len(each.payload),
        name="extract",
    )
    try:
        # closed before the note is made: uploads that are under way may still succeed
        with closing(puts):
            written_bytes = 0
            for count, size in enumerate(puts, 1):
                written_bytes += size
                if progress:
                    progress(count, written_bytes)
    except BaseException as exc:
        exc.add_note(f"{len(written):,} of {len(chosen):,} objects were written below {prefix}")
        raise


def _check_sources(blob: Reader, chosen: ByParts, prefix: Location) -> None:
    """Check that no object would replace a blob that members are read from.

    Raises:
        StorageError: one would.
    """
    read = {each.url for each in blob.blobs}
    for parts in chosen:
        target = _target(prefix, parts)
        if target.whole in read:
            raise StorageError(f"{target}: can't be written, because members are read from it")


def _target(prefix: Location, parts: tuple[str, ...]) -> Location:
    # not prefix.below(): a name may end like a version, ?versionId=1
    return prefix.at_key(f"{prefix.key}{'/'.join(parts)}")


def _objects(blob: Reader, chosen: ByParts, prefix: Location) -> Iterator[_Object]:
    payloads = read_chosen(blob, chosen.values())
    for (parts, (_, member)), payload in zip(chosen.items(), payloads, strict=True):
        yield _Object(_target(prefix, parts), payload, member.media_type)
