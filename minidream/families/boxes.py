"""Boxes written as words, so that a language model can read and write them.

A box is (left, top, right, bottom), as fractions of the picture's width and height in [0, 1],
with y growing downwards. In words, each side is the index of the nearest of `BINS` evenly spaced
coordinates, from "0" at the left or top edge of the picture to "32" at the right or bottom edge.
"""

import re

import torch
from torch import Tensor

# A mark for every second edge between the 64 pixels of a row, so that rounding moves a side by at
# most one pixel.
BINS = 33
BIN_WORDS = tuple(str(index) for index in range(BINS))


def box_around(mask: Tensor) -> tuple[float, ...]:
    """The smallest box around the pixels that an object covers by half or more.

    Args:
        mask: the share of each pixel that the object covers, in [0, 1]; shape (height, width).

    Raises:
        ValueError: if there is no such pixel.
    """
    covered = mask >= 0.5
    if not covered.any():
        raise ValueError(
            "no pixel is covered by half or more, so there is nothing to put a box around"
        )
    height, width = mask.shape
    columns, rows = (torch.nonzero(covered.any(dim=dim)).flatten() for dim in (0, 1))
    return (
        columns[0].item() / width,
        rows[0].item() / height,
        (columns[-1].item() + 1) / width,
        (rows[-1].item() + 1) / height,
    )


def words_of_box(box: tuple[float, ...]) -> str:
    """A box in words, such as "3 5 17 19": each side is rounded to the nearest coordinate."""
    return " ".join(BIN_WORDS[round(side * (BINS - 1))] for side in box)


def box_of_words(text: str) -> tuple[float, ...] | None:
    """The box that a text names.

    Returns:
        None unless the text has exactly four coordinates, left before right and top before bottom.
    """
    numbers = [number for number in re.findall(r"\d+", text) if number in BIN_WORDS]
    sides = tuple(int(number) / (BINS - 1) for number in numbers)
    if len(sides) != 4 or sides[0] >= sides[2] or sides[1] >= sides[3]:
        return None
    return sides


def box_iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    intersection = max(0.0, width) * max(0.0, height)
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
    return intersection / (sum(areas) - intersection)
