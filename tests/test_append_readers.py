"""A blob that is open while members are appended to it answers as before, and never wrongly."""

import contextlib
import os
import random
import shutil
import subprocess
import threading
import time
import traceback

import pytest
from tars import need_tool
from test_append import NEW, OLD, PLACES, PNG, pack_files, payloads, run_cut_short

import blobpack
from blobpack.indexfile.footer import FOOTER_BYTES
from blobpack.indexfile.mapped import LocalIndex
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.overwritten import kept_index_path
from blobpack.stores.local import LocalStore
from blobpack.writing.embed import embed_index

pytestmark = pytest.mark.filterwarnings("ignore::blobpack.MissingIndexWarning")


class Reader:
    """An open blob, and the answers that it must give."""

    def __init__(self, path, files):
        self.blob = blobpack.open_blob(path)
        self.files = files
        with blobpack.open_blob(path) as other:
            self.members = list(other.index)
        assert [member.name for member in self.members] == list(files)

    def check(self, names=None, absent="new/0001.png", facts=True):
        """Compare all answers.

        Args:
            names: Names to look up one by one; None for all.
            absent: A name that the blob did not have.
            facts: Whether the index still has facts: a blob whose append was killed has lost them.
        """
        index = self.blob.index
        rows = {member.name: row for row, member in enumerate(self.members)}
        for name in self.files if names is None else names:
            assert self.blob.read(name) == self.files[name]
            assert name in index
            assert (index[name] == self.members[rows[name]]) or not facts
            assert index.row_of(name) == rows[name]
        # rows that were appended are not counted from the end
        for row in (0, -1, len(self.members) // 2, -len(self.members)):
            member = self.members[row]
            assert index.names[row] == member.name
            assert index._bounds_at(row) == (member.offset_start, member.offset_end)
            assert index[row] == member or not facts
            assert index._search_rows([row])[0][:3] == (
                row % len(self.members),
                member.offset_start,
                member.offset_end,
            )
        with pytest.raises(IndexError, match=f"no row {len(self.members)} among"):
            index[len(self.members)]
        found = index._search([*self.files, absent])
        assert [(hit.row, hit.offset_start, hit.offset_end) for hit in found[:-1]] == [
            (row, m.offset_start, m.offset_end) for row, m in enumerate(self.members)
        ]
        assert not facts or [hit.crc32c for hit in found[:-1]] == [m.crc32c for m in self.members]
        assert found[-1] is None
        assert absent not in index
        assert len(index) == len(self.members)
        assert list(index.names) == list(self.files)
        assert not facts or list(index) == self.members
        assert list(self.blob.read_many(index)) == list(self.files.values())


OLD_LARGE = payloads("old", 2500, size=300)


@pytest.mark.parametrize("place", PLACES)
def test_members_are_found_before_during_and_after_an_append(place, tmp_path):
    blob = pack_files(tmp_path / "o.tar", OLD_LARGE, index=place)
    readers = [Reader(blob, OLD_LARGE) for _ in range(4)]
    readers[0].check()

    def new():
        for i, pair in enumerate(NEW.items()):
            yield pair
            # the old index is overwritten by and by
            readers[1].check(random.Random(i).choices(list(OLD_LARGE), k=20))
        yield "large", bytes(1_000_000)
        readers[2].check()

    blobpack.append(blob, new(), all_files=True)
    for reader in readers:
        reader.check()
    blobpack.append(blob, [("more.png", PNG)])
    for reader in readers:
        reader.check()
    Reader(blob, OLD_LARGE | NEW | {"large": bytes(1_000_000), "more.png": PNG}).check(absent="x")
    assert not list(tmp_path.glob(".*"))


def test_a_member_that_was_replaced_is_read_as_it_was(tmp_path):
    blob = pack_files(tmp_path / "o.tar", OLD)
    reader = Reader(blob, OLD)
    name = next(iter(OLD))
    blobpack.append(blob, [(name, PNG)], duplicates="last")
    reader.check()
    with blobpack.open_blob(blob) as now:
        assert now.read(name) == PNG


@contextlib.contextmanager
def looking_up(reader):
    """Let four threads look names up and read members, until the block ends."""
    failures, done = [], threading.Event()

    def look():
        try:
            while not done.is_set():
                names = random.choices(list(OLD_LARGE), k=50)
                assert [reader.blob.read(name) for name in names] == [OLD_LARGE[n] for n in names]
                assert all(name in reader.blob.index for name in names)
        except BaseException as exc:
            failures.append(exc)
            raise

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_many_threads_look_up_at_once(tmp_path):
    blob = pack_files(tmp_path / "o.tar", OLD_LARGE)
    reader = Reader(blob, OLD_LARGE)
    with looking_up(reader):
        for turn in range(30):
            blobpack.append(blob, payloads(f"turn{turn}", 5, turn).items())
    reader.check()


@pytest.mark.parametrize("place", PLACES)
def test_an_append_that_fails(place, tmp_path):
    def failing():
        yield "large", bytes(1_000_000)
        during.check()
        raise ZeroDivisionError

    blob = pack_files(tmp_path / "o.tar", OLD_LARGE, index=place)
    during, after = Reader(blob, OLD_LARGE), Reader(blob, OLD_LARGE)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            blobpack.append(blob, failing(), all_files=True)
        after.check()
    assert not list(tmp_path.glob(".*"))


def test_an_index_that_was_put_back_differs_from_the_one_before(tmp_path):
    """A reader that pauses during its look-up must notice that the index was overwritten meanwhile."""
    blob = pack_files(tmp_path / "o.tar", OLD)
    footers = set()
    for _ in range(3):
        footers.add(blob.read_bytes()[-FOOTER_BYTES:])
        assert blobpack.append(blob, [("x.txt", b"no image")]).appended == 0
    assert len(footers) == 3


def test_an_append_that_is_killed_at_any_call(tmp_path):
    fresh, path = pack_files(tmp_path / "fresh.tar", OLD_LARGE), tmp_path / "o.tar"
    large = {"large": bytes(1_000_000)}
    k, cut = 0, True
    while cut:
        k += 1
        shutil.copy(fresh, path)
        before, idle = Reader(path, OLD_LARGE), Reader(path, OLD_LARGE)
        cut = run_cut_short(
            lambda: blobpack.append(path, large.items(), all_files=True), k, after=False
        )
        some = list(OLD_LARGE)[::50]
        before.check(some)
        blobpack.append(path, NEW.items())
        before.check(some)
        idle.check(some, facts=not cut)
    assert k > 10
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("facts", [False, True])
def test_an_index_that_is_embedded_again(facts, tmp_path):
    blob = pack_files(tmp_path / "o.tar", OLD_LARGE, index="none")
    embed_index(blob)
    reader = Reader(blob, OLD_LARGE)
    embed_index(blob, facts=facts)
    reader.check()


def test_an_index_that_is_embedded_again_while_threads_look_up(tmp_path):
    blob = pack_files(tmp_path / "o.tar", OLD_LARGE)
    reader = Reader(blob, OLD_LARGE)
    with looking_up(reader):
        for turn in range(10):
            embed_index(blob, facts=turn % 2 > 0)
    reader.check(facts=False)
    assert not list(tmp_path.glob(".*"))


class TestOtherPrograms:
    """What does not come from an append is an error, and not another member."""

    def check_error(self, blob, name):
        for ask in (
            lambda: name in blob.index,
            lambda: blob.read(name),
            lambda: blob.index._search([name]),
            lambda: list(blob.index),
        ):
            with pytest.raises(blobpack.BlobChangedError):
                ask()

    def test_tar_overwrites_the_index(self, tmp_path):
        path = pack_files(tmp_path / "o.tar", OLD_LARGE)
        blob = blobpack.open_blob(path)
        (tmp_path / "large").write_bytes(bytes(2_000_000))
        subprocess.run([need_tool("tar"), "-rf", path, "-C", tmp_path, "large"], check=True)
        self.check_error(blob, next(iter(OLD_LARGE)))

    def test_another_blob_is_written_over_it(self, tmp_path):
        path = pack_files(tmp_path / "o.tar", OLD_LARGE)
        others = payloads("old", 4000, 9, size=300)
        other = pack_files(tmp_path / "other.tar", others)
        blob = blobpack.open_blob(path)
        with open(path, "r+b") as file:
            file.write(other.read_bytes())
        self.check_error(blob, next(iter(OLD_LARGE)))


def test_an_index_without_a_lookup(tmp_path):
    """A writer leaves the lookup out if names were made to collide. Here the footer is changed to say so."""
    path = pack_files(tmp_path / "o.tar", OLD)
    with LocalStore(path) as store:
        from dataclasses import replace

        footer = read_footer(store)
        index = LocalIndex(store, store.size - footer.region_bytes, replace(footer, lookup_pages=0))
        blobpack.append(path, NEW.items())
        for row, name in enumerate(OLD):
            assert index.find(name) == row
            assert index.locate(name) == index.search([name])[0][1:3]
            assert index.find_member(index.member_at(row)) == row
        assert index.find("new/0001.png") == -1
        assert index.locate("new/0001.png") is None


@pytest.mark.parametrize("missing", [0, 1, 511, 512, 513, 10**9])
def test_a_copy_that_is_just_being_written_is_no_index(tmp_path, missing):
    path = pack_files(tmp_path / "o.tar", OLD_LARGE)
    with LocalStore(path) as store:
        region = path.read_bytes()[-read_footer(store).region_bytes :]
    blob = blobpack.open_blob(path)
    with open(path, "r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(bytes(512))
    copy = kept_index_path(path, path.stat().st_ino)
    copy.write_bytes(region[: max(0, len(region) - missing)])
    name = next(iter(OLD_LARGE))
    if missing:
        with pytest.raises(blobpack.BlobChangedError):
            blob.index._bounds_of(name)
    else:
        assert blob.read(name) == OLD_LARGE[name]


READERS = 8
APPENDS = 1000


def test_eight_processes_read_while_one_appends_a_thousand_times(tmp_path):
    path = pack_files(tmp_path / "o.tar", OLD_LARGE)
    stop = tmp_path / "stop"
    children = [fork(read_until, stop, path, seed) for seed in range(READERS)]
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("ready*"))) < READERS:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    appending = fork(append_often, path)
    assert os.waitpid(appending, 0)[1] == 0
    stop.touch()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * READERS
    assert len(blobpack.scan(path)) == len(OLD_LARGE) + APPENDS


def fork(work, *arguments):
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def append_often(path):
    # a reader on the same machine does not notice whether bytes are on disk
    os.fsync = lambda fd: None
    rng = random.Random(5)
    for i in range(APPENDS):
        blobpack.append(path, [(f"new/{i}", rng.randbytes(rng.randrange(30_000)))], all_files=True)


def read_until(stop, path, seed):
    reader = Reader(path, OLD_LARGE)
    rng = random.Random(seed)
    names = list(OLD_LARGE)
    stop.with_name(f"ready{seed}").touch()
    while not stop.exists():
        # the blob as it was opened, and as it is now
        with blobpack.open_blob(path) as fresh:
            for name in rng.choices(names, k=50):
                assert reader.blob.read(name) == fresh.read(name) == OLD_LARGE[name]
                assert name in reader.blob.index
                assert f"new/{rng.randrange(APPENDS)}" not in reader.blob.index
        # leave the processors to the process that appends
        time.sleep(0.01)
    reader.check(names[::20])
