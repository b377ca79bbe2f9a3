"""A blob holds what was asked for, the same bytes every time, and appears whole or not at all."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tars import need_tool

import blobpack

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(250)) * 4
GIF = b"GIF89a" + bytes(30)


def write_tree(folder, files):
    for name, payload in files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(payload)
    return folder


def contents(tar):
    with tarfile.open(tar) as archive:
        return {
            member.name: archive.extractfile(member).read() for member in archive if member.isfile()
        }


@pytest.fixture
def images(tmp_path):
    return write_tree(
        tmp_path / "imgs",
        {"b.jpg": JPEG, "a/2.png": PNG, "a/10.gif": GIF, "a.png": PNG * 40, "notes.txt": b"text"},
    )


class TestWhatIsPacked:
    def test_a_folder_becomes_a_tar_of_its_images_by_name(self, images, tmp_path):
        report = blobpack.pack(images, tmp_path / "out.tar")
        assert contents(tmp_path / "out.tar") == {
            "a.png": PNG * 40,
            "a/10.gif": GIF,
            "a/2.png": PNG,
            "b.jpg": JPEG,
        }
        assert list(report.index.names) == ["a.png", "a/10.gif", "a/2.png", "b.jpg"]
        assert report.skipped == {"not an image": 1}
        assert report.examples == {"not an image": ["notes.txt"]}
        assert report.members == 4
        assert report.payload_bytes == len(PNG * 40 + GIF + PNG + JPEG)
        assert report.blob_bytes == (tmp_path / "out.tar").stat().st_size

    def test_images_are_told_by_content_not_by_name(self, tmp_path):
        names = {
            "jpeg.txt": JPEG,
            "png": PNG,
            "webp": b"RIFF\0\0\0\0WEBPVP8 " + bytes(20),
            "bmp": b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(30),
            "tiff": b"II*\0" + bytes(20),
            "tiff_big_endian": b"MM\0*" + bytes(20),
            "avif": b"\0\0\0\x1cftypavif" + bytes(20),
            "heic": b"\0\0\0\x1cftypheic" + bytes(20),
            "jxl": b"\xff\x0a" + bytes(20),
            "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
            "ppm": b"P6\n1 1\n255\n123",
            "drawing.SVG": b"<svg/>",
        }
        others = {
            "fake.jpg": b"not a picture",
            "empty.png": b"",
            "movie.mp4": b"\0\0\0\x1cftypisom" + bytes(20),
            "sound.wav": b"RIFF\0\0\0\0WAVEfmt " + bytes(20),
            "BM.txt": b"BMW is a car, not a picture",
            "short": b"\xff\xd8",
        }
        write_tree(tmp_path / "in", names | others)
        report = blobpack.pack(tmp_path / "in", tmp_path / "out.tar")
        assert set(report.index.names) == names.keys()
        assert report.skipped == {"not an image": len(others)}

    def test_all_files_packs_empty_and_other_files_too(self, images, tmp_path):
        write_tree(images, {"empty": b""})
        blobpack.pack(images, tmp_path / "out.tar", all_files=True)
        found = contents(tmp_path / "out.tar")
        assert found["notes.txt"] == b"text"
        assert found["empty"] == b""

    def test_globs_and_exclude_choose_by_member_name(self, images, tmp_path):
        report = blobpack.pack(
            images, tmp_path / "o.tar", globs=["a/*", "*.jpg"], exclude=["*.gif"]
        )
        assert list(report.index.names) == ["a/2.png", "b.jpg"]
        assert report.skipped == {"filtered out": 3}

    def test_hidden_files_only_when_asked(self, images, tmp_path):
        write_tree(images, {".cache/x.png": PNG, "a/.y.png": PNG})
        report = blobpack.pack(images, tmp_path / "o.tar")
        assert report.skipped == {"hidden": 2, "not an image": 1}
        report = blobpack.pack(images, tmp_path / "o.tar", hidden=True)
        assert {".cache/x.png", "a/.y.png"} <= set(report.index.names)

    def test_symbolic_links_only_when_asked(self, images, tmp_path):
        write_tree(tmp_path / "elsewhere", {"z.png": PNG})
        (images / "link.png").symlink_to(images / "b.jpg")
        (images / "folder").symlink_to(tmp_path / "elsewhere")
        (images / "loop").symlink_to(images)
        report = blobpack.pack(images, tmp_path / "o.tar")
        assert report.skipped == {"symbolic links": 3, "not an image": 1}
        report = blobpack.pack(images, tmp_path / "o.tar", follow_symlinks=True)
        found = contents(tmp_path / "o.tar")
        assert found["link.png"] == JPEG
        assert found["folder/z.png"] == PNG
        assert report.skipped == {"a link to a folder above it": 1, "not an image": 1}

    def test_a_fifo_is_skipped_without_waiting_for_it(self, images, tmp_path):
        os.mkfifo(images / "pipe.png")
        assert blobpack.pack(images, tmp_path / "o.tar").skipped["not a plain file"] == 1

    def test_the_blob_is_never_packed_into_itself(self, images):
        out = images / "out.tar"
        first = blobpack.pack(images, out, all_files=True)
        again = blobpack.pack(images, out, all_files=True)
        assert "out.tar" not in first.index
        assert "out.tar" not in again.index
        assert again.skipped == {"the blob itself": 1}
        assert os.listdir(images).count("out.tar") == 1

    def test_the_blob_is_recognised_through_a_linked_folder(self, images, tmp_path):
        (tmp_path / "view").symlink_to(images)
        blobpack.pack(images, images / "out.tar", all_files=True)
        report = blobpack.pack(tmp_path / "view", images / "out.tar", all_files=True)
        assert report.skipped == {"the blob itself": 1}

    def test_the_blob_is_recognised_through_links_to_it(self, images, tmp_path):
        blobpack.pack(images, tmp_path / "out.tar")
        os.link(tmp_path / "out.tar", images / "hard.tar")
        (images / "soft.tar").symlink_to(tmp_path / "out.tar")
        report = blobpack.pack(images, tmp_path / "out.tar", all_files=True, follow_symlinks=True)
        assert report.skipped == {"the blob itself": 2}

    def test_payloads_are_measured_in_bytes(self, tmp_path):
        np = pytest.importorskip("numpy")
        payloads = [
            ("a", np.zeros((4, 100), np.uint16)),
            ("b", memoryview(b"12")),
            ("c", bytearray(3)),
        ]
        blobpack.pack(payloads, tmp_path / "o.tar", all_files=True)
        assert contents(tmp_path / "o.tar") == {"a": bytes(800), "b": b"12", "c": bytes(3)}
        with pytest.raises(TypeError):
            blobpack.pack([("a", "text")], tmp_path / "t.tar", all_files=True)

    def test_one_file_will_do(self, images, tmp_path, monkeypatch):
        monkeypatch.chdir(images)
        assert list(blobpack.pack("b.jpg", tmp_path / "o.tar").index.names) == ["b.jpg"]

    def test_the_blob_is_left_out_of_a_list_of_files_too(self, images, monkeypatch):
        monkeypatch.chdir(images)
        blobpack.pack(["b.jpg"], "out.tar")
        report = blobpack.pack(["b.jpg", "./out.tar"], "out.tar", all_files=True)
        assert list(report.index.names) == ["b.jpg"]
        assert report.skipped == {"the blob itself": 1}

    def test_a_list_of_files_keeps_their_paths_as_names(self, images, tmp_path, monkeypatch):
        monkeypatch.chdir(images)
        report = blobpack.pack(["b.jpg", "./a/2.png", images / "a.png"], tmp_path / "o.tar")
        assert sorted(report.index.names) == ["a.png", "a/2.png", "b.jpg"]
        assert contents(tmp_path / "o.tar")["a/2.png"] == PNG

    def test_an_empty_list_or_folder_makes_an_empty_tar_if_that_is_meant(self, tmp_path):
        (tmp_path / "none").mkdir()
        for i, source in enumerate(([], tmp_path / "none")):
            report = blobpack.pack(source, tmp_path / f"{i}.tar", index="none", allow_empty=True)
            assert report.members == 0
            assert (tmp_path / f"{i}.tar").read_bytes() == bytes(1024)

    def test_two_files_with_one_member_name_are_refused(self, images, tmp_path, monkeypatch):
        monkeypatch.chdir(images)
        with pytest.raises(
            blobpack.DuplicateNameError, match=r"'b\.jpg' and '\./b\.jpg'.*'b\.jpg'"
        ):
            blobpack.pack(["b.jpg", "./b.jpg"], tmp_path / "o.tar")
        assert not (tmp_path / "o.tar").exists()

    def test_names_and_payloads_keep_their_order(self, tmp_path):
        payloads = [("z.png", PNG), ("a.jpg", JPEG), ("n.txt", b"text")]
        report = blobpack.pack(iter(payloads), tmp_path / "o.tar")
        assert list(contents(tmp_path / "o.tar").items()) == payloads[:2]
        assert report.skipped == {"not an image": 1}
        assert report.index == blobpack.scan(tmp_path / "o.tar")

    def test_payloads_with_one_name_are_refused(self, tmp_path):
        with pytest.raises(blobpack.DuplicateNameError, match=r"'a\.png'"):
            blobpack.pack([("a.png", PNG), ("a.png", PNG)], tmp_path / "o.tar")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        "name", ["", "/a.png", "../a.png", "a/../b.png", "a/", "a\0b", "\ud800"]
    )
    def test_names_that_would_not_come_out_again_are_refused(self, name, tmp_path):
        with pytest.raises(blobpack.UnsafeNameError):
            blobpack.pack([(name, PNG)], tmp_path / "o.tar")
        assert os.listdir(tmp_path) == []


class TestTheBytes:
    def test_the_index_is_what_a_scan_finds(self, images, tmp_path):
        report = blobpack.pack(images, tmp_path / "o.tar")
        assert report.index == blobpack.scan(tmp_path / "o.tar")

    @pytest.mark.parametrize("threads", [1, 2, 3, 8])
    def test_any_number_of_threads_gives_the_same_bytes(self, threads, tmp_path):
        files = {
            f"d{i % 7}/{i:05}.png": PNG + bytes([i % 251]) * (i * 37 % 9000) for i in range(1500)
        }
        files |= {"huge.png": PNG + bytes(9_000_001), "d3/large.png": PNG + bytes(4_194_000)}
        write_tree(tmp_path / "in", files)
        report = blobpack.pack(tmp_path / "in", tmp_path / "o.tar", threads=threads)
        with tarfile.open(tmp_path / "judge.tar", "w", format=tarfile.USTAR_FORMAT) as judge:
            for name in sorted(files):
                member = tarfile.TarInfo(name)
                member.size = len(files[name])
                judge.addfile(member, io.BytesIO(files[name]))
        assert contents(tmp_path / "o.tar") == files
        assert blobpack.scan(tmp_path / "o.tar") == report.index
        assert report.index == blobpack.scan(tmp_path / "judge.tar")

    @pytest.mark.parametrize("extra", range(-3, 4))
    def test_sizes_around_the_buffer_come_out_whole(self, extra, tmp_path):
        files = {
            f"{base}.png": PNG + os.urandom(1024) * (base // 1024) + bytes(base % 1024 + 4 + extra)
            for base in (4 << 20, (4 << 20) - 512, (4 << 20) - 1024, (8 << 20) - 1024, 512, 1024)
        }
        write_tree(tmp_path / "in", files)
        blobpack.pack(tmp_path / "in", tmp_path / "o.tar", threads=2)
        assert contents(tmp_path / "o.tar") == files

    def test_nothing_of_the_machine_is_in_the_blob(self, images, tmp_path):
        blobpack.pack(images, tmp_path / "o.tar")
        for path in images.rglob("*.*"):
            os.chmod(path, 0o600)
            os.utime(path, (1, 10**9))
        blobpack.pack(images, tmp_path / "again.tar")
        assert (tmp_path / "o.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
        with tarfile.open(tmp_path / "o.tar") as archive:
            for member in archive:
                assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
                assert (member.uname, member.gname) == ("", "")

    def test_mtime_is_kept_in_whole_seconds_when_asked(self, images, tmp_path):
        os.utime(images / "b.jpg", ns=(0, 1_234_567_890_987_654_321))
        blobpack.pack(images, tmp_path / "o.tar", keep_mtime=True)
        with tarfile.open(tmp_path / "o.tar") as archive:
            assert archive.getmember("b.jpg").mtime == 1_234_567_890

    def test_a_name_that_fits_ustar_takes_512_bytes_of_header(self, tmp_path):
        names = ["a" * 100, "d" * 155 + "/" + "n" * 100, "x/" * 70 + "y" * 60]
        report = blobpack.pack([(name, PNG) for name in names], tmp_path / "o.tar")
        assert [start % 1024 for start in report.index.offset_start] == [512, 512, 512]
        assert contents(tmp_path / "o.tar").keys() == set(names)

    def test_other_names_take_a_pax_header(self, tmp_path):
        names = [
            "a" * 101,
            "d" * 156 + "/n",
            "é.png",
            "日本/🐈.png",
            "\udcff\udcfe.png",
            "n/" * 200 + "x",
        ]
        report = blobpack.pack([(name, PNG) for name in names], tmp_path / "o.tar")
        with tarfile.open(tmp_path / "o.tar") as archive:
            assert archive.getnames() == names
        assert list(report.index.names) == names
        assert blobpack.scan(tmp_path / "o.tar") == report.index

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(
            st.lists(
                st.binary(min_size=1, max_size=120).filter(
                    lambda part: (
                        b"/" not in part and b"\0" not in part and part not in (b".", b"..")
                    )
                ),
                min_size=1,
                max_size=4,
            ).map(b"/".join),
            st.binary(max_size=1500),
            max_size=8,
        )
    )
    def test_any_name_and_size_survives(self, tmp_path_factory, files):
        folder = tmp_path_factory.mktemp("any")
        payloads = [(os.fsdecode(name), payload) for name, payload in files.items()]
        report = blobpack.pack(payloads, folder / "o.tar", all_files=True, allow_empty=True)
        with blobpack.open_blob(folder / "o.tar") as blob:
            assert blob.index == report.index
            assert [(m.name, blob.read(m.name)) for m in blob.index] == payloads
        with tarfile.open(folder / "o.tar") as archive:
            assert [member.name for member in archive] == [name for name, _ in payloads]

    def test_a_name_in_any_encoding_comes_back_as_a_file(self, tmp_path):
        name = b"caf\xe9/\xff\xfe \n.png"
        write_tree(tmp_path / "in", {os.fsdecode(name): PNG})
        blobpack.pack(tmp_path / "in", tmp_path / "o.tar")
        with blobpack.open_blob(tmp_path / "o.tar") as blob:
            blobpack.extract(blob, tmp_path / "out")
        with open(os.path.join(os.fsencode(tmp_path / "out"), name), "rb") as file:
            assert file.read() == PNG

    @pytest.mark.parametrize("tool", ["tar", "bsdtar", "busybox"])
    def test_every_tar_tool_extracts_it(self, tool, tmp_path):
        need_tool(tool)
        files = {
            "plain.png": PNG,
            "a/" + "b" * 120 + ".png": JPEG,
            "ü/é.png": PNG,
            "e" * 90 + "/f": GIF,
        }
        write_tree(tmp_path / "in", files)
        blobpack.pack(tmp_path / "in", tmp_path / "o.tar")
        (tmp_path / "out").mkdir()
        command = [tool, *(["tar"] if tool == "busybox" else []), "xf", tmp_path / "o.tar"]
        command += ["-C", tmp_path / "out"]
        subprocess.run(command, check=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
        for name, payload in files.items():
            assert (tmp_path / "out" / name).read_bytes() == payload

    def test_a_size_beyond_eight_gib_goes_into_pax(self):
        from blobpack.tar.header import member_header

        header = member_header(b"huge.tif", 8 << 30)
        member = tarfile.TarInfo.frombuf(header[1024:], "utf-8", "surrogateescape")
        assert len(header) == 1536
        assert b"size=8589934592\n" in header
        assert member.name == "huge.tif"
        assert len(member_header(b"large.tif", (8 << 30) - 1)) == 512


class TestWholeOrNotAtAll:
    def test_a_dry_run_counts_and_writes_nothing(self, images, tmp_path):
        dry = blobpack.pack(images, tmp_path / "o.tar", dry_run=True)
        assert sorted(os.listdir(tmp_path)) == ["imgs"]
        real = blobpack.pack(images, tmp_path / "o.tar")
        assert (dry.members, dry.payload_bytes, dry.blob_bytes) == (
            real.members,
            real.payload_bytes,
            real.blob_bytes,
        )
        assert str(dry).startswith("would pack 4 members")

    def test_unreadable_files_are_listed_together(self, images, tmp_path):
        (images / "gone.png").symlink_to("nowhere")
        (images / "loop.png").symlink_to("loop.png")
        with pytest.raises(blobpack.SourceError) as caught:
            blobpack.pack(images, tmp_path / "o.tar", follow_symlinks=True)
        assert set(caught.value.paths) == {str(images / "gone.png"), str(images / "loop.png")}
        assert "2 files" in str(caught.value)
        assert sorted(os.listdir(tmp_path)) == ["imgs"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_files_we_may_not_read_are_named(self, images, tmp_path):
        (images / "secret").mkdir(mode=0o700)
        (images / "b.jpg").chmod(0o600)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and folder != folder.parent and "pytest" in str(folder):
                folder.chmod(0o777)
        os.seteuid(65534)
        try:
            with pytest.raises(blobpack.SourceError, match="secret: Permission denied"):
                blobpack.pack(images, tmp_path / "o.tar")
            with pytest.raises(blobpack.SourceError, match=r"b\.jpg: Permission denied"):
                blobpack.pack([images / "b.jpg"], tmp_path / "o.tar")
        finally:
            os.seteuid(0)
        assert sorted(os.listdir(tmp_path)) == ["imgs"]

    def test_a_missing_folder_is_an_error(self, tmp_path):
        with pytest.raises(blobpack.SourceError, match="no-such"):
            blobpack.pack(tmp_path / "no-such", tmp_path / "o.tar")

    def test_a_file_that_changes_meanwhile_is_named_and_the_old_blob_stays(self, images, tmp_path):
        (tmp_path / "o.tar").write_bytes(bytes(1024))
        changing = images / "z.png"
        changing.write_bytes(PNG + bytes(64 << 20))
        stop = threading.Event()

        def append():
            with open(changing, "ab", buffering=0) as file:
                while not stop.is_set():
                    file.write(b"x")

        thread = threading.Thread(target=append)
        thread.start()
        try:
            with pytest.raises(blobpack.SourceError, match=r"z\.png: changed while it was packed"):
                blobpack.pack(images, tmp_path / "o.tar")
        finally:
            stop.set()
            thread.join()
        assert (tmp_path / "o.tar").read_bytes() == bytes(1024)
        assert sorted(os.listdir(tmp_path)) == ["imgs", "o.tar"]

    def test_a_full_disk_leaves_nothing(self, images, tmp_path):
        code = (
            "import resource, signal, blobpack\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
            f"blobpack.pack({str(images)!r}, {str(tmp_path / 'o.tar')!r})\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "StorageError" in done.stderr
        assert "o.tar: can't be written: File too large" in done.stderr
        assert sorted(os.listdir(tmp_path)) == ["imgs"]

    def test_a_source_that_raises_leaves_nothing(self, tmp_path):
        def payloads():
            yield "a.png", PNG
            raise RuntimeError("the camera fell")

        with pytest.raises(RuntimeError, match="camera"):
            blobpack.pack(payloads(), tmp_path / "o.tar")
        assert os.listdir(tmp_path) == []

    def test_ctrl_c_stops_it_and_leaves_nothing(self, tmp_path):
        write_tree(tmp_path / "in", {f"{i}.png": PNG for i in range(10)})
        with open(tmp_path / "in" / "big.png", "wb") as file:
            file.write(PNG)
            file.truncate(1 << 40)
        code = (
            "import resource, signal\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 33, 1 << 33))  # if all else fails\n"
            f"import blobpack; blobpack.pack({str(tmp_path / 'in')!r}, {str(tmp_path / 'o.tar')!r})"
        )
        env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=env)
        deadline = time.monotonic() + 60
        while not any(name.endswith(".tmp") for name in os.listdir(tmp_path)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert b"KeyboardInterrupt" in errors
        assert sorted(os.listdir(tmp_path)) == ["in"]

    def test_a_file_that_is_no_tar_is_never_replaced(self, images, tmp_path):
        (images / "b.jpg").rename(images / "b")
        with pytest.raises(blobpack.StorageError, match="b: exists and is no tar"):
            blobpack.pack(images, images / "b")
        assert (images / "b").read_bytes() == JPEG

    @pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
    def test_a_tar_of_any_format_is_replaced(self, images, tmp_path, form):
        tar = need_tool("tar")
        command = [tar, f"--format={form}", "-cf", tmp_path / "o.tar", "-C", images, "b.jpg"]
        subprocess.run(command, check=True)
        assert blobpack.pack(images, tmp_path / "o.tar").members == 4

    def test_nothing_to_pack_replaces_nothing(self, images, tmp_path):
        blobpack.pack(images, tmp_path / "o.tar")
        before = (tmp_path / "o.tar").read_bytes()
        with pytest.raises(blobpack.SourceError, match="nothing to pack"):
            blobpack.pack(images, tmp_path / "o.tar", globs=["imgs/*"])
        assert (tmp_path / "o.tar").read_bytes() == before

    def test_the_permissions_of_a_replaced_blob_stay(self, images, tmp_path):
        blobpack.pack(images, tmp_path / "o.tar")
        (tmp_path / "o.tar").chmod(0o600)
        blobpack.pack(images, tmp_path / "o.tar")
        assert (tmp_path / "o.tar").stat().st_mode & 0o777 == 0o600

    def test_a_device_is_never_replaced(self, images):
        with pytest.raises(blobpack.StorageError, match="not a plain file"):
            blobpack.pack(images, "/dev/null")
        assert not os.path.isfile("/dev/null")

    def test_a_file_url_is_a_path_wherever_one_may_be(self, images, tmp_path):
        target = tmp_path / "o o.tar"
        assert blobpack.pack(images.as_uri(), target.as_uri(), index="sidecar").members == 4
        assert sorted(os.listdir(tmp_path)) == sorted([images.name, "o o.tar", "o o.tar.idx"])
        assert blobpack.merge([target.as_uri()], (tmp_path / "m.tar").as_uri()).members == 4
        assert (tmp_path / "m.tar").exists()

    def test_a_url_that_is_not_written_to_is_refused(self, images):
        with pytest.raises(ValueError, match="not gopher://"):
            blobpack.pack(images, "gopher://bucket/o.tar")
        with pytest.raises(ValueError, match="not gopher://"):
            blobpack.merge([], "gopher://bucket/o.tar")
        with pytest.raises(ValueError, match="such as s3://bucket/key, not 'http://host/o"):
            blobpack.pack(images, "http://host/o.tar")
        with pytest.raises(ValueError, match="such as s3://bucket/key, not 'http://host/o"):
            blobpack.merge([], "http://host/o.tar")

    def test_a_missing_target_folder_is_said(self, images, tmp_path):
        with pytest.raises(blobpack.StorageError, match="can't be written"):
            blobpack.pack(images, tmp_path / "no" / "o.tar")

    def test_a_linked_target_is_written_where_the_link_points(self, images, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "o.tar").symlink_to(tmp_path / "real" / "o.tar")
        blobpack.pack(images, tmp_path / "o.tar")
        assert (tmp_path / "o.tar").is_symlink()
        assert tarfile.is_tarfile(tmp_path / "real" / "o.tar")


def test_the_report_reads_well(images, tmp_path):
    text = str(blobpack.pack(images, tmp_path / "o.tar"))
    assert text.startswith("packed 4 members, ")
    assert text.splitlines()[1] == "skipped 1: not an image (notes.txt)"


def test_progress_is_told(images, tmp_path):
    calls = []
    blobpack.pack(
        images,
        tmp_path / "o.tar",
        index="none",
        progress=calls.append,
    )
    assert calls
    size = Path(tmp_path / "o.tar").stat().st_size
    assert calls[-1] == (5, size - 1024, 5, None)


def test_packing_local_files_imports_no_boto3(images, tmp_path):
    """boto3 takes about 0.1 s of processor time to import, longer than packing a small folder."""
    code = (
        "import sys, blobpack\n"
        f"blobpack.pack({str(images)!r}, {str(tmp_path / 'o.tar')!r})\n"
        "print(*sorted({'boto3', 'botocore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
