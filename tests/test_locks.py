"""A lock that another thread holds while the process forks does not hold up the child."""

from __future__ import annotations

import threading

import pytest
from test_stores import FORKS, in_fork

from blobpack import Index, Member
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.stores.memory import MemoryStore
from blobpack.threads import fork_safe_lock


@FORKS
def test_it_is_free_in_the_child_and_held_here():
    lock = fork_safe_lock()

    def taken() -> bool:
        with lock:
            return True

    with lock:
        assert in_fork(taken)
        assert not lock.acquire(blocking=False)


@FORKS
def test_an_index_far_away_is_asked_in_a_child_whose_parent_was_asking(tmp_path):
    Index([Member("a.jpg", 512, 700)]).save(tmp_path / "i.idx")
    store = MemoryStore((tmp_path / "i.idx").read_bytes())
    remote = RemoteIndex(store, 0, read_footer(store))
    with remote._parts._kept._lock:
        assert in_fork(lambda: remote.locate("a.jpg")) == (512, 700)


def test_an_error_lets_it_go():
    lock = fork_safe_lock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    with lock:
        pass


def test_no_python_code_runs_between_taking_it_and_the_block():
    """Ctrl-C there would leave it held: Python looks for signals where a function of its own begins."""
    assert isinstance(fork_safe_lock(), type(threading.Lock()))
