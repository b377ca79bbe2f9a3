"""The parts of PyTorch that the datasets use: base classes, tensors, and the numbers of worker and rank. Imports PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.errors import PackageMissingError
from blobpack.model import check_number

try:
    import torch
    import torch.distributed as distributed
    from torch.utils.data import (
        Dataset as Dataset,
        IterableDataset as IterableDataset,
        get_worker_info,
    )
except ImportError as exc:
    raise PackageMissingError(
        "blobpack.integrations.torch needs PyTorch: pip install torch"
    ) from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANKS_MAX = 1 << 20


def to_tensor(array: NDArray[Any]) -> Any:
    """Return a tensor that shares an array's memory."""
    return torch.from_numpy(array)


def in_worker() -> bool:
    """Return whether this process is a worker of a DataLoader."""
    return get_worker_info() is not None


def worker_and_workers() -> tuple[int, int]:
    """Return the number of this worker of a DataLoader, from 0, and how many there are; (0, 1) without workers."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def rank_and_ranks(rank: int | None, ranks: int | None) -> tuple[int, int]:
    """Return the given numbers; those of torch.distributed, if it is initialized; or (0, 1).

    Raises:
        TypeError: a number is not a whole number.
        ValueError: only one of the numbers is given, or one is out of range.
    """
    if (rank is None) != (ranks is None):
        raise ValueError("rank and ranks must be given together, or neither")
    if ranks is None or rank is None:
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
    check_number("ranks", ranks, 1, RANKS_MAX)
    check_number("rank", rank, 0, ranks - 1)
    return rank, ranks


class SharedEpoch:
    """The epoch that the next iteration reads. The workers of a DataLoader see it, too, even persistent ones."""

    def __init__(self) -> None:
        # Its number, the batch at which it begins, and whether the caller chose it. PyTorch can pass a shared
        # tensor to workers, by whichever method it starts them.
        self._tensor = torch.zeros(3, dtype=torch.int64).share_memory_()

    def read(self) -> tuple[int, int]:
        """Return the number of the epoch, and that of the batch at which it begins."""
        number, batch, _ = self._tensor.tolist()
        return number, batch

    def write(self, number: int, batch: int) -> None:
        """Set both numbers."""
        self._tensor[0], self._tensor[1] = number, batch

    @property
    def is_chosen(self) -> bool:
        """Whether the caller has chosen an epoch."""
        return bool(self._tensor[2].item())

    def choose(self, number: int, batch: int) -> None:
        """Set the numbers that the caller has chosen."""
        self._tensor[2] = 1
        self.write(number, batch)
