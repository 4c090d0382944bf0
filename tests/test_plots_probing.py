"""Attributions are drawn where they belong, with their sign, and say how much they leave out."""

import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from PIL import Image

from minidream.plots import plot_attributions, plot_heads
from minidream.probe import Attribution

INPUTS = [
    "<s>",
    "<im_start>",
    *((0, row, column) for row in range(2) for column in range(3)),
    "<im_end>",
    "the",
    "same",
    "<dream_start>",
    0,
    1,
]


def attribution(scale: float = 1.0) -> Attribution:
    values = torch.zeros(len(INPUTS))
    values[2:8] = torch.arange(6.0) - 2
    values[9:11] = torch.tensor([-3.0, 2.0])
    return Attribution(values * scale, INPUTS, [Image.new("RGB", (6, 4))], whole=4.0, nothing=0.0)


def test_words_are_bars_with_their_sign_and_patches_cells():
    figure = plot_attributions({"one": attribution(), "other": attribution(0.5)}, "Title", "loss")
    words, bare, patches = figure.axes[:3]
    assert [bar.get_height() for bar in words.patches] == [-3, 2]
    assert words.patches[0].get_facecolor() != words.patches[1].get_facecolor()
    (mesh,) = [child for child in patches.collections if isinstance(child, QuadMesh)]
    np.testing.assert_array_equal(mesh.get_array().reshape(2, 3), [[-2, -1, 0], [1, 2, 3]])
    assert mesh.get_clim() == (-3, 3) and mesh.get_cmap().name == "RdBu_r"
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["the", "same"]
    # 2 is what the values come to, 4 is to be explained; at half the scale 1 of 4.
    assert (
        words.get_title(loc="left") == "one: 50% not accounted for"
        and figure.axes[3].get_title(loc="left") == "other: 75% not accounted for"
    )
    assert bare.images[0].get_array().shape[:2] == (4, 6)


def test_other_inputs_are_refused():
    other = Attribution(torch.zeros(2), ["<s>", "a"], [], 1.0, 0.0)
    with pytest.raises(ValueError, match="2 attributions were given"):
        plot_attributions({"one": attribution(), "other": other}, "Title", "loss")
    with pytest.raises(ValueError, match="0 attributions"):
        plot_attributions({}, "Title", "loss")


def test_a_map_of_queries_says_so():
    figure = plot_heads({"colour": torch.rand(2, 5)}, "Title", "right", across="query")
    assert figure.axes[0].get_xlabel() == "query"
