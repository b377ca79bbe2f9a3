"""A lock that another thread holds while the process forks does not hold up the child."""

from __future__ import annotations

import pytest
from test_stores import FORKS, in_fork

from blobpack import Index, Member
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.stores.memory import MemoryStore
from blobpack.threads import ForkSafeLock


@FORKS
def test_it_is_free_in_the_child_and_held_here():
    lock = ForkSafeLock()

    def taken() -> bool:
        with lock:
            return True

    with lock:
        assert in_fork(taken)
        assert not lock._lock.acquire(blocking=False)


@FORKS
def test_an_index_far_away_is_asked_in_a_child_whose_parent_was_asking(tmp_path):
    Index([Member("a.jpg", 512, 700)]).save(tmp_path / "i.idx")
    store = MemoryStore((tmp_path / "i.idx").read_bytes())
    remote = RemoteIndex(store, 0, read_footer(store))
    with remote._parts._kept._lock:
        assert in_fork(lambda: remote.locate("a.jpg")) == (512, 700)


def test_an_error_lets_it_go():
    lock = ForkSafeLock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    with lock:
        pass
