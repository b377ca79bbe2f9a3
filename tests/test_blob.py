"""A blob reads its members by name, in any thread or process, or says why it can't."""

import multiprocessing
import os
import pickle
import threading

import pytest

import blobpack


@pytest.fixture
def tar(tmp_path):
    payloads = [(f"d{i % 3}/{i:03}.bin", os.urandom(i * 17)) for i in range(200)]
    blobpack.pack(payloads, tmp_path / "o.tar", all_files=True)
    return tmp_path / "o.tar", dict(payloads)


def test_every_member_is_read_by_name(tar):
    path, payloads = tar
    with blobpack.open_blob(path) as blob:
        assert {name: blob.read(name) for name in blob.index.names} == payloads
        names = list(reversed(payloads))
        assert list(blob.read_many(names)) == [payloads[name] for name in names]


def test_the_index_may_be_given_as_an_object_or_an_offsets_file(tar, tmp_path):
    path, payloads = tar
    index = blobpack.scan(path).select("d1/*")
    blobpack.write_offsets(index, tmp_path / "o.pkl")
    for given in (index, tmp_path / "o.pkl", str(tmp_path / "o.pkl")):
        with blobpack.open_blob(path, index=given) as blob:
            assert blob.index == index
            assert blob.read("d1/001.bin") == payloads["d1/001.bin"]
            with pytest.raises(blobpack.MemberNotFoundError):
                blob.read("d0/000.bin")


def test_an_index_that_reaches_beyond_the_blob_is_refused(tar, tmp_path):
    path, _ = tar
    index = blobpack.scan(path)
    os.truncate(path, 4096)
    with pytest.raises(blobpack.BlobChangedError, match="the index is not this blob's"):
        blobpack.open_blob(path, index=index)


def test_reading_after_the_file_was_cut_is_an_error_not_short_bytes(tar):
    path, payloads = tar
    with blobpack.open_blob(path) as blob:
        os.truncate(path, 4096)
        with pytest.raises(blobpack.BlobChangedError, match="cut to 4096 bytes"):
            blob.read(max(payloads))


def test_a_missing_offsets_file_is_said(tar, tmp_path):
    with pytest.raises(blobpack.BlobNotFoundError, match=r"no\.pkl: no such file"):
        blobpack.open_blob(tar[0], index=tmp_path / "no.pkl")


def test_a_closed_blob_says_so(tar):
    blob = blobpack.open_blob(tar[0])
    blob.close()
    blob.close()
    with pytest.raises(blobpack.StorageError, match="closed"):
        blob.read("d0/003.bin")


def test_a_pickled_blob_is_opened_anew(tar):
    path, payloads = tar
    with blobpack.open_blob(path) as blob, pickle.loads(pickle.dumps(blob)) as copy:
        assert copy.store is not blob.store
        assert copy.read("d2/002.bin") == payloads["d2/002.bin"]


def test_a_pickled_blob_that_changed_meanwhile_is_refused(tar):
    path, _ = tar
    with blobpack.open_blob(path) as blob:
        pickled = pickle.dumps(blob)
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(blobpack.BlobChangedError):
        pickle.loads(pickled)


def test_threads_share_a_blob(tar):
    path, payloads = tar
    wrong = []
    with blobpack.open_blob(path) as blob:

        def read_all():
            wrong.extend(name for name in payloads if blob.read(name) != payloads[name])

        threads = [threading.Thread(target=read_all) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_it(tar, method):
    path, payloads = tar
    context = multiprocessing.get_context(method)
    with blobpack.open_blob(path) as blob, context.Pool(2) as pool:
        assert pool.map(blob.read, list(payloads)[:20]) == list(payloads.values())[:20]


def test_it_shows_itself(tar):
    with blobpack.open_blob(tar[0]) as blob:
        assert repr(blob) == f"<Blob {tar[0]}: 200 members, index inside>"
