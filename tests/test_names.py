"""Names of one normal form are one file: the normal form, and every place that compares names."""

import posixpath
from array import array
from itertools import pairwise

from hypothesis import given, strategies as st

from blobpack._native.packed import normal_name, normal_names

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
