"""Start commands of blobpack under the shim, each in a child of its own.

Strategy: this process has imported blobpack before it forks, which spares each child the 0.2 s that Python and the imports
take. A child then runs main(). It ends without Python's clean-up, which takes longer than the command. If the
order asks for it, the child becomes the installed program instead.
One order comes on each line of stdin; the answer on stdout is the child's exit code.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
from pathlib import Path

from blobpack.cli.main import main

# A command takes some 30 ms. One that still runs then waits for something that never comes.
PATIENCE_S = 60
PROGRAM = Path(sys.executable).with_name("blobpack")


def wait_for_order():
    """Return an order, in a child that is to execute it."""
    # not a loop over the lines, which would read ahead: the child would inherit orders that are not its own
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            return json.loads(line)
        ended = os.pidfd_open(pid)
        if not select.select([ended], [], [], PATIENCE_S)[0]:
            os.kill(pid, signal.SIGKILL)
        os.close(ended)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    sys.exit()


def become_a_command(order):
    """Give this process the streams, the folder and the settings of a command."""
    streams = (os.devnull, order["stdout"], order["stderr"])
    for number, path in enumerate(streams):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(order["folder"])
    os.environ.update(order["settings"])
    # a shell that runs a job in the background lets it ignore SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)


# commands import these when they need them
for module in ("google_crc32c", "numpy", "tarfile", "tqdm", "zstandard"):
    importlib.import_module(module)
# the collector would write to all objects, and the child would need its own copy of each page
gc.freeze()
order = wait_for_order()
become_a_command(order)
if order["is_installed"]:
    os.environ["FAULTS_AT_ONCE"] = "1"
    os.execv(PROGRAM, [PROGRAM, *order["arguments"]])
ctypes.CDLL(None).faults_begin()
sys.argv = ["blobpack", *order["arguments"]]
code = 0
try:
    main()
except SystemExit as exc:
    code = exc.code or 0
# any other exception leads out of here, and Python prints its traceback
sys.stdout.flush()
os._exit(code)
