"""The order of samples in an epoch, and the part of it that each rank and worker reads.

Strategy: the order is cut into blocks of one batch each. Blocks go to the ranks in turn, and those of a rank to its workers
in turn. A DataLoader takes one batch from each worker in turn. So a rank gets the same batches in the same order, however
many workers it has, and no sample is read twice.

To shuffle, the samples are cut into runs of neighbours, and the runs are put in random order. Several runs make a window, in
which samples are put in random order. So a window has samples of many places, reads of one window lie near each other, and
the order of one window is known without that of the others.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# The random numbers of the order of runs, and of window 0. Windows count up from there.
RUNS_STREAM, WINDOWS_STREAM = 0, 1


class Plan(NamedTuple):
    """The settings that decide the order of samples, together with the number of the epoch.

    Attributes:
        samples: Number of samples.
        batch: Samples in a block.
        seed: Seed of the shuffle; None: samples stay in the order of the blob.
        run: Neighbours that stay in one window.
        window: Samples among which the order is random.
        ranks: Number of ranks.
        drop_last: Whether all ranks get the same number of blocks, all of them full.
    """

    samples: int
    batch: int
    seed: int | None
    run: int
    window: int
    ranks: int
    drop_last: bool

    @property
    def blocks(self) -> int:
        """Number of blocks of all ranks."""
        if self.drop_last:
            return self.samples // self.batch // self.ranks * self.ranks
        return -(-self.samples // self.batch)

    def blocks_of(self, rank: int, worker: int = 0, workers: int = 1, *, first: int = 0) -> range:
        """Return the numbers of the blocks that a worker of a rank gets in an epoch, or the whole rank.

        Args:
            rank: Number of the rank, from 0.
            worker: Number of the worker in its rank, from 0.
            workers: Number of workers of the rank.
            first: Number of the rank's first block that is read; those before it are skipped. A DataLoader takes its first
                batch from worker 0, so worker 0 gets this block.
        """
        return range(rank + self.ranks * (first + worker), self.blocks, self.ranks * workers)

    def samples_of(self, rank: int, worker: int = 0, workers: int = 1, *, first: int = 0) -> int:
        """Return how many samples a worker of a rank gets in an epoch, or the whole rank; see blocks_of."""
        mine = self.blocks_of(rank, worker, workers, first=first)
        missing = max(0, self.blocks * self.batch - self.samples)
        return len(mine) * self.batch - (missing if self.blocks - 1 in mine else 0)


class EpochOrder:
    """The order of samples in one epoch."""

    def __init__(self, plan: Plan, epoch: int) -> None:
        self._plan = plan
        self._epoch = epoch
        if plan.seed is None:
            return
        self._seed = plan.seed
        runs = -(-plan.samples // plan.run)
        self._runs = self._random(RUNS_STREAM).permutation(runs)
        starts = self._runs * plan.run
        sizes = np.minimum(starts + plan.run, plan.samples) - starts
        self._runs_in_window = max(1, plan.window // plan.run)
        # where each window begins in the order, and where the last one ends
        self._bounds = np.append(
            np.concatenate(([0], np.cumsum(sizes)))[: -1 : self._runs_in_window], plan.samples
        )
        # neighbouring blocks lie in one window or two
        self._window = lru_cache(maxsize=2)(self._make_window)

    def block(self, number: int) -> NDArray[np.int64]:
        """Return the samples of a block, in order."""
        first = number * self._plan.batch
        last = min(first + self._plan.batch, self._plan.samples)
        if self._plan.seed is None:
            return np.arange(first, last)
        parts = []
        window = int(np.searchsorted(self._bounds, first, side="right")) - 1
        while first < last:
            start, end = int(self._bounds[window]), int(self._bounds[window + 1])
            parts.append(self._window(window)[first - start : last - start])
            first, window = end, window + 1
        return np.concatenate(parts)

    def of_worker(
        self, rank: int, worker: int, workers: int, *, first: int = 0, begin: int = 0
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the blocks of a worker, in order.

        Args:
            rank: Number of the rank, from 0.
            worker: Number of the worker in its rank, from 0.
            workers: Number of workers of the rank.
            first: Number of the rank's first block that is read; see Plan.blocks_of.
            begin: Samples of the worker to leave out at the beginning, because they were read before.
        """
        done, part = divmod(begin, self._plan.batch)
        for number in self._plan.blocks_of(rank, worker, workers, first=first)[done:]:
            yield self.block(number)[part:]
            part = 0

    def _make_window(self, number: int) -> NDArray[np.int64]:
        runs = self._runs[number * self._runs_in_window : (number + 1) * self._runs_in_window]
        samples = (runs[:, None] * self._plan.run + np.arange(self._plan.run)).ravel()
        samples = samples[samples < self._plan.samples]
        self._random(WINDOWS_STREAM + number).shuffle(samples)
        return samples

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, self._epoch, stream))
