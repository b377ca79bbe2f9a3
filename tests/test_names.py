"""Names of one normal form are one file: the normal form, and every place that compares names."""

import posixpath
import tarfile
import tempfile
from array import array
from io import BytesIO
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings, strategies as st

import blobpack
from blobpack._native.packed import normal_name, normal_names
from blobpack.indexfile.writer import write_sections
from blobpack.stores.sink import FileSink

# every kind of part that a path has, "..", and bytes that are not UTF-8
PATHS = st.lists(st.sampled_from(["", ".", "...", "a", "b.c", ".d", "é", "\udcff"])).map("/".join)


def pack(names):
    packed = [name.encode("utf-8", "surrogateescape") for name in names]
    bounds = array("q", [0])
    for name in packed:
        bounds.append(bounds[-1] + len(name))
    return b"".join(packed), bounds


def unpack(names, bounds):
    return [
        bytes(names[start:end]).decode("utf-8", "surrogateescape")
        for start, end in pairwise(bounds)
    ]


@given(PATHS)
def test_the_normal_form_is_the_path_below_the_target_folder(name):
    below = posixpath.normpath(f"/{name}").lstrip("/")
    assert normal_name(name) == below
    assert normal_name(below) == below


@given(PATHS, PATHS)
def test_a_part_that_leads_upwards_stays(one, other):
    inside = [part for part in (normal_name(one), "..", normal_name(other)) if part]
    assert normal_name(f"{one}/../{other}") == "/".join(inside)


@given(st.lists(PATHS))
def test_columns_of_names_get_the_normal_form_of_each_name(names):
    assert unpack(*normal_names(*pack(names))) == list(map(normal_name, names))


def test_columns_of_normal_names_are_not_copied():
    names, bounds = pack(["a", "b/c", "", "...", "x/.y"])
    assert all(
        new is old for new, old in zip(normal_names(names, bounds), (names, bounds), strict=True)
    )


# Spellings of one file: the parts that lead nowhere stand in front, in between and behind.
SPELLINGS = ["d/a.txt", "./d/a.txt", "d//a.txt", "d/./a.txt", ".//./d/.//a.txt"]
PAIRS = [pair for pair in permutations(SPELLINGS, 2) if "./d/a.txt" in pair]
# such as a foreign tar may hold, and pack refuses
FOREIGN = [*SPELLINGS, "/d/a.txt", "//d/a.txt", "./d/a.txt/", "d/a.txt/."]
FOREIGN_PAIRS = [pair for pair in permutations(FOREIGN, 2) if "d//a.txt" in pair]


def write_tar(path, files):
    """Write a tar as tools do that keep names as they are."""
    with tarfile.open(path, "w") as tar:
        for name, payload in files:
            member = tarfile.TarInfo()
            member.name, member.size = name, len(payload)
            tar.addfile(member, BytesIO(payload))
    return path


@pytest.mark.parametrize(("one", "other"), FOREIGN_PAIRS)
def test_merge_takes_names_of_one_file_for_one_name(one, other, tmp_path):
    a = write_tar(tmp_path / "a.tar", [(one, b"1"), ("x", b"x")])
    b = write_tar(tmp_path / "b.tar", [(other, b"2"), ("./y", b"y")])
    with pytest.raises(blobpack.DuplicateNameError) as caught:
        blobpack.merge([a, b], tmp_path / "o.tar")
    assert all(word in str(caught.value) for word in (repr(one), repr(other), "a.tar", "b.tar"))
    assert not (tmp_path / "o.tar").exists()
    report = blobpack.merge([a, b], tmp_path / "o.tar", duplicates="last")
    assert (list(report.index.names), report.replaced) == (["x", other, "./y"], 1)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_append_takes_names_of_one_file_for_one_name(one, other, tmp_path):
    blob = write_tar(tmp_path / "a.tar", [("x", b"x"), (one, b"1")])
    before = blob.read_bytes()
    with pytest.raises(blobpack.DuplicateNameError) as caught:
        blobpack.append(blob, [(other, b"2")], all_files=True)
    assert repr(one) in str(caught.value)
    assert repr(other) in str(caught.value)
    assert blob.read_bytes() == before
    blobpack.append(blob, [(other, b"2")], all_files=True, duplicates="last")
    with blobpack.open_blob(blob) as opened:
        assert blobpack.extract(opened, tmp_path / "out").members == 2
    assert (tmp_path / "out/d/a.txt").read_bytes() == b"2"


@pytest.mark.parametrize("one", FOREIGN)
def test_append_of_a_folder_takes_names_of_one_file_for_one_name(one, tmp_path):
    blob = write_tar(tmp_path / "a.tar", [(one, b"1")])
    (tmp_path / "in/d").mkdir(parents=True)
    (tmp_path / "in/d/a.txt").write_bytes(b"2")
    with pytest.raises(blobpack.DuplicateNameError, match=r"'d/a\.txt'"):
        blobpack.append(blob, tmp_path / "in", all_files=True)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_pack_takes_names_of_one_file_for_one_name(one, other, tmp_path):
    files = [(one, b"1"), ("x", b"x" * 3000), (other, b"2")]
    with pytest.raises(blobpack.DuplicateNameError, match=r"member 'd/a\.txt'"):
        blobpack.pack(files, tmp_path / "o.tar", all_files=True)
    with pytest.raises(blobpack.DuplicateNameError, match=r"member '\.?/*d"):
        blobpack.pack_shards(files, tmp_path / "o", shard_bytes=1 << 20, all_files=True)
    assert not (tmp_path / "o.tar").exists()
    assert list(tmp_path.rglob("*.tar")) == []


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_manifest_takes_names_of_one_file_for_one_name(one, other, tmp_path):
    lines = tmp_path / "l.csv"
    lines.write_text(f"path,name\nfirst,{one}\nsecond,{other}\n")
    with pytest.raises(blobpack.DuplicateNameError, match=r"would both be member 'd/a\.txt'"):
        blobpack.read_manifest(lines)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_repack_takes_names_of_one_file_for_one_name(one, other, tmp_path):
    source = write_tar(tmp_path / "a.tar", [(one, b"1"), (other, b"2")])
    with pytest.raises(blobpack.DuplicateNameError, match=r"member 'd/a\.txt'"):
        blobpack.repack(source, tmp_path / "o.tar", all_files=True)
    assert not (tmp_path / "o.tar").exists()


@pytest.mark.parametrize(("one", "other"), FOREIGN_PAIRS)
def test_collect_takes_names_of_one_file_for_one_name(one, other, tmp_path):
    write_tar(tmp_path / "a.tar", [("./x", b"x"), (one, b"1"), (one, b"1"), ("z", b"z")])
    write_tar(tmp_path / "b.tar", [("y", b"y"), (other, b"2"), ("./z/a", b"z")])
    with pytest.raises(blobpack.DuplicateNameError) as caught:
        blobpack.collect(tmp_path, scan=True)
    message = f"member {one!r} in a.tar and member {other!r} in b.tar, two blobs of the collection"
    assert message in str(caught.value)
    assert not (tmp_path / "collection.idx").exists()
    blobpack.collect(tmp_path, scan=True, duplicates="last")
    with blobpack.open_collection(tmp_path) as collection:
        # a lookup compares names as they are
        assert list(collection.read_many([one, other])) == [b"1", b"2"]


def test_collect_takes_names_of_one_file_within_one_blob(tmp_path):
    """As it takes equal names there: `tar -r` makes them."""
    write_tar(tmp_path / "a.tar", [(name, b"1") for name in FOREIGN])
    write_tar(tmp_path / "b.tar", [("./b", b"2")])
    assert blobpack.collect(tmp_path, scan=True).members == len(FOREIGN) + 1


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_shards_take_names_of_one_file_for_one_name(one, other, tmp_path):
    files = [(one, b"1" * 3000), ("x", b"x" * 3000), (other, b"2")]
    with pytest.raises(blobpack.DuplicateNameError) as caught:
        blobpack.pack_shards(files, tmp_path / "o", shard_bytes=5000, all_files=True)
    message = f"member {one!r} in 00000.tar and member {other!r} in 00002.tar"
    assert message in str(caught.value)
    assert list(tmp_path.rglob("*.*")) == []


def pairs_in_order(keys):
    """Each row and the last one before it with the same key."""
    seen, pairs = {}, []
    for row, key in enumerate(keys):
        if key in seen:
            pairs.append((seen[key], row))
        seen[key] = row
    return pairs


# normal names of their own, as many as none, some of a block, one or several blocks hold
PARTS = st.lists(st.one_of(PATHS, st.sampled_from([1, 1000, 1024, 3000])), max_size=8)


@settings(max_examples=40)
@given(PARTS, st.integers(1, 3000))
def test_an_index_writer_finds_the_names_of_one_file(parts, part_rows):
    names = []
    for part in parts:
        first = len(names)
        names += [part] if isinstance(part, str) else [f"n/{first + i}" for i in range(part)]
    index = blobpack.Index(blobpack.Member(name, 0, 1) for name in names)
    repeated = []
    with tempfile.TemporaryFile() as file:
        write_sections(
            FileSink(file),
            (
                index._columns_of(first, first + part_rows)
                for first in range(0, len(names), part_rows)
            ),
            None,
            identity=None,
            repeated=lambda row, other, *found: repeated.append((row, other, *found)),
        )
    normal = list(map(normal_name, names))
    rows = pairs_in_order(names)
    if normal != names:
        rows += pairs_in_order(normal)
    assert repeated == [(row, other, names[row], names[other]) for row, other in rows]


def test_extract_counts_the_files_that_it_writes(tmp_path):
    names = [*SPELLINGS, "x", "d/a.txt"]
    source = write_tar(
        tmp_path / "a.tar", [(name, b"%d" % i * (i + 1)) for i, name in enumerate(names)]
    )
    with blobpack.open_blob(source) as blob:
        report = blobpack.extract(blob, tmp_path / "out")
    written = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {tmp_path / "out/d/a.txt": b"6" * 7, tmp_path / "out/x": b"5" * 6}
    assert (report.members, report.payload_bytes) == (2, 13)


def test_subset_keeps_members_of_one_file_as_the_source_has_them(tmp_path):
    """A selection adds no file, so it copies what was chosen, as it copies two members of equal names."""
    source = write_tar(tmp_path / "a.tar", [("a", b"1"), ("./a", b"2"), ("a", b"3"), ("b", b"4")])
    with blobpack.open_blob(source) as blob:
        report = blobpack.subset(blob, tmp_path / "o.tar", blob.index.select("*a"))
    assert list(report.index.names) == ["a", "./a", "a"]


@pytest.mark.parametrize("name", [".", "./", "/", "./.", "d/.", "d/", ""])
def test_a_name_without_a_file_is_refused(name, tmp_path):
    with pytest.raises(blobpack.UnsafeNameError, match="can't be the name of a member"):
        blobpack.pack([(name, b"1")], tmp_path / "o.tar", all_files=True)
