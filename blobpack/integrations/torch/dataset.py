"""The map-style dataset: samples of a blob or collection by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from blobpack.index.row_numbers import rows_to_read
from blobpack.integrations.torch.options import SampleOptions, sample_reader
from blobpack.integrations.torch.pytorch import Dataset, in_worker, to_tensor

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from blobpack.opening.reader import Reader


class BlobDataset(Dataset):  # type: ignore[misc] # PyTorch is optional, and mypy runs without it
    """Samples of a blob or collection by their numbers, for PyTorch's DataLoader and its samplers.

    Members with the same stem are one sample, as in WebDataset: `cats/1.jpg`, `cats/1.json` and `cats/1.cls` are the fields jpg,
    json and cls of the sample `cats/1`. They must lie next to each other in the blob, as `pack` writes them. A member whose
    name has no dot belongs to no sample.

    Images become (3, height, width) uint8 tensors, RGB, with EXIF orientation applied; their memory layout is that of
    (height, width, 3). cls, index, count and id become int, txt becomes str, json becomes the value that it holds, and npy
    becomes a tensor. Other fields are bytes.

    A DataLoader reads each batch of a remote blob by ranged reads that are sent at the same time, and reads members that lie
    near each other by one request. Workers may be started by fork, spawn or forkserver.

    Attributes:
        reader: The blob or collection.
    """

    def __init__(
        self, source: Reader | str | os.PathLike[str], **options: Unpack[SampleOptions]
    ) -> None:
        """Open the source, and group its members.

        Args:
            source: An open blob or collection; or a path or URL that `blobpack.open` opens.
            options: Which samples are read, and how their fields are decoded; see SampleOptions.

        Raises:
            PackageMissingError: PyTorch is not installed.
            TypeError: an argument has a wrong type.
            ValueError: an argument is not one of its choices.
            BlobpackError: the source can't be opened.
        """
        self._samples = sample_reader(source, options, to_tensor)
        self.reader = self._samples.reader

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Any:
        """Read and decode a sample; negative numbers count from the end.

        Raises:
            IndexError: there is no such sample.
            BlobpackError: a member is missing, or can't be read or decoded.
        """
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Read and decode several samples as one batch; a DataLoader calls this for each of its batches."""
        asked = rows_to_read(numbers, len(self))
        several = len(asked) > 1 and not in_worker()
        return list(self._samples.read(map(int, asked), threads=several))
