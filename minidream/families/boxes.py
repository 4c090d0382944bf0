"""Boxes as words: where a thing stands, written with four numbers that the language model reads and writes like any word.

A box is (left, top, right, bottom) as fractions of the picture's width and height in [0, 1], y down. Written, each number is
the nearest of `BINS` marks, the first at one edge of the picture and the last at the other.
"""

import re

import torch
from torch import Tensor

BINS = 33  # one mark at every edge of the 32 pixels: a box that fits the pixels is written without loss
MARKS = tuple(str(mark) for mark in range(BINS))


def box_around(mask: Tensor) -> tuple[float, ...]:
    """The smallest box around the pixels that a thing covers by half or more; mask of shape (height, width), in [0, 1].

    Raises:
        ValueError: if there is no such pixel.
    """
    covered = mask >= 0.5
    if not covered.any():
        raise ValueError(
            "no pixel is covered by half or more: there is nothing to put a box around"
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
    """ "3 5 17 19": each side rounded to its nearest mark."""
    return " ".join(MARKS[round(side * (BINS - 1))] for side in box)


def box_of_words(text: str) -> tuple[float, ...] | None:
    """The box that a text names; None if there are not exactly four marks, left before right and top before bottom."""
    sides = [int(number) / (BINS - 1) for number in re.findall(r"\d+", text) if number in MARKS]
    if len(sides) != 4 or sides[0] >= sides[2] or sides[1] >= sides[3]:
        return None
    return tuple(sides)


def box_iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
    return both / (sum(areas) - both)
