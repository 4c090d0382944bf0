"""Boxes as words, around masks, and their overlap."""

import random

import pytest
import torch

from minidream.families import boxes
from minidream.weights import toy


def test_a_box_that_fits_the_pixels_comes_back_from_its_words():
    assert toy.IMAGE_SIZE % (boxes.BINS - 1) == 0  # every mark lies between two pixels
    rng = random.Random(0)
    for _ in range(50):
        (left, right), (top, bottom) = (sorted(rng.sample(range(33), 2)) for _ in range(2))
        box = (left / 32, top / 32, right / 32, bottom / 32)
        assert (
            boxes.words_of_box(box) == f"{left} {top} {right} {bottom}"
            and boxes.box_of_words(boxes.words_of_box(box)) == box
        )
    for wrong in ("", "3 5 17", "3 5 17 19 20", "17 5 3 19", "3 5 17 5", "3 5 17 33"):
        assert boxes.box_of_words(wrong) is None


def test_the_box_of_a_mask_by_hand():
    mask = torch.zeros(4, 8)  # not square, so that width and height cannot be exchanged
    mask[1:3, 2:7], mask[0, 0] = 0.5, 0.4
    assert boxes.box_around(mask) == (2 / 8, 1 / 4, 7 / 8, 3 / 4)
    with pytest.raises(ValueError, match="nothing to put a box around"):
        boxes.box_around(mask * 0.9)


def test_iou_by_hand():
    one, other = (0.0, 0.0, 0.5, 0.25), (0.25, 0.0, 0.75, 0.25)
    assert boxes.box_iou(one, other) == pytest.approx(1 / 3) and boxes.box_iou(one, one) == 1
    assert (
        boxes.box_iou(one, (0.5, 0.0, 1.0, 0.25)) == boxes.box_iou(one, (0.6, 0.6, 0.7, 0.9)) == 0
    )
