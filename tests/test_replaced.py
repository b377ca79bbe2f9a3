"""A blob that is replaced takes the files beside the old one away first, so that no crash leaves a stale one in force."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_append import run_cut_short
from test_cli import COMMAND

import blobpack
from blobpack.editing import append_object
from blobpack.index.tables.offsets import offsets_path, void_path
from blobpack.indexfile.footer import sidecar_of
from blobpack.stores.output import folder_locked, replacing, scratch
from blobpack.writing import beside, new_blob

if TYPE_CHECKING:
    from s3server import S3Server

pytestmark = pytest.mark.filterwarnings("ignore::blobpack.MissingIndexWarning")

# tiny members, two names exchanged: sizes, ends and samples are equal
NAMES = [f"{i:04d}.svg" for i in range(1000)]
OLD = {name: b"<svg>%04d" % i for i, name in enumerate(NAMES)}
NEW = OLD | {NAMES[500]: OLD[NAMES[501]], NAMES[501]: OLD[NAMES[500]]}
# no index of OLD fits a blob of these
OTHER = {f"{i:03d}.svg": b"<svg>other%d" % i for i in range(900)}


def pack(files: dict[str, bytes], target: Path | str, **options: str) -> None:
    blobpack.pack(files.items(), target, **options)


def merge(files: dict[str, bytes], target: Path, **options: str) -> None:
    source = target.with_name("source.tar")
    pack(files, source)
    blobpack.merge([source], target, **options)
    source.unlink()


def subset(files: dict[str, bytes], target: Path, **options: str) -> None:
    source = target.with_name("source.tar")
    pack(files, source)
    blobpack.subset(source, target, list(files), **options)
    source.unlink()


def repack(files: dict[str, bytes], target: Path, **options: str) -> None:
    source = target.with_name("source.tar")
    pack(files, source)
    blobpack.repack(source, target, **options)
    source.unlink()


WRITERS = [pack, merge, subset, repack]
by_name = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)


def with_files_beside(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    pack(OLD, path, index="sidecar")
    blobpack.write_offsets(blobpack.scan(path), offsets_path(path))
    void_path(path).write_bytes(b"a note")
    return path


def read_all(path: Path | str) -> dict[str, bytes]:
    with blobpack.open_blob(path) as blob:
        return dict(zip(blob.index.names, blob.read_many(blob.index), strict=True))


@by_name
@pytest.mark.parametrize("place", ["embed", "sidecar", "none"])
def test_nothing_of_the_old_blob_stays(write, place, tmp_path):
    path = with_files_beside(tmp_path / "o.tar")
    write(NEW, path, index=place)
    assert read_all(path) == NEW
    assert sorted(os.listdir(tmp_path)) == ["o.tar", *["o.tar.idx"] * (place == "sidecar")]


@by_name
@pytest.mark.parametrize("place", ["sidecar", "none"])
def test_killed_at_any_call_it_leaves_a_blob_that_opens(write, place, tmp_path):
    old = with_files_beside(tmp_path / "old" / "o.tar")
    path, seen = tmp_path / "o.tar", set()
    for k in itertools.count(1):
        shutil.copytree(old.parent, tmp_path, dirs_exist_ok=True)
        cut = run_cut_short(lambda: write(OTHER, path, index=place), k, after=False)
        # never a StaleIndexError
        found = read_all(path)
        assert found in (OLD, OTHER)
        seen.add(found == OTHER)
        if not cut:
            break
    assert k > 5
    assert seen == {False, True}


def test_a_failure_leaves_the_files_beside_the_old_blob(tmp_path):
    def failing():
        yield "a.svg", b"<svg>"
        raise ZeroDivisionError

    path = with_files_beside(tmp_path / "o.tar")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError):
        blobpack.pack(failing(), path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_files_of_other_programs_stay(tmp_path):
    path = tmp_path / "o.tar"
    others = {sidecar_of(path): b"someone else's", offsets_path(path): pickle.dumps({"my": "data"})}
    pack(OLD, path)
    for file, content in others.items():
        Path(file).write_bytes(content)
    pack(NEW, path)
    assert {file: Path(file).read_bytes() for file in others} == others


@pytest.mark.skipif(
    os.getuid() != 0, reason="only root can make files that another user can't read"
)
@pytest.mark.parametrize("beside_of", [sidecar_of, offsets_path])
def test_a_file_that_can_t_be_read_may_be_the_old_index(beside_of):
    """Others may be able to read it, and would take it for the index of the new blob."""
    with tempfile.TemporaryDirectory() as folder:
        path = with_files_beside(Path(folder) / "o.tar")
        Path(beside_of(path)).chmod(0o000)
        Path(folder).chmod(0o777)
        path.chmod(0o666)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                pack(NEW, path)
            except blobpack.StorageError as exc:
                expected = (
                    f"{beside_of(path)}: can't be read, so the blob beside it is not replaced"
                )
                os._exit(7 if expected in str(exc) else 8)
            finally:
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert members(path) == OLD


def members(path: Path) -> dict[str, bytes]:
    with blobpack.open_blob(path, stale="rescan") as blob:
        return dict(zip(blob.index.names, blob.read_many(blob.index), strict=True))


def test_files_beside_a_link_go_too(tmp_path):
    (tmp_path / "in").mkdir()
    path = with_files_beside(tmp_path / "in" / "o.tar")
    link = tmp_path / "link.tar"
    link.symlink_to(path)
    shutil.copy(sidecar_of(path), sidecar_of(link))
    pack(NEW, link, index="none")
    assert read_all(link) == read_all(path) == NEW


def test_an_empty_offsets_file_goes(tmp_path):
    """It is the offsets file of a blob without members."""
    offsets_path(tmp_path / "o.tar").touch()
    pack(OLD, tmp_path / "o.tar", index="none")
    assert read_all(tmp_path / "o.tar") == OLD


def test_four_at_once_never_end_stale(tmp_path):
    path = tmp_path / "o.tar"
    sets = [{name: b"<svg>%d%04d" % (k, i) for i, name in enumerate(NAMES[k::8])} for k in range(4)]
    for turn in range(40):
        children = []
        for k in range(4):
            child = os.fork()
            if child == 0:
                try:
                    pack(sets[(k + turn) % 4], path, index="sidecar")
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
        with warnings.catch_warnings():
            # an index file, and one that fits
            warnings.simplefilter("error")
            assert read_all(path) in sets
    assert sorted(os.listdir(tmp_path)) == ["o.tar", "o.tar.idx"]


class TestIndexesThatNameNoBlob:
    """Sizes agree, and names do not."""

    @pytest.fixture(params=["offsets", "index"])
    def stale(self, request, tmp_path):
        """A blob that was copied over, and a file beside it that says nothing about its blob."""
        path, other = tmp_path / "o.tar", tmp_path / "other" / "o.tar"
        other.parent.mkdir()
        first, *middle, last = NAMES
        exchanged = {last: OLD[last], **{n: OLD[n] for n in middle}, first: OLD[first]}
        pack(OLD, path, index="none")
        pack(exchanged, other, index="none")
        if request.param == "offsets":
            blobpack.write_offsets(blobpack.scan(other), offsets_path(path))
        else:
            blobpack.scan(other).save(sidecar_of(path))
        return path

    def test_they_are_refused(self, stale):
        with pytest.raises(blobpack.StaleIndexError, match=r"member '0999.svg', and the header"):
            blobpack.open_blob(stale)
        with blobpack.open_blob(stale, stale="rescan") as blob:
            assert blob.read(NAMES[0]) == OLD[NAMES[0]]

    def test_also_when_they_are_given(self, stale, tmp_path):
        beside = next(file for file in tmp_path.iterdir() if file.is_file() and file != stale)
        given = beside.rename(tmp_path / "given")
        with pytest.raises(blobpack.StaleIndexError):
            blobpack.open_blob(stale, given)


LONG = ["x" * 100, "d" * 90 + "/" + "x" * 90, "é" * 80, "y" * 700, "z/" * 800 + "z", "\udc80" * 120]


@pytest.mark.parametrize("style", ["path", "basename"])
@pytest.mark.parametrize("format", ["ustar", "gnu", "pax", "v7"])
def test_names_of_any_length_and_format_fit(style, format, tmp_path):
    import io
    import tarfile

    path = tmp_path / "o.tar"
    names = ["a", "d/b", "c c", *LONG]
    if format in ("ustar", "v7"):
        names = names[:4]
    kind = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    with tarfile.open(path, "w", format=kind.get(format, tarfile.USTAR_FORMAT)) as archive:
        for i, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = i
            archive.addfile(member, io.BytesIO(bytes(i)))
    index = blobpack.scan(path)
    blobpack.write_offsets(index, offsets_path(path), style)
    with blobpack.open_blob(path) as blob:
        assert [len(payload) for payload in blob.read_many(blob.index)] == list(range(len(names)))


@pytest.mark.parametrize("chosen", [["a.jpg", "b.jpg"], ["b.jpg"]])
def test_hard_links_fit(chosen, tmp_path):
    """The payload of b.jpg lies behind the header of a.jpg."""
    from tars import Tar

    path = tmp_path / "o.tar"
    path.write_bytes(Tar().file("a.jpg", b"1").link("b.jpg", "a.jpg").end(bytes(1024)).blob)
    blobpack.write_offsets(blobpack.scan(path).select(names=chosen), offsets_path(path))
    with blobpack.open_blob(path) as blob:
        assert [blob.read(name) for name in chosen] == [b"1"] * len(chosen)


class TestLeftovers:
    def leftovers(self, folder: Path) -> list[str]:
        return [name for name in os.listdir(folder) if name.endswith(".tmp")]

    def killed(self, path: Path) -> None:
        """Kill a pack while it writes."""
        code = (
            "import sys, time, blobpack\n"
            "def pairs():\n"
            "    yield 'a.svg', b'<svg>'\n"
            "    print('up', flush=True); time.sleep(60)\n"
            "blobpack.pack(pairs(), sys.argv[1])\n"
        )
        with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"up\n"
            # another run leaves the file of a living process alone
            pack(OLD, path)
            assert len(self.leftovers(path.parent)) == 1 + path.name.endswith(".zst")
            child.send_signal(signal.SIGKILL)

    @pytest.mark.parametrize("name", ["o.tar", "o.tar.zst", "[ö] *.tar"])
    def test_the_next_run_removes_those_of_a_killed_one(self, name, tmp_path):
        path = tmp_path / name
        self.killed(path)
        other = tmp_path / f".x{name}.0123456789ab.tmp"
        other.touch()
        assert len(self.leftovers(tmp_path)) > 1
        pack(OLD, path)
        assert self.leftovers(tmp_path) == [other.name]
        assert read_all(path) == OLD

    def test_those_of_a_forked_child_that_lives_on_are_not_held_behind_the_rename(self, tmp_path):
        with replacing(tmp_path / "o.tar"):
            child = os.fork()
            if child == 0:
                signal.pause()
        os.kill(child, 0)
        try:
            pack(OLD, tmp_path / "o.tar")
            assert blobpack.append(tmp_path / "o.tar", [("z.svg", b"<svg>")]).members == 1001
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_a_folder_that_can_t_be_locked_is_used_without_a_lock(self, tmp_path):
        with folder_locked(tmp_path / "none"):
            pass
        with folder_locked(tmp_path):
            assert os.listdir(tmp_path) == []

    def test_two_writers_of_one_name_do_not_remove_each_other_s_files(self, tmp_path):
        with scratch(tmp_path / "f") as one, replacing(tmp_path / "f") as two:
            with replacing(tmp_path / "f") as three:
                three.write(b"3")
            assert Path(one.path).exists()
            two.write(b"2")
        assert (tmp_path / "f").read_bytes() == b"2"
        assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize(
    "command",
    [["offsets"], ["index"], ["index", "--index", "embed"]],
    ids=lambda command: command[-1],
)
def test_the_note_of_an_append_goes_when_an_index_is_made_anew(command, tmp_path):
    path = tmp_path / "o.tar"
    pack(OLD, path, index="none")
    blobpack.write_offsets(blobpack.scan(path).select("0*"), offsets_path(path))
    for k in itertools.count(1):
        run_cut_short(lambda: blobpack.append(path, [("z.svg", b"<svg>")]), k, after=True)
        if void_path(path).exists() and len(blobpack.scan(path)) > len(OLD):
            break
    subprocess.run([COMMAND, *command, path], check=True, capture_output=True)
    assert not void_path(path).exists()
    assert len(read_all(path)) == len(blobpack.scan(path))


def test_the_note_of_an_append_that_is_at_work_stays(tmp_path):
    path = tmp_path / "o.tar"
    pack(OLD, path, index="none")
    blobpack.write_offsets(blobpack.scan(path), offsets_path(path))

    def pairs():
        yield "z.svg", b"<svg>"
        refused = subprocess.run([COMMAND, "offsets", path], capture_output=True, text=True)
        assert refused.returncode == 1
        assert refused.stderr == f"Error: {path}: an append or embedding is at work on it\n"
        assert void_path(path).exists()

    blobpack.append(path, pairs())
    assert "z.svg" in read_all(path)


class TestS3:
    @pytest.mark.parametrize("place", ["embed", "sidecar", "none"])
    def test_nothing_of_the_old_blob_stays(self, place, s3_env: S3Server, bucket):
        url = f"s3://{bucket}/o.tar"
        pack(OLD, url, index="sidecar")
        pack(NEW, url, index=place)
        assert read_all(url) == NEW
        assert s3_env.keys(bucket) == ["o.tar", *["o.tar.idx"] * (place == "sidecar")]

    def test_the_index_file_goes_first(self, s3_env: S3Server, bucket, sent):
        url = f"s3://{bucket}/o.tar"
        pack(OLD, url, index="sidecar")
        for change in (
            lambda: pack(NEW, url, index="sidecar"),
            lambda: blobpack.append(url, [("z.svg", b"<svg>")]),
        ):
            del sent[:]
            change()
            changes = [
                (operation, asked.partition("?")[0].rpartition("/")[2])
                for operation, asked in sent
                if operation in ("PutObject", "DeleteObject", "CompleteMultipartUpload")
            ]
            assert changes[0] == ("DeleteObject", "o.tar.idx")
            assert changes[-1] == ("PutObject", "o.tar.idx")
            assert changes[1][1] == "o.tar"

    @pytest.mark.parametrize("change", ["pack", "append"])
    def test_an_index_file_that_comes_late_is_not_left(self, change, monkeypatch, s3_env, bucket):
        """S3 has no lock: here, another process replaces the object just before its index file comes."""
        url = f"s3://{bucket}/o.tar"
        pack(OLD, url, index="sidecar")
        saved = beside.forget_if_replaced

        def overtaken(*arguments):
            monkeypatch.undo()
            late = s3_env.stored(bucket, "o.tar.idx")
            pack(NEW, url, index="sidecar")
            s3_env.put(bucket, "o.tar.idx", late)
            saved(*arguments)

        monkeypatch.setattr(new_blob, "forget_if_replaced", overtaken)
        monkeypatch.setattr(append_object, "forget_if_replaced", overtaken)
        if change == "pack":
            pack(OLD, url, index="sidecar")
        else:
            blobpack.append(url, [("z.svg", b"<svg>")])
        assert s3_env.keys(bucket) == ["o.tar"]
        assert read_all(url) == NEW

    def test_an_object_of_another_program_stays(self, s3_env: S3Server, bucket):
        s3_env.put(bucket, "o.tar.idx", b"someone else's")
        pack(OLD, f"s3://{bucket}/o.tar")
        assert s3_env.stored(bucket, "o.tar.idx") == b"someone else's"
