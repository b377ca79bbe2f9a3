"""Start commands of blobpack under the shim, each in a child of its own.

Strategy: this process has imported blobpack before it forks, which spares each child the 0.2 s that Python and the imports
take. A child then runs main(). It ends without Python's clean-up, which takes longer than the command. If the order asks
for it, the child becomes the installed program instead.
One order comes on each line of stdin. The answer on stdout is a list of exit codes: the command's, and that of the other
command that ran while the first one was stopped, if it was.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path

from blobpack.cli.main import main

# A command takes some 30 ms. One that still runs then waits for something that never comes.
PATIENCE_S = 60
# The other command may need a lock that the stopped one holds.
STOP_S = 2
PROGRAM = Path(sys.executable).with_name("blobpack")


def serve():
    """Execute orders until there are no more."""
    # not a loop over the lines, which would read ahead: a child would inherit orders that are not its own
    while line := sys.stdin.readline():
        print(json.dumps(execute(json.loads(line))), flush=True)


def execute(order):
    """Run a command, and the other one when it stops; return their exit codes."""
    pid = start(order)
    status = wait(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return [os.waitstatus_to_exitcode(status)]
    other = start(order["meanwhile"])
    ended = os.pidfd_open(other)
    select.select([ended], [], [], STOP_S)
    os.close(ended)
    os.kill(pid, signal.SIGCONT)
    return [os.waitstatus_to_exitcode(wait(each)) for each in (pid, other)]


def start(order):
    """Start a command, and return its pid."""
    pid = os.fork()
    if pid == 0:
        be_the_command(order)
    return pid


def wait(pid, options=0):
    """Wait until a process ends, and return its status; kill it if it does not end."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.alarm(PATIENCE_S)
    _, status = os.waitpid(pid, options)
    signal.alarm(0)
    return status


def be_the_command(order):
    """Turn this process into a command, and end with it."""
    streams = (os.devnull, order["stdout"], order["stderr"])
    for number, path in enumerate(streams):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(order["folder"])
    os.environ.update(order["settings"])
    # a shell that runs a job in the background lets it ignore SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["is_installed"]:
        os.environ["FAULTS_AT_ONCE"] = "1"
        os.execv(PROGRAM, [PROGRAM, *order["arguments"]])
    drop_signals(order["settings"])
    ctypes.CDLL(None).faults_begin()
    sys.argv = ["blobpack", *order["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as exc:
        code = exc.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Finalized:
    """An object whose finalizer is running when a signal arrives, so that Python drops the exception of its handler."""

    def __init__(self, number):
        self._number = number

    def __del__(self):
        ctypes.CDLL(None).faults_pause()
        signal.raise_signal(self._number)


def drop_signals(settings):
    """Let the signal that the shim asks for arrive in a finalizer."""
    kind, _, number = settings.get("FAULTS_DO", "").partition(" ")
    if kind == "dropped":
        signal.signal(signal.SIGUSR1, lambda *_: Finalized(int(number)) and None)


# commands import these when they need them
for module in ("google_crc32c", "numpy", "tarfile", "tqdm", "zstandard"):
    importlib.import_module(module)
# the collector would write to all objects, and a child would need its own copy of each page
gc.freeze()
serve()
