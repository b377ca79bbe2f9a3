"""The stream: all samples of a blob or collection once in each epoch, shuffled, dealt to ranks and workers, resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from blobpack.integrations.torch.options import SampleOptions, sample_reader
from blobpack.integrations.torch.order import EpochOrder, Plan
from blobpack.integrations.torch.pytorch import (
    IterableDataset,
    SharedEpoch,
    in_worker,
    rank_and_ranks,
    to_tensor,
    worker_and_workers,
)
from blobpack.model import check_flag, check_number
from blobpack.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.opening.reader import Reader

WINDOW_SAMPLES = 8192
RUN_SAMPLES = 128
SEED_MAX = (1 << 63) - 1
# a position, and the number of workers that it is valid for
NOT_RESUMED = (0, 0)


class BlobStream(IterableDataset):  # type: ignore[misc] # PyTorch is optional, and mypy runs without it
    """All samples of a blob or collection, once in each epoch, for PyTorch's DataLoader.

    Samples are grouped and decoded as in BlobDataset. No sample is read by two workers or two ranks. A rank gets the
    same batches in the same order with any number of workers, if `batch_size` is that of the DataLoader.

    `state_dict` and `load_state_dict` continue an epoch where it stopped, alone or in torchdata's StatefulDataLoader.

    Attributes:
        reader: The blob or collection.
    """

    def __init__(
        self,
        source: Reader | str | os.PathLike[str],
        *,
        batch_size: int = 1,
        shuffle: int | None = None,
        window: int = WINDOW_SAMPLES,
        run: int = RUN_SAMPLES,
        rank: int | None = None,
        ranks: int | None = None,
        drop_last: bool = False,
        **options: Unpack[SampleOptions],
    ) -> None:
        """Open the source, and group its members.

        Args:
            source: An open blob or collection; or a path or URL that `blobpack.open` opens.
            batch_size: The batch size of the DataLoader. So many samples in a row go to one worker.
            shuffle: Seed of the order, which differs in each epoch. None: samples come in the order of the blob.
            window: Samples in a window. Samples are put in random order within their window.
            run: Number of neighbours in the blob that stay in one window. A window has window // run such runs, from random
                places. With longer runs, reads from a remote blob are larger and fewer.
            rank: Number of this process among those that train together, from 0; None: that of torch.distributed, if it
                is initialized, and otherwise 0.
            ranks: Number of processes that train together; None: as for `rank`.
            drop_last: Leave out the last samples of an epoch, so that all ranks get the same number of batches, and all batches
                are full. Otherwise a rank may have one batch more than another.
            options: Which samples are read, and how their fields are decoded; see SampleOptions.

        Raises:
            PackageMissingError: PyTorch is not installed.
            TypeError: an argument has a wrong type.
            ValueError: an argument is not one of its choices, or a number is out of range.
            BlobpackError: the source can't be opened.
        """
        for name, number in (("batch_size", batch_size), ("window", window), ("run", run)):
            check_number(name, number, 1)
        if shuffle is not None:
            check_number("shuffle", shuffle, 0, SEED_MAX)
        check_flag("drop_last", drop_last)
        self._rank, ranks = rank_and_ranks(rank, ranks)
        self._samples = sample_reader(source, options, to_tensor)
        self.reader = self._samples.reader
        self._plan = Plan(
            len(self._samples), batch_size, shuffle, run, window, ranks, bool(drop_last)
        )
        self._epoch = SharedEpoch()
        # The epoch that is read now, and the batch at which its iteration began; how many samples this process, or this worker
        # of a DataLoader, has yielded since then.
        self._begun = (0, 0)
        self._position = 0
        # where the next iteration begins, and the number of workers for which this holds
        self._resumed = NOT_RESUMED

    def __len__(self) -> int:
        """Return the number of samples of this rank in an epoch."""
        return self._plan.samples_of(self._rank)

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next iteration reads, which decides the order if samples are shuffled."""
        return self._epoch.read()[0]

    def set_epoch(self, epoch: int, *, batch: int = 0) -> None:
        """Choose the epoch that the next iteration reads; persistent workers of a DataLoader read it, too.

        If a state was loaded, and this is another epoch or another batch, the next iteration does not continue the state.

        Args:
            epoch: Number of the epoch, from 0.
            batch: Number of the batch of this rank at which iterations begin, until this function is called again. So any
                number of workers can continue an epoch that was stopped.

        Raises:
            TypeError: a number is not a whole number.
            ValueError: a number is negative, or the epoch has fewer batches.
        """
        check_number("epoch", epoch, 0)
        check_number("batch", batch, 0, len(self._plan.blocks_of(self._rank)))
        self._epoch.choose(epoch, batch)
        # drop a state that was loaded, and that no iteration has continued yet
        if self._resumed != NOT_RESUMED and (epoch, batch) != self._begun:
            self._resumed, self._position = NOT_RESUMED, 0

    def __iter__(self) -> Iterator[Any]:
        """Read and decode the samples of this rank, or of this worker of the rank.

        Raises:
            ValueError: a state was loaded that other workers have made.
            BlobpackError: a member is missing, or can't be read or decoded.
        """
        worker, workers = worker_and_workers()
        (self._position, workers_before), self._resumed = self._resumed, NOT_RESUMED
        if workers_before not in (0, workers):
            raise ValueError(
                f"a state of {counted(workers_before, 'worker')} can't be continued by {workers}; load it into the "
                "StatefulDataLoader of torchdata, not into the BlobStream"
            )
        # a loaded state has its own epoch; after the end of that epoch, `_epoch` may already be the next one
        if not self._position:
            self._begun = self._epoch.read()
        epoch, first = self._begun
        blocks = EpochOrder(self._plan, epoch).of_worker(
            self._rank, worker, workers, first=first, begin=self._position
        )
        return self._iterate(blocks, self._position)

    def _iterate(self, blocks: Iterator[NDArray[np.int64]], position: int) -> Iterator[Any]:
        numbers = (number for block in blocks for number in block.tolist())
        for sample in self._samples.read(numbers, threads=not in_worker()):
            position += 1
            self._position = position
            yield sample

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is: the epoch, how many samples were yielded, and what decides their order.

        In a DataLoader with workers, each worker has a state, which torchdata's StatefulDataLoader collects. Then the same
        number of workers must continue.
        """
        begun, position = self._begun, self._position
        # set_epoch may have chosen the next epoch meanwhile. That choice counts only if this epoch has ended. A worker
        # ends before others do, so in a worker it never counts.
        chosen = self._epoch.read()
        is_over = self._is_at_end(position, begun[1]) and begun != chosen and not in_worker()
        if not position or is_over:
            begun, position = chosen, 0
        return {
            "epoch": begun[0],
            "batch": begun[1],
            "position": position,
            "workers": worker_and_workers()[1],
            "plan": self._plan._asdict(),
        }

    def load_state_dict(self, state: Any) -> None:
        """Let the next iteration begin behind the last sample that was yielded before state_dict was called.

        Raises:
            ValueError: the state belongs to other samples, or to another order of them; the message names what differs.
            TypeError: this is not a state of a BlobStream.
        """
        if not isinstance(state, dict) or state.keys() != self.state_dict().keys():
            raise TypeError("state must be what state_dict of a BlobStream has returned")
        ours = {**self._plan._asdict(), "workers": worker_and_workers()[1]}
        theirs = {**state["plan"], "workers": state["workers"]}
        differing = [name for name in ours if ours[name] != theirs.get(name)]
        if differing:
            listed = ", ".join(
                f"{name} was {theirs.get(name)} and is {ours[name]}" for name in differing
            )
            raise ValueError(f"the state belongs to another order of samples: {listed}")
        for name in ("epoch", "batch", "position"):
            check_number(name, state[name], 0)
        begun, position = (state["epoch"], state["batch"]), state["position"]
        # A StatefulDataLoader passes the state on only when the next iteration begins. If the state is at the end of its
        # epoch, the caller has chosen the next epoch by then, and that choice stays.
        if not (self._is_at_end(position, begun[1]) and self._epoch.is_chosen):
            self._epoch.write(*begun)
        self._begun, self._position = begun, position
        self._resumed = position, state["workers"]

    def _is_at_end(self, position: int, first: int) -> bool:
        """Return whether this worker has no sample after a position, if the iteration began at the batch `first`."""
        worker, workers = worker_and_workers()
        return position >= self._plan.samples_of(self._rank, worker, workers, first=first)
