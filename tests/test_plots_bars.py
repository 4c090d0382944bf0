"""Amounts as bars and dots: the very numbers, and errors that name both."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures import panels, texts, texts_of
from matplotlib.collections import QuadMesh
from PIL import Image

from minidream.plots import (
    in_words,
    plot_attributions,
    plot_next_words,
    plot_sizes,
    plot_stacks,
    plot_token_bars,
    plot_writing,
)
from minidream.probe import Attribution


def test_next_words_draw_a_bar_for_every_word():
    chances = {
        "a large": {"red": 0.5, "blue": 0.25},
        "on a": {"gray": 1.0},
        "is": {"a": 0.125, "the": 0.1, "now": 0.0},
    }
    figure = plot_next_words(chances, "next", columns=2)
    assert [axis.get_title(loc="left") for axis in panels(figure)[:3]] == list(chances)
    for axis, words in zip(panels(figure), chances.values()):
        assert [bar.get_width() for bar in axis.patches] == list(words.values())
        assert [label.get_text() for label in axis.get_yticklabels()] == list(words)
    assert not panels(figure)[3].axison, "the empty place is empty"
    with pytest.raises(ValueError, match="1.5 is not"):
        plot_next_words({"a": {"b": 1.5}}, "t")
    with pytest.raises(ValueError, match="no beginnings"):
        plot_next_words({}, "t")


def test_token_bars_share_a_scale_and_skip_what_is_not_defined():
    values = {"one": torch.tensor([0.5, 0.25, torch.nan]), "two": torch.tensor([2.0, 0.0, 1.0])}
    figure = plot_token_bars(values, ["a", "red", "star"], "surprise", "nats")
    assert [[bar.get_height() for bar in axis.patches] for axis in figure.axes] == [
        [0.5, 0.25, 0],
        [2, 0, 1],
    ]
    assert texts_of(figure.axes[0]) == ["0.5", "0.25"]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    with pytest.raises(ValueError, match=r"\(3,\).* 2 tokens"):
        plot_token_bars({"one": torch.zeros(3)}, ["a", "b"], "t", "l")
    with pytest.raises(ValueError, match="at least one"):
        plot_token_bars({}, ["a"], "t", "l")


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


def test_sizes_put_every_model_on_one_scale():
    sizes = {
        "small": {"queries": 512, "tower": 40_000},
        "large": {"queries": 262_144, "tower": 303_179_776},
    }
    figure = plot_sizes(sizes, "the same parts")
    dots = {
        line.get_label(): list(line.get_xdata())
        for line in figure.axes[0].lines
        if line.get_linestyle() == "None"
    }
    assert dots == {name: list(parts.values()) for name, parts in sizes.items()}
    assert (
        "262 thousand" in texts(figure)
        and "303 million" in texts(figure)
        and figure.axes[0].get_xscale() == "log"
    )
    assert not plt.fignum_exists(figure.number)
    for wrong in ({}, {"small": {}}, sizes | {"other": {"tower": 3}}):
        with pytest.raises(ValueError, match="same parts"):
            plot_sizes(wrong, "")
    assert [in_words(number) for number in (6_738_481_152, 83_653_863, 1500, 12)] == [
        "6.74 billion",
        "83.7 million",
        "1.5 thousand",
        "12",
    ]


@pytest.mark.parametrize("marks", [None, {"8 GB": 8, "80 GB": 80}])
def test_stacks_add_up(marks):
    stacks = {
        "float32": {"writes": 27.0, "paints": 5.0},
        "bfloat16": {"writes": 13.5, "paints": 2.5},
    }
    figure = plot_stacks(stacks, "half the digits", "gigabytes", marks)
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0, 27), (0, 13.5), (27, 5), (13.5, 2.5)]
    assert (
        " 32" in texts(figure)
        and " 16" in texts(figure)
        and ("80 GB" in texts(figure)) == bool(marks)
    )
    assert figure.axes[0].get_xlim()[1] > (80 if marks else 32) and not plt.fignum_exists(
        figure.number
    )
    for wrong in ({}, stacks | {"int8": {"writes": 7.0}}):
        with pytest.raises(ValueError, match="same parts"):
            plot_stacks(wrong, "", "")


def test_writing_has_one_size_whatever_was_written():
    short, long = (
        plot_writing({"one": "a", "two": ""}, "texts"),
        plot_writing({"one": "word " * 200, "two": "b"}, "texts"),
    )
    assert tuple(short.get_size_inches()) == tuple(long.get_size_inches()), (
        "its size is compared between machines"
    )
    assert texts_of(short.axes[0]) == ["one", "a", "two", ""]
    cut = texts_of(long.axes[0])[1]
    assert cut.count("\n") == 2 and cut.endswith("…")
    with pytest.raises(ValueError, match="no texts"):
        plot_writing({}, "t")
