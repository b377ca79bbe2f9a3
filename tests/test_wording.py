"""Messages speak the reader's language, agree in number, give the next step, and say what was seen."""

import ast
import io
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image

import blobpack
from blobpack.cli.groups import all_commands
from blobpack.cli.main import as_option, main
from blobpack.stores.http.response import NO_ID, describe_attempts
from blobpack.tar.other_formats import other_format
from blobpack.wording import counted, setting, spelled_by, with_article

PACKAGE = Path(blobpack.__file__).parent
PROGRAM = str(Path(sys.executable).with_name("blobpack"))
SOURCES = sorted(PACKAGE.rglob("*.py"))
OPTIONS = {
    flag
    for command in all_commands(main).values()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for flag in parameter.opts
}


def settings_in(path: Path) -> list[tuple[str, object]]:
    return [
        (ast.literal_eval(node.args[0]), getattr(node.args[1], "value", None))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setting"
    ]


def test_every_argument_that_a_message_names_is_an_option_of_the_command_line():
    found = [pair for path in SOURCES for pair in settings_in(path)]
    assert len(found) >= 8
    for name, value in found:
        assert as_option(name, value).split()[0] in OPTIONS, name


def texts_in(tree: ast.AST) -> list[str]:
    """All strings; in an f-string, a dot stands for each value."""
    pieces = {
        id(piece)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for piece in ast.walk(node)
        if piece is not node
    }
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "." for part in node.values]
            texts.append("".join(parts))
        elif isinstance(node, ast.Constant) and id(node) not in pieces:
            texts.append(node.value if isinstance(node.value, str) else "")
    return texts


def test_no_message_of_the_library_names_an_option_or_spells_an_argument_itself():
    for path in SOURCES:
        if "cli" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        docstrings = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for text in texts_in(tree):
            if text in docstrings:
                continue
            # what only Python's caller meets: image modes, and misuse of arguments
            said = text.replace("read it with mode=None", "")
            # commands that a message recommends are written out, between backquotes
            said = re.sub(r"`blobpack [^`]*`", "", said)
            # the part of such a command that foreign/table.py passes to wording.remedy
            said = said.removeprefix("index --format .")
            assert not re.search(r"(^|\s)--[a-z]{3}", said), f"{path}: {text}"
            assert not re.search(r"\b[a-z_]+=(True|False|None|')", said), f"{path}: {text}"


def test_a_setting_is_spelled_for_its_reader():
    assert setting("force", True) == "force=True"
    assert setting("duplicates", "last") == "duplicates='last'"
    assert setting("allow", ...) == "allow=[…]"
    with spelled_by(as_option):
        assert setting("allow_empty", True) == "--allow-empty"
        assert setting("duplicates", "last") == "--duplicates last"
        assert setting("stale", "rescan") == "--rescan"
        assert setting("allow", ...) == "--allow"
    assert setting("force", True) == "force=True"


def png() -> bytes:
    image = io.BytesIO()
    Image.new("RGB", (2, 2)).save(image, "png")
    return image.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a.png").write_bytes(png())
    (tmp_path / "photo").write_bytes(png())
    (tmp_path / "empty").mkdir()
    blobpack.pack(tmp_path / "imgs", tmp_path / "out.tar")
    return tmp_path


def run(folder, *arguments, code=0):
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("pack empty new.tar", "--allow-empty writes an empty blob"),
        ("pack imgs photo", "--force replaces it"),
        ("subset out.tar new.tar --filter x*", "--allow-empty writes an empty blob"),
        ("append out.tar imgs", "with --duplicates last"),
        ("collect . -o c.idx", "--scan scans it now"),
    ],
)
def test_the_command_line_is_told_its_own_options(folder, command, said):
    if command.startswith("collect"):
        blobpack.pack(folder / "imgs", folder / "bare.tar", index="none")
    shown = run(folder, *command.split(), code=1)
    assert said in shown
    assert "=True" not in shown
    assert "='" not in shown


def test_a_stale_index_names_rescan(folder):
    blob = bytearray((folder / "out.tar").read_bytes())
    blob[1024] ^= 1
    (folder / "out.tar").write_bytes(blob)
    assert "open the blob with --rescan" in run(folder, "ls", "out.tar", code=1)
    with pytest.raises(blobpack.StaleIndexError, match="with stale='rescan'"):
        blobpack.open_blob(folder / "out.tar")


@pytest.mark.parametrize("command", ["merge out.tar new.tar", "collect . -o c.idx"])
def test_only_commands_that_can_rescan_name_the_option(folder, command):
    blob = bytearray((folder / "out.tar").read_bytes())
    blob[1024] ^= 1
    (folder / "out.tar").write_bytes(blob)
    said = run(folder, *command.split(), code=1)
    assert "make it again with `blobpack index`" in said
    assert "--rescan" not in said
    assert "stale=" not in said


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("ls out.tar --media-type foo", 2, "Error: --media-type must be or match one of"),
        ("ls out.tar --index-file all.idx", 1, "not the index of one blob: open the collection"),
        ("offsets . -o o.pkl", 2, "Error: -o o.pkl: an offsets file"),
        ("offsets . -o -", 2, "Error: an offsets file"),
        ("pack imgs/a.png new.tar --strip 2", 1, "has no name left: --strip 2 removes all"),
        ("append out.tar imgs --drop acl", 2, "--drop needs a blob in S3"),
        ("ls out.tar --allow x", 2, "--allow needs a collection"),
        ("ls none.idx", 1, "Error: none.idx: there is no collection\n"),
        ("merge all.idx new.tar", 0, "copied 1 member"),
        ("collect all.idx -o b.idx", 1, "not a blob: this is a collection of several blobs"),
    ],
)
def test_messages_of_the_command_line_are_its_own(folder, command, code, said):
    blobpack.collect(folder / "out.tar", folder / "all.idx")
    blobpack.scan(folder / "out.tar").save(folder / "out.idx")
    assert said in run(folder, *command.split(), code=code)


def test_python_is_told_the_next_step(folder, monkeypatch):
    monkeypatch.chdir(folder)
    index = blobpack.scan("out.tar")
    with pytest.raises(
        blobpack.StorageError, match=r"^imgs is a folder, not a blob: blobpack.open"
    ):
        blobpack.open_blob("imgs")
    with pytest.raises(blobpack.StorageError, match=r"^imgs is a folder.* belongs to one blob$"):
        blobpack.open("imgs", index)
    with pytest.raises(blobpack.BlobNotFoundError, match=r"^none.idx: there is no collection$"):
        blobpack.open("none.idx")
    with pytest.raises(blobpack.BlobNotFoundError, match="`blobpack collect empty` makes one"):
        blobpack.open_collection("empty")
    with pytest.raises(TypeError) as caught:
        blobpack.merge("new.tar", ["out.tar"])
    assert str(caught.value).count("sources comes before target") == 1
    assert "the sources first" not in str(caught.value)
    with pytest.raises(
        ValueError, match=r"^members can't be combined with an Index: pass index.sel"
    ):
        blobpack.write_offsets(index, "o.pkl", members=["a.png"])
    with (
        blobpack.open("out.tar") as blob,
        pytest.raises(ValueError, match=r"^concatenated=True needs"),
    ):
        blobpack.merge([blob], "new.tar", concatenated=True)


def test_one_is_not_many(folder):
    assert "packed 1 member, " in run(folder, "pack", "imgs", "new.tar")
    assert "kept 1 of 1 member:" in run(folder, "offsets", "out.tar")
    assert "extracted 1 member, " in run(folder, "extract", "out.tar", "into")
    assert ": 1 member, structure" in run(folder, "verify", "out.tar")
    assert "appended 1 member, " in run(folder, "append", "out.tar", "imgs", "--duplicates", "last")
    assert "indexed 2 members" in run(folder, "index", "out.tar")
    with blobpack.open_blob(folder / "new.tar") as blob:
        assert "1 member" in repr(blob)
        assert "<Index of 1 member: " in repr(blob.index)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 boxes"), (1, "1 box"), (2, "2 boxes"), (1000, "1,000 boxes")]
)
def test_counted(count, shown):
    assert counted(count, "box", "boxes") == shown
    assert counted(count, "pen") == shown.replace("boxes", "pens").replace("box", "pen")


def test_with_article():
    nouns = ["index", "tar", "SVG", "JPEG", "AVIF", "offsets file"]
    assert list(map(with_article, nouns)) == [
        *("an index", "a tar", "an SVG", "a JPEG", "an AVIF", "an offsets file")
    ]


IMAGES = {
    "JPEG": "a JPEG image",
    "PNG": "a PNG image",
    "GIF": "a GIF image",
    "WEBP": "a WebP image",
    "TIFF": "a TIFF image",
    "BMP": "a BMP image",
    "AVIF": "an AVIF image",
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_opened_as_a_blob_is_named(tmp_path, kind):
    path = tmp_path / "photo"
    Image.new("RGB", (40, 30)).save(path, kind)
    with pytest.raises(blobpack.FormatError) as caught:
        blobpack.scan(path)
    assert str(caught.value).startswith(f"{path}: {IMAGES[kind]}, not a tar")
    assert caught.value.offset == 0
    assert f"photo: {IMAGES[kind]}, not a tar, at byte 0: `blobpack pack`" in run(
        tmp_path, "ls", "photo", code=1
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"<!DOCTYPE html><html><body>Log in",
            "an HTML page, not a tar, at byte 0: the server may",
        ),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML document, not a tar"),
        (b"PAR1" + bytes(100), "a Parquet file, not a tar, at byte 0"),
        (b"%PDF-1.7\n", "a PDF document, not a tar"),
        (b"cats/1.jpg,512,900\n", "a text file, not a tar, at byte 0"),
        (("ü" * 200 + "\n").encode(), "a text file, not a tar"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS, not a tar, at byte 0: `git",
        ),
        (b"a.jpg\0", "no tar header here"),
    ],
)
def test_other_files_are_named(tmp_path, content, said):
    path = tmp_path / "file"
    path.write_bytes(content + b" " * 600)
    with pytest.raises(blobpack.FormatError, match=re.escape(said)):
        blobpack.scan(path)


@pytest.mark.parametrize("content", [b"cats/1.j", b"h\0i\n", b"\xfe\n"])
def test_a_start_of_a_header_is_no_text(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(blobpack.TruncatedError, match="the blob ends inside a header, at byte 0"):
        blobpack.scan(path)


def test_a_short_text_is_named(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"name,size\n")
    with pytest.raises(blobpack.FormatError, match="a text file, not a tar, at byte 0"):
        blobpack.scan(path)


def test_our_own_files_are_named(folder):
    blobpack.write_offsets(blobpack.scan(folder / "out.tar"), folder / "o.pkl")
    blobpack.scan(folder / "out.tar").save(folder / "o.idx")
    with pytest.raises(blobpack.FormatError, match="a pickle, perhaps an offsets file, not a tar"):
        blobpack.scan(folder / "o.pkl")
    with pytest.raises(blobpack.FormatError, match="an index or a collection, not a tar"):
        blobpack.scan(folder / "o.idx")


def test_the_first_bytes_of_a_tar_are_no_other_format():
    assert other_format(b"cats/1.jpg" + bytes(500)) is None
    assert other_format(b"") is None


def test_messages_give_the_next_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Path("shards").mkdir()
    blobpack.pack({"a.png": b"1"}, "shards/0.tar", all_files=True)
    with pytest.raises(blobpack.BlobNotFoundError, match=r"`blobpack pack images OUT.tar` makes"):
        blobpack.open("images")
    with pytest.raises(blobpack.FormatError, match=r"it is a blob, which open_blob"):
        blobpack.open_collection("shards/0.tar")
    with pytest.raises(blobpack.DuplicateNameError, match=r"duplicates='last' keeps the last one$"):
        blobpack.merge(["shards/0.tar", "shards"], "m.tar")
    with pytest.raises(
        blobpack.DuplicateNameError, match=r"^shards/0.tar: there is .* duplicates='last'"
    ):
        blobpack.append("shards/0.tar", {"a.png": b"2"}, all_files=True)
    blobpack.pack({"a.png": b"1"}, "shards/1.tar", all_files=True)
    with pytest.raises(blobpack.DuplicateNameError, match=r"duplicates='last' finds the last one$"):
        blobpack.open("shards")
    with blobpack.open_blob("shards/0.tar") as blob, pytest.raises(TypeError) as caught:
        blob.index.rows("a.png")
    assert str(caught.value).endswith("not one: put it into a list, ['a.png']")


def test_no_id_of_a_request_is_named_if_there_is_none():
    assert describe_attempts(1, NO_ID) == "after 1 attempt"
    assert describe_attempts(2, "x1") == "after 2 attempts, request x1"
