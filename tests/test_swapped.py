"""A folder or file that is swapped for a symbolic link while it is packed is not followed."""

import os
import subprocess
import sys

import pytest

import blobpack
from blobpack._native import gather
from blobpack.packing.files import Skipped
from blobpack.packing.listing import list_folder, list_given
from blobpack.packing.members import write_members
from blobpack.packing.options import complete_options
from blobpack.stores.sink import FileSink

SECRET = b"not to be packed"


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    (folder / "c").mkdir(parents=True)
    for path in (folder / "x.jpg", folder / "c" / "x.jpg"):
        path.write_bytes(SECRET)
    return folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "imgs"
    (folder / "a" / "b" / "c").mkdir(parents=True)
    for name in ("a/x.jpg", "a/b/x.jpg", "a/b/c/x.jpg"):
        (folder / name).write_bytes(b"mine")
    return folder


def swap(path, link_to):
    path.rename(path.with_name(f"{path.name}-before"))
    path.symlink_to(link_to)


def write(found, path):
    options = complete_options("pack", {"all_files": True, "facts": False})
    with path.open("w+b") as file:
        return write_members(found, FileSink(file), Skipped(), options, target=str(path))


@pytest.mark.parametrize(("swapped", "lead_to"), [("a/b", "."), ("a", "."), ("a/b/c", "c")])
def test_a_folder_swapped_after_the_listing_is_not_read(root, outside, tmp_path, swapped, lead_to):
    found = list_folder(os.fsencode(root), Skipped(), hidden=False, follow=False)
    swap(root / swapped, outside / lead_to)
    with pytest.raises(blobpack.SourceError, match="replaced by a symbolic link") as caught:
        write(found, tmp_path / "out.tar")
    assert all(path.startswith(str(root / swapped)) for path in caught.value.paths)
    assert SECRET not in (tmp_path / "out.tar").read_bytes()


@pytest.mark.parametrize("swapped", ["a", "a/b", "a/b/c"])
def test_a_folder_swapped_during_the_listing_is_not_listed(root, outside, swapped):
    (root / swapped).with_name(".hidden").touch()

    class Swapping(Skipped):
        def add(self, reason, name, *path):
            swap(root / swapped, outside)

    with pytest.raises(blobpack.SourceError, match="replaced by a symbolic link"):
        list_folder(os.fsencode(root), Swapping(), hidden=False, follow=False)


def test_a_given_file_swapped_for_a_link_is_not_read(root, outside, tmp_path):
    file = root / "a" / "x.jpg"
    found = list_given([str(file)], None, Skipped(), hidden=False, follow=False)
    swap(file, outside / "x.jpg")
    with pytest.raises(blobpack.SourceError, match="replaced by a symbolic link"):
        write(found, tmp_path / "out.tar")


def test_links_are_followed_where_the_caller_says_so(root, outside, tmp_path):
    (root / "link").symlink_to(outside)
    blobpack.pack(root, tmp_path / "out.tar", all_files=True, follow_symlinks=True)
    with blobpack.open_blob(tmp_path / "out.tar") as blob:
        assert blob.read("link/c/x.jpg") == SECRET
    # the folders of a given file are the caller's own
    blobpack.pack([root / "link" / "x.jpg"], tmp_path / "out.tar", all_files=True)
    with blobpack.open_blob(tmp_path / "out.tar") as blob:
        assert [blob.read(member.name) for member in blob.index] == [SECRET]


NO_OPENAT2 = """
import ctypes, errno, os, struct, sys
from blobpack._native import gather
root = os.open(sys.argv[1], os.O_RDONLY)
# a filter of system calls (seccomp, mode 2): load the number; if it is openat2, fail with ENOSYS or EPERM, else allow
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x50000 | int(sys.argv[2])), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
assert libc.syscall(437, root, b"a", None, 0) == -1 and ctypes.get_errno() == int(sys.argv[2])
for path in sys.argv[3:]:
    try:
        fd = gather.open_folder(root, os.fsencode(path), follow=False)
        print(os.path.samestat(os.fstat(fd), os.stat(f"{sys.argv[1]}/{path}")))
        os.close(fd)
    except OSError as exc:
        print(errno.errorcode[exc.errno])
print(sorted(map(int, os.listdir("/proc/self/fd")))[3:] == [root, root + 1])
"""


@pytest.mark.parametrize("refusal", ["ENOSYS", "EPERM"])
def test_an_old_system_opens_a_folder_part_by_part(root, outside, refusal):
    import errno

    (root / "a" / "link").symlink_to(outside)
    paths = ["a", "a/b/c", "a/b/", "a/link", "a/link/c", "a/no", "a/x.jpg/b"]
    expected = ["True", "True", "True", "ENOTDIR", "ENOTDIR", "ENOENT", "ENOTDIR", "True"]
    command = [sys.executable, "-c", NO_OPENAT2, root, str(getattr(errno, refusal)), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
    fd = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="symbolic links"):
            gather.open_folder(fd, b"a/link/c", follow=False)
        os.close(gather.open_folder(fd, b"a/link/c", follow=True))
    finally:
        os.close(fd)
