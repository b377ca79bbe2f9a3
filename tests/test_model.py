"""The plain values: frozen, compared by value, and small."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from blobpack import ByteRange, Member, ScanReport

VALUES = [
    ByteRange(5, 12),
    Member("a.jpg", 512, 600),
    ScanReport(bytes_scanned=1024, end_marker=2, folders=3),
]


def test_sizes_are_in_bytes() -> None:
    assert ByteRange(5, 12).size == 7
    assert ByteRange(5, 5).size == 0
    assert Member("a.jpg", 512, 600).size == 88


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_compared_by_value(value: ByteRange | Member | ScanReport) -> None:
    field = dataclasses.fields(value)[-1].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 1)
    assert not hasattr(value, "__dict__")
    same = dataclasses.replace(value)
    other = dataclasses.replace(value, **{field: 9999})
    assert same == value
    assert hash(same) == hash(value)
    assert other != value
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_report_tells_what_has_no_row() -> None:
    report = ScanReport(
        bytes_scanned=1,
        end_marker=1,
        hard_links=5,
        dangling_links=2,
        folders=3,
        symbolic_links=4,
        devices=5,
        sparse=6,
        other=7,
    )
    assert report.without_row() == {
        "dangling_links": 2,
        "folders": 3,
        "symbolic_links": 4,
        "devices": 5,
        "sparse": 6,
        "other": 7,
    }
    assert ScanReport(bytes_scanned=1, end_marker=2, hard_links=5).without_row() == {}
