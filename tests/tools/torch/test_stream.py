"""BlobStream in PyTorch's DataLoader and torchdata's StatefulDataLoader: one order for any number of workers, and resuming."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from blobpack.integrations.torch import BlobStream

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

COUNT = 150
BATCH = 16


def stream(source: Any, **options: Any) -> BlobStream:
    given = {"batch_size": BATCH, "shuffle": 7, "window": 40, "run": 5, "fields": ("cls",)}
    return BlobStream(source, **given | options)


def batches(loader: Any) -> list[list[int]]:
    return [labels.tolist() for (labels,) in loader]


def flat(lists: list[list[int]]) -> list[int]:
    return [label for labels in lists for label in labels]


def test_the_order_is_the_same_for_any_number_of_workers(tar: Path, shards: Path) -> None:
    expected = batches(DataLoader(stream(tar), batch_size=BATCH))
    assert sorted(flat(expected)) == list(range(COUNT))
    assert flat(expected) != list(range(COUNT))
    for workers in (1, 2, 3, 4):
        for source in (tar, shards):
            loader = DataLoader(stream(source), batch_size=BATCH, num_workers=workers)
            assert batches(loader) == expected


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_of_every_kind_and_s3(s3_env: S3Server, tar: Path, start: str) -> None:
    url = s3_env.put(s3_env.new_bucket(), "out.tar", tar.read_bytes())
    expected = batches(DataLoader(stream(tar), batch_size=BATCH))
    loader = DataLoader(stream(url), batch_size=BATCH, num_workers=2, multiprocessing_context=start)
    assert batches(loader) == expected


def test_each_epoch_has_an_order_of_its_own_also_in_workers_that_are_kept(tar: Path) -> None:
    plain = stream(tar)
    expected = []
    for epoch in range(3):
        plain.set_epoch(epoch)
        expected.append(batches(DataLoader(plain, batch_size=BATCH)))
    assert expected[0] != expected[1] != expected[2] != expected[0]
    for start in ("fork", "spawn"):
        kept = stream(tar)
        loader = DataLoader(
            kept,
            batch_size=BATCH,
            num_workers=2,
            persistent_workers=True,
            multiprocessing_context=start,
        )
        for epoch in (0, 2, 1):
            kept.set_epoch(epoch)
            assert batches(loader) == expected[epoch]


def test_ranks_share_the_samples(tar: Path) -> None:
    read: list[int] = []
    for rank in range(3):
        part = stream(tar, rank=rank, ranks=3)
        loaded = batches(DataLoader(part, batch_size=BATCH, num_workers=2))
        assert loaded == batches(DataLoader(part, batch_size=BATCH))
        assert len(flat(loaded)) == len(part)
        read += flat(loaded)
    assert sorted(read) == list(range(COUNT))
    whole = [stream(tar, rank=rank, ranks=3, drop_last=True) for rank in range(3)]
    assert [len(part) for part in whole] == [3 * BATCH] * 3


PROCESS = """
import json, sys
import torch.distributed as distributed
from torch.utils.data import DataLoader
from blobpack.integrations.torch import BlobStream

tar, store, rank = sys.argv[1:]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
stream = BlobStream(tar, batch_size=16, shuffle=7, window=40, run=5, fields=("cls",))
loader = DataLoader(stream, batch_size=16, num_workers=1)
print(json.dumps([labels.tolist() for (labels,) in loader]))
distributed.barrier()
distributed.destroy_process_group()
"""


def test_ranks_are_those_of_torch_distributed(tar: Path, tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tar), str(tmp_path / "store"), str(rank)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=120)[0] for process in running]
    for rank, lines in enumerate(printed):
        part = stream(tar, rank=rank, ranks=2)
        assert json.loads(lines) == batches(DataLoader(part, batch_size=BATCH))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("stop", [0, 1, 4, 9, 10])
def test_a_stateful_data_loader_continues(tar: Path, workers: int, stop: int) -> None:
    def loader() -> StatefulDataLoader:
        made = stream(tar)
        made.set_epoch(3)
        return StatefulDataLoader(made, batch_size=BATCH, num_workers=workers)

    expected = batches(loader())
    assert len(expected) == 10
    first = loader()
    iterator = iter(first)
    taken = [next(iterator)[0].tolist() for _ in range(stop)]
    state = pickle.loads(pickle.dumps(first.state_dict()))
    del iterator
    second = loader()
    if stop < len(expected):
        second.dataset.set_epoch(0)  # the state knows the epoch
    second.load_state_dict(state)
    rest = batches(second)
    assert taken + rest == expected
    # the epoch after that one is whole
    assert batches(second) == expected


@pytest.mark.parametrize(("workers", "kept"), [(0, False), (2, False), (2, True)])
def test_a_state_after_the_last_batch_leaves_the_next_epoch_to_the_caller(
    tar: Path, workers: int, kept: bool
) -> None:
    """A StatefulDataLoader passes the state on when the next iteration begins, which is after set_epoch."""

    def loader() -> StatefulDataLoader:
        return StatefulDataLoader(
            stream(tar), batch_size=BATCH, num_workers=workers, persistent_workers=kept
        )

    first = loader()
    epochs = []
    for epoch in range(3):
        first.dataset.set_epoch(epoch)
        epochs.append(batches(first))
        if epoch == 0:
            state = pickle.loads(pickle.dumps(first.state_dict()))
    second = loader()
    second.load_state_dict(state)
    for epoch in (1, 2):
        second.dataset.set_epoch(epoch)
        assert batches(second) == epochs[epoch]


def test_another_epoch_that_is_chosen_after_a_state_begins_at_its_first_sample(tar: Path) -> None:
    made = stream(tar)
    made.set_epoch(4)
    whole = list(made)
    for taken in (5, 150):
        first = stream(tar)
        list(zip(range(taken), first, strict=False))
        second = stream(tar)
        second.load_state_dict(first.state_dict())
        second.set_epoch(4)
        assert second.state_dict()["position"] == 0
        assert list(second) == whole


def test_a_state_at_the_end_of_an_epoch_is_that_of_the_next_one_once_it_is_chosen(
    tar: Path,
) -> None:
    first = stream(tar)
    list(first)
    first.set_epoch(1)
    second = stream(tar)
    second.load_state_dict(first.state_dict())
    assert second.epoch == 1
    assert list(second) == list(first)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_any_number_of_workers_continues_at_a_batch(tar: Path, workers: int) -> None:
    whole = [batches(DataLoader(at(tar, epoch), batch_size=BATCH)) for epoch in (0, 3, 4)]
    for batch in (1, 4, 9, 10):
        made = at(tar, 3, batch=batch)
        loader = DataLoader(
            made, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
        )
        assert batches(loader) == whole[1][batch:]
        # until an epoch is chosen again
        assert batches(loader) == whole[1][batch:]
        made.set_epoch(4)
        assert batches(loader) == whole[2]


def at(tar: Path, epoch: int, **batch: int) -> BlobStream:
    made = stream(tar)
    made.set_epoch(epoch, **batch)
    return made


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_of_an_iteration_that_began_at_a_batch(tar: Path, workers: int) -> None:
    whole = batches(DataLoader(at(tar, 3), batch_size=BATCH))
    first = StatefulDataLoader(at(tar, 3, batch=4), batch_size=BATCH, num_workers=workers)
    iterator = iter(first)
    taken = [next(iterator)[0].tolist() for _ in range(3)]
    state = pickle.loads(pickle.dumps(first.state_dict()))
    del iterator
    second = StatefulDataLoader(stream(tar), batch_size=BATCH, num_workers=workers)
    second.load_state_dict(state)
    assert taken + batches(second) == whole[4:]


def test_a_batch_that_an_epoch_does_not_have_is_refused(tar: Path) -> None:
    for wrong, error in ((11, ValueError), (-1, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="batch"):
            at(tar, 0, batch=wrong)


def test_a_state_within_a_batch_continues_without_a_data_loader(tar: Path) -> None:
    whole = [label for (label,) in stream(tar)]
    for stop in (1, 15, 16, 17, 149, 150):
        first = stream(tar)
        iterator = iter(first)
        taken = [next(iterator)[0] for _ in range(stop)]
        second = stream(tar)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert taken + [label for (label,) in second] == whole
        assert [label for (label,) in second] == whole


def test_a_state_is_that_of_the_epoch_that_is_read_also_when_the_next_one_is_chosen(
    tar: Path,
) -> None:
    made = stream(tar)
    made.set_epoch(1)
    whole = [label for (label,) in made]
    iterator = iter(made)
    made.set_epoch(2)
    taken = [next(iterator)[0] for _ in range(5)]
    other = stream(tar)
    other.load_state_dict(made.state_dict())
    assert other.epoch == 1
    assert taken + [label for (label,) in other] == whole


def test_a_state_of_another_order_is_refused(tar: Path) -> None:
    state = stream(tar).state_dict()
    for name, other in (
        ("seed", {"shuffle": 8}),
        ("batch", {"batch_size": 4}),
        ("run", {"run": 6}),
    ):
        with pytest.raises(ValueError, match=f"another order of samples: {name} was "):
            stream(tar, **other).load_state_dict(state)
    for wrong in ({}, None, {"epoch": 1}):
        with pytest.raises(TypeError, match="state"):
            stream(tar).load_state_dict(wrong)


def test_a_state_of_one_process_is_not_continued_by_workers(tar: Path) -> None:
    made = stream(tar)
    next(iter(made))
    made.load_state_dict(made.state_dict())
    with pytest.raises(ValueError, match="StatefulDataLoader"):
        batches(DataLoader(made, batch_size=BATCH, num_workers=2))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"window": "2"}, TypeError, "window"),
        ({"run": 0}, ValueError, "run"),
        ({"shuffle": -1}, ValueError, "shuffle"),
        ({"shuffle": 1.5}, TypeError, "shuffle"),
        ({"drop_last": "no"}, TypeError, "drop_last"),
        ({"rank": 0}, ValueError, "rank and ranks"),
        ({"rank": 2, "ranks": 2}, ValueError, "rank must be"),
        ({"rank": 0, "ranks": 0}, ValueError, "ranks must be"),
        ({"fields": "cls"}, TypeError, "fields"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_misuse_names_the_argument(
    tar: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        stream(tar, **options)
    with pytest.raises(ValueError, match="epoch"):
        stream(tar).set_epoch(-1)


def test_images_become_tensors(tar: Path) -> None:
    [batch, *_] = DataLoader(stream(tar, fields=("jpg",), size=(8, 9)), batch_size=BATCH)
    assert batch[0].shape == (BATCH, 3, 8, 9)
    assert batch[0].dtype == torch.uint8
