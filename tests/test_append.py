"""A blob that is appended to has the new members behind the old ones; cut short at any moment, it has either."""

import contextlib
import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from tars import END, Tar, need_tool

import blobpack
from blobpack.editing.tail import Tail
from blobpack.indexfile.footer import FOOTER_BYTES, sidecar_of
from blobpack.writing.append_mark import mark_of
from blobpack.writing.embed import embed_index

pytestmark = pytest.mark.filterwarnings("ignore::blobpack.MissingIndexWarning")

PNG = b"\x89PNG\r\n\x1a\n"
PLACES = ["embed", "sidecar", "none"]


def payloads(prefix, count, seed=0, size=2000):
    rng = random.Random(seed)
    return {f"{prefix}/{i:04}.png": PNG + rng.randbytes(rng.randrange(size)) for i in range(count)}


OLD = payloads("old", 30)
NEW = payloads("new", 12, 1)


def pack_files(path, files, **options):
    blobpack.pack(list(files.items()), path, all_files=True, allow_empty=not files, **options)
    return path


def write_tree(folder, files):
    for name, payload in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(payload)
    return folder


def members_of(path):
    with blobpack.open_blob(path) as blob:
        assert blob.index == blobpack.scan(path)
        return [(m.name, blob.store.read_range(m.offset_start, m.offset_end)) for m in blob.index]


def listed_by(tool, path):
    command = [need_tool(tool), *(["tar"] if tool == "busybox" else []), "tf", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def check(path, files, *, lone_block=False):
    """Compare a blob with the members it should have, by every reader."""
    assert members_of(path) == list(files.items())
    with tarfile.open(path) as archive:
        read = [(member.name, archive.extractfile(member).read()) for member in archive]
    assert read == list(files.items())
    for tool in ("tar", "bsdtar") if lone_block else ("tar", "bsdtar", "busybox"):
        names, errors = listed_by(tool, path)
        assert names == list(files)
        assert errors == "" or (lone_block and "lone zero block" in errors)


def place_of(path):
    if os.path.exists(sidecar_of(path)):
        return "sidecar"
    return "embed" if path.read_bytes().endswith(b"BLOBIDX\n") else "none"


@pytest.mark.parametrize("place", PLACES)
class TestWhatIsAppended:
    def test_pairs_files_and_folders(self, place, tmp_path, monkeypatch):
        blob = pack_files(tmp_path / "o.tar", OLD, index=place)
        report = blobpack.append(blob, NEW.items())
        assert (report.appended, report.members, report.index_place) == (12, 42, place)
        assert report.appended_bytes == sum(map(len, NEW.values()))
        check(blob, OLD | NEW)
        write_tree(tmp_path / "in", payloads("folder", 5))
        blobpack.append(blob, tmp_path / "in")
        check(blob, OLD | NEW | payloads("folder", 5))
        monkeypatch.chdir(tmp_path / "in")
        write_tree(tmp_path / "in", {"more.png": PNG})
        report = blobpack.append(blob, ["more.png"])
        check(blob, files := OLD | NEW | payloads("folder", 5) | {"more.png": PNG})
        assert report.blob_bytes == blob.stat().st_size
        assert report.index == blobpack.scan(blob)
        assert place_of(blob) == place
        assert sorted(os.listdir(tmp_path)) == sorted(
            ["in", "o.tar", *(["o.tar.idx"] if place == "sidecar" else [])]
        )
        assert len(files) == len(report.index)

    def test_the_archive_is_what_pack_would_have_written(self, place, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD, index=place)
        blobpack.append(blob, NEW.items())
        whole = pack_files(tmp_path / "w.tar", OLD | NEW, index=place)
        assert blob.read_bytes() == whole.read_bytes()
        if place == "sidecar":
            one, other = (sidecar_of(path) for path in (blob, whole))
            with open(one, "rb") as file, open(other, "rb") as expected:
                assert file.read() == expected.read()

    def test_nothing_to_append_leaves_every_byte(self, place, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD, index=place)
        before = snapshot(tmp_path)
        report = blobpack.append(blob, [("notes.txt", b"text")])
        assert (report.appended, report.skipped) == (0, {"not an image": 1})
        assert len(report.index) == len(OLD)
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("count", [1, 3000])
    def test_a_shorter_and_a_longer_tail(self, place, count, tmp_path):
        """The new end lies before the old one, whose index is large, or far behind it."""
        old = {f"{'n' * 90}/{i:04}": b"" for i in range(2000)}
        blob = pack_files(tmp_path / "o.tar", old, index=place)
        new = {f"x{i}": b"12345" for i in range(count)}
        blobpack.append(blob, new.items(), all_files=True)
        assert members_of(blob) == list((old | new).items())
        assert place_of(blob) == place

    def test_empty_and_large_members(self, place, tmp_path):
        blob = pack_files(tmp_path / "o.tar", {}, index=place)
        files = {"empty": b""}
        blobpack.append(blob, files.items(), all_files=True)
        check(blob, files)
        large = {"in/large": os.urandom(5_000_000), "in/none": b""}
        write_tree(tmp_path, large)
        blobpack.append(blob, tmp_path / "in", all_files=True)
        check(blob, files | {"large": large["in/large"], "none": b""})


def snapshot(folder):
    return {
        path.relative_to(folder): without_stamp(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def without_stamp(data):
    """Blank the stamp of an index in a blob, which an append that fails changes, and the checksum of the footer."""
    if not data.endswith(b"BLOBIDX\n"):
        return data
    footer = data[-512:]
    return data[:-512] + footer[4:336] + footer[344:]


class TestEnds:
    """However the archive ends, and whoever wrote it."""

    @pytest.mark.parametrize(
        "marker", [b"", bytes(512), END, bytes(10240), bytes(1300), bytes(5)], ids=len
    )
    @pytest.mark.parametrize("count", [1, 40])
    def test_markers(self, marker, count, tmp_path):
        tar = Tar().file("a.jpg", b"1" * 700).file("b", b"").end(marker)
        if len(marker) == 5:
            tar.blob = tar.blob[:-5] + bytes(1024)
        (tmp_path / "o.tar").write_bytes(tar.blob)
        new = payloads("new", count, size=700)
        report = blobpack.append(tmp_path / "o.tar", new.items())
        assert report.index_place == "none"
        assert "has none now" in str(report)
        check(tmp_path / "o.tar", {"a.jpg": b"1" * 700, "b": b""} | new)

    def test_links_and_folders_stay(self, tmp_path):
        tar = Tar().file("a.jpg", b"1").link("b.jpg", "a.jpg")
        tar.other("folders", Tar().file("d/", b"", typeflag=b"5").blob).end(bytes(10240))
        (tmp_path / "o.tar").write_bytes(tar.blob)
        blobpack.append(tmp_path / "o.tar", NEW.items())
        index = blobpack.scan(tmp_path / "o.tar")
        assert list(index.names) == ["a.jpg", "b.jpg", *NEW]
        assert (index.report.hard_links, index.report.folders) == (1, 1)
        assert listed_by("tar", tmp_path / "o.tar")[0] == ["a.jpg", "b.jpg", "d/", *NEW]

    @pytest.mark.parametrize("marker", [b"", END, bytes(10240)], ids=len)
    def test_a_foreign_tar_with_an_index_inside(self, marker, tmp_path):
        tar = Tar().file("a.jpg", b"1" * 700).link("b.jpg", "a.jpg").end(marker)
        (tmp_path / "o.tar").write_bytes(tar.blob)
        embed_index(tmp_path / "o.tar")
        before = snapshot(tmp_path)
        with pytest.raises(RuntimeError):
            blobpack.append(tmp_path / "o.tar", failing(NEW))
        assert snapshot(tmp_path) == before
        blobpack.append(tmp_path / "o.tar", NEW.items())
        with blobpack.open_blob(tmp_path / "o.tar") as blob:
            assert list(blob.index.names) == ["a.jpg", "b.jpg", *NEW]
            assert blob.index.report.hard_links == 1
            assert blob.index == blobpack.scan(tmp_path / "o.tar")
        assert place_of(tmp_path / "o.tar") == "embed"

    def test_another_tar_behind_the_end_is_not_overwritten(self, tmp_path):
        a = pack_files(tmp_path / "a.tar", OLD, index="none")
        b = pack_files(tmp_path / "b.tar", NEW, index="none")
        (tmp_path / "c.tar").write_bytes(a.read_bytes() + b.read_bytes())
        before = snapshot(tmp_path)
        with pytest.raises(blobpack.StorageError, match="perhaps another tar"):
            blobpack.append(tmp_path / "c.tar", [("x.png", PNG)])
        assert snapshot(tmp_path) == before

    def test_what_tar_appended_is_refused_or_scanned(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        write_tree(tmp_path, {"by_tar.png": PNG * 300})
        subprocess.run([need_tool("tar"), "-rf", blob, "-C", tmp_path, "by_tar.png"], check=True)
        with pytest.raises(blobpack.StaleIndexError):
            blobpack.append(blob, NEW.items())
        blobpack.append(blob, NEW.items(), stale="rescan")
        check(blob, OLD | {"by_tar.png": PNG * 300} | NEW)
        assert place_of(blob) == "embed"


class TestNames:
    def test_one_that_is_there_is_refused(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        before = snapshot(tmp_path)
        taken = next(iter(OLD))
        for source in ([*NEW.items(), (taken, PNG)], write_tree(tmp_path / "in", {taken: PNG})):
            before |= snapshot(tmp_path)
            with pytest.raises(blobpack.DuplicateNameError, match=taken):
                blobpack.append(blob, source)
            assert snapshot(tmp_path) == before

    def test_one_of_a_file_that_is_no_image_is_not(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD | {"notes.txt": b"text"})
        folder = write_tree(tmp_path / "in", {"notes.txt": b"more", "a.png": PNG})
        assert blobpack.append(blob, folder).skipped == {"not an image": 1}
        with pytest.raises(blobpack.DuplicateNameError):
            blobpack.append(blob, folder, all_files=True, exclude="*.png")

    def test_the_last_counts_when_asked(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        taken = next(iter(OLD))
        blobpack.append(blob, [(taken, PNG)], duplicates="last")
        assert members_of(blob) == [*OLD.items(), (taken, PNG)]
        with blobpack.open_blob(blob) as opened:
            assert opened.read(taken) == PNG
        with pytest.raises(ValueError, match="'first'"):
            blobpack.append(blob, [], duplicates="first")

    def test_those_of_pack_are_refused(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        before = snapshot(tmp_path)
        with pytest.raises(blobpack.UnsafeNameError):
            blobpack.append(blob, [("../x.png", PNG)])
        with pytest.raises(blobpack.DuplicateNameError):
            blobpack.append(blob, [("x.png", PNG), ("x.png", PNG)], duplicates="last")
        assert snapshot(tmp_path) == before

    def test_globs_choose(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        folder = write_tree(tmp_path / "in", NEW | OLD)
        report = blobpack.append(blob, folder, globs="new/*", exclude=["*3.png"])
        assert report.skipped == {"filtered out": len(OLD) + 1}
        check(blob, OLD | {name: NEW[name] for name in NEW if not name.endswith("3.png")})


def failing(files):
    yield from files.items()
    raise RuntimeError("the camera fell")


class TestFailures:
    """An append that fails puts back what was there, byte for byte."""

    @pytest.mark.parametrize("place", PLACES)
    def test_a_source_that_raises(self, place, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD, index=place)
        before = snapshot(tmp_path)
        for files in ({}, NEW, payloads("many", 3000)):
            with pytest.raises(RuntimeError, match="camera"):
                blobpack.append(blob, failing(files))
            assert snapshot(tmp_path) == before

    def test_a_file_that_cannot_be_read(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        folder = write_tree(tmp_path / "in", NEW)
        (folder / "zz.png").symlink_to("nowhere")
        before = snapshot(tmp_path)
        with pytest.raises(blobpack.SourceError, match=r"zz\.png"):
            blobpack.append(blob, folder, follow_symlinks=True)
        assert snapshot(tmp_path) == before

    def test_a_full_disk(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        write_tree(tmp_path / "in", {f"{i}.png": PNG * 4000 for i in range(9)})
        before = snapshot(tmp_path)
        limit = blob.stat().st_size + 10_000
        code = (
            "import resource, signal, blobpack\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            f"blobpack.append({str(blob)!r}, {str(tmp_path / 'in')!r})\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "File too large" in done.stderr
        assert snapshot(tmp_path) == before

    def test_ctrl_c(self, tmp_path):
        def interrupted():
            yield from NEW.items()
            raise KeyboardInterrupt

        blob = pack_files(tmp_path / "o.tar", OLD)
        before = snapshot(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            blobpack.append(blob, interrupted())
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("place", ["none", "embed"])
    @pytest.mark.parametrize("payloads", [[], [("x.txt", b"no image")]], ids=["error", "skipped"])
    def test_an_index_file_that_is_tied_to_no_blob(self, place, payloads, tmp_path):
        """Index.save writes one of an index that was scanned: it fits, but says nothing of the blob."""

        def failing():
            yield from NEW.items()
            raise RuntimeError

        blob = pack_files(tmp_path / "o.tar", OLD, index=place)
        blobpack.scan(blob).save(sidecar_of(blob))
        before = snapshot(tmp_path)
        if payloads:
            assert blobpack.append(blob, payloads).appended == 0
        else:
            with pytest.raises(RuntimeError):
                blobpack.append(blob, failing())
        assert snapshot(tmp_path) == before

    def test_two_at_once(self, tmp_path):
        blob = pack_files(tmp_path / "o.tar", OLD)
        with open(blob, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(
                blobpack.StorageError, match="another append or embedding is at work"
            ):
                blobpack.append(blob, NEW.items())
            with pytest.raises(
                blobpack.StorageError, match="another append or embedding is at work"
            ):
                embed_index(blob)
        blobpack.append(blob, NEW.items())
        check(blob, OLD | NEW)

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EIO])
    def test_without_a_lock_nothing_is_written(self, number, tmp_path, monkeypatch):
        """NFS without its lock service, say: two appends at once would write over each other."""
        blob = pack_files(tmp_path / "o.tar", OLD)
        before = snapshot(tmp_path)

        def refuses(fd, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuses)
        with pytest.raises(blobpack.StorageError, match=r"o\.tar: can't be locked: "):
            blobpack.append(blob, NEW.items())
        with pytest.raises(blobpack.StorageError, match=r"o\.tar: can't be locked: "):
            embed_index(blob)
        assert snapshot(tmp_path) == before

    def test_what_can_not_be_appended_to(self, tmp_path):
        with pytest.raises(blobpack.BlobNotFoundError):
            blobpack.append(tmp_path / "none.tar", NEW.items())
        with pytest.raises(blobpack.BlobNotFoundError, match="`blobpack collect"):
            blobpack.append(tmp_path, NEW.items())
        (tmp_path / "o.tar.gz").write_bytes(b"\x1f\x8b" + bytes(1000))
        with pytest.raises(blobpack.FormatError, match="gzip"):
            blobpack.append(tmp_path / "o.tar.gz", NEW.items())
        blobpack.pack(list(OLD.items()), tmp_path / "o.tar.zst")
        with pytest.raises(blobpack.StorageError, match="a compressed blob"):
            blobpack.append(tmp_path / "o.tar.zst", NEW.items())
        (tmp_path / "o.tar").write_bytes(b"x" * 2000)
        with pytest.raises(blobpack.FormatError, match="no tar header"):
            blobpack.append(tmp_path / "o.tar", NEW.items())

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_failure_behind_the_commit_says_that_the_members_are_there(self, times, tmp_path):
        blob = pack_files(tmp_path / "o.tar", old_of(0))
        with (
            failing_syncs(COMMITTED, times),
            pytest.raises(blobpack.StorageError, match="the members are appended") as caught,
        ):
            blobpack.append(blob, NEW.items())
        check(blob, old_of(0) | NEW)
        # the index is written once more
        assert place_of(blob) == ("embed" if times == 1 else "none")
        assert ("has no index now" in str(caught.value)) == (times > 1)
        blobpack.append(blob, [("x.png", PNG)])
        check(blob, old_of(0) | NEW | {"x.png": PNG})
        assert place_of(blob) == "embed"
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.parametrize("end", [0, 3072, 3584])
    def test_a_commit_that_fails_leaves_the_blob_as_it_was(self, end, tmp_path, monkeypatch):
        blob = pack_files(tmp_path / "o.tar", old_of(end))
        before = blob.read_bytes()
        commit = Tail.commit

        def failing(tail):
            real, calls = os.pwrite, []

            def write(fd, data, pos):
                calls.append(pos)
                if len(calls) == 1 + (end > 2560):
                    raise OSError(28, "No space left on device")
                return real(fd, data, pos)

            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", write)
                commit(tail)

        monkeypatch.setattr(Tail, "commit", failing)
        with pytest.raises(blobpack.StorageError, match="No space left"):
            blobpack.append(blob, NEW.items())
        after = blob.read_bytes()
        assert place_of(blob) == "embed"
        assert len(after) == len(before)
        assert after[:-FOOTER_BYTES] == before[:-FOOTER_BYTES]
        assert not list(tmp_path.glob(".*"))


@contextlib.contextmanager
def failing_syncs(first, times):
    """Let some calls to fsync fail, from the given one on."""
    real, calls = os.fsync, []

    def sync(fd):
        calls.append(fd)
        if first <= len(calls) < first + times:
            raise OSError(5, "Input/output error")
        real(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        yield


COMMITTED = 5  # of the calls to fsync, when the zero blocks do not cross a page: that of the index


def test_stale_offsets_are_named(tmp_path):
    blob = pack_files(tmp_path / "o.tar", OLD)
    blobpack.write_offsets(blobpack.scan(blob), tmp_path / "o_offsets.pkl")
    report = blobpack.append(blob, NEW.items())
    assert report.stale_offsets == str(tmp_path / "o_offsets.pkl")
    assert "does not have the new members" in str(report)


def test_progress_is_of_what_is_new(tmp_path):
    blob = pack_files(tmp_path / "o.tar", OLD)
    folder = write_tree(tmp_path / "in", NEW)
    calls = []
    blobpack.append(blob, folder, progress=calls.append)
    assert calls[-1][:2] == (12, sum(512 + len(p) + -len(p) % 512 for p in NEW.values()))
    assert calls[-1].total == 12


# Cut short

CALLS = ("pwrite", "fsync", "ftruncate", "rename", "replace", "unlink", "remove")


def run_cut_short(work, k, *, after):
    """Run work in a child that ends without a trace at its k-th system call; whether it got that far."""
    child = os.fork()
    if child == 0:
        try:
            calls = 0

            def counted(real):
                def call(*arguments, **more):
                    nonlocal calls
                    calls += 1
                    if calls == k and not after:
                        os._exit(9)
                    try:
                        return real(*arguments, **more)
                    # also after a call that failed, such as the removal of a file that is not there
                    finally:
                        if calls == k:
                            os._exit(9)

                return call

            for name in CALLS:
                setattr(os, name, counted(getattr(os, name)))
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def old_of(end):
    """Pack members so that the archive's zero blocks begin at a place in a page."""
    files = dict(OLD)
    size = sum(512 + len(payload) + -len(payload) % 512 for payload in files.values())
    files["last.png"] = PNG + bytes((end - size - 512 - len(PNG)) % 4096)
    size += 512 + len(files["last.png"]) + -len(files["last.png"]) % 512
    assert size % 4096 == end
    return files


@pytest.mark.parametrize(
    ("place", "end", "after"),
    [
        *(("embed", end, after) for end in (0, 3072, 3584) for after in (False, True)),
        ("sidecar", 2560, False),
        ("sidecar", 3584, True),
        ("none", 3584, False),
    ],
)
def test_killed_at_every_call(place, end, after, tmp_path):
    old = old_of(end)
    fresh = pack_files(tmp_path / "fresh.tar", old, index=place)
    blob = tmp_path / "o.tar"
    later = {"later.png": PNG * 9}
    seen, k = set(), 0
    while True:
        for path in (fresh, *tmp_path.glob("fresh.tar.idx")):
            shutil.copy(path, tmp_path / path.name.replace("fresh", "o"))
        k += 1
        cut = run_cut_short(lambda: blobpack.append(blob, NEW.items()), k, after=after)
        report = blobpack.scan(blob).report
        have = old | NEW if len(blobpack.scan(blob)) > len(old) else old
        check(blob, have, lone_block=report.end_marker == 1)
        assert report.end_marker == 2 or end == 3584
        seen.add(len(have))
        blobpack.append(blob, later.items())
        assert members_of(blob) == list((have | later).items())
        assert listed_by("tar", blob) == (list(have | later), "")
        assert place_of(blob) == place
        if not cut:
            break
        for path in tmp_path.glob("*o.tar*"):
            path.unlink()
    assert seen == {len(old), len(old | NEW)}
    assert k > 6


def test_an_offsets_file_of_some_members_hides_none_of_a_blob_that_was_cut_short(tmp_path):
    fresh = pack_files(tmp_path / "fresh.tar", OLD)
    some = blobpack.scan(fresh).select("*1.png")
    blob, cut = tmp_path / "o.tar", True
    for k in range(1, 100):
        shutil.copy(fresh, blob)
        blobpack.write_offsets(some, tmp_path / "o_offsets.pkl")
        cut = run_cut_short(lambda: blobpack.append(blob, NEW.items()), k, after=False)
        assert len(members_of(blob)) in (len(OLD), len(OLD | NEW))
        if not cut:
            break
        blobpack.append(blob, [("later.png", PNG)])
        assert not list(tmp_path.glob(".*.void"))
    assert k > 10
    assert not cut


@pytest.mark.parametrize("place", PLACES)
def test_killed_while_it_is_mended(place, tmp_path):
    """An append that follows one that was cut short is cut short, too."""
    fresh = pack_files(tmp_path / "fresh.tar", OLD, index=place)
    blob = tmp_path / "o.tar"
    rng = random.Random(3)
    for _ in range(6):
        shutil.copy(fresh, blob)
        if place == "sidecar":
            shutil.copy(sidecar_of(fresh), sidecar_of(blob))
        have = dict(OLD)
        for turn in range(6):
            new = payloads(f"turn{turn}", 3, turn)
            run_cut_short(
                lambda n=new: blobpack.append(blob, n.items()),
                rng.randrange(1, 14),
                after=turn % 2 > 0,
            )
            if len(blobpack.scan(blob)) > len(have):
                have |= new
            check(blob, have, lone_block=blobpack.scan(blob).report.end_marker == 1)
        blobpack.append(blob, NEW.items())
        check(blob, have | NEW)
        assert place_of(blob) == place


@pytest.mark.parametrize("end", [0, 3072, 3584])
def test_power_fails(end, tmp_path, monkeypatch):
    """Of what was written since the last fsync, any pages may be on disk and others not."""
    old = old_of(end)
    blob = pack_files(tmp_path / "o.tar", old)
    before = blob.read_bytes()
    log = []
    real_write, real_sync = os.pwrite, os.fsync

    def write(fd, data, pos):
        log.append((pos, bytes(data)))
        return real_write(fd, data, pos)

    def sync(fd):
        log.append(None)
        real_sync(fd)

    monkeypatch.setattr(os, "pwrite", write)
    monkeypatch.setattr(os, "fsync", sync)
    blobpack.append(blob, NEW.items())
    monkeypatch.undo()
    after = blob.read_bytes()
    epochs = [[]]
    for call in log:
        if call is None:
            epochs.append([])
        else:
            epochs[-1].append(call)
    assert len(epochs) > 6
    rng = random.Random(end)
    disk = bytearray(before)
    for epoch in epochs:
        pages = [
            (page, data[max(page - pos, 0) : page + 4096 - pos])
            for pos, data in epoch
            for page in range(pos // 4096 * 4096, pos + len(data), 4096)
        ]
        places = [
            max(page, pos)
            for pos, data in epoch
            for page in range(pos // 4096 * 4096, pos + len(data), 4096)
        ]
        for _ in range(12):
            torn = bytearray(disk)
            for (_, data), pos in zip(pages, places, strict=True):
                if rng.random() < 0.5:
                    put(torn, pos, data)
            (tmp_path / "torn.tar").write_bytes(torn)
            index = blobpack.scan(tmp_path / "torn.tar")
            have = old | NEW if len(index) > len(old) else old
            check(tmp_path / "torn.tar", have, lone_block=index.report.end_marker == 1)
        for pos, data in epoch:
            put(disk, pos, data)
    assert disk == after


def put(disk, pos, data):
    disk.extend(bytes(max(0, pos - len(disk))))
    disk[pos : pos + len(data)] = data


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_any_time(place, tmp_path):
    """With files, which are gathered and written natively, by a real kill."""
    new = payloads("new", 400, 5, 9000)
    folder = write_tree(tmp_path / "in", new)
    fresh = pack_files(tmp_path / "fresh.tar", OLD, index=place)
    blob = tmp_path / "o.tar"
    seen = set()
    longest = 0.05
    rng = random.Random(7)
    for turn in range(25):
        shutil.copy(fresh, blob)
        if place == "sidecar":
            shutil.copy(sidecar_of(fresh), sidecar_of(blob))
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                blobpack.append(blob, folder)
            finally:
                os._exit(0)
        if turn:
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not turn:
            longest = time.monotonic() - began
        have = OLD | new if len(blobpack.scan(blob)) > len(OLD) else OLD
        seen.add((len(have), place_of(blob) == place))
        check(blob, have, lone_block=blobpack.scan(blob).report.end_marker == 1)
        blobpack.append(blob, [("later.png", PNG)])
        assert members_of(blob) == [*have.items(), ("later.png", PNG)]
        assert place_of(blob) == place
        assert not list(tmp_path.glob(".*.void"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(sidecar_of(blob))
    assert len({members for members, _ in seen}) == 2


def test_the_mark_says_what_it_is():
    assert mark_of("embed").startswith(b"blobpack: an append is at work here, or was interrupted")
    assert len(mark_of("embed")) == 512


def test_an_index_is_not_embedded_while_an_append_is_at_work(tmp_path):
    """It would go where the new members are."""
    blob = tmp_path / "out.tar"
    blobpack.pack([("a", b"a")], blob, all_files=True)

    def payloads():
        yield "b", b"b"
        with pytest.raises(blobpack.StorageError, match="another append or embedding is at work"):
            embed_index(blob)
        yield "c", bytes(3_000_000)

    blobpack.append(blob, payloads(), all_files=True)
    with blobpack.open_blob(blob) as opened:
        assert list(opened.index.names) == ["a", "b", "c"]
