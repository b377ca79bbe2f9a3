"""End a command on Ctrl-C, SIGTERM and SIGHUP by an exception, so that unfinished outputs are removed.

By default, SIGTERM and SIGHUP end a process at once. Then temporary files would stay, and S3 would keep, and bill, the
parts of an unfinished upload.

Strategy: the handler notes the signal and raises an exception in the main thread. Python drops an exception that leaves
a finalizer, a weak reference's callback or any other function that C code calls, and the command would run on. So a
timer raises the exception again until it unwinds the stack. An exception unwinds the stack while a `finally`, `except` or
`with` handles it, and then neither the timer nor a second signal interrupts what is undone. Whatever becomes of the
exception, the caller finds the number of the signal in `arrived`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# SIGINT comes from Ctrl-C, SIGTERM from `kill`, systemd, Docker and batch systems, SIGHUP when a terminal closes
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# plus the signal's number: the exit status that a shell reports for a command that a signal has ended
KILLED = 128
# time until an exception that was dropped is raised again
REPEAT_S = 0.1
# One Ctrl-C may arrive twice, from the terminal and from a wrapper such as timeout(1). A signal that comes later than this
# is meant: it interrupts what is undone, which may wait for a server that does not answer.
TWICE_S = 1.0


class SignalledError(SystemExit):
    """A signal ended the command."""


class Signals:
    """The signals that arrive while a command runs.

    Attributes:
        arrived: Number of the signal that arrived last; 0 if there was none.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self._raised_s = 0.0
        self._is_over = False
        self._report = sys.unraisablehook

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise SignalledError in the block when a signal arrives, except for signals that are ignored or handled already."""
        # Python sets handlers in the main thread only; elsewhere it raises ValueError.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # `nohup` ignores SIGHUP, so that a command outlives its terminal, and a shell ignores SIGINT for its background
        # jobs: only a signal that would end the process is taken over.
        ending = (signal.SIG_DFL, signal.default_int_handler)
        before = {
            number: signal.getsignal(number)
            for number in SIGNALS
            if signal.getsignal(number) in ending
        }
        before[signal.SIGALRM] = signal.getsignal(signal.SIGALRM)
        self._report = sys.unraisablehook
        sys.unraisablehook = self._report_dropped
        for number in before:
            signal.signal(number, self._repeat if number == signal.SIGALRM else self._arrive)
        try:
            yield
        # a program that calls main() as a function, as tests do, gets its signals back
        finally:
            self._is_over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            sys.unraisablehook = self._report

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if self._is_over or (is_unwinding() and time.monotonic() - self._raised_s < TWICE_S):
            return
        self.arrived = number
        self._raised_s = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, REPEAT_S, REPEAT_S)
        if not self._is_reporting(frame):
            raise SignalledError(KILLED + number)

    def _repeat(self, number: int, frame: FrameType | None) -> None:
        if not (self._is_over or is_unwinding() or self._is_reporting(frame)):
            raise SignalledError(KILLED + self.arrived)

    def _report_dropped(self, dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, SignalledError):
            self._report(dropped)

    def _is_reporting(self, frame: FrameType | None) -> bool:
        """Return whether a frame belongs to the report of a dropped exception."""
        # Python prints the traceback of an exception that leaves sys.unraisablehook, and drops it
        while frame and frame.f_code is not self._report_dropped.__code__:
            frame = frame.f_back
        return frame is not None


def is_unwinding() -> bool:
    """Return whether the exception of a signal is being handled, by a `finally`, say, in a function that called this one."""
    # an exception that is raised while another one is handled has that one as its context
    exc = sys.exception()
    while exc and not isinstance(exc, SignalledError):
        exc = exc.__context__
    return exc is not None
