"""A signal ends a command whatever Python code it interrupts: 128 plus its number, and nothing half done is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import blobpack

COMMAND = Path(sys.executable).with_name("blobpack")
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
# the first signal, and perhaps a second one, come at these moments of a command that writes a blob
PLACES = {
    "a finalizer": """
class Dropped:
    def __del__(self):
        send()
def hit():
    Dropped()
""",
    "the callback of a weak reference": """
import weakref
class Dropped: pass
def hit():
    dropped = Dropped()
    seen = weakref.ref(dropped, lambda _: send())
    del dropped
""",
    "a callback of the import system": """
from importlib import _bootstrap
class Locks(dict):
    # the locks of modules that are being imported: a callback asks for a lock, then forgets it
    def get(self, name):
        if name == "colorsys": send()
        return super().get(name)
def hit():
    _bootstrap._module_locks = Locks(_bootstrap._module_locks)
    import colorsys
""",
    "a key function that a C function calls": """
class Key:
    def __eq__(self, other):
        send()
        return True
    __hash__ = lambda self: 1
def hit():
    # PyDict_GetItem of the stable ABI drops every exception
    import ctypes
    get = ctypes.pythonapi.PyDict_GetItem
    get.argtypes, get.restype = [ctypes.py_object] * 2, ctypes.c_void_p
    held = {Key(): 1}
    get(held, Key())
""",
    "the hook for dropped exceptions": """
class Broken:
    def __del__(self):
        raise ValueError
def hit():
    # the first event that is traced is the beginning of the hook's function
    hook = sys.unraisablehook.__code__
    sys.settrace(lambda frame, *_: send() if frame.f_code is hook else None)
    Broken()
    sys.settrace(None)
sys.unraisablehook = lambda dropped: None
""",
    "a hook that another program has set": """
class Broken:
    def __del__(self):
        raise ValueError
def hit():
    Broken()
sys.unraisablehook = lambda dropped: send()
""",
    "code that drops every exception": """
def hit():
    try:
        send()
    except BaseException:
        pass
""",
}
RUN = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # a shell's job may ignore them
from blobpack.cli.program import run
from blobpack.writing import new_blob
number = int(sys.argv.pop(1))
def send():
    os.kill(os.getpid(), number)
    for _ in range(100): pass  # the handler runs between two of these
{place}
real_end = new_blob.end_archive
def end_archive(*arguments):
    hit()
    {then}
    return real_end(*arguments)
new_blob.end_archive = end_archive
run()
"""


def ended(code, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.decode()


@pytest.fixture
def folder(tmp_path, small_images):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs/1.jpg").write_bytes(small_images["cats/0001.jpg"])
    return tmp_path


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_that_python_drops_ends_the_command(folder, place, number):
    code = RUN.format(place=PLACES[place], then="time.sleep(30)")
    status, said = ended(code, int(number), "pack", "imgs", "out.tar", cwd=folder)
    assert (status, said) == (128 + number, "Aborted!\n" if number == signal.SIGINT else "")
    assert os.listdir(folder) == ["imgs"]


def test_a_signal_that_is_dropped_at_the_very_end_counts(folder):
    place = f"from blobpack.cli import signals\nsignals.REPEAT_S = 60\n{PLACES['a finalizer']}"
    code = RUN.format(place=place, then="pass")
    status, said = ended(code, int(signal.SIGTERM), "pack", "imgs", "out.tar", cwd=folder)
    assert (status, said) == (143, "")
    # the blob was complete before the exception would have been raised again
    with blobpack.open_blob(folder / "out.tar") as blob:
        assert len(blob.index) == 1


def test_a_second_signal_works_where_the_first_was_dropped(folder):
    # no timer: only the second signal can end the command
    then = "signal.setitimer(signal.ITIMER_REAL, 0); os.kill(os.getpid(), signal.SIGHUP); time.sleep(30)"
    code = RUN.format(place=PLACES["a finalizer"], then=then)
    status, said = ended(code, int(signal.SIGTERM), "pack", "imgs", "out.tar", cwd=folder)
    assert (status, said) == (129, "")
    assert os.listdir(folder) == ["imgs"]


UNDOING = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_DFL)
from blobpack.cli import signals
from blobpack.cli.program import run
from blobpack.stores import output
signals.TWICE_S = {twice_s}
real = output.discard
def discard(temporary):
    # the command is undoing what it began, which takes longer than the timer's turns
    os.kill(os.getpid(), signal.SIGINT)
    deadline = time.monotonic() + 3 * signals.REPEAT_S
    while time.monotonic() < deadline: time.sleep(0.01)
    real(temporary)
output.discard = discard
output.keep_mode = lambda *_: os.kill(os.getpid(), signal.SIGINT)
run()
"""


@pytest.mark.parametrize(
    ("twice_s", "left"),
    [(60, 0), (0, 1)],
    ids=["at once, it is the same Ctrl-C", "later, it is meant"],
)
def test_a_second_signal_while_the_command_is_undone(folder, twice_s, left):
    code = UNDOING.format(twice_s=twice_s)
    assert ended(code, "pack", "imgs", "out.tar", cwd=folder) == (130, "Aborted!\n")
    names = [name for name in os.listdir(folder) if name != "imgs"]
    assert len(names) == left
    assert "out.tar" not in names


AFTER_RENAME = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
from blobpack.cli.program import run
rename = os.rename
def interrupted(*places, **more):
    rename(*places, **more)
    os.kill(os.getpid(), signal.SIGINT)
os.rename = interrupted
run()
"""


def test_ctrl_c_in_extract_is_no_missing_file(folder):
    blobpack.pack(folder / "imgs", folder / "out.tar")
    code, said = ended(AFTER_RENAME, "extract", "out.tar", "to", cwd=folder)
    assert (code, said) == (130, "Aborted!\n")
    assert os.listdir(folder / "to") == ["1.jpg"]


IMPORTING = """
import os, signal, sys, weakref
class Dropped: pass
class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name == "blobpack.cli.main":
            dropped = Dropped()
            seen = weakref.ref(dropped, lambda _: os.kill(os.getpid(), signal.SIGINT))
            del dropped
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder)
from blobpack.cli.program import run
run()
"""


def test_ctrl_c_while_the_program_is_imported_ends_it(folder):
    assert ended(IMPORTING, "pack", "imgs", "out.tar", cwd=folder) == (-signal.SIGINT, "")


def test_a_signal_that_is_ignored_is_left_alone(folder):
    code = RUN.format(
        place=f"signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{PLACES['a finalizer']}", then="pass"
    )
    assert ended(code, int(signal.SIGHUP), "pack", "imgs", "out.tar", cwd=folder) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "out.tar"],
        ["ls", "out.tar", "--json"],
        ["info", "out.tar"],
        ["cat", "out.tar", "1.jpg"],
        ["verify", "out.tar"],
        ["offsets", "out.tar", "-o", "-"],
        ["pack", "imgs", "other.tar"],
        ["ls", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_a_reader_that_ends_early_is_no_error(folder, arguments):
    blobpack.pack(folder / "imgs", folder / "out.tar")
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run(
            [COMMAND, *arguments], stdout=writes, stderr=subprocess.PIPE, cwd=folder, check=False
        )
    finally:
        os.close(writes)
    said = b"" if arguments[0] != "offsets" else done.stderr
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, said)
