"""What each cell of a picture shows."""

import random

import pytest
import torch

from minidream.world.cells import LEAST, looks_of_caption, looks_of_cells
from minidream.world.judge import attribute_indices
from minidream.world.render import render
from minidream.world.scenes import Scene, SceneObject, sample_scene


def test_by_hand():
    """An object over the four cells in the upper left corner, and over a fifth of the next one."""
    masks = torch.zeros(1, 2, 64, 64)
    masks[0, 0, :16, :16] = 1
    masks[0, 0, 0:8, 16:18] = 1  # 16 of 64 pixels: too few to say
    scene = Scene((SceneObject("star", "red", "small", (8, 8), 8.0),), "white")
    looks = looks_of_cells([scene], masks, 8)
    assert looks.shape == (1, 64, 3)
    shown = (1 + torch.tensor(attribute_indices(scene.objects[0].appearance))).tolist()
    cells = looks.reshape(8, 8, 3)
    assert cells[:2, :2].reshape(-1, 3).tolist() == [shown] * 4
    assert cells[0, 2].tolist() == [-1, -1, -1]
    assert (cells[2:] == 0).all() and (cells[:, 3:] == 0).all()


@pytest.mark.parametrize("size", (32, 64))
def test_every_object_is_somewhere_and_nothing_else(size):
    rng = random.Random(0)
    scenes = [sample_scene(rng) for _ in range(40)]
    looks = looks_of_cells(scenes, render(scenes, size)[1], 8)
    for scene, cells in zip(scenes, looks.tolist()):
        shown = {tuple(cell) for cell in cells} - {(0, 0, 0), (-1, -1, -1)}
        assert shown == {
            tuple(1 + index for index in attribute_indices(item.appearance))
            for item in scene.objects
        }
    assert 0 < LEAST < 1


def test_a_caption_says_which_object_is_where():
    red, blue, nothing, gray = (
        [1, 1, 1, 0],
        [2, 6, 2, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 2],
    )  # small red circle, large blue square
    assert looks_of_caption("there is a little red circle on a gray background") == [
        red,
        *[nothing] * 4,
        gray,
    ]
    assert looks_of_caption("a small red circle left of a big blue square") == [
        nothing,
        red,
        blue,
        *[nothing] * 3,
    ]
    assert looks_of_caption("a small red circle with a large blue square to its left") == [
        nothing,
        blue,
        red,
        *[nothing] * 3,
    ]
    assert looks_of_caption("below a large blue square is a small red circle") == [
        *[nothing] * 3,
        blue,
        red,
        nothing,
    ]
