"""Merged blobs and subsets hold the members asked for, byte for byte, and the index that a scan would find."""

import errno
import io
import os
import random
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from tars import DIALECTS, Tar, Trapper, header, need_tool, pax

import blobpack
from blobpack.opening.blob import Blob
from blobpack.stores.local import LocalStore
from blobpack.stores.memory import MemoryStore
from blobpack.tar.splicing import dense, plan, source as splice_source, splice

pytestmark = pytest.mark.filterwarnings("ignore::blobpack.MissingIndexWarning")

PAYLOADS = {f"{i:03}.bin": random.Random(i).randbytes(i * 37 % 1700) for i in range(60)}


@pytest.fixture(params=["local", "distant"])
def opened(request):
    """Open a blob as a local file, or as one that is elsewhere."""

    def open_as(path, *, concatenated=False):
        index = blobpack.scan(path, concatenated=concatenated)
        if request.param == "local":
            return Blob(LocalStore(path), index)
        return Blob(MemoryStore(path.read_bytes(), f"memory:{path.name}"), index)

    return open_as


@pytest.fixture(params=["kernel", "read and write"])
def copying(request, monkeypatch):
    """Copy long ranges by the kernel, or where it can't."""
    if request.param == "read and write":

        def refuse(*_):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "copy_file_range", refuse)


def pack_files(path, files):
    blobpack.pack(list(files.items()), path, all_files=True, allow_empty=not files)
    return path


def archive_of(path):
    """Read a blob up to its index."""
    report = blobpack.scan(path).report
    return path.read_bytes()[: report.bytes_scanned + 1024]


def contents(path):
    with tarfile.open(path) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]


def check(report, path, expected, *, judged=True):
    """Compare a new blob with the members it should have, by every reader that reads its dialect as we do."""
    with blobpack.open_blob(path) as blob:
        assert members_of(blob) == expected
    assert blobpack.scan(path) == report.index
    assert report.members == len(expected)
    assert report.blob_bytes == path.stat().st_size
    assert report.payload_bytes == sum(len(payload) for _, payload in expected)
    if not judged:
        return
    assert contents(path) == expected
    listed = subprocess.run(
        [need_tool("tar"), "--quoting-style=literal", "--warning=no-unknown-keyword", "-tf", path],
        capture_output=True,
        check=True,
    )
    assert listed.stderr == b""
    names = b"".join(os.fsencode(name) + b"\n" for name, _ in expected)
    assert listed.stdout == names


def members_of(blob):
    return [(m.name, blob.store.read_range(m.offset_start, m.offset_end)) for m in blob.index]


SMALL = {f"{i:04}.bin": random.Random(i).randbytes(2000) for i in range(900)}


class TestMerge:
    def test_members_of_all_sources_in_their_order(self, tmp_path):
        one, other = dict(list(PAYLOADS.items())[:30]), dict(list(PAYLOADS.items())[30:])
        sources = [pack_files(tmp_path / "b.tar", other), pack_files(tmp_path / "a.tar", one)]
        report = blobpack.merge(sources, tmp_path / "o.tar")
        check(report, tmp_path / "o.tar", [*other.items(), *one.items()])
        assert report.new_headers == report.replaced == 0

    def test_swapped_arguments_are_recognised(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        with pytest.raises(TypeError, match="sources comes before target"):
            blobpack.merge(tmp_path / "o.tar", [source])
        assert os.listdir(tmp_path) == ["a.tar"]

    def test_whole_blobs_are_copied_bit_by_bit(self, tmp_path):
        a = pack_files(tmp_path / "a.tar", PAYLOADS)
        blobpack.merge([a], tmp_path / "o.tar", index="none")
        assert (tmp_path / "o.tar").read_bytes() == archive_of(a)

    def test_parts_and_copies_of_any_size(self, tmp_path, monkeypatch, copying, opened):
        files = PAYLOADS | {"huge": bytes(range(256)) * 4000, "zlast": b"x"}
        source = pack_files(tmp_path / "a.tar", files)
        for part_bytes in (1, 512, 5000, 70_000, 1 << 30):
            monkeypatch.setattr(plan, "SPLICE_PART_BYTES", part_bytes)
            monkeypatch.setattr(splice, "KERNEL_COPY_BYTES_MIN", part_bytes // 3)
            monkeypatch.setattr(splice_source, "SPLICE_FETCH_BYTES", max(part_bytes // 2, 512))
            monkeypatch.setattr(splice_source, "SPLICE_GAP_BYTES", part_bytes // 7)
            with opened(source) as blob:
                blobpack.merge([blob], tmp_path / "o.tar", index="none")
                assert (tmp_path / "o.tar").read_bytes() == archive_of(source)
                some = blob.index.select(where=lambda m: hash(m.name) % 3)
                report = blobpack.subset(blob, tmp_path / "s.tar", some)
            check(report, tmp_path / "s.tar", [(name, files[name]) for name in some.names])

    def test_no_sources_and_empty_ones_make_an_empty_tar_if_that_is_meant(self, tmp_path):
        empty = pack_files(tmp_path / "empty.tar", {})
        for sources in ([], [empty], [empty, empty]):
            report = blobpack.merge(sources, tmp_path / "o.tar", index="none", allow_empty=True)
            assert report.members == 0
            assert (tmp_path / "o.tar").read_bytes() == bytes(1024)

    def test_two_members_of_one_name_are_refused(self, tmp_path):
        a = pack_files(tmp_path / "a.tar", {"x": b"1", "y": b"2"})
        b = pack_files(tmp_path / "b.tar", {"z": b"1", "y": b"3"})
        with pytest.raises(
            blobpack.DuplicateNameError, match=r"'y' is in .*a\.tar and in .*b\.tar"
        ):
            blobpack.merge([a, b], tmp_path / "o.tar")
        with pytest.raises(blobpack.DuplicateNameError, match=r"a\.tar and in .*a\.tar"):
            blobpack.merge([a, a], tmp_path / "o.tar")
        assert sorted(os.listdir(tmp_path)) == ["a.tar", "b.tar"]

    def test_the_last_of_one_name_is_kept_when_asked(self, tmp_path):
        a = pack_files(tmp_path / "a.tar", {"x": b"1", "y": b"2", "w": b""})
        b = pack_files(tmp_path / "b.tar", {"z": b"1", "y": b"3"})
        report = blobpack.merge([a, b, a], tmp_path / "o.tar", duplicates="last")
        check(report, tmp_path / "o.tar", [("z", b"1"), ("x", b"1"), ("y", b"2"), ("w", b"")])
        assert report.replaced == 4
        with pytest.raises(ValueError, match="'first'"):
            blobpack.merge([a], tmp_path / "o.tar", duplicates="first")

    def test_facts_stay_when_all_sources_have_them(self, tmp_path):
        blobs = []
        for name in "ab":
            path = pack_files(tmp_path / f"{name}.tar", {f"{name}{i}": b"x" * i for i in range(9)})
            facts = [
                blobpack.Member(m.name, m.offset_start, m.offset_end, "image/png", 3, i + 1, i, 7)
                for i, m in enumerate(blobpack.scan(path))
            ]
            blobs.append(Blob(LocalStore(path), blobpack.Index(facts)))
        index = blobpack.merge(blobs, tmp_path / "o.tar").index
        assert index == blobpack.scan(tmp_path / "o.tar")
        assert [m.height for m in index] == [*range(1, 10)] * 2
        assert {(m.media_type, m.width, m.mtime) for m in index} == {("image/png", 3, 7)}
        blobs[0] = Blob(LocalStore(tmp_path / "a.tar"), blobpack.scan(tmp_path / "a.tar"))
        assert dict(blobpack.merge(blobs, tmp_path / "o.tar").index._columns.facts()) == {}

    def test_what_has_no_payload_stays_behind_and_is_counted(self, tmp_path):
        tar = DIALECTS["without_payload"]()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        report = blobpack.merge([tmp_path / "a.tar"], tmp_path / "o.tar")
        assert report.left_out == {"symbolic_links": 1, "devices": 3, "folders": 1, "other": 2}
        assert "left out 3: devices" in str(report)
        assert [name for name, _ in contents(tmp_path / "o.tar")] == ["a.jpg", "b.jpg"]


class TestIndex:
    """The new blob's index is in it, beside it or nowhere, and it opens by what is there."""

    @pytest.fixture
    def source(self, tmp_path):
        (tmp_path / "in").mkdir()
        return pack_files(tmp_path / "in" / "a.tar", PAYLOADS)

    @pytest.mark.parametrize("place", ["embed", "sidecar"])
    @pytest.mark.filterwarnings("error")
    def test_opens_by_it(self, place, source, tmp_path):
        scanned = Blob(LocalStore(source), blobpack.scan(source))
        merged = blobpack.merge([scanned], tmp_path / "m.tar", index=place)
        chosen = blobpack.subset(scanned, tmp_path / "s.tar", ["003.bin"], index=place)
        for report, path in ((merged, tmp_path / "m.tar"), (chosen, tmp_path / "s.tar")):
            with blobpack.open_blob(path) as blob:
                assert blob.index == report.index == blobpack.scan(path)
                assert blob.read("003.bin") == PAYLOADS["003.bin"]
        beside = {"m.tar.idx", "s.tar.idx"} if place == "sidecar" else set()
        assert set(os.listdir(tmp_path)) == {"in", "m.tar", "s.tar", *beside}

    def test_none_when_asked(self, source, tmp_path):
        blobpack.merge([source], tmp_path / "m.tar", index="none")
        assert (tmp_path / "m.tar").read_bytes() == archive_of(source)
        with pytest.raises(ValueError, match="'beside'"):
            blobpack.merge([source], tmp_path / "m.tar", index="beside")


@pytest.mark.parametrize("dialect", DIALECTS)
class TestEveryDialect:
    def test_merged_with_another(self, dialect, tmp_path, opened):
        tar = DIALECTS[dialect]()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        other = pack_files(tmp_path / "b.tar", {"other.bin": b"other"})
        with opened(tmp_path / "a.tar", concatenated=tar.concatenated) as blob:
            duplicates = "last" if len(set(blob.index.names)) < len(blob.index) else "refuse"
            expected = dict(members_of(blob))
            report = blobpack.merge([blob, other], tmp_path / "o.tar", duplicates=duplicates)
        expected["other.bin"] = b"other"
        wanted = [(name, expected.pop(name)) for name in report.index.names]
        assert expected == {}
        check(report, tmp_path / "o.tar", wanted, judged=tar.judged)

    def test_members_in_any_order_and_number(self, dialect, tmp_path, opened):
        tar = DIALECTS[dialect]()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        rng = random.Random(1)
        with opened(tmp_path / "a.tar", concatenated=tar.concatenated) as blob:
            members = members_of(blob)
            for _ in range(3):
                rows = rng.choices(range(len(members)), k=rng.randrange(6)) if members else []
                taken = blob.index[np.array(rows, np.int64)]
                report = blobpack.subset(blob, tmp_path / "o.tar", taken, allow_empty=True)
                wanted = [members[row] for row in rows]
                check(report, tmp_path / "o.tar", wanted, judged=tar.judged)


class TestHeaders:
    def test_those_that_say_the_name_are_kept_as_they_are(self, tmp_path):
        tar = Tar().file("a.jpg", b"1", header(b"a.jpg", 1, put={136: b"12345670123\0"}))
        tar.file("long", b"2", pax({"path": "long", "mtime": "1.5"}), header(b"shape", 1))
        tar.other("folders", header(b"folder/", typeflag=b"5"))
        tar.file("b.jpg", b"3", header(b"b.jpg", 1, put={100: b"0000600\0"})).end()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        report = blobpack.merge([tmp_path / "a.tar"], tmp_path / "o.tar")
        assert report.new_headers == 0
        with tarfile.open(tmp_path / "o.tar") as archive:
            a, long, b = archive.getmembers()
        assert (a.mtime, long.mtime, b.mode) == (0o12345670123, 1.5, 0o600)

    def test_a_hard_link_becomes_a_member_of_its_own(self, tmp_path):
        tar = Tar().file("a.jpg", b"payload").link("b.jpg", "a.jpg").file("c", b"").end()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        report = blobpack.merge([tmp_path / "a.tar"], tmp_path / "o.tar")
        assert report.new_headers == 1
        check(
            report, tmp_path / "o.tar", [("a.jpg", b"payload"), ("b.jpg", b"payload"), ("c", b"")]
        )

    def test_a_new_header_carries_the_mtime_that_is_known(self, tmp_path):
        tar = Tar().file("a.jpg", b"1").link("b.jpg", "a.jpg").end()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        members = [
            blobpack.Member(m.name, m.offset_start, m.offset_end, mtime=99)
            for m in blobpack.scan(tmp_path / "a.tar")
        ]
        with Blob(LocalStore(tmp_path / "a.tar"), blobpack.Index(members)) as blob:
            blobpack.merge([blob], tmp_path / "o.tar")
        with tarfile.open(tmp_path / "o.tar") as archive:
            assert archive.getmember("b.jpg").mtime == 99

    @pytest.mark.parametrize("seed", range(8))
    def test_traps_between_headers_lead_nobody_astray(self, seed, tmp_path):
        rng = random.Random(seed)
        trapper, tar = Trapper(seed), Tar()
        for _ in range(12):
            trapper.trap(tar, rng)
            trapper.fill(tar, rng, rng.randrange(60_000))
        tar.end()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        with blobpack.open_blob(tmp_path / "a.tar") as blob:
            members = members_of(blob)
            for k in (len(members), len(members) // 2, 5):
                rows = np.array(sorted(rng.sample(range(len(members)), k)), np.int64)
                if k == 5:
                    rng.shuffle(rows)
                report = blobpack.subset(blob, tmp_path / "o.tar", blob.index[rows])
                assert contents(tmp_path / "o.tar") == [members[row] for row in rows.tolist()]
                assert blobpack.scan(tmp_path / "o.tar") == report.index


class TestDense:
    """Small members that lie one behind the other are read once, and only if nothing else lies between them."""

    def test_each_byte_is_read_once(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", SMALL)
        code = (
            "import sys, blobpack\n"
            "def bytes_read():\n"
            "    return int(open('/proc/self/io').read().split()[1])\n"
            "blobpack.merge([sys.argv[1]], sys.argv[2])\n"
            "before = bytes_read()\n"
            "blobpack.merge([sys.argv[1]], sys.argv[2])\n"
            "print(bytes_read() - before)\n"
        )
        command = [sys.executable, "-c", code, source, tmp_path / "o.tar"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(done.stdout) < 1.2 * source.stat().st_size
        assert archive_of(tmp_path / "o.tar") == archive_of(source)

    @pytest.mark.parametrize("place", [0, 1, 450, 899])
    def test_what_lies_between_members_is_left_out(self, tmp_path, place):
        """The bytes that were copied before it was found are no part of the new blob."""
        tar = Tar()
        for i, (name, payload) in enumerate(SMALL.items()):
            if i == place:
                tar.other("folders", header(b"folder/", typeflag=b"5"))
            tar.file(name, payload)
        (tmp_path / "a.tar").write_bytes(tar.end().blob)
        report = blobpack.merge([tmp_path / "a.tar"], tmp_path / "o.tar")
        check(report, tmp_path / "o.tar", list(SMALL.items()))

    def test_a_few_long_members_among_them(self, tmp_path):
        long = {"long1": bytes(1_800_001), "long2": b"x" * (1 << 19)}
        files = {"a": b"", **long, **SMALL, "zlong": bytes(700_000)}
        source = pack_files(tmp_path / "a.tar", files)
        report = blobpack.merge(
            [source, pack_files(tmp_path / "b.tar", {"b": b"b"})], tmp_path / "o.tar"
        )
        check(report, tmp_path / "o.tar", [*files.items(), ("b", b"b")])

    @pytest.mark.parametrize("damage", ["header", "name", "cut"])
    def test_a_blob_that_is_not_its_index_s(self, tmp_path, damage):
        source = pack_files(tmp_path / "a.tar", SMALL)
        with blobpack.open_blob(source) as blob:
            start = blob.index[700].offset_start - 512
            if damage == "cut":
                os.truncate(source, start + 100)
            else:
                content = bytearray(source.read_bytes())
                block = header(b"other", 2000) if damage == "name" else b"x" * 512
                content[start : start + 512] = block
                source.write_bytes(content)
            if damage == "name":
                report = blobpack.merge([blob], tmp_path / "o.tar")
                assert report.new_headers == 1
                check(report, tmp_path / "o.tar", list(SMALL.items()))
                return
            with pytest.raises(blobpack.BlobChangedError):
                blobpack.merge([blob], tmp_path / "o.tar")
        assert os.listdir(tmp_path) == ["a.tar"]

    def test_a_disk_that_is_full(self, tmp_path):
        """A limit of the size of files stands for it."""
        source = pack_files(tmp_path / "a.tar", SMALL)
        code = (
            "import resource, sys, blobpack\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
            "blobpack.merge([sys.argv[1]], sys.argv[2])\n"
        )
        command = [sys.executable, "-c", code, source, tmp_path / "o.tar"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "StorageError" in done.stderr.splitlines()[-1]
        assert "File too large" in done.stderr.splitlines()[-1]
        assert os.listdir(tmp_path) == ["a.tar"]

    def test_members_that_are_large_are_not_dense(self):
        """Their headers are read alone, and the system copies the rest."""
        before, end = np.array([0, 1024, 2048]), np.array([1024, 2048, 3072])
        assert dense.is_dense(before, end)
        assert not dense.is_dense(before * 100, end * 100)
        assert not dense.is_dense(before[[0, 2]], end[[0, 2]])


class TestSubset:
    def test_by_names_members_and_selection(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        expected = [(name, PAYLOADS[name]) for name in ("041.bin", "003.bin")]
        index = blobpack.scan(source)
        for chosen in (
            ["041.bin", "003.bin"],
            [index["041.bin"], "003.bin"],
            index[np.array([41, 3])],
        ):
            report = blobpack.subset(source, tmp_path / "o.tar", chosen)
            check(report, tmp_path / "o.tar", expected)
        with pytest.raises(blobpack.MemberNotFoundError):
            blobpack.subset(source, tmp_path / "o.tar", ["041.bin", "nowhere"])
        with pytest.raises(TypeError):
            blobpack.subset(source, tmp_path / "o.tar", "041.bin")

    def test_equal_names_may_stay(self, tmp_path):
        tar = DIALECTS["duplicate_names"]()
        (tmp_path / "a.tar").write_bytes(tar.blob)
        with blobpack.open_blob(tmp_path / "a.tar") as blob:
            report = blobpack.subset(blob, tmp_path / "o.tar", blob.index)
            check(report, tmp_path / "o.tar", members_of(blob))

    def test_an_index_of_some_members_will_do(self, tmp_path, opened):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        with opened(source) as blob:
            some = Blob(blob.store, blob.index[np.array([50, 7, 30])])
            report = blobpack.merge([some], tmp_path / "o.tar")
        names = ["050.bin", "007.bin", "030.bin"]
        check(report, tmp_path / "o.tar", [(name, PAYLOADS[name]) for name in names])

    def test_from_afar(self, s3_env, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        bucket = s3_env.new_bucket()
        s3_env.client.upload_file(str(source), bucket, "a.tar")
        names = ["041.bin", "003.bin"]
        report = blobpack.subset(f"s3://{bucket}/a.tar", tmp_path / "o.tar", names)
        check(report, tmp_path / "o.tar", [(name, PAYLOADS[name]) for name in names])

    def test_from_a_compressed_blob(self, tmp_path):
        source = pack_files(tmp_path / "a.tar.zst", PAYLOADS)
        report = blobpack.merge([source], tmp_path / "o.tar")
        check(report, tmp_path / "o.tar", list(PAYLOADS.items()))
        report = blobpack.subset(source, tmp_path / "s.tar", ["041.bin", "003.bin"])
        check(report, tmp_path / "s.tar", [(n, PAYLOADS[n]) for n in ("041.bin", "003.bin")])

    def test_progress_is_told(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        calls = []
        blobpack.merge([source], tmp_path / "o.tar", progress=calls.append)
        assert calls[-1] == (60, len(archive_of(source)) - 1024, 60, None)


class TestRefused:
    @pytest.mark.parametrize("shift", [-512, 512, 1, 5120])
    def test_an_index_of_another_blob(self, tmp_path, opened, shift):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        with opened(source) as blob:
            moved = [
                blobpack.Member(m.name, m.offset_start + shift, m.offset_end + shift)
                for m in blob.index
                if m.name in ("030.bin", "031.bin") or shift == -512
            ][1:]
            wrong = Blob(blob.store, blobpack.Index(moved))
            with pytest.raises(blobpack.BlobChangedError, match=r"a\.tar: the index is not this"):
                blobpack.merge([wrong], tmp_path / "o.tar")
        assert os.listdir(tmp_path) == ["a.tar"]

    def test_a_payload_of_another_size(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        member = blobpack.scan(source)["030.bin"]
        longer = blobpack.Member(member.name, member.offset_start, member.offset_end + 1)
        with (
            Blob(LocalStore(source), blobpack.Index([longer])) as blob,
            pytest.raises(blobpack.BlobChangedError, match="the index is not this blob's"),
        ):
            blobpack.merge([blob], tmp_path / "o.tar")

    def test_a_target_that_is_a_source(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        before = source.read_bytes()
        (tmp_path / "link.tar").symlink_to(source)
        for target in (source, tmp_path / "link.tar"):
            with pytest.raises(blobpack.StorageError, match="a source is read from this file"):
                blobpack.merge([source], target)
        assert source.read_bytes() == before

    def test_a_compressed_target(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        with pytest.raises(ValueError, match="plain tars"):
            blobpack.merge([source], tmp_path / "o.tar.zst")

    def test_a_target_that_is_no_tar(self, tmp_path):
        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        (tmp_path / "notes").write_bytes(b"text")
        with pytest.raises(blobpack.StorageError, match="is no tar"):
            blobpack.merge([source], tmp_path / "notes")

    def test_a_source_cut_meanwhile_leaves_nothing(self, tmp_path, copying):
        source = pack_files(tmp_path / "a.tar", PAYLOADS | {"z": bytes(1 << 20)})
        with blobpack.open_blob(source) as blob:
            os.truncate(source, source.stat().st_size - 5000)
            with pytest.raises(blobpack.BlobChangedError, match=r"a\.tar"):
                blobpack.merge([blob], tmp_path / "o.tar")
        assert os.listdir(tmp_path) == ["a.tar"]

    def test_a_full_disk_leaves_nothing(self, tmp_path):
        import sys

        source = pack_files(tmp_path / "a.tar", PAYLOADS)
        code = (
            "import resource, signal, blobpack\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
            f"blobpack.merge([{str(source)!r}], {str(tmp_path / 'o.tar')!r})\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "StorageError" in done.stderr
        assert "File too large" in done.stderr
        assert os.listdir(tmp_path) == ["a.tar"]


def test_a_member_over_8_gib_keeps_its_size(tmp_path):
    """Sparse, so that it costs nothing: the kernel skips the hole, or copies it as zeros."""
    size = (8 << 30) + 5
    head = pax({"size": str(size)}) + header(b"huge.tif", size=0)
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(head)
        file.truncate(len(head) + size + -size % 512)
        file.seek(0, io.SEEK_END)
        file.write(header(b"last", 1) + b"x" + bytes(511 + 1024))
    index = blobpack.scan(tmp_path / "a.tar")
    assert [m.size for m in index] == [size, 1]
    with blobpack.open_blob(tmp_path / "a.tar", index) as blob:
        report = blobpack.subset(blob, tmp_path / "o.tar", ["last"])
    check(report, tmp_path / "o.tar", [("last", b"x")])
