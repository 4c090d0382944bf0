"""Figures of what happens inside a language model: closed, complete, and drawn from the very numbers."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh

from minidream.llm import rotary_angles
from minidream.plots import (
    plot_curves,
    plot_matrices,
    plot_next_words,
    plot_token_bars,
    plot_turns,
    plot_writing,
)


def meshes(figure):
    return [
        mesh.get_array()
        for axis in panels(figure)
        for mesh in axis.collections
        if isinstance(mesh, QuadMesh)
    ]


def panels(figure):
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def texts(figure):
    return [text.get_text() for text in figure.findobj(plt.Text)]


def written(axis):
    return [text.get_text() for text in axis.texts]


def test_matrices_show_the_triangle_and_leave_the_rest_white():
    weights = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.125, 0.375]])
    ahead = torch.ones(3, 3).triu(1).bool()
    figure = plot_matrices(
        {"head 2": weights.masked_fill(ahead, torch.nan)},
        ["<s>", "red", "star"],
        "who looks at whom",
        "weight",
    )
    (mesh,) = meshes(figure)
    assert mesh.mask.tolist() == ahead.tolist()
    assert np.allclose(mesh.filled(0), weights)
    assert written(panels(figure)[0]) == ["1", "0.25", "0.75", "0.5", "0.12", "0.38"]  # row by row
    assert [label.get_text() for label in panels(figure)[0].get_yticklabels()] == [
        "<s>",
        "red",
        "star",
    ]
    assert panels(figure)[0].get_ylim() == (3, 0), "the first token stands at the top"
    assert not plt.fignum_exists(figure.number)


def test_matrices_of_scores_are_centred_on_zero_and_minus_infinity_is_white():
    scores = {
        "before": torch.tensor([[1.0, -4.0], [2.0, 0.5]]),
        "after": torch.tensor([[1.0, -torch.inf], [2.0, 0.5]]),
    }
    figure = plot_matrices(scores, ["a", "b"], "scores", "score", signed=True)
    drawn = [mesh for axis in panels(figure) for mesh in axis.collections]
    assert [mesh.get_clim() for mesh in drawn] == [(-4, 4), (-4, 4)], "one scale for both"
    assert meshes(figure)[1].mask.tolist() == [[False, True], [False, False]]
    assert drawn[0].get_cmap().name == "RdBu_r"


@pytest.mark.parametrize("count, heads", [(1, 1), (8, 3), (9, 5), (25, 2)])
def test_matrices_of_any_size(count, heads):
    values = {f"head {head}": torch.rand(count, count) for head in range(heads)}
    figure = plot_matrices(values, ["word"] * count, "any", "weight")
    assert len(meshes(figure)) == heads
    assert bool(written(panels(figure)[0])) == (count <= 8), (
        "numbers are written only where they can be read"
    )
    assert figure.get_figwidth() <= 12
    plot_matrices({"nothing to see": torch.zeros(2, 2)}, ["a", "b"], "zeros", "weight")


def test_matrices_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(2, 3\) does not fit 3 tokens"):
        plot_matrices({"a": torch.zeros(2, 3)}, ["x", "y", "z"], "t", "l")
    with pytest.raises(ValueError, match="no matrices"):
        plot_matrices({}, ["x"], "t", "l")


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
    assert written(figure.axes[0]) == ["0.5", "0.25"]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    with pytest.raises(ValueError, match=r"\(3,\).* 2 tokens"):
        plot_token_bars({"one": torch.zeros(3)}, ["a", "b"], "t", "l")
    with pytest.raises(ValueError, match="at least one"):
        plot_token_bars({}, ["a"], "t", "l")


def test_turns_draw_a_hand_at_each_angle():
    angles = rotary_angles(torch.arange(5)[None], 6, 50.0)[0]
    figure = plot_turns(angles, "clocks")
    hands = figure.axes[0].lines
    assert len(hands) == 5 * 3
    x, y = hands[4 * 3 + 1].get_data()  # position 4, pair 1; up is a smaller y here
    assert math.atan2(y[0] - y[1], x[1] - x[0]) == pytest.approx(angles[4, 1].item(), abs=1e-5)
    with pytest.raises(ValueError, match="3 dimensions"):
        plot_turns(angles[None], "t")


def test_curves_draw_every_point_in_every_panel():
    panels_ = {
        "positions": {"with": [1, 2, 3], "without": [1, 3, 6]},
        "seconds": {"with": [0.1, 0.2, 0.3], "without": [0.1, 0.3, 0.6]},
    }
    figure = plot_curves(panels_, [5, 6, 7], "tokens", "work")
    assert [axis.get_ylabel() for axis in figure.axes] == list(panels_)
    for axis, curves in zip(figure.axes, panels_.values()):
        assert [line.get_ydata().tolist() for line in axis.lines] == list(curves.values())
        assert axis.lines[0].get_xdata().tolist() == [5, 6, 7]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["with", "without"]
    with pytest.raises(ValueError, match="'b' has 2 points, x has 3"):
        plot_curves({"a": {"b": [1, 2]}}, [1, 2, 3], "x", "t")
    with pytest.raises(ValueError, match="no panels"):
        plot_curves({}, [], "x", "t")


def test_writing_has_one_size_whatever_was_written():
    short, long = (
        plot_writing({"one": "a", "two": ""}, "texts"),
        plot_writing({"one": "word " * 200, "two": "b"}, "texts"),
    )
    assert tuple(short.get_size_inches()) == tuple(long.get_size_inches()), (
        "its size is compared between machines"
    )
    assert written(short.axes[0]) == ["one", "a", "two", ""]
    cut = written(long.axes[0])[1]
    assert cut.count("\n") == 2 and cut.endswith("…")
    with pytest.raises(ValueError, match="no texts"):
        plot_writing({}, "t")
