"""Coordinates of annotations: pixels in files, and places between pixels on the server.

In a file, a point is a pixel, and a rectangle names its first and last pixels. On the server, the pixel (0, 0) is the square
from 0 to 1: a point lies in its middle, at 0.5, and a rectangle ends where the pixel behind it starts. The SDK converts both
ways (Annotation._to_subpixel_coordinate_system_json and _to_pixel_coordinate_system_json).
"""

from __future__ import annotations

from copy import deepcopy
from math import ceil, floor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.integrations.supervisely.documents import Document

    Point = list[Any]

MIDDLE = 0.5
# The labeling tool lets a side of a rectangle lie anywhere in a pixel. The pixel belongs to the rectangle if the rectangle
# covers more than three tenths of it.
COVERED_MIN = 0.3


def to_server(annotation: Document) -> Document:
    """Return an annotation of a file as the server takes it."""
    return _converted(annotation, _rectangle_to_server, _to_middle, _whole_to_middle)


def to_file(annotation: Document) -> Document:
    """Return an annotation of the server as files hold it."""
    size = annotation["size"]
    sides = (size["width"], size["height"])

    def to_pixel(point: Point) -> Point:
        # a point on the right or lower edge of the image lies behind the last pixel
        return [floor(at) - (at == side) for at, side in zip(point, sides, strict=False)] + point[
            2:
        ]

    return _converted(annotation, _rectangle_to_file, to_pixel, to_pixel)


def _converted(
    annotation: Document,
    rectangle: Callable[[list[Point]], list[Point]],
    point: Callable[[Point], Point],
    node: Callable[[Point], Point],
) -> Document:
    found = deepcopy(annotation)
    for each in found["objects"]:
        kind, points = each.get("geometryType"), each.get("points")
        if kind == "rectangle":
            points["exterior"] = rectangle(points["exterior"])
        elif kind == "oriented_bbox":
            each["points"] = rectangle(points)
        elif points is not None:
            points["exterior"] = list(map(point, points["exterior"]))
            points["interior"] = [list(map(point, hole)) for hole in points["interior"]]
        # masks lie on pixels, and the upper left corner of one is a pixel
        if each.get("bitmap") is not None:
            each["bitmap"]["origin"] = list(map(floor, each["bitmap"]["origin"]))
        for named in (each.get("nodes") or {}).values():
            named["loc"] = node(named["loc"])
    return found


def _to_middle(point: Point) -> Point:
    return [point[0] + MIDDLE, point[1] + MIDDLE, *point[2:]]


def _whole_to_middle(point: Point) -> Point:
    return [floor(point[0]) + MIDDLE, floor(point[1]) + MIDDLE, *point[2:]]


def _rectangle_to_server(corners: list[Point]) -> list[Point]:
    (left, right), (top, bottom) = _sides(corners)
    return [[left, top], [right + 1, bottom + 1]]


def _rectangle_to_file(corners: list[Point]) -> list[Point]:
    (left, right), (top, bottom) = _sides(corners)
    if int(top) == int(bottom) and int(left) == int(right):
        left, top, right, bottom = int(left), int(top), int(right), int(bottom)
    else:
        left, top = (_rounded(side, 1 - COVERED_MIN) for side in (left, top))
        right, bottom = (_rounded(side, COVERED_MIN) for side in (right, bottom))
    return [[left, top], [max(left, right - 1), max(top, bottom - 1)]]


def _sides(corners: list[Point]) -> tuple[list[Any], list[Any]]:
    """Return the left and right sides, and the top and bottom ones."""
    return sorted(corner[0] for corner in corners[:2]), sorted(corner[1] for corner in corners[:2])


def _rounded(side: float, up_from: float) -> int:
    return ceil(side) if side % 1 >= up_from else floor(side)
