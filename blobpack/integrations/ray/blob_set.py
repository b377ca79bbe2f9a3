"""The blobs of one write: many workers write them, and one process collects them, or removes all of them.

Strategy: the process that begins the write puts a claim, a small file, into the empty folder or prefix. A worker writes
blobs under names that no other attempt uses, looks at the claim, and then returns these names. To end the write, the claim
is removed first, and then all files whose names no attempt has returned. If a blob appears even later, its worker finds no
claim, and removes the blob.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.collection.collect import collect
from blobpack.errors import BlobNotFoundError, SourceError, StorageError
from blobpack.opening.kind import COLLECTION_NAME
from blobpack.packing.cutters import make_cutter
from blobpack.packing.files import Skipped
from blobpack.packing.options import complete_options
from blobpack.packing.shard_folder import discarded_on_error, folder_at
from blobpack.packing.shards import ShardWriter
from blobpack.stores.open import open_store
from blobpack.stores.output import translate_write_errors, writing
from blobpack.tar.header import END_OF_ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from blobpack.collection.report import CollectReport
    from blobpack.model import Payload
    from blobpack.packing.shard_folder import ShardFolder
    from blobpack.stores.location import Location

CLAIM_NAME = "unfinished-write"
# they sort in the order of the tasks
BLOB_NAME = "{task:06d}-{{:05d}}-{write}{attempt}.tar"


@dataclass(frozen=True)
class BlobSet:
    """The blobs of one write. It can be pickled: all workers have an equal one.

    Attributes:
        folder: The folder or prefix.
        shard_bytes: The largest size of an archive.
        write: Marks the names of all blobs of this write.
    """

    folder: Location
    shard_bytes: int
    write: str

    @classmethod
    def begin(cls, folder: Location, shard_bytes: int) -> BlobSet:
        """Claim an empty folder or prefix.

        Raises:
            StorageError: the folder is not empty, another write has claimed it, or it can't be written to.
        """
        new = cls(folder, shard_bytes, os.urandom(6).hex())
        place = folder_at(folder)
        place.open()
        claim = place.location_of(CLAIM_NAME)
        if claim.is_local:
            # "x": of two writes that find the folder empty, one fails
            with translate_write_errors(claim), Path(claim).open("xb") as file:
                file.write(new.write.encode())
        else:
            with writing(claim, new=True) as upload:
                upload.write(new.write.encode())
        place.begin(CLAIM_NAME)
        with discarded_on_error(place):
            # another write may have begun and ended between the first check and the claim
            place.open(besides=CLAIM_NAME)
        return new

    def write_blobs(self, task: int, payloads: Iterable[Payload]) -> list[str]:
        """Write the payloads of one attempt of a task into blobs; return their names. After an error, none is left.

        Raises:
            StorageError: the write has ended meanwhile, or a blob can't be written.
            BlobpackError: a payload can't be a member; see pack.
        """
        room = self.shard_bytes - len(END_OF_ARCHIVE)
        cutter = make_cutter(iter(payloads), room)
        if not cutter:
            return []
        # The attempt is random, because a killed attempt may still write when the next one begins.
        name = BLOB_NAME.format(task=task, write=self.write, attempt=os.urandom(4).hex())
        options = complete_options("write_blobs", {"all_files": True})
        writer = ShardWriter(cutter, room, options, Skipped(None), None, False, None)
        place = folder_at(self.folder)
        with discarded_on_error(place):
            blobs = writer.write_all(place, name)
            if not self._is_claimed(place):
                raise StorageError(
                    f"{self.folder}: the write has ended, so these blobs are removed"
                )
        return [os.path.basename(blob.address) for blob in blobs]  # noqa: PTH119 (a URL)

    def _is_claimed(self, place: ShardFolder) -> bool:
        try:
            with open_store(place.location_of(CLAIM_NAME)) as store:
                # Its content is compared, because another write may have claimed the folder since then.
                return store.read_range(0, store.size) == self.write.encode()
        except BlobNotFoundError:
            return False

    def commit(self, names: Iterable[str]) -> CollectReport:
        """End the write: remove what other attempts have left, and make the collection of these blobs.

        Args:
            names: What successful attempts have returned.

        Raises:
            SourceError: there are no blobs.
            DuplicateNameError: two blobs have a member of one name.
            BlobpackError: the collection can't be made.
        """
        # in the order of the tasks; see BLOB_NAME
        kept = sorted(names)
        if not kept:
            raise SourceError(f"the dataset has no rows, so {self.folder} is not written")
        self._end(kept)
        place = folder_at(self.folder)
        return collect(map(place.location_of, kept), place.location_of(COLLECTION_NAME))

    def discard(self) -> None:
        """End the write, and remove all its blobs, and their collection.

        Raises:
            StorageError: something can't be removed.
        """
        # the folder was empty when it was claimed, so a collection there is of these blobs
        self._end((), COLLECTION_NAME)

    def _end(self, kept: Collection[str], *others: str) -> None:
        """Remove the claim and other files, and then all blobs of the write but those of the names to keep."""
        place = folder_at(self.folder)
        # discard() removes what begin() has remembered.
        for name in (CLAIM_NAME, *others):
            place.begin(name)
        place.discard()
        place.sweep(self.write, kept)
