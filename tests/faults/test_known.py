"""Faults that once broke a promise, each at the call where it did."""

from __future__ import annotations

import errno
import signal

import pytest
from commands import Fault
from test_faults import commands, trial  # noqa: F401 (fixtures)

EXTRACTED = "there/.blobpack-extract.HEX.tmp"
FAILURES = [
    # a signal with a handler interrupts an open on a network file system
    ("pack embed over nothing", "open new/k0.png", errno.EINTR),
    ("append to embed", "open more/sub/m2.png", errno.EINTR),
    # messages without a name, or with a temporary name
    ("pack embed over nothing", "open new", errno.EACCES),
    ("append to embed", "open more", errno.EMFILE),
    ("pack embed over both", "close out.tar", errno.EIO),
    ("index beside", "close foreign.tar.idx", errno.EIO),
    ("pack embed over both", "pread .out.tar.HEX.tmp", errno.EIO),
    ("pack zst over sidecar", "pread .out.tar.zst.HEX.tmp", errno.EIO),
    ("subset over both", "open .out.tar.HEX.tmp", errno.EMFILE),
    ("merge sidecar", "pread .out.tar.HEX.tmp", errno.EIO),
    # the old index file stayed beside the new blob
    ("merge over both", "open out.tar.idx", errno.EACCES),
    ("merge over both", "read out.tar.idx", errno.EIO),
    ("merge over both", "open out_offsets.pkl", errno.EMFILE),
    ("pack none over sidecar", "unlink out.tar.idx", errno.EROFS),
    ("index embed in sidecar", "read out.tar.idx", errno.EIO),
    # the index was not put back, or its copy stayed beside the blob
    ("append to embed", "pwrite out.tar", errno.ENOSPC),
    ("append to embed", "fsync out.tar", errno.EIO),
    ("append to odd page", "pwrite out.tar", errno.EIO),
    ("append to sidecar", "pwrite out.tar", errno.ENOSPC),
    ("index embed in embed", "pwrite out.tar", errno.ENOSPC),
    ("index embed in appended", "fsync out.tar", errno.EIO),
]
SIGNALS = [
    # the index was not put back, or its copy stayed beside the blob
    ("append to embed", "flock .out.tar.HEX.tmp", signal.SIGINT),
    ("append to embed", "fsync out.tar", signal.SIGTERM),
    ("append to both", "close out.tar.idx (deleted)", signal.SIGTERM),
    ("append to embed", "fsync out.tar", signal.SIGKILL),
    ("index embed in embed", "fsync out.tar", signal.SIGINT),
    # files that no later run removed
    ("extract", f"open {EXTRACTED}", signal.SIGINT),
    ("extract", f"rename {EXTRACTED} to there/k1.png", signal.SIGKILL),
    ("extract over files", f"write {EXTRACTED}", signal.SIGKILL),
    ("append to both", "rename ..out.tar.idx.void.HEX.tmp to .out.tar.idx.void", signal.SIGKILL),
    ("index beside again", "rename .foreign.tar.idx.HEX.tmp to foreign.tar.idx", signal.SIGKILL),
]


@pytest.mark.parametrize(
    ("scenario", "call", "kind", "value"),
    [(scenario, call, "fail", value) for scenario, call, value in FAILURES]
    + [(scenario, call, "before", value) for scenario, call, value in SIGNALS],
)
def test_a_promise_that_was_broken_is_kept(scenario, call, kind, value, trial):  # noqa: F811
    it = trial(scenario)
    numbers = [found.number for found in it.calls if str(found) == call]
    assert numbers
    problems = [
        problem for number in numbers for problem in it.break_at(Fault(number, kind, value))
    ]
    assert problems == []
