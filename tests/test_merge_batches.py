"""Merges and appends of many members give the blobs and errors that those of few members give, byte for byte."""

import random
from functools import partial

import pytest

import blobpack
from blobpack._native.packed import normal_names
from blobpack.editing import blob_state, copy_members
from blobpack.index import repeated_names
from blobpack.index.stored.scratch import ScratchIndex


@pytest.fixture
def both_ways(monkeypatch, tmp_path):
    """Return a function that runs another one twice, with a new folder, the second time as if members were many."""

    def run_twice(run):
        folders = tmp_path / "few", tmp_path / "many"
        for folder in folders:
            folder.mkdir()
        few = run(folders[0])
        with monkeypatch.context() as patch:
            for module in (blob_state, copy_members, repeated_names):
                patch.setattr(module, "ROWS_IN_MEMORY_MAX", 0)
            patch.setattr(copy_members, "PART_ROWS", 7)
            many = run(folders[1])
        assert few == many
        return few

    return run_twice


def packed(path, names, **options):
    members = ((name, f"{path.stem} {name}".encode()) for name in names)
    blobpack.pack(members, path, all_files=True, **options)
    return path


NAMES = {
    "all different": (range(40), range(40, 80), range(80, 100)),
    "some repeated": (range(40), range(30, 60), range(10, 70, 7)),
    "all repeated": (range(20), range(20), range(20)),
}


def three(folder, names):
    # "./7.bin" and "7.bin" are extracted to one file
    return [
        packed(folder / f"{stem}.tar", [f"{'./' * (n % 4 == at)}{n}.bin" for n in numbers])
        for at, (stem, numbers) in enumerate(zip("abc", names, strict=True))
    ]


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_last_member_of_each_name(both_ways, names):
    def merge(folder):
        out = folder / "out.tar"
        report = blobpack.merge(three(folder, names), out, duplicates="last")
        assert isinstance(report.index._stored, ScratchIndex) == (folder.name == "many")
        return report.members, report.replaced, list(report.index), out.read_bytes()

    members, replaced, *_ = both_ways(merge)
    assert members == len({n for numbers in names for n in numbers})
    assert members + replaced == sum(map(len, names))


def test_members_that_are_all_replaced_take_no_facts_away(tmp_path, monkeypatch):
    # many are compared, few are left
    monkeypatch.setattr(repeated_names, "ROWS_IN_MEMORY_MAX", 0)
    sources = [packed(tmp_path / name, "ab") for name in ("a.tar", "b.tar")]
    with blobpack.open_blob(sources[0]) as blob:
        facts = blob.index.facts
    assert facts
    report = blobpack.merge(sources, tmp_path / "out.tar", duplicates="last")
    assert report.replaced == 2
    assert report.index.facts == facts


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_first_repeated_name_is_in_the_message(both_ways, names):
    def merge(folder):
        sources, out = three(folder, names), folder / "out.tar"
        try:
            blobpack.merge(sources, out)
        except blobpack.DuplicateNameError as exc:
            assert not out.exists()
            return str(exc).replace(str(folder), "")
        return out.read_bytes()

    is_whole = isinstance(both_ways(merge), bytes)
    assert is_whole == (names is NAMES["all different"])


@pytest.mark.parametrize("seed", range(20))
def test_hashes_and_tables_find_the_same_rows(seed, monkeypatch):
    rng = random.Random(seed)
    indexes = [
        blobpack.Index(
            blobpack.Member(f"{'./' * rng.randrange(2)}{rng.randrange(seed * 9 + 2)}", 0, 0)
            for _ in range(rng.randrange(60))
        )
        for _ in range(3)
    ]
    first_repeated = partial(repeated_names.first_repeated, indexes, normal_names)
    last_of_each_name = partial(repeated_names.last_of_each_name, indexes, normal_names)
    tables = first_repeated(), last_of_each_name()
    monkeypatch.setattr(repeated_names, "ROWS_IN_MEMORY_MAX", -1)
    # so that the tables are not made again
    monkeypatch.setattr(repeated_names, "_table", None)
    if sum(map(len, indexes)):
        assert first_repeated() == tables[0]
        assert last_of_each_name().tolist() == tables[1].tolist()


def test_names_that_were_made_to_collide_are_compared_in_a_table(monkeypatch):
    monkeypatch.setattr(repeated_names, "_compare_hashes", lambda *_: False)
    monkeypatch.setattr(repeated_names, "ROWS_IN_MEMORY_MAX", -1)
    index = blobpack.Index(blobpack.Member(name, 0, 0) for name in "abca")
    assert repeated_names.first_repeated([index, index], normal_names) == (0, 7)
    last = repeated_names.last_of_each_name([index, index], normal_names)
    assert last.nonzero()[0].tolist() == [5, 6, 7]


@pytest.mark.parametrize("place", ["embed", "sidecar"])
@pytest.mark.parametrize("facts", [True, False])
def test_append(both_ways, place, facts):
    def append(folder):
        names = [f"{number}.bin" for number in range(50)]
        blob = packed(folder / "a.tar", names, facts=facts, index=place)
        for name in ("new.bin", "newer.bin"):
            (folder / name).write_bytes(name.encode())
            report = blobpack.append(blob, [folder / name], all_files=True)
            assert report.appended == 1
        assert blobpack.verify(blob).ok
        with blobpack.open_blob(blob) as opened:
            assert opened.read("newer.bin") == b"newer.bin"
            index = opened.index
            return list(index), index.facts, index.report, blob.read_bytes()[: 1 << 16]

    members, known, *_ = both_ways(append)
    assert len(members) == 52
    assert bool(known) == facts


def test_a_name_that_is_there_is_refused(both_ways):
    def append(folder):
        blob = packed(folder / "a.tar", [f"{number}.bin" for number in range(50)])
        (folder / "7.bin").write_bytes(b"other")
        before = blob.read_bytes()
        with pytest.raises(blobpack.DuplicateNameError) as caught:
            blobpack.append(blob, [folder / "7.bin"], all_files=True)
        assert blob.read_bytes() == before
        return str(caught.value).replace(str(folder), "")

    both_ways(append)
