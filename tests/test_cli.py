"""Commands parse, call the library, and print: results to stdout, the rest to stderr; exit 0, 1 or 2."""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import blobpack
from blobpack.cli.groups import all_commands
from blobpack.cli.main import main

COMMAND = Path(sys.executable).with_name("blobpack")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
JPEG = b"\xff\xd8\xff\xe0" + bytes(1000)
FILES = {
    "a/1.png": PNG,
    "a/2.jpg": JPEG,
    "b/1.png": PNG,
    "c.jpg": JPEG + b"x",
    "notes.txt": b"hello",
}


def run(*arguments, cwd=None, code=0, stdin=b""):
    done = subprocess.run(
        [COMMAND, *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd, check=False
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout, done.stderr.decode()


@pytest.fixture
def folder(tmp_path):
    for name, payload in FILES.items():
        (tmp_path / "imgs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "imgs" / name).write_bytes(payload)
    return tmp_path


@pytest.fixture
def packed(folder):
    run("pack", "imgs", "out.tar", cwd=folder)
    return folder


def test_pack_prints_its_report(folder):
    out, err = run("pack", "imgs/", "out.tar", cwd=folder)
    lines = out.decode().splitlines()
    assert lines[0].startswith("packed 4 members, 2,145 bytes, into ")
    assert lines[1:] == ["skipped 1: not an image (notes.txt)"]
    assert err == ""
    with tarfile.open(folder / "out.tar") as tar:
        assert tar.getnames() == ["a/1.png", "a/2.jpg", "b/1.png", "c.jpg"]


def test_pack_options(folder):
    out, _ = run(
        "pack",
        "imgs",
        "o.tar",
        "--all",
        "--filter",
        "*.txt",
        "--filter",
        "a/*",
        "--exclude",
        "*.jpg",
        "--json",
        cwd=folder,
    )
    report = json.loads(out)
    assert report["members"] == 2
    assert report["skipped"] == {"filtered out": 3}
    out, _ = run("pack", "imgs", "dry.tar", "--dry-run", cwd=folder)
    assert out.startswith(b"would pack 4 members")
    assert not (folder / "dry.tar").exists()


def test_pack_takes_files(folder):
    run("pack", "imgs/c.jpg", "imgs/a/1.png", "o.tar", cwd=folder)
    assert list(blobpack.scan(folder / "o.tar").names) == ["imgs/a/1.png", "imgs/c.jpg"]


def test_offsets_writes_beside_the_blob(packed):
    out, err = run("offsets", "out.tar", "--filter", "*.jpg", cwd=packed)
    assert out == b"kept 2 of 4 members: out_offsets.pkl\n"
    assert err == ""
    assert list(blobpack.read_offsets(packed / "out_offsets.pkl").names) == ["a/2.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--filter", "a/*", "--filter", "c*"], ["a/1.png", "a/2.jpg", "c.jpg"]),
        (["--exclude", "*.png"], ["a/2.jpg", "c.jpg"]),
        (["--regex", r"^[ab]/1"], ["a/1.png", "b/1.png"]),
        (["--min-size", "100"], ["a/2.jpg", "c.jpg"]),
        (["--max-size", "1004"], ["a/1.png", "a/2.jpg", "b/1.png"]),
        (["--filter", "*.jpg", "--min-size", "1005"], ["c.jpg"]),
    ],
)
def test_offsets_selects(packed, options, kept):
    run("offsets", "out.tar", "-o", "x.pkl", *options, cwd=packed)
    assert list(blobpack.read_offsets(packed / "x.pkl").names) == kept


def test_offsets_takes_names_from_a_file(packed):
    (packed / "names").write_text("c.jpg\nmissing.jpg\na/1.png\n")
    out, err = run("offsets", "out.tar", "--names-from", "names", cwd=packed)
    assert out == b"kept 2 of 4 members: out_offsets.pkl\n"
    assert err == "1 of 3 names is not in the blob: 'missing.jpg' …\n"
    out, _ = run("offsets", "out.tar", "--names-from", "-", cwd=packed, stdin=b"b/1.png\n")
    assert out.startswith(b"kept 1 of 4 members")


def test_offsets_of_nothing_are_an_empty_file_and_no_error(packed):
    out, _ = run("offsets", "out.tar", "--filter", "*.webp", cwd=packed)
    assert out == b"kept none of 4 members: out_offsets.pkl\n"
    assert (packed / "out_offsets.pkl").read_bytes() == b""


def test_offsets_by_basename_refuse_two_of_one_name(packed):
    _, err = run("offsets", "out.tar", "--names", "basename", cwd=packed, code=1)
    assert err == "Error: 'a/1.png' and 'b/1.png' have the same basename\n"
    assert not (packed / "out_offsets.pkl").exists()
    run("offsets", "out.tar", "--names", "basename", "--exclude", "b/*", cwd=packed)
    assert list(blobpack.read_offsets(packed / "out_offsets.pkl").names) == [
        "1.png",
        "2.jpg",
        "c.jpg",
    ]


def test_offsets_go_to_stdout(packed):
    out, err = run("offsets", "out.tar", "-o", "-", cwd=packed)
    (packed / "x.pkl").write_bytes(out)
    assert blobpack.read_offsets(packed / "x.pkl") == blobpack.scan(packed / "out.tar")
    assert err == "kept 4 of 4 members: stdout\n"


def test_offsets_in_other_formats(packed):
    index = blobpack.scan(packed / "out.tar")
    bare = [[m.name, m.offset_start, m.offset_end] for m in index]
    fields = ["name", "offset_start", "offset_end"]
    out, _ = run("offsets", "out.tar", "--rescan", "--format", "csv", "-o", "-", cwd=packed)
    assert list(csv.reader(io.StringIO(out.decode()))) == [
        fields,
        *[[*map(str, row)] for row in bare],
    ]
    run("offsets", "out.tar", "--rescan", "--format", "jsonl", cwd=packed)
    lines = (packed / "out_offsets.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        dict(zip(fields, row, strict=True)) for row in bare
    ]
    run("offsets", "out.tar", "-o", "facts.jsonl", cwd=packed)  # of the index that pack embedded
    with blobpack.open_blob(packed / "out.tar") as blob:
        members = list(blob.index)
    lines = (packed / "facts.jsonl").read_text().splitlines()
    assert [blobpack.Member(**json.loads(line)) for line in lines] == members
    assert all(member.crc32c is not None for member in members)


def test_offsets_count_what_has_none(packed):
    with tarfile.open(packed / "links.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "nowhere"
        tar.addfile(link)
    _, err = run("offsets", "links.tar", cwd=packed)
    assert err == "without offsets: 1 symbolic link\n"


def test_ls_lists_names_and_json(packed):
    out, _ = run("ls", "out.tar", cwd=packed)
    assert out == b"a/1.png\na/2.jpg\nb/1.png\nc.jpg\n"
    out, _ = run("ls", "out.tar", "-0", "--filter", "a/*", cwd=packed)
    assert out == b"a/1.png\0a/2.jpg\0"
    out, _ = run("ls", "out.tar", "--json", "--filter", "c*", cwd=packed)
    assert (
        json.loads(out).items()
        >= {
            "name": "c.jpg",
            "size": 1005,
            "offset_start": 4096,
            "offset_end": 5101,
        }.items()
    )


def test_cat_writes_payloads(packed):
    out, _ = run("cat", "out.tar", "a/2.jpg", "a/1.png", cwd=packed)
    assert out == JPEG + PNG
    run("offsets", "out.tar", cwd=packed)
    out, _ = run("cat", "out.tar", "c.jpg", "--index-file", "out_offsets.pkl", cwd=packed)
    assert out == JPEG + b"x"
    _, err = run("cat", "out.tar", "2.jpg", cwd=packed, code=1)
    assert err == "Error: out.tar: no member '2.jpg' among 4 members; near it: 'a/2.jpg'\n"


def test_extract_writes_files(packed):
    out, _ = run("extract", "out.tar", "new", "--filter", "a/*", cwd=packed)
    assert out == b"extracted 2 members, 1,072 bytes, to new\n"
    assert (packed / "new" / "a" / "2.jpg").read_bytes() == JPEG
    assert not (packed / "new" / "c.jpg").exists()


def test_info_describes_the_blob(packed):
    out, _ = run("info", "out.tar", cwd=packed)
    assert "members:            4" in out.decode().splitlines()
    out, _ = run("info", "out.tar", "--json", cwd=packed)
    described = json.loads(out)
    assert described["payload_bytes"] == 2145
    assert described["end_marker"] == "whole"
    assert described["after_the_end"] == 0


def test_append_adds_members(packed):
    (packed / "more" / "d").mkdir(parents=True)
    (packed / "more" / "d" / "new.png").write_bytes(PNG)
    (packed / "more" / "notes.txt").write_bytes(b"text")
    out, err = run("append", "out.tar", "more", cwd=packed)
    assert out.startswith(b"appended 1 member, 68 bytes, in ")
    assert b"the blob has 5 members" in out
    assert out.endswith(b"skipped 1: not an image (notes.txt)\n")
    assert err == ""
    out, _ = run("ls", "out.tar", cwd=packed)
    assert out.split()[-1] == b"d/new.png"
    _, err = run("append", "out.tar", "more", cwd=packed, code=1)
    assert "out.tar: there is a member 'd/new.png' already" in err
    options = ["--json", "--all", "--filter", "*.txt", "--no-facts"]
    out, _ = run("append", "out.tar", "more", *options, cwd=packed)
    report = json.loads(out)
    assert (report["appended"], report["members"], report["index_place"]) == (1, 6, "embed")
    out, _ = run("append", "out.tar", "more", "--duplicates", "last", cwd=packed)
    assert b"the blob has 7 members" in out
    _, err = run("append", "out.tar", "out.tar", cwd=packed, code=2)
    assert "out.tar is among the files to append" in err


def test_subset_and_merge(packed):
    out, err = run("subset", "out.tar", "a.tar", "--filter", "a/*", cwd=packed)
    assert out.startswith(b"copied 2 members, 1,072 bytes, into ")
    assert err == ""
    out, _ = run("subset", "out.tar", "b.tar", "--exclude", "a/*", "--json", cwd=packed)
    assert json.loads(out)["members"] == 2
    out, _ = run("merge", "b.tar", "a.tar", "all.tar", "--json", cwd=packed)
    report = json.loads(out)
    assert (report["members"], report["payload_bytes"], report["left_out"]) == (4, 2145, {})
    out, err = run("ls", "all.tar", cwd=packed)
    assert (out.split(), err) == ([b"b/1.png", b"c.jpg", b"a/1.png", b"a/2.jpg"], "")
    _, err = run("merge", "a.tar", "a.tar", "m.tar", cwd=packed, code=1)
    assert err == (
        "Error: member 'a/1.png' is in a.tar and in a.tar; --duplicates last keeps the last one\n"
    )
    out, _ = run("merge", "a.tar", "a.tar", "m.tar", "--duplicates", "last", cwd=packed)
    assert out.endswith(b"replaced by later members of the same name: 2\n")
    run("merge", "a.tar", "b.tar", "m.tar", "--index", "sidecar", cwd=packed)
    assert (packed / "m.tar.idx").exists()


def test_a_forgotten_output_of_merge_destroys_nothing(packed):
    before = (packed / "out.tar").read_bytes()
    run("subset", "out.tar", "a.tar", "--filter", "a/*", cwd=packed)
    _, err = run("merge", "a.tar", "out.tar", cwd=packed, code=2)
    assert "OUT comes last" in err
    _, err = run("merge", "a.tar", "out.tar", "out.tar", cwd=packed, code=1)
    assert err == "Error: out.tar: can't be written, because a source is read from this file\n"
    _, err = run("subset", "out.tar", "out.tar", cwd=packed, code=1)
    assert (packed / "out.tar").read_bytes() == before


def test_a_blobpack_error_is_one_line_and_exit_1(packed):
    (packed / "bad.tar").write_bytes(b"\x1f\x8b" + bytes(1000))
    _, err = run("ls", "bad.tar", cwd=packed, code=1)
    assert err.startswith("Error: bad.tar: one gzip stream")
    assert err.count("\n") == 1
    _, err = run("info", "none.tar", cwd=packed, code=1)
    assert err == "Error: none.tar: no such file\n"


def test_a_forgotten_output_destroys_nothing(packed):
    _, err = run("pack", "imgs/a/2.jpg", "imgs/c.jpg", cwd=packed, code=2)
    assert "ends in .jpg, but a tar is written" in err
    assert (packed / "imgs" / "c.jpg").read_bytes() == JPEG + b"x"
    _, err = run("pack", "out.tar", "out.tar", cwd=packed, code=2)
    assert "out.tar is among the files to pack" in err
    _, err = run("offsets", "out.tar", "-o", "out.tar", cwd=packed, code=2)
    assert "out.tar is the blob itself" in err
    assert len(blobpack.scan(packed / "out.tar")) == 4


def test_wrong_usage_is_exit_2(packed):
    _, err = run("ls", "out.tar", "--regex", "[", cwd=packed, code=2)
    assert "unterminated character set" in err
    _, err = run("ls", "file://elsewhere/x.tar", cwd=packed, code=2)
    assert "on another host" in err
    run("pack", "imgs", cwd=packed, code=2)
    run("offsets", "out.tar", "--format", "xml", cwd=packed, code=2)
    _, err = run("ls", "gopher://host/x.tar", cwd=packed, code=2)
    assert "not gopher://" in err
    run("extract", "out.tar", "s3://", cwd=packed, code=2)
    for command in (
        ["pack", "imgs", "gopher://bucket/x.tar"],
        ["merge", "out.tar", "gopher://bucket/x.tar"],
        ["repack", "out.tar", "gopher://bucket/x.tar"],
        ["subset", "out.tar", "gopher://bucket/x.tar"],
        ["index", "out.tar", "-o", "gopher://bucket/x.idx"],
        ["ls", "out.tar", "--index-file", "gopher://bucket/x.idx"],
        ["append", "gopher://bucket/x.tar", "imgs"],
    ):
        _, err = run(*command, cwd=packed, code=2)
        assert "not gopher://" in err
    _, err = run("pack", "s3://", "x.tar", cwd=packed, code=2)
    assert "'s3://' is not s3://bucket/key" in err
    before = sorted(os.listdir(packed))
    for arguments, said in (
        (
            ("pack", "imgs", "https://host/out.tar"),
            "neither a local path nor a URL that can be written to",
        ),
        (
            ("append", "https://host/out.tar", "imgs"),
            "neither a local path nor a URL that can be written to",
        ),
        (
            ("repack", "out.tar", "https://host/out.tar"),
            "neither a local path nor a URL that can be written to",
        ),
        (
            ("index", "out.tar", "-o", "https://host/out.idx"),
            "neither a local path nor a URL that can be written to",
        ),
        (
            ("collect", "out.tar", "-o", "https://host/all.idx"),
            "neither a local path nor a URL that can be written to",
        ),
        (("merge", "out.tar", "all.tar.zst"), "this writes plain tars"),
        (("subset", "out.tar", "some.tzst"), "this writes plain tars"),
        (("cat", "out.tar", "c.jpg", "--cache", "s3://bucket/x"), "this takes a local path"),
        (("cat", "out.tar", "c.jpg", "--index-file", "gopher://host/x.idx"), "not gopher://"),
        (("append", "out.tar", "imgs", "--duplicates", "first"), "'refuse', 'last'"),
    ):
        _, err = run(*arguments, cwd=packed, code=2)
        assert said in err, arguments
    assert sorted(os.listdir(packed)) == before


def test_no_progress_where_there_is_no_terminal(packed):
    _, err = run("extract", "out.tar", "new", cwd=packed)
    assert err == ""


def test_a_target_that_cannot_be_written_is_one_line(packed):
    _, err = run("extract", "out.tar", "imgs/c.jpg", cwd=packed, code=2)
    _, err = run("extract", "out.tar", "/proc/nowhere/x", cwd=packed, code=1)
    assert err.count("\n") == 1
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [COMMAND, "ls", packed / "out.tar"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_names_that_are_not_utf8_pass_through(tmp_path, monkeypatch, errors):
    monkeypatch.setenv("PYTHONIOENCODING", f"utf-8:{errors}")
    (tmp_path / "in").mkdir()
    name = b"caf\xe9.png"
    with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as file:
        file.write(PNG)
    with open(os.path.join(os.fsencode(tmp_path / "in"), b"\xff.txt"), "wb") as file:
        file.write(b"text")
    out, _ = run("pack", "in", "o.tar", cwd=tmp_path)
    assert out.endswith(b"not an image (''$'\\377''.txt')\n")
    out, _ = run("ls", "o.tar", cwd=tmp_path)
    assert out == name + b"\n"
    out, _ = run("cat", "o.tar", os.fsdecode(name), cwd=tmp_path)
    assert out == PNG


def test_every_command_has_help_with_an_example():
    out, _ = run("--help")
    commands = sorted(main.commands)
    assert set(commands) >= {"cat", "extract", "index", "info", "ls", "offsets", "pack"}
    assert all(f"\n  {command} " in out.decode() for command in commands)
    for command in [*commands, *all_commands(main)]:
        out, _ = run(*command.split(), "--help")
        assert f"\n  blobpack {command} " in out.decode()
        assert "\\b" not in out.decode()


def test_version():
    out, _ = run("--version")
    assert out.startswith(b"blobpack 0.")


def test_offsets_of_a_blob_far_away_replace_no_file_here(packed, s3_env):
    url = s3_env.put(s3_env.new_bucket(), "out.tar", (packed / "out.tar").read_bytes())
    out, _ = run("offsets", url, cwd=packed)
    assert out == b"kept 4 of 4 members: out_offsets.pkl\n"
    made = (packed / "out_offsets.pkl").read_bytes()
    _, err = run("offsets", url, "--filter", "*.png", cwd=packed, code=2)
    assert (
        "out_offsets.pkl may belong to another blob, and is not replaced: name a file with -o"
        in err
    )
    assert (packed / "out_offsets.pkl").read_bytes() == made
