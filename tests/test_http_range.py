"""Ranges and conditions of HTTP requests, as RFC 9110 has them."""

import pytest
from hypothesis import given, strategies as st

from blobpack.gateway.http_range import (
    answer_to,
    conditions_in,
    content_range,
    from_http_range,
    http_date,
    is_match,
    seconds_of,
)
from blobpack.stores.base import to_http_range

ETAG = b'"2cbd-89a00-efc4"'
SIZE = 1000
MODIFIED_S = 1_600_000_000
DATE = b"Sun, 13 Sep 2020 12:26:40 GMT"
LATER = b"Sun, 13 Sep 2020 12:26:41 GMT"
EARLIER = b"Sun, 13 Sep 2020 12:26:39 GMT"


def answer(**fields: bytes) -> tuple[int, int, int]:
    pairs = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    return tuple(answer_to(conditions_in(pairs), SIZE, ETAG, MODIFIED_S))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-0", (0, 1)),
        (b"bytes=10-19", (10, 20)),
        (b"bytes=990-5000", (990, 1000)),
        (b"bytes=990-", (990, 1000)),
        (b"bytes=-10", (990, 1000)),
        (b"bytes=-5000", (0, 1000)),
        (b"BYTES = 1-2", (1, 3)),
        (b" bytes=1-2 ", (1, 3)),
        (b"bytes=,1-2,", (1, 3)),
        (b"bytes=" + b"0" * 50 + b"-5", (0, 6)),
        (b"bytes=5-" + b"9" * 5000, (5, 1000)),
    ],
)
def test_one_range_is_cut_to_the_payload(value, expected):
    assert from_http_range(value, SIZE) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=5-2",
        b"bytes=0x1-0x2",
        b"bytes=1--2",
        b"bytes=+1-2",
        b"bytes=1.5-2",
        b"items=0-1",
        "bytes=１-２".encode(),
        # several ranges: answered with the whole payload, as S3 does
        b"bytes=0-1,4-5",
        b"bytes=0-1, -5",
    ],
)
def test_a_malformed_range_and_several_ranges_are_ignored(value):
    assert from_http_range(value, SIZE) is None
    assert answer(range=value) == (200, 0, SIZE)


@pytest.mark.parametrize(
    ("value", "size"),
    [(b"bytes=1000-", SIZE), (b"bytes=1000-1000", SIZE), (b"bytes=-0", SIZE), (b"bytes=0-", 0)],
)
def test_a_range_behind_the_payload_is_a_416(value, size):
    assert answer_to({b"range": value}, size, ETAG, None).status == 416


@given(size=st.integers(1, 500), data=st.data())
def test_a_range_says_what_a_slice_says(size, data):
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    assert from_http_range(to_http_range(start, end).encode(), size) == (start, end)
    suffix = data.draw(st.integers(1, 600))
    found = from_http_range(b"bytes=-%d" % suffix, size)
    assert list(range(size))[slice(*found)] == list(range(size))[-suffix:]
    assert content_range(start, end, size) == b"bytes %d-%d/%d" % (start, end - 1, size)


@given(st.binary(max_size=40))
def test_no_bytes_raise(value):
    found = from_http_range(b"bytes=" + value, SIZE)
    assert found is None or 0 <= found[0] <= found[1] <= SIZE
    fields = ("range", "if_range", "if_match", "if_none_match", "if_modified_since")
    assert answer(**dict.fromkeys(fields, value))[0] in (200, 206, 304, 412, 416)
    seconds_of(value)


@pytest.mark.parametrize(
    ("tags", "weak", "strong"),
    [
        (ETAG, True, True),
        (b"W/" + ETAG, True, False),
        (b'"other", ' + ETAG, True, True),
        (b'W/"other",W/' + ETAG, True, False),
        (b'"a, b" , ' + ETAG, True, True),
        (b"*", True, True),
        (b" * ", True, True),
        (b'"*"', False, False),
        (b'"other"', False, False),
        (ETAG.strip(b'"'), False, False),
        (b"", False, False),
    ],
)
def test_entity_tags_are_compared_weakly_or_strongly(tags, weak, strong):
    assert is_match(tags, ETAG, weak=True) == weak
    assert is_match(tags, ETAG, weak=False) == strong
    assert answer(if_none_match=tags)[0] == (304 if weak else 200)
    assert answer(if_match=tags)[0] == (200 if strong else 412)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": LATER}, 304),
        ({"if_modified_since": EARLIER}, 200),
        ({"if_modified_since": b"yesterday"}, 200),
        ({"if_unmodified_since": DATE}, 200),
        ({"if_unmodified_since": EARLIER}, 412),
        ({"if_unmodified_since": b"yesterday"}, 200),
        # the tag counts, and not the date (RFC 9110, 13.1.3 and 13.1.4)
        ({"if_none_match": b'"other"', "if_modified_since": LATER}, 200),
        ({"if_match": ETAG, "if_unmodified_since": EARLIER}, 200),
        ({"if_match": b'"other"', "if_none_match": ETAG}, 412),
    ],
)
def test_conditions_hold_in_the_order_of_the_standard(fields, status):
    assert answer(**fields)[0] == status


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (ETAG, 206),
        (b"W/" + ETAG, 200),
        (b'"other"', 200),
        (DATE, 206),
        (LATER, 200),
        (EARLIER, 200),
        (b"", 200),
    ],
)
def test_a_range_counts_only_for_the_payload_that_if_range_names(if_range, status):
    assert answer(range=b"bytes=0-9", if_range=if_range)[0] == status


def test_a_payload_without_a_date_ignores_dates():
    dates = {b"if-modified-since": LATER, b"range": b"bytes=0-1", b"if-range": DATE}
    assert answer_to(dates, SIZE, ETAG, None) == (200, 0, SIZE)


def test_a_304_and_a_412_win_over_a_416():
    assert answer(range=b"bytes=5000-", if_none_match=ETAG)[0] == 304
    assert answer(range=b"bytes=5000-", if_match=b'"other"')[0] == 412


def test_fields_that_are_sent_several_times_are_one_list():
    pairs = [(b"if-none-match", b'"a"'), (b"if-none-match", ETAG), (b"accept", b"*/*")]
    assert conditions_in(pairs) == {b"if-none-match": b'"a", ' + ETAG}
    twice = conditions_in([(b"range", b"bytes=0-1"), (b"range", b"bytes=4-5")])
    assert answer_to(twice, SIZE, ETAG, None).status == 200


def test_dates_are_written_and_read_as_http_has_them():
    assert http_date(MODIFIED_S) == DATE
    assert seconds_of(DATE) == MODIFIED_S
    assert http_date(-5) == http_date(0)
    assert http_date(1 << 62) == b"Fri, 31 Dec 9999 23:59:59 GMT"
