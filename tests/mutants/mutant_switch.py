"""The switch in front of each Python mutant; it is copied into the mutated package as blobpack/mutant_switch.py.

BLOBPACK_MUTANT is the number of the mutant that is on. BLOBPACK_MUTANTS_REACHED is a file of one byte per mutant. The file
is mapped and not written, so that killed processes and the children of a test leave their record, too.
"""

import mmap
import os


def _map_record():
    path = os.environ.get("BLOBPACK_MUTANTS_REACHED")
    if path is None:
        return None
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _read_setting():
    global _on
    _on = int(os.environ.get("BLOBPACK_MUTANT", "-1"))


_read_setting()
# a process that is forked for a mutant has imported this file before
os.register_at_fork(after_in_child=_read_setting)
_RECORD = _map_record()


def mutant(number):
    """Return whether this mutant is on, and record that a test reached it."""
    if _RECORD is not None:
        _RECORD[number] = 1
    return number == _on
