"""Nothing is left out in silence: each command says on stderr what it did not take, whatever the reason."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tars import Tar, header, need_tool

import blobpack
from blobpack import FormatError, Index, LeftOutWarning, ScanReport
from blobpack.cli.main import main
from blobpack.stores.memory import MemoryStore
from blobpack.tar.behind import LOOK_BYTES_MAX, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN
from blobpack.tar.names import is_apple_double, without_apple_double
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 512
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
COMMAND = Path(sys.executable).with_name("blobpack")


def png(name: str) -> bytes:
    return PNG + name.encode()


def tar_of(*names: str) -> Tar:
    tar = Tar()
    for name in names:
        tar.file(name, png(name))
    return tar


def padded(tar: Tar) -> bytes:
    """Fill up the last record with zeros, as GNU tar does."""
    return bytes(tar.blob) + bytes(-len(tar.blob) % 10_240)


# Kinds of omission


def joined(folder: Path) -> bytes:
    return padded(tar_of("a.png").end()) + padded(tar_of("b.png").end())


def joined_thrice(folder: Path) -> bytes:
    return joined(folder) + padded(tar_of("c.png").end())


def joined_blobs(folder: Path) -> bytes:
    """Three blobs, the first two with their indexes inside."""
    blobs = []
    for name, place in (("a", "embed"), ("b", "embed"), ("c", "none")):
        path = folder / f"{name}.part"
        blobpack.pack([(f"{name}.png", png(name))], path, index=place, force=True)
        blobs.append(path.read_bytes())
    return b"".join(blobs)


def lone_zero_block(folder: Path) -> bytes:
    tar = tar_of("a.png")
    tar.blob += bytes(BLOCK)
    return bytes(tar.file("b.png", png("b")).end().blob)


def behind_an_empty_tar(folder: Path) -> bytes:
    return bytes(10_240) + padded(tar_of("b.png").end())


def long_zeros(folder: Path) -> bytes:
    """Zeros of several reads, and an odd number of blocks of them."""
    return (
        bytes(tar_of("a.png").end().blob)
        + bytes(5 * BLOCK + 3 * WINDOW_BYTES_MAX)
        + bytes(tar_of("b.png").end().blob)
    )


def header_overwritten_by_zeros(folder: Path) -> bytes:
    tar = tar_of("a.png", "b.png", "c.png").end()
    start = tar.headers[1]
    tar.blob[start : start + BLOCK] = bytes(BLOCK)
    return bytes(tar.blob)


def with_links(folder: Path) -> bytes:
    return bytes(
        tar_of("a.png")
        .other("symbolic_links", header(b"link", typeflag=b"2", link=b"a.png"))
        .link("dangling", "nowhere")
        .other("devices", header(b"pipe", typeflag=b"6"))
        .end()
        .blob
    )


def with_a_sparse_file(folder: Path) -> bytes:
    entry = b"00000000000\0" + b"00000000000\0"
    head = header(b"holes", 512, b"S", magic=b"ustar  \0", put={386: entry * 4})
    return bytes(tar_of("a.png").other("sparse", head, payload=bytes(512)).end().blob)


@dataclass(frozen=True)
class Omission:
    """A tar with something that commands leave out.

    Attributes:
        make: Makes the tar; its folder is for files that it needs.
        said: What commands say on stderr.
        counts: Fields of the report that are not 0.
        in_tar: Names that are found with concatenated=True.
    """

    make: Callable[[Path], bytes]
    said: tuple[str, ...]
    counts: tuple[str, ...]
    in_tar: tuple[str, ...] = ("a.png",)

    @property
    def is_behind(self) -> bool:
        return any(count.endswith("_behind") for count in self.counts)


MEMBERS = ("members lie behind the end of the archive", "index --concatenated")
OTHER = ("bytes that are no tar header lie behind the end of the archive", "members are missing")
OMISSIONS = {
    make.__name__: Omission(make, *rest)
    for make, *rest in (
        (joined, MEMBERS, ("members_behind",), ("a.png", "b.png")),
        (joined_thrice, MEMBERS, ("members_behind",), ("a.png", "b.png", "c.png")),
        (joined_blobs, MEMBERS, ("members_behind",), ("a.png", "b.png", "c.png")),
        (lone_zero_block, MEMBERS, ("members_behind",), ("a.png", "b.png")),
        (behind_an_empty_tar, MEMBERS, ("members_behind",), ("b.png",)),
        (long_zeros, MEMBERS, ("members_behind",), ("a.png", "b.png")),
        (header_overwritten_by_zeros, OTHER, ("other_behind",)),
        (
            with_links,
            ("1 symbolic link", "1 device", "1 dangling link"),
            ("symbolic_links", "dangling_links", "devices"),
        ),
        (with_a_sparse_file, ("1 sparse",), ("sparse",)),
    )
}

# A command line, and the kinds of omission that it speaks of: "behind" the end, and "kinds" without a payload.
COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "index": (["index", "x.tar", "-o", "new.idx"], {"behind", "kinds"}),
    "index --json": (["index", "x.tar", "-o", "new.idx", "--json"], {"behind", "kinds"}),
    "offsets": (["offsets", "x.tar", "-o", "o.pkl"], {"behind", "kinds"}),
    "offsets -o -": (["offsets", "x.tar", "-o", "-", "--format", "csv"], {"behind", "kinds"}),
    "ls": (["ls", "x.tar"], {"behind", "kinds"}),
    "ls --json": (["ls", "x.tar", "--json"], {"behind", "kinds"}),
    "ls --rescan": (["ls", "x.tar", "--rescan"], {"behind", "kinds"}),
    "extract": (["extract", "x.tar", "out"], {"behind", "kinds"}),
    # names are asked for one by one, and one that is not there is an error
    "cat": (["cat", "x.tar", "a.png"], {"behind"}),
    "info": (["info", "x.tar"], {"behind"}),
    "info --json": (["info", "x.tar", "--json"], {"behind"}),
    # their reports on stdout have the kinds
    "merge": (["merge", "x.tar", "new.tar", "--allow-empty"], {"behind"}),
    "subset": (["subset", "x.tar", "new.tar", "--allow-empty"], {"behind"}),
    "collect": (["collect", "x.tar", "-o", "c.idx", "--scan"], {"behind"}),
}


@pytest.fixture(params=OMISSIONS.values(), ids=OMISSIONS)
def omission(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Omission:
    monkeypatch.chdir(tmp_path)
    made: Omission = request.param
    (tmp_path / "x.tar").write_bytes(made.make(tmp_path))
    return made


def run(arguments: list[str], capsysbinary: pytest.CaptureFixture[bytes]) -> tuple[str, str]:
    """Run a command in this process, and return its stdout, and its stderr with the warnings."""
    capsysbinary.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        main(arguments, standalone_mode=False)
    out, err = (text.decode(errors="replace") for text in capsysbinary.readouterr())
    return out, "\n".join([err, *(str(warning.message) for warning in caught)])


@pytest.mark.parametrize("indexed", [False, True], ids=["scanned", "with an index"])
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_leaves_out(
    command: str, indexed: bool, omission: Omission, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    arguments, spoken = COMMANDS[command]
    if omission.in_tar[0] != "a.png" and arguments[0] == "cat":
        return
    if indexed:
        run(["index", "x.tar"], capsysbinary)
    out, err = run(arguments, capsysbinary)
    if ("behind" if omission.is_behind else "kinds") in spoken:
        for said in omission.said:
            assert err.count(said) == 1
    if arguments[0] in ("merge", "subset") and not omission.is_behind:
        assert "left out 1: " in out


def test_a_command_says_nothing_where_nothing_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.tar").write_bytes(padded(tar_of("a.png").end()))
    run(["index", "x.tar"], capsysbinary)
    for command, (arguments, _) in COMMANDS.items():
        report = "kept 1 of 1 member: stdout\n" if command == "offsets -o -" else ""
        assert run(arguments, capsysbinary)[1] == report, command


@pytest.mark.parametrize("command", ["ls", "offsets", "cat", "extract", "subset"])
def test_the_option_that_the_message_names_takes_the_members(
    command: str, omission: Omission, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    if "members_behind" not in omission.counts:
        return
    last = omission.in_tar[-1]
    arguments = {
        "ls": ["ls", "x.tar"],
        "offsets": ["offsets", "x.tar", "-o", "-", "--format", "csv"],
        "cat": ["cat", "x.tar", last],
        "extract": ["extract", "x.tar", "out"],
        "subset": ["subset", "x.tar", "new.tar"],
    }[command]
    out, err = run([*arguments, "--concatenated"], capsysbinary)
    assert "behind" not in err
    if command in ("ls", "offsets"):
        assert all(name in out for name in omission.in_tar)
    elif command == "extract":
        assert sorted(path.name for path in Path("out").iterdir()) == sorted(omission.in_tar)
    elif command == "subset":
        assert list(blobpack.scan("new.tar").names) == list(omission.in_tar)
    # the index that the message names takes them, too, and what opens the blob by it says no more
    _, err = run(["index", "x.tar", "--concatenated"], capsysbinary)
    assert "behind" not in err
    out, err = run(["ls", "x.tar"], capsysbinary)
    assert out.split() == list(omission.in_tar)
    assert "behind" not in err


def test_json_has_the_counts(
    omission: Omission, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    indexed = json.loads(run(["index", "x.tar", "-o", "new.idx", "--json"], capsysbinary)[0])
    described = json.loads(run(["info", "x.tar", "--json"], capsysbinary)[0])
    merged = json.loads(
        run(["merge", "x.tar", "m.tar", "--json", "--allow-empty"], capsysbinary)[0]
    )
    for count in omission.counts:
        assert described[count] > 0
        if count.endswith("_behind"):
            assert indexed[count] == described[count]
        else:
            assert indexed["left_out"][count] == merged["left_out"][count] == described[count]
    assert merged["with_members_behind"] == ["x.tar"] * ("members_behind" in omission.counts)


def test_the_api_has_the_counts(omission: Omission) -> None:
    if omission.is_behind:
        with pytest.warns(LeftOutWarning, match=omission.said[0]):
            report = blobpack.scan("x.tar").report
    else:
        report = blobpack.scan("x.tar").report
    assert report is not None
    counts = ("members_behind", "other_behind", "unseen_behind", *report.without_row())
    assert {name for name in counts if getattr(report, name)} == set(omission.counts)
    if "other_behind" in omission.counts:
        with pytest.raises(FormatError):
            blobpack.scan("x.tar", concatenated=True)
        return
    index = blobpack.scan("x.tar", concatenated=True)
    assert list(index.names) == list(omission.in_tar)
    assert index.report is not None
    assert not index.report.members_behind


def test_the_offset_is_that_of_the_first_header(omission: Omission) -> None:
    if "members_behind" not in omission.counts:
        return
    content = Path("x.tar").read_bytes()
    report = scan_store(MemoryStore(content)).report
    assert report is not None
    # the first file behind the end: its name stands at the beginning of its header
    name = next(name for name in ("b.png", "c.png") if name in omission.in_tar).encode()
    assert content.index(name + bytes(100 - len(name))) == report.members_behind


def test_verify_fails_if_members_lie_behind_the_end(
    omission: Omission, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    run(["index", "x.tar"], capsysbinary)
    done = subprocess.run([COMMAND, "verify", "x.tar"], capture_output=True, text=True, check=False)
    behind = "members_behind" in omission.counts
    assert done.returncode == behind, done.stdout + done.stderr
    assert ("members lie behind the end of the archive" in done.stdout) == behind
    if "other_behind" in omission.counts:
        assert done.stderr.startswith("Note: x.tar: bytes that are no tar header lie behind")


@pytest.mark.parametrize("fast", ["--fast", "--full"])
def test_verify_accepts_an_index_of_joined_tars(
    omission: Omission, fast: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    if "members_behind" not in omission.counts:
        return
    run(["index", "x.tar", "--concatenated", "--facts"], capsysbinary)
    out, err = run(["verify", "x.tar", fast], capsysbinary)
    assert "all is well" in out
    assert err == ""
    # damage in each member is still found
    good = Path("x.tar").read_bytes()
    for member in Index.load("x.tar.idx"):
        wrong = bytearray(good)
        wrong[member.offset_start - BLOCK : member.offset_start] = bytes(BLOCK)
        Path("y.tar").write_bytes(wrong)
        report = blobpack.verify("y.tar", index="x.tar.idx")
        assert [failure.name for failure in report.failures] == [member.name]


def test_the_command_prints_the_warning_whatever_python_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(joined(tmp_path))
    done = subprocess.run(
        [COMMAND, "index", path],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONWARNINGS": "ignore"},
    )
    assert done.stderr.startswith(f"Note: {path}: members lie behind the end of the archive")


# The look behind the end


@pytest.mark.parametrize("zeros", [0, 1, 19, 32, 33, WINDOW_BYTES_MIN // BLOCK, 3000])
@pytest.mark.parametrize("marker", [1, 2])
@pytest.mark.parametrize("local", [True, False], ids=["local", "afar"])
def test_the_first_header_behind_any_number_of_zeros(
    zeros: int, marker: int, local: bool, tmp_path: Path
) -> None:
    content = bytes(tar_of("a.png").end(bytes(marker * BLOCK)).blob) + bytes(zeros * BLOCK)
    path = tmp_path / "x.tar"
    path.write_bytes(content + bytes(tar_of("b.png").end().blob))
    if local:
        with pytest.warns(LeftOutWarning):
            report = blobpack.scan(path).report
    else:
        report = scan_store(MemoryStore(path.read_bytes())).report
    assert report is not None
    assert (report.members_behind, report.other_behind) == (len(content), 0)


class FarStore(MemoryStore):
    """A fake of a remote store, which counts what is read."""

    is_remote = True

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.fetched: list[tuple[int, int]] = []

    def fetch(self, start: int, end: int) -> bytes:
        self.fetched.append((start, end))
        return super().fetch(start, end)


def test_a_remote_blob_is_not_read_for_its_zeros() -> None:
    zeros = 64 * LOOK_BYTES_MAX
    store = FarStore(bytes(tar_of("a.png").end().blob) + bytes(zeros))
    report = scan_store(store).report
    assert report is not None
    assert 0 < report.unseen_behind <= zeros - LOOK_BYTES_MAX
    assert sum(end - start for start, end in store.fetched) < 4 * LOOK_BYTES_MAX
    assert scan_store(store, look_bytes=None).report == ScanReport(report.bytes_scanned, 2)


def test_a_remote_tar_takes_one_more_request_at_most() -> None:
    tar = Tar()
    for i in range(3):
        tar.file(f"{i}.bin", bytes(8 << 20))
    store = FarStore(padded(tar.end()))
    assert len(scan_store(store)) == 3
    behind = store.size - len(tar.blob)
    assert [span for span in store.fetched if span[0] >= store.size - behind] == [
        (len(tar.blob), store.size)
    ]


def test_bytes_of_blobpack_are_no_members(tmp_path: Path) -> None:
    """What an interrupted append or embedding, or a tool that wrote over an index, has left."""
    from blobpack.writing.append_mark import mark_of

    archive = bytes(tar_of("a.png").end().blob)
    blobpack.pack([("a.png", png("a"))], tmp_path / "o.tar")
    packed = (tmp_path / "o.tar").read_bytes()
    half = bytes(tar_of("new.png").blob)
    for content in (
        packed,
        packed[:-BLOCK],
        packed[:-BLOCK] + mark_of("embed"),
        archive + mark_of("embed"),
        archive + mark_of("none") + half,
        archive + half + mark_of("sidecar"),
        archive + b"\xa5" * BLOCK + packed[-3 * BLOCK :],
        archive + bytes(100),
    ):
        report = scan_store(MemoryStore(content)).report
        assert report is not None
        assert (report.members_behind, report.other_behind) == (0, 0)


@pytest.mark.parametrize("size", [1, 100, 511, 512, 700])
def test_other_bytes_are_named(size: int) -> None:
    archive = padded(tar_of("a.png").end())
    report = scan_store(MemoryStore(archive + b"\xa5" * size)).report
    assert report is not None
    assert (report.members_behind, report.other_behind) == (0, len(archive))


def test_an_index_file_does_not_fit_a_blob_that_another_was_joined_to(tmp_path: Path) -> None:
    """The other blob's index at the end is not the index of the archive before it."""
    blobpack.pack([("a.png", png("a"))], tmp_path / "a.tar", index="sidecar")
    blobpack.pack([("b.png", png("b"))], tmp_path / "b.tar")
    with (tmp_path / "a.tar").open("ab") as file:
        file.write((tmp_path / "b.tar").read_bytes())
    for index in (None, tmp_path / "a.tar.idx"):
        with pytest.raises(blobpack.StaleIndexError):
            blobpack.open_blob(tmp_path / "a.tar", index=index)


def test_gnu_tar_s_own_joins(tmp_path: Path) -> None:
    """`tar -A` writes over the marker, so that nothing is behind it; `cat` does not."""
    tar = need_tool("tar")
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png(name))
        subprocess.run(
            [tar, "-C", tmp_path, "-cf", tmp_path / f"{name}.tar", f"{name}.png"], check=True
        )
    shutil.copy(tmp_path / "a.tar", tmp_path / "cat.tar")
    with (tmp_path / "cat.tar").open("ab") as file:
        file.write((tmp_path / "b.tar").read_bytes())
    subprocess.run([tar, "-Af", tmp_path / "a.tar", tmp_path / "b.tar"], check=True)
    assert list(blobpack.scan(tmp_path / "a.tar").names) == ["a.png", "b.png"]
    with pytest.warns(LeftOutWarning):
        assert list(blobpack.scan(tmp_path / "cat.tar").names) == ["a.png"]


# repack


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_repack_says_what_it_leaves_out_and_takes_it_if_asked(
    packed: bool, omission: Omission, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = Path("x.tar.gz" if packed else "x.tar")
    if packed:
        source.write_bytes(gzip.compress(Path("x.tar").read_bytes(), 1))
    command = ["repack", str(source), "new.tar", "--allow-empty", "--json"]
    out, err = run(command, capsysbinary)
    report = json.loads(out)
    assert bool(report["members_behind"]) == ("members_behind" in omission.counts)
    if "members_behind" in omission.counts:
        assert err.count("members lie behind the end of the archive") == 1
        # run like a function, a command spells arguments as Python does
        assert "concatenated=True" in err
        out, err = run([*command, "--concatenated"], capsysbinary)
        assert "behind" not in err
        assert json.loads(out)["members_behind"] == 0
        assert list(blobpack.scan("new.tar").names) == list(omission.in_tar)
    elif "other_behind" in omission.counts:
        assert err.count("members are missing") == 1
    else:
        assert sum(report["skipped"].values()) == len(omission.counts)


# AppleDouble files

# the head of an AppleDouble file: its magic, and version 2
APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(60)


def mac_tar(path: Path) -> list[str]:
    """Write a tar as macOS does, and return the names of its images."""
    tar = Tar()
    for name in ("a.png", "imgs/b.png", "imgs/.hidden.png", "imgs/._/c.png", "._x/d.png"):
        folder, slash, base = name.rpartition("/")
        tar.file(f"{folder}{slash}._{base}", APPLE_DOUBLE).file(name, png(name))
    path.write_bytes(padded(tar.end()))
    return [name for name, *_ in tar.rows if "._" not in name.rpartition("/")[2]]


def test_offsets_of_a_tar_of_macos_are_those_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = mac_tar(tmp_path / "x.tar")
    assert len(images) == 5
    out, err = run(["offsets", "x.tar", "-o", "o.pkl"], capsysbinary)
    assert out == "kept 5 of 10 members: o.pkl\n"
    assert "left out: 5 AppleDouble files of macOS, ._*; --apple-double keeps them" in err
    assert list(blobpack.read_offsets("o.pkl").names) == images
    out, err = run(["offsets", "x.tar", "-o", "o.pkl", "--apple-double"], capsysbinary)
    assert out == "kept 10 of 10 members: o.pkl\n"
    assert "AppleDouble" not in err
    # of those that were selected
    out, err = run(["offsets", "x.tar", "-o", "o.pkl", "--filter", "imgs/*"], capsysbinary)
    assert out == "kept 3 of 10 members: o.pkl\n"
    assert "left out: 3 AppleDouble" in err


@pytest.mark.parametrize("every", [[], ["--all"]])
def test_repack_leaves_apple_double_files_out(
    every: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(tmp_path)
    images = mac_tar(tmp_path / "x.tar")
    out, _ = run(["repack", "x.tar", "o.tar", *every], capsysbinary)
    assert "skipped 5: an AppleDouble file" in out
    assert list(blobpack.scan("o.tar").names) == images
    out, _ = run(["repack", "x.tar", "o.tar", *every, "--apple-double"], capsysbinary)
    kept = len(blobpack.scan("o.tar"))
    assert kept == (10 if every else 5)


def test_what_copies_members_copies_apple_double_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """They list and copy what the tar has; only what makes a new choice of files leaves them out."""
    monkeypatch.chdir(tmp_path)
    mac_tar(tmp_path / "x.tar")
    for command in (["merge", "x.tar", "o.tar"], ["subset", "x.tar", "o.tar"]):
        run(command, capsysbinary)
        assert len(blobpack.scan("o.tar")) == 10
    assert len(run(["ls", "x.tar"], capsysbinary)[0].split()) == 10


def test_apple_double_files_are_known_by_the_last_part_of_their_names() -> None:
    apple = ["._a", "b/._a", "._b/._a", "b/._", "./._a", "._a\nb", "b\n/._c", "b/._\udcff"]
    others = ["a", "._b/a", "b._a", "b/c._a", ".a", "b/.a._c", "._b\n/a", "._b/a\n", "._/ü"]
    members = [blobpack.Member(name, 0, 0) for name in [*apple, *others]]
    assert list(without_apple_double(Index(members)).names) == others
    assert [is_apple_double(name) for name in apple] == [True] * len(apple)
    assert not any(map(is_apple_double, others))
    # without a copy, if there are none
    index = Index([blobpack.Member("a", 0, 0)])
    assert without_apple_double(index) is index


# extract


def test_the_report_of_extract_counts_what_is_never_extracted(tmp_path: Path) -> None:
    content = Tar().other("folders", header(b"imgs/", typeflag=b"5")).blob + with_links(tmp_path)
    (tmp_path / "x.tar").write_bytes(content)
    index = blobpack.scan(tmp_path / "x.tar")
    wanted = {"symbolic_links": 1, "devices": 1, "dangling_links": 1}
    for made in (index, None):
        if made is None:
            index.save(tmp_path / "x.tar.idx")
        with blobpack.open_blob(tmp_path / "x.tar", index=made or tmp_path / "x.tar.idx") as blob:
            report = blobpack.extract(blob, tmp_path / "out")
            assert report.left_out == wanted
            assert blobpack.extract(blob, tmp_path / "out", []).left_out == wanted
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    blobpack.pack([("a.png", png("a"))], tmp_path / "o.tar")
    with blobpack.open_blob(tmp_path / "o.tar") as blob:
        assert blobpack.extract(blob, tmp_path / "out").left_out == {}
