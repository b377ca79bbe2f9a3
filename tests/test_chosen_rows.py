"""Many members that are chosen from an index file stay there, and look like members in memory."""

import pickle
from itertools import chain

import numpy as np
import pytest
from tars import Tar

import blobpack
from blobpack.columns import Columns
from blobpack.index import index as index_module, name_tables
from blobpack.index.select import Conditions, masks
from blobpack.index.stored import picked
from blobpack.index.stored.chosen_rows import ChosenRows
from blobpack.index.stored.scratch import ScratchIndex

COUNT = 3000
NAMES = [f"{number % 7}/{number:05}.bin" for number in range(COUNT)]


@pytest.fixture
def many(monkeypatch):
    """Count ten members as many, so that their rows stay in the file."""
    for module in (index_module, picked):
        monkeypatch.setattr(module, "ROWS_IN_MEMORY_MAX", 10)
    monkeypatch.setattr("blobpack.index.rows.ROWS_IN_MEMORY_MAX", 10)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("chosen") / "many.tar"
    blobpack.pack(((name, name.encode()) for name in NAMES), path, all_files=True)
    return path


@pytest.fixture
def blob(path):
    with blobpack.open_blob(path) as blob:
        yield blob


CUTS = {
    "all": lambda index: index.select("*"),
    "a glob": lambda index: index.select("3/*"),
    "an exclusion": lambda index: index.select(exclude=["3/*"]),
    "names": lambda index: index.select(names=NAMES[5::3]),
    "a function": lambda index: index.select(where=lambda member: member.offset_start % 3 == 0),
    "a slice": lambda index: index[100:-100],
    "every third": lambda index: index[::3],
    "backwards": lambda index: index[::-1],
    "rows, some twice": lambda index: index[[9, 2, 2, 2999, 0, *range(50, 80), 9]],
    "a mask": lambda index: index[np.arange(COUNT) % 2 == 0],
    "some of some": lambda index: index.select("3/*")[5:].select(exclude=["*9.bin"]),
    "backwards, of some": lambda index: index.select("3/*")[::-1][1:],
}
each_cut = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


@pytest.fixture
def both(blob, monkeypatch):
    """Return a function that cuts an index, once with all members in memory, and once without."""

    def cut_twice(cut):
        columns = cut(blobpack.Index._from_columns(blob.index._columns))
        blob.index._loaded = None
        for module in ("index.index", "index.rows", "index.stored.picked"):
            monkeypatch.setattr(f"blobpack.{module}.ROWS_IN_MEMORY_MAX", 10)
        rows = cut(blob.index)
        assert isinstance(rows._stored, ChosenRows)
        assert rows._loaded is None
        return columns, rows

    return cut_twice


@each_cut
def test_rows_in_a_file_are_members_in_memory(both, cut):
    columns, rows = both(cut)
    assert list(rows) == list(columns)
    assert len(rows) == len(columns)
    assert rows.payload_bytes == columns.payload_bytes
    assert rows._last_end == columns._last_end
    assert rows.facts == columns.facts
    assert rows.names == columns.names
    assert rows.names[3:7] == columns.names[3:7]
    for row in (0, 5, -1):
        assert rows[row] == columns[row]
        assert rows.names[row] == columns.names[row]
        assert rows.range_of(row) == columns.range_of(row)
    for row in (len(columns), -len(columns) - 1):
        with pytest.raises(IndexError) as of_rows:
            rows[row]
        with pytest.raises(IndexError) as of_columns:
            columns[row]
        assert str(of_rows.value) == str(of_columns.value)
    assert rows._loaded is None
    assert rows == columns


@each_cut
def test_names_are_found_in_rows_in_a_file(both, cut):
    columns, rows = both(cut)
    for name in [*NAMES[::41], "none", "\udcff", "\ud800"]:
        assert (name in rows) == (name in columns)
        assert rows._find(name) == columns._find(name)
        assert rows._search([name, name]) == columns._search([name, name])
        if name in columns:
            assert rows.range_of(name) == columns.range_of(name)
            assert rows.row_of(columns[name]) == columns.row_of(columns[name])
    assert rows._search_rows([0, -1, 4]) == columns._search_rows([0, -1, 4])


@each_cut
def test_cuts_remember_their_rows_and_can_be_joined(both, blob, cut):
    columns, rows = both(cut)
    assert rows.identity == blob.index.identity
    assert blob.index.rows(rows).tolist() == blob.index.rows(list(columns)).tolist()
    assert list(blob.index[:20] + rows) == [*blob.index[:20], *columns]


@each_cut
def test_rows_outlive_their_blob_and_are_pickled_as_members(both, blob, path, cut):
    columns, rows = both(cut)
    blob.close()
    rows.close()
    assert rows[7] == columns[7]
    assert list(rows) == list(columns)
    copy = pickle.loads(pickle.dumps(rows))
    assert copy._stored is None
    assert copy == columns
    assert copy.identity == rows.identity


def test_an_append_while_rows_are_in_use_is_not_seen(many, tmp_path):
    path = tmp_path / "growing.tar"
    blobpack.pack(((name, b"payload") for name in NAMES[:100]), path, all_files=True)
    with blobpack.open_blob(path) as blob:
        rows = blob.index.select("*")
        before = list(rows)
        (tmp_path / "new.bin").write_bytes(b"new")
        blobpack.append(path, [tmp_path / "new.bin"], all_files=True)
        assert list(rows) == before
        assert rows[-1] == before[-1]


def test_one_name_of_many_members_is_the_last_one(many, tmp_path):
    names, tar = [f"{number % 20}.bin" for number in range(100)], Tar()
    for name in names:
        tar.file(name, b"payload")
    path = tmp_path / "repeated.tar"
    path.write_bytes(tar.end().blob)
    blobpack.scan(path).save(tmp_path / "repeated.tar.idx")
    with blobpack.open_blob(path, tmp_path / "repeated.tar.idx") as blob:
        for rows in (range(40), range(30, 70), range(99, -1, -1), [*range(50), *range(20)]):
            chosen, columns = blob.index[np.array(rows)], list(rows)
            assert isinstance(chosen._stored, ChosenRows)
            listed = [names[row] for row in columns]
            for name in set(names):
                last = len(listed) - 1 - listed[::-1].index(name) if name in listed else -1
                assert chosen._find(name) == last


def test_callers_rows_can_be_changed_afterwards(many, blob):
    numbers = np.arange(50)
    chosen = blob.index[numbers]
    numbers[:] = 0
    assert chosen.names == NAMES[:50]


def test_many_members_of_a_remote_index_go_to_a_temporary_file(many, bucket):
    url = f"s3://{bucket}/a.tar"
    blobpack.pack(((name, name.encode()) for name in NAMES), url, all_files=True)
    with blobpack.open_blob(url) as blob:
        chosen = blob.index.select("3/*")
        assert isinstance(chosen._stored, ScratchIndex)
    assert chosen.identity
    assert chosen["3/00003.bin"].name == "3/00003.bin"
    copy = pickle.loads(pickle.dumps(chosen))
    assert copy._stored is None
    assert copy.names == [name for name in NAMES if name[0] == "3"]


class TestManyNames:
    """More names than one table has."""

    @pytest.fixture(autouse=True)
    def small_tables(self, monkeypatch):
        monkeypatch.setattr(name_tables, "NAMES_MAX", 64)
        monkeypatch.setattr(name_tables, "NAMES_ENCODED_AT_ONCE", 16)

    @pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 129, 1000])
    def test_all_names_select(self, blob, count):
        wanted = NAMES[::-3][:count]
        found = blob.index.select("[!0]/*", names=iter([*wanted, "none", "\ud800"]))
        assert sorted(found.names) == sorted(name for name in wanted if name[0] != "0")

    def test_names_of_another_index_select(self, blob):
        others = blob.index[::7]
        assert blob.index.select(names=others).names == others.names

    def test_a_remote_index_is_read_once(self, blob):
        parts, passes = blob.index._stored.parts, []

        def counted():
            passes.append(1)
            return parts()

        conditions = Conditions(names=name_tables.NameTables(NAMES[:200]))
        masked = masks(conditions, counted, COUNT, in_one_pass=True)
        found = np.concatenate([mask for _, mask in masked])
        assert np.flatnonzero(found).tolist() == list(range(200))
        assert len(passes) == 1

    def test_a_wrong_name_behind_a_full_table_is_an_error(self, blob):
        with pytest.raises(TypeError, match="names must be several names or members, but one is 7"):
            blob.index.select(names=chain(NAMES[:100], [7]))


def test_an_index_that_loses_facts_while_it_is_read_lacks_them():
    with_facts = Columns.of_members([blobpack.Member("a", 0, 1, "image/png", 2, 3)])
    without = Columns.of_members([blobpack.Member("b", 1, 2, "image/png")])
    for parts in ([with_facts, without], [without, with_facts]):
        joined = Columns.joined(parts, 2)
        assert list(joined.iter_members()) == list(Columns.concatenate(parts).iter_members())
        assert {name for name, _ in joined.facts()} == {"media_type"}
