"""End a command on SIGTERM and SIGHUP as on Ctrl-C: by an exception, so that what was begun is undone.

By default, these signals end a process at once. Then temporary files would stay, and S3 would keep, and bill, the parts
of an unfinished upload.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# SIGTERM comes from `kill`, systemd, Docker and batch systems, SIGHUP when a terminal closes
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# plus the signal's number: the exit status that a shell reports for a command that a signal has ended
KILLED = 128


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit in the block, except those that are ignored or handled already."""
    taken: list[signal.Signals] = []
    # Python sets handlers in the main thread only; elsewhere it raises ValueError. `nohup` ignores SIGHUP, so that a
    # command outlives its terminal: only a signal that would end the process is taken over.
    if threading.current_thread() is threading.main_thread():
        taken += (number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL)

    def unwind(number: int, frame: FrameType | None) -> NoReturn:
        # a second signal would interrupt what undoes the block, and leave half of it
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(KILLED + number)

    for number in taken:
        signal.signal(number, unwind)
    try:
        yield
    # a program that calls main() as a function, as tests do, gets its signals back
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
