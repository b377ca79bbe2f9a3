"""What BlobDataset and BlobStream decide without PyTorch: which members make a sample, their order, values of fields.

tests/tools/torch/ runs them in PyTorch's DataLoader.
"""

from __future__ import annotations

import io
import json
import sys
from itertools import chain, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

import blobpack
from blobpack.errors import FormatError, ImageError, MemberNotFoundError, PackageMissingError
from blobpack.integrations.torch.fields import Decoders
from blobpack.integrations.torch.options import sample_reader
from blobpack.integrations.torch.order import EpochOrder, Plan
from blobpack.integrations.torch.samples import find_field, group
from blobpack.reading.wanted import Wanted
from blobpack.tar.names import split_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blobpack.integrations.torch.sample_reader import SampleReader

# Samples


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a", "jpg")),
        ("cats/1.jpg", ("cats/1", "jpg")),
        ("cats/1.seg.PNG", ("cats/1", "seg.png")),
        ("v1.0/1.cls", ("v1.0/1", "cls")),
        ("/a/b.c", ("/a/b", "c")),
        ("a/b\nc.jpg", ("a/b\nc", "jpg")),
        ("plain", ("", "")),
        ("a.d/plain", ("", "")),
        ("a/.hidden", ("", "")),
        (".jpg", ("", "")),
        ("a.", ("", "")),
        ("a/", ("", "")),
        ("", ("", "")),
        ("__meta.json__", ("", "")),
    ],
)
def test_the_stem_ends_at_the_first_dot_of_the_file_name(name: str, parts: tuple[str, str]) -> None:
    assert split_sample(name) == parts


def rows_of(names: list[str]) -> list[dict[str, int]]:
    samples = group(names, range(len(names)))
    return [samples.rows_of(i) for i in range(len(samples))]


def test_neighbours_of_one_stem_are_one_sample() -> None:
    names = ["a.cls", "a.jpg", "README", "b.jpg", "b.json", "c/b.jpg", "b.txt"]
    assert rows_of(names) == [
        {"cls": 0, "jpg": 1},
        {"jpg": 3, "json": 4},
        {"jpg": 5},
        {"txt": 6},
    ]
    assert rows_of([]) == []
    assert rows_of(["plain", "other"]) == []


def test_a_sample_may_begin_in_one_blob_and_end_in_the_next(tmp_path: Path) -> None:
    payloads = {f"{i}.{field}": b"%d" % i for i in range(50) for field in ("cls", "id", "txt")}
    (tmp_path / "shards").mkdir()
    # as another program may cut them
    for first in range(0, len(payloads), 11):
        part = dict(list(payloads.items())[first : first + 11])
        blobpack.pack(part, tmp_path / "shards" / f"{first:03}.tar", all_files=True)
    blobpack.collect(tmp_path / "shards")
    samples = reader_of(tmp_path / "shards", fields=("cls", "id", "txt"))
    cuts = [blob.first_row % 3 for blob in samples.reader.blobs]
    assert {1, 2} & set(cuts), "no sample is cut"
    assert list(samples.read(range(50), threads=False)) == [(i, i, str(i)) for i in range(50)]


def test_of_two_members_of_one_name_the_last_one_counts() -> None:
    assert rows_of(["a.jpg", "a.jpg"]) == [{"jpg": 1}]


def test_the_first_of_the_alternatives_that_a_sample_has() -> None:
    rows = {"png": 3, "jpeg": 4, "cls": 5}
    assert find_field(rows, "jpg;jpeg;png") == ("jpeg", 4)
    assert find_field(rows, "cls") == ("cls", 5)
    assert find_field(rows, "jpg;webp") is None


# The order


def plan(samples: int, batch: int = 1, **others: Any) -> Plan:
    given = {"seed": None, "run": 4, "window": 16, "ranks": 1, "drop_last": False} | others
    return Plan(samples, batch, **given)


def through_workers(
    order: EpochOrder, rank: int, workers: int, *, first: int = 0
) -> list[list[int]]:
    """The batches of a rank, taken from its workers in turn, as a DataLoader takes them."""
    running: list[Iterator[Any] | None] = [
        order.of_worker(rank, worker, workers, first=first) for worker in range(workers)
    ]
    batches = []
    while any(running):
        for i, blocks in enumerate(running):
            block = next(blocks, None) if blocks else None
            if block is None:
                running[i] = None
            else:
                batches.append(block.tolist())
    return batches


PLANS = st.builds(
    plan,
    st.integers(0, 90),
    st.integers(1, 9),
    seed=st.none() | st.integers(0, 3),
    run=st.integers(1, 20),
    window=st.integers(1, 40),
    ranks=st.integers(1, 4),
    drop_last=st.booleans(),
)


@given(PLANS, st.integers(0, 2), st.integers(1, 5))
def test_every_sample_is_read_once_and_in_one_order(made: Plan, epoch: int, workers: int) -> None:
    order = EpochOrder(made, epoch)
    read: list[int] = []
    for rank in range(made.ranks):
        batches = through_workers(order, rank, workers)
        assert batches == through_workers(order, rank, 1)
        mine = list(chain.from_iterable(batches))
        assert len(mine) == made.samples_of(rank)
        assert {len(batch) for batch in batches[:-1]} <= {made.batch}
        read += mine
    assert len(read) == len(set(read))
    assert set(read) <= set(range(made.samples))
    if not made.drop_last:
        assert len(read) == made.samples
    else:
        assert len({made.samples_of(rank) for rank in range(made.ranks)}) == 1
        assert len(read) > made.samples - made.batch * made.ranks


@given(PLANS, st.integers(1, 3), st.data())
def test_an_epoch_continues_where_it_stopped(made: Plan, workers: int, data: st.DataObject) -> None:
    order = EpochOrder(made, 1)
    for rank, worker in product(range(made.ranks), range(workers)):
        whole = [n for block in order.of_worker(rank, worker, workers) for n in block.tolist()]
        begin = data.draw(st.integers(0, len(whole)))
        rest = order.of_worker(rank, worker, workers, begin=begin)
        assert [n for block in rest for n in block.tolist()] == whole[begin:]


@given(PLANS, st.integers(1, 4), st.data())
def test_any_number_of_workers_begins_at_a_batch(
    made: Plan, workers: int, data: st.DataObject
) -> None:
    order = EpochOrder(made, 1)
    for rank in range(made.ranks):
        whole = through_workers(order, rank, 1)
        first = data.draw(st.integers(0, len(whole)))
        assert through_workers(order, rank, workers, first=first) == whole[first:]
        counts = [made.samples_of(rank, worker, workers, first=first) for worker in range(workers)]
        assert sum(counts) == sum(map(len, whole[first:]))


def test_without_a_seed_samples_stay_in_their_order() -> None:
    batches = through_workers(EpochOrder(plan(10, 4), 5), 0, 2)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_each_seed_and_epoch_has_an_order_of_its_own() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        [block] = through_workers(EpochOrder(plan(200, 200, seed=seed), epoch), 0, 1)
        return tuple(block)

    orders = {order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert order(1, 2) == order(1, 2)


def test_a_window_has_runs_of_many_places() -> None:
    made = plan(1000, 100, seed=0, run=5, window=100)
    for block in through_workers(EpochOrder(made, 0), 0, 1):
        # 20 runs of 5 neighbours, from all over the samples, and not run by run
        assert len({sample // 5 for sample in block}) == 20
        assert max(block) - min(block) > 500
        assert [sample // 5 for sample in block[:5]] != [block[0] // 5] * 5


def test_a_window_smaller_than_a_run_is_one_run() -> None:
    made = plan(20, 10, seed=0, run=10, window=3)
    blocks = through_workers(EpochOrder(made, 0), 0, 1)
    assert sorted(sorted(block) for block in blocks) == [list(range(10)), list(range(10, 20))]


# Values


def png(value: int = 7, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (3, 2), value).save(file, "PNG")
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DECODERS = Decoders(Wanted(), {"raw.png": None, "up": bytes.upper}, lambda array: array)


@pytest.mark.parametrize(
    ("field", "payload", "value"),
    [
        ("cls", b"12", 12),
        ("label.cls", b" 3\n", 3),
        ("txt", "né".encode(), "né"),
        ("json", b'{"a": [1]}', {"a": [1]}),
        ("npy", npy([1, 2]), [1, 2]),
        ("npy", npy(np.array([1, 2], ">i4")), [1, 2]),
        ("png", png(), [[[7] * 3] * 2, [[0] * 3] * 2, [[0] * 3] * 2]),
        ("seg.png", png(), [[[7] * 3] * 2, [[0] * 3] * 2, [[0] * 3] * 2]),
        ("raw.png", b"as it is", b"as it is"),
        ("up", b"text", b"TEXT"),
        ("bin", b"\0", b"\0"),
        ("pkl", b"cos\nsystem\n", b"cos\nsystem\n"),
    ],
)
def test_values_of_fields(field: str, payload: bytes, value: object) -> None:
    found = DECODERS.value(field, payload, "x")
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == value


def test_grey_images_have_one_channel() -> None:
    decoders = Decoders(Wanted("L", size=(4, 5)), {}, lambda array: array)
    assert decoders.value("png", png(), "x").shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("field", "payload"),
    [
        *(("cls", b""), ("cls", b"one"), ("txt", b"\xff"), ("json", b"{"), ("npy", b"")),
        ("json", b"[" * 100_000),
        ("npy", npy(np.array([object()]))),
        ("npy", npy(np.zeros(3)).replace(b"(3,), }" + b" " * 14, b"(%d,), }" % 10**15)),
    ],
)
def test_a_payload_that_is_no_such_value_is_named(field: str, payload: bytes) -> None:
    with pytest.raises(FormatError, match=rf"o\.tar: a\.x: not a value of the field {field}: "):
        DECODERS.value(field, payload, "o.tar: a.x")
    with pytest.raises(ImageError, match=r"o\.tar: a\.x"):
        DECODERS.value("png", b"no image", "o.tar: a.x")


def test_an_error_of_a_function_of_the_caller_is_noted_with_the_member() -> None:
    decoders = Decoders(Wanted(), {"bin": int}, lambda array: array)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        decoders.value("bin", b"x", "o.tar: a.bin")
    assert caught.value.__notes__ == ["while decoding o.tar: a.bin"]


# Reading


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    payloads: dict[str, bytes] = {"README": b"of the set"}
    for i in range(40):
        payloads |= {f"{i:02}.cls": b"%d" % i, f"{i:02}.png": png(i)}
    payloads["99.png"] = b"no image"
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True)
    return tmp_path / "out.tar"


def reader_of(tar: Path, **options: Any) -> SampleReader:
    return sample_reader(tar, options, lambda array: array)


@pytest.mark.parametrize("threads", [False, True])
def test_samples_are_read_in_the_order_asked(tar: Path, threads: bool) -> None:
    samples = reader_of(tar, fields=("cls", "jpg;png"))
    assert len(samples) == 41
    asked = [*range(39, -1, -3), 5, 5]
    read = list(samples.read(asked, threads=threads))
    assert [label for label, _ in read] == asked
    assert all(image.shape == (3, 2, 3) and image[0, 0, 0] == label for label, image in read)


def test_all_fields_are_a_dict_with_the_stem(tar: Path) -> None:
    [sample] = reader_of(tar).read([3], threads=False)
    assert sample.pop("png").shape == (3, 2, 3)
    assert sample == {"__key__": "03", "cls": 3}


def test_a_transform_makes_the_sample(tar: Path) -> None:
    samples = reader_of(tar, fields=["cls"], transform=lambda sample: -sample[0])
    assert list(samples.read(range(3), threads=True)) == [0, -1, -2]


def test_members_that_are_chosen_make_the_samples(tar: Path) -> None:
    with blobpack.open_blob(tar) as blob:
        chosen = blob.index.select("1*.png")
        samples = reader_of(tar, members=chosen)
        assert len(samples) == 10
        assert [sample["__key__"] for sample in samples.read(range(2), threads=False)] == [
            "10",
            "11",
        ]
    assert len(reader_of(tar, members=["03.png", "03.cls", "01.png"])) == 2


@pytest.mark.parametrize("threads", [False, True])
def test_a_sample_that_lacks_a_field_or_is_damaged_is_named(tar: Path, threads: bool) -> None:
    with pytest.raises(
        MemberNotFoundError, match=r"out\.tar: the sample 99 has no field cls, only png"
    ):
        list(reader_of(tar, fields=("png", "cls")).read([0, 40], threads=threads))
    with pytest.raises(
        MemberNotFoundError, match=r"out\.tar: no sample has the field jpg;jpeg, only cls, png"
    ):
        reader_of(tar, fields=("png", "jpg;jpeg"))
    with pytest.raises(ImageError, match=r"out\.tar: 99\.png"):
        list(reader_of(tar, fields=("png",)).read([0, 40], threads=threads))


def test_samples_before_one_that_fails_come_first(tar: Path) -> None:
    samples = reader_of(tar, fields=("png",))
    for count in range(20):
        read = samples.read([*range(count), 40, 1], threads=True)
        assert [next(read)[0][0, 0, 0] for _ in range(count)] == list(range(count))
        with pytest.raises(ImageError, match=r"99\.png"):
            next(read)
    for threads in (False, True):
        read = reader_of(tar, fields=("cls",)).read([*range(9), 40, 1], threads=threads)
        assert [next(read) for _ in range(9)] == [(i,) for i in range(9)]
        with pytest.raises(MemberNotFoundError, match="99"):
            next(read)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"fields": "jpg"}, TypeError, "fields must be several names"),
        ({"fields": 5}, TypeError, "fields"),
        ({"fields": ["jpg", 5]}, TypeError, "fields must be str"),
        ({"fields": []}, ValueError, "fields must be at least one"),
        ({"size": 5}, TypeError, "size"),
        ({"size": (0, 5)}, ValueError, "size"),
        ({"mode": "nonsense"}, ValueError, "mode"),
        ({"decode": ["jpg"]}, TypeError, "decode"),
        ({"decode": {"jpg": 5}}, TypeError, "decode"),
        ({"transform": 5}, TypeError, "transform"),
        ({"members": "one"}, TypeError, "several"),
        ({"nonsense": 5}, TypeError, "nonsense"),
    ],
)
def test_misuse_names_the_option(
    tar: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        reader_of(tar, **options)


def test_without_pytorch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "blobpack.integrations.torch.pytorch", raising=False)
    import blobpack.integrations.torch as face

    assert set(dir(face)) >= {"BlobDataset", "BlobStream"}
    with pytest.raises(PackageMissingError, match="pip install torch"):
        face.BlobDataset  # noqa: B018


def test_json_of_a_sample_is_read_whole(tmp_path: Path) -> None:
    annotation = {"boxes": [[1, 2, 3, 4]], "name": "né"}
    payloads = {"a.json": json.dumps(annotation).encode(), "a.png": png()}
    blobpack.pack(payloads, tmp_path / "out.tar", all_files=True)
    [sample] = reader_of(tmp_path / "out.tar").read([0], threads=False)
    assert sample["json"] == annotation
