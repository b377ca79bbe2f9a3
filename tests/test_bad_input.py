"""Whatever a user types or a file claims, a command ends with a message: never with a traceback, never with code 0."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from blobpack_command import command_line
from click.testing import CliRunner

import blobpack
from blobpack import FormatError
from blobpack.cli import params
from blobpack.cli.groups import all_commands
from blobpack.cli.main import main
from blobpack.opening import join

COMMAND = Path(sys.executable).with_name("blobpack")
PLACES = [
    "",
    "a\0b",
    "x" * 300,
    "x/" * 3000,
    "nowhere/x",
    "a.tar/x",
    "a.tar/",
    "loop",
    "fifo",
    "/dev/null",
    "imgs",
    "file:///a%00b",
    "file://far/x",
    "http://",
    "http://[::1",
    "http://[bad]/x",
    "http://host:99999/x",
    "http://host:port/x",
    "http://me:secret@host/x",
    "http://127.0.0.1:1/x",
    "http://127.0.0.1:1/..",
    "http://a..b/x",
    "http://ü..b/x",
    "http://ho st/x",
    "https://" + "h" * 300 + "/x",
    "s3://",
    "s3://bucket",
    "s3://BAD BUCKET!/x",
    "s3://b/x",
    "s3://\n/x",
    "gopher://host/x",
    "://x",
]
OTHERS = {
    "blob": "a.tar",
    "blobs": "a.tar",
    "sources": "imgs",
    "source": "a.tar",
    "bucket": "s3://bucket",
    "out": "new.tar",
    "folder": "to",
    "base_url": "https://host/b/out",
    "integration": "gateway",
    "files": "to",
    "library": "imgs",
    "names": "1.jpg",
    "scope": "out",
    "tool": "coco",
    "project": "5",
    "url": "s3://bucket/key",
}


@pytest.fixture
def here(tmp_path, monkeypatch, small_images, s3_env):
    monkeypatch.chdir(tmp_path)
    Path("imgs").mkdir()
    Path("imgs/1.jpg").write_bytes(small_images["cats/0001.jpg"])
    blobpack.pack("imgs", "a.tar")
    Path("loop").symlink_to("loop")
    os.mkfifo("fifo")
    # a server that is not there is asked for a minute otherwise
    monkeypatch.setattr("blobpack.stores.http.retry.ATTEMPTS", 1)
    # a server runs until a signal ends it
    monkeypatch.setattr("blobpack.gateway.server.Servers.run", lambda *_: None)
    return tmp_path


def parameters(wanted):
    for name, command in all_commands(main).items():
        for parameter in command.params:
            if wanted(parameter):
                yield pytest.param(name, parameter, id=f"{name} {parameter.human_readable_name}")


def is_place(parameter):
    return isinstance(parameter.type, (params.BlobUrl, click.Path, click.File))


def run(line, codes=(1, 2)):
    ran = CliRunner().invoke(main, line)
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise AssertionError(line) from ran.exception
    assert ran.exit_code in codes, (line, ran.output)
    assert "Traceback" not in ran.output
    # a folder that is no project is checked, too
    if ran.exit_code and line[:2] != ["supervisely", "check"]:
        assert "Error: " in ran.output
    assert "secret" not in ran.output
    return ran.output


READ_WHOLE = {
    *("keys", "names_from", "manifest", "sources"),
    *("encord", "metadata_file", "objects", "files", "key"),
    # secrets, which a shell may pass by a FIFO: <(…)
    *("sse_c_key", "source_sse_c_key", "bearer_token"),
}
HARMLESS = {
    # not used for a local blob
    *("cache", "sse_c_key", "source_sse_c_key", "bearer_token"),
    # made if it does not exist
    "folder",
    # an empty file or folder is a list of nothing
    *("sources", "names_from", "annotations", "objects"),
}
INTO_FOLDERS = {("output", "export"), ("output", "index"), ("output", "offsets")}


@pytest.mark.parametrize(("command", "parameter"), list(parameters(is_place)))
def test_a_bad_place_is_an_error_in_our_words(here, command, parameter):
    before = sorted(os.listdir())
    for place in PLACES:
        # opening a FIFO waits for its other end, as `cat` does
        if place == "fifo" and parameter.name in READ_WHOLE:
            continue
        codes = (0, 1, 2) if parameter.name in HARMLESS else (1, 2)
        # a folder gets the index, the offsets file or the export of the blob
        codes = (0, 1, 2) if (parameter.name, command) in INTO_FOLDERS else codes
        # an empty list of uploads is no error
        codes = (0, 1, 2) if command == "uploads" else codes
        run(command_line(command, parameter, place, OTHERS), codes)
    left = set(os.listdir()) - set(before) - {"nowhere", "to", "new.tar"}
    assert not [name for name in left if ":" in name or name.endswith(".tmp")], left


NUMBERS = [
    "",
    "x",
    "-1",
    "0",
    "1",
    "1.5",
    "nan",
    "1e3",
    "9" * 30,
    "٣",
    "0x10",
    "1k",
    "99999999999d",
]


def is_number(parameter):
    kinds = (params.ByteSize, click.IntRange, params.Prices)
    return isinstance(parameter.type, kinds) or parameter.name == "older_than"


@pytest.mark.parametrize(("command", "parameter"), list(parameters(is_number)))
def test_a_bad_number_is_wrong_usage(here, command, parameter):
    for number in NUMBERS:
        run(command_line(command, parameter, number, OTHERS), (0, 1, 2))


@pytest.mark.parametrize(
    "line",
    [
        ["pack", "imgs", "to", "--shard-size", "1"],
        ["pack", "imgs", "to", "--shard-size", "1024"],
        ["index", "a.tar", "-o", "https://host/x.idx"],
        ["offsets", "a.tar", "-o", "https://host/x.csv"],
        ["collect", "a.tar", "-o", "https://host/x.idx"],
        ["index", "http://me:secret@host/a.tar"],
        ["index", "https://127.0.0.1:1/.."],
        ["collect", "a.tar", "a.tar"],
        ["ls", "a.tar", "--media-type", "nonsense"],
        ["ls", "a.tar", "--regex", "("],
        ["cat", "a.tar", "missing"],
        ["cat", "a.tar", ""],
        ["cat", "a.tar", "1.jpg", "--cache", "c", "--cache-bytes", "5"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_in_the_words_of_what_was_typed(here, line):
    ran = CliRunner().invoke(main, line)
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise AssertionError(line) from ran.exception
    assert ran.exit_code == (1 if line[0] == "cat" and "--cache" not in line else 2), ran.output
    for word in (
        "shard_bytes",
        "must be at least 1025, not",
        "target must",
        "member_bytes",
        "secret",
    ):
        assert word not in ran.output
    assert not [name for name in os.listdir() if name in ("to", "c", ".idx", "_offsets.pkl")]


HOSTILE_NAMES = [
    "a\0b.tar",
    "/a\0b.tar",
    "gopher://bucket/x.tar",
    "://x",
    "s3://bucket",
    "http://[::1/x.tar",
    "http://host:99999/x.tar",
    "http://me:secret@host/x.tar",
    "file:///a%00b.tar",
    "file://far/x.tar",
    "\ud800.tar",
    "x" * 5000,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: repr(name)[:30])
def test_a_hostile_collection_is_a_format_error(here, monkeypatch, name):
    monkeypatch.setattr(join, "name_from", lambda folder, blob: name)
    try:
        blobpack.collect(["a.tar"], "c.idx")
    except UnicodeEncodeError:
        pytest.skip("such a name can't be stored")
    for line in (
        ["cat", "c.idx", "1.jpg"],
        ["extract", "c.idx", "to"],
    ):
        run(line, (1,))
    with blobpack.open_collection("c.idx") as collection:
        with pytest.raises(blobpack.BlobpackError):
            collection.read("1.jpg")
        if len(name) < 1000:
            with pytest.raises(FormatError, match=r"c\.idx"):
                collection.url_of("1.jpg")


def test_a_temporary_file_that_can_t_be_made_is_named_by_its_target(here):
    """The temporary name is longer than a path may be, so that making it and removing it fail alike."""
    deep = os.path.join(*["d" * 250] * 15)
    os.makedirs(deep)
    name = os.path.join(deep, "n" * (4095 - len(deep) - 1 - 10))
    os.chdir(os.path.dirname(deep))
    os.chdir(here)
    for line in (
        ["index", "a.tar", "-o", name],
        ["pack", "imgs", name],
        ["offsets", "a.tar", "-o", name],
    ):
        said = run(line, (1,))
        assert ".tmp" not in said
        assert "can't be written" in said


def test_a_read_only_file_system_is_an_error_that_names_the_target(here):
    namespace = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no mounts")
    Path("ro").mkdir()
    mount = 'mount -t tmpfs -o ro none ro && exec "$@"'
    for line in (
        ["pack", "imgs", "ro/out.tar"],
        ["pack", "imgs", "ro/out.tar.zst"],
        ["pack", "imgs", "ro/shards", "--shard-size", "1M"],
        ["merge", "a.tar", "ro/out.tar"],
        ["index", "a.tar", "-o", "ro/out.idx"],
        ["offsets", "a.tar", "-o", "ro/out.csv"],
        ["collect", "a.tar", "-o", "ro/out.idx"],
        ["extract", "a.tar", "ro/to"],
    ):
        done = subprocess.run(
            [*namespace, "sh", "-c", mount, "sh", COMMAND, *line], capture_output=True, check=False
        )
        said = done.stderr.decode()
        assert (done.returncode, said.count("\n")) == (1, 1), said
        assert said.startswith("Error: ro/")
        assert ".tmp" not in said
        assert "Read-only file system" in said


CLOSED = [
    "ls a.tar",
    "cat a.tar 1.jpg",
    "info a.tar",
    "verify a.tar",
    "--help",
    "ls --help",
    "--version",
]


@pytest.mark.parametrize("line", CLOSED)
def test_without_stdout_a_command_fails(here, line):
    done = subprocess.run(
        ["sh", "-c", f"exec {COMMAND} {line} >&-"], stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (1, b"Error: [Errno 9] Bad file descriptor\n")


def test_without_streams_nothing_is_written_to_the_blob(here):
    for closed in (">&- 2>&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        subprocess.run(["sh", "-c", f"exec {COMMAND} pack imgs new.tar {closed}"], check=False)
        assert Path("new.tar").read_bytes() == Path("a.tar").read_bytes()
        Path("new.tar").unlink()


def test_too_little_memory_is_an_error(here):
    Path("big.tar").write_bytes(b"")
    code = (
        "import sys\n"
        "from blobpack.cli.main import main\n"
        "from blobpack.cli.commands import cat\n"
        "cat.opened_source = lambda *_, **__: bytearray(1 << 62)\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "cat", "a.tar", "1.jpg"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, b"Error: there is not enough memory\n")
