"""The samples of Go, tar-rs and CPython are read as tarfile, Go and Rust agree; the others as decided here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tars import rows_of, tarfile_rows

from blobpack import FormatError, TruncatedError
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan, scan_store

SAMPLES = Path(__file__).parent / "data" / "tar"
EXPECTED: list[dict[str, Any]] = [
    json.loads(line) for line in (SAMPLES / "expected.jsonl").read_text().splitlines()
]
AGREED = {
    verdict["file"]: verdict for verdict in EXPECTED if verdict["three_agree_on_regular_offsets"]
}
REGULAR = ("0", "\0", "7")

# sample → what is raised, where, and a part of the message
REFUSED: dict[str, tuple[type[FormatError], int, str]] = {
    # a global header of one byte, which isn't there
    "cpython/recursion.tar": (TruncatedError, 0, "inside an extended header"),
    # fuzz: the size field is noise
    "go/issue10968.tar": (FormatError, 0, "size"),
    # a pax header whose body is cut
    "go/issue11169.tar": (TruncatedError, 0, "inside an extended header"),
    # fuzz: a negative base-256 size
    "go/issue12435.tar": (FormatError, 0, "size"),
    # a negative size would walk backwards
    "go/neg-size.tar": (FormatError, 0, "size"),
    # records that can't be parsed may have held a size or a name: Go refuses them, and so do we
    "go/pax-bad-hdr-file.tar": (FormatError, 0, "malformed"),
    # a name can't hold a NUL: others cut it there, so that two tools see two names
    "go/pax-nul-path.tar": (FormatError, 0, "NUL"),
    # a pax header, then the end
    "go/pax-path-hdr.tar": (TruncatedError, 1024, "inside a header"),
    # 16 GiB are promised, nothing is there
    "go/writer-big.tar": (TruncatedError, 0, "17179869184 bytes"),
    "go/writer-big-long.tar": (TruncatedError, 1024, "17179869184 bytes"),
}

# sample → rows, and the report's counts of what has none
DECIDED: dict[str, tuple[list[tuple[str, int, int]], dict[str, int]]] = {
    # the last header of a kind rules: but what they name are symbolic links
    "go/gnu-multi-hdrs.tar": ([], {"symbolic_links": 1}),
    "go/pax-multi-hdrs.tar": ([], {"symbolic_links": 1}),
    # a sparse member's payload is not one byte range, in none of its encodings
    "go/gnu-sparse-big.tar": ([], {"sparse": 1}),
    "go/pax-nil-sparse-data.tar": ([], {"sparse": 1}),
    "go/pax-nil-sparse-hole.tar": ([], {"sparse": 1}),
    "go/pax-sparse-big.tar": ([], {"sparse": 1}),
    "go/sparse-formats.tar": ([("end", 16384, 4)], {"sparse": 4}),
    "tar-rs/sparse-large.tar": ([], {"sparse": 1}),
    # an mtime that is no number: we don't read it
    "go/pax-bad-mtime-file.tar": ([("foo", 1536, 684)], {}),
    # a NUL in an attribute: we don't read those
    "go/pax-nul-xattrs.tar": ([("bad-null.txt", 1536, 0)], {}),
    # the pax size rules over the header's; Rust reads the header's
    "go/pax-pos-size-file.tar": ([("foo", 1536, 999)], {}),
}


def names_agree(verdict: dict[str, Any]) -> bool:
    """Tell whether tarfile, Go and Rust give regular members the same names."""
    python, go, rust = (
        [member["name"] for member in verdict[tool]["members"] if member["type"] in REGULAR]
        for tool in ("python", "go", "rust")
    )
    return bool(python == go == rust)


def test_every_sample_is_either_agreed_upon_or_decided_here() -> None:
    decided = {*REFUSED, *DECIDED, "cpython/testtar.tar"}
    assert {verdict["file"] for verdict in EXPECTED} == {*AGREED, *decided}
    assert not decided & set(AGREED)
    assert {verdict["file"] for verdict in EXPECTED} == {
        path.relative_to(SAMPLES).as_posix() for path in SAMPLES.glob("*/*.tar")
    }


@pytest.mark.parametrize("sample", AGREED)
def test_offsets_are_those_tarfile_go_and_rust_agree_on(sample: str) -> None:
    verdict = AGREED[sample]
    members = verdict["python"]["members"]
    expected = [m for m in members if m["type"] in REGULAR and not m["sparse"]]
    links = {m["name"] for m in members if m["type"] == "1"}
    rows = rows_of(scan(SAMPLES / sample))
    regular = [row for row in rows if row[0] not in links]

    assert [row[1:] for row in regular] == [(m["off"], m["size"]) for m in expected]
    if names_agree(verdict):
        assert [row[0] for row in regular] == [m["name"] for m in expected]
        assert rows == tarfile_rows(SAMPLES / sample)


@pytest.mark.parametrize("sample", REFUSED)
def test_what_is_damaged_is_refused_with_its_offset(sample: str) -> None:
    kind, offset, message = REFUSED[sample]
    with pytest.raises(FormatError, match=message) as caught:
        scan(SAMPLES / sample)
    assert type(caught.value) is kind
    assert caught.value.offset == offset


@pytest.mark.parametrize("sample", DECIDED)
def test_where_tools_differ_the_decision_is_ours(sample: str) -> None:
    rows, counts = DECIDED[sample]
    index = scan(SAMPLES / sample)
    assert rows_of(index) == rows
    assert index.report is not None
    assert index.report.without_row() == counts


def test_a_global_path_names_what_follows_until_an_empty_value_takes_it_back() -> None:
    index = scan(SAMPLES / "go" / "pax-global-records.tar")
    assert list(index.names) == ["global1", "file2", "file3", "file4"]


def test_gnu_times_are_not_taken_for_a_prefix() -> None:
    assert list(scan(SAMPLES / "go" / "gnu-incremental.tar").names) == ["test2/foo"]


def test_the_tar_of_cpythons_own_tests_is_read_as_tarfile_reads_it() -> None:
    index = scan(SAMPLES / "cpython" / "testtar.tar")
    assert rows_of(index) == tarfile_rows(SAMPLES / "cpython" / "testtar.tar")
    assert index.report is not None
    assert index.report.hard_links == 4
    assert index.report.end_marker == 2
    assert index.report.without_row() == {
        "folders": 3,
        "symbolic_links": 3,
        "devices": 3,
        "sparse": 4,
    }


@pytest.mark.parametrize("sample", [verdict["file"] for verdict in EXPECTED])
def test_a_scan_through_a_store_equals_that_of_the_file(sample: str) -> None:
    path = SAMPLES / sample
    outcomes = []
    for read in (lambda: scan(path), lambda: scan_store(MemoryStore(path.read_bytes(), str(path)))):
        try:
            index = read()
        except FormatError as exc:
            outcomes.append((type(exc), str(exc), exc.offset))
        else:
            outcomes.append((rows_of(index), index.report))
    assert outcomes[0] == outcomes[1]
