"""What ends a command from outside, other than Ctrl-C, unwinds it as Ctrl-C does: what was begun is undone."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
KILLED = 128  # and the signal's number: the exit status that a shell gives


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block by a SystemExit; one that is ignored, as nohup does, stays so."""
    taken: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        taken += (number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL)

    def unwind(number: int, frame: FrameType | None) -> NoReturn:
        for each in taken:  # what is being undone is not ended half way
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(KILLED + number)

    for number in taken:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
