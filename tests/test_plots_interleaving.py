"""Figures of rows that are read, written and painted: closed, drawn from the very data, and errors that name both numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image
from test_plots import panels, texts

from minidream.plots import plot_origins, plot_shares, plot_visibility
from minidream.plots.sequences import ORIGINS
from minidream.plots.tokens import TOKEN_COLOURS

RED, BLUE = Image.new("RGB", (5, 7), "red"), Image.new("RGB", (5, 7), "blue")
# Two words, a painted picture with two queries and one with three patches in a row; then a word and another picture.
ROW = [
    "<s>",
    "a",
    "star",
    "<dream_start>",
    0,
    1,
    "<dream_end>",
    "<im_start>",
    (0, 0, 0),
    (0, 0, 1),
    (0, 0, 2),
    "<im_end>",
    "grows",
    "<dream_start>",
    0,
    1,
    "<dream_end>",
    "<im_start>",
    (1, 0, 0),
    (1, 0, 1),
    (1, 0, 2),
    "<im_end>",
    "</s>",
]
BY = (
    ["given"] * 3
    + ["written"]
    + ["by rule"] * 4
    + ["painted"] * 3
    + ["by rule"]
    + ["written"] * 2
    + ["by rule"] * 4
    + ["painted"] * 3
    + ["by rule", "written"]
)


def closed(figure):
    return not plt.fignum_exists(figure.number)


def shown(figure):
    return [image for axis in panels(figure) for image in axis.images]


# --------------------------------------------------------------------------------------------------
# Who sees whom


def test_a_cell_has_the_colour_of_what_is_seen_and_is_white_where_nothing_is():
    inputs = ["<s>", "star", 0, (0, 0, 0), "<im_end>"]
    sees = np.zeros((5, 5), dtype=bool)
    sees[3, 1] = sees[0, 4] = sees[4, 2] = True  # not symmetric, so a transpose would show
    figure = plot_visibility(sees, inputs, "Sees")
    (image,) = shown(figure)
    drawn = np.asarray(image.get_array())
    assert drawn.shape == (5, 5, 3)
    np.testing.assert_allclose(drawn[3, 1], to_rgb(TOKEN_COLOURS["words"]))
    np.testing.assert_allclose(drawn[0, 4], to_rgb(TOKEN_COLOURS["markers"]))
    np.testing.assert_allclose(drawn[4, 2], to_rgb(TOKEN_COLOURS["queries"]))
    assert (drawn != 1).any(axis=-1).sum() == 3
    assert image.get_extent() == [0, 5, 5, 0]  # the first row is the upper one
    assert "Sees" in texts(figure) and closed(figure)


def test_positions_are_named_along_both_axes_and_blocks_are_outlined():
    count = len(ROW)
    figure = plot_visibility(np.tril(np.ones((count, count), dtype=bool)), ROW, "")
    (axis,) = panels(figure)
    for names in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [name.get_text() for name in names][:10] == [
            "<s>",
            "a",
            "star",
            "<dream_start>",
            "query 0",
            "query 1",
            "<dream_end>",
            "<im_start>",
            "patch 0, 0",
            "patch 0, 1",
        ]
    outlines = [line for line in axis.lines if line.get_color() == "#888888"]
    upright = sorted(
        line.get_xdata()[0] for line in outlines if line.get_xdata()[0] == line.get_xdata()[1]
    )
    assert upright == [4, 6, 8, 11, 14, 16, 18, 21]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(TOKEN_COLOURS)


def test_sight_needs_a_row_and_a_column_for_each_input():
    with pytest.raises(ValueError, match=r"shape \(2, 3\); 3 inputs need \(3, 3\)"):
        plot_visibility(np.ones((2, 3)), ["<s>", "a", "star"], "")


# --------------------------------------------------------------------------------------------------
# Who put it there


def boxes(figure, colour):
    """How many boxes of a colour there are, without the legend's."""
    return sum(
        patch.get_facecolor()[:3] == to_rgb(colour)
        for patch in figure.axes[0].patches
        if not isinstance(patch, Rectangle)
    )


def test_each_position_has_the_colour_of_who_put_it_there():
    figure = plot_origins(ROW, BY, [RED, BLUE], "Who")
    assert boxes(figure, ORIGINS["given"]) == 3 and boxes(figure, ORIGINS["written"]) == 4
    assert boxes(figure, ORIGINS["by rule"]) == 10  # six markers and four queries
    frames = [
        patch
        for patch in figure.axes[0].patches
        if isinstance(patch, Rectangle) and patch.get_edgecolor()[:3] == to_rgb(ORIGINS["painted"])
    ]
    assert len(frames) == 2
    for text in (
        "Who",
        "given (3)",
        "written (4)",
        "by rule (10)",
        "painted (6)",
        "8–10",
        "18–20",
        "star",
        "grows",
    ):
        assert text in texts(figure), text
    assert closed(figure)


def test_queries_lead_to_the_picture_that_is_read_next():
    painted_red, read_red, painted_blue, read_blue = (
        np.asarray(image.get_array())[0, 0].tolist()
        for image in shown(plot_origins(ROW, BY, [RED, BLUE], ""))
    )
    assert painted_red == read_red == [255, 0, 0] and painted_blue == read_blue == [0, 0, 255]
    # Queries at the end, whose picture nobody has read yet, lead to none.
    assert len(shown(plot_origins(ROW[:16], BY[:16], [RED, BLUE], ""))) == 2


def test_a_long_row_goes_on_below_and_many_queries_are_abbreviated():
    short, long = (
        plot_origins(["<s>", *["star"] * words], ["given"] * (words + 1), [], "")
        for words in (3, 60)
    )
    assert (
        long.get_figheight() > 2 * short.get_figheight()
        and long.get_figwidth() == short.get_figwidth()
    )
    right = max(
        patch.get_x() + patch.get_width()
        for patch in long.axes[0].patches
        if not isinstance(patch, Rectangle)
    )
    assert right < long.get_figwidth()
    queries = plot_origins([*range(16)], ["by rule"] * 16, [], "")
    inside = [text.get_text() for text in queries.axes[0].texts if text.get_fontsize() == 6.5]
    assert inside == ["0", "1", "…", "15"]


def test_origins_are_one_for_each_input_and_known():
    with pytest.raises(ValueError, match="2 inputs and 3 origins"):
        plot_origins(["<s>", "a"], ["given"] * 3, [], "")
    with pytest.raises(
        ValueError, match="'guessed' is no origin; there are given, written, by rule, painted"
    ):
        plot_origins(["<s>", "a"], ["given", "guessed"], [], "")


# --------------------------------------------------------------------------------------------------
# What becomes of changed rows

COUNTED = {
    "background": {"own": (0.9, 0.7, 0.95), "another's": (0.1, 0.0, 0.3), "none": (0.4, 0.2, 0.6)},
    "thing": {"own": (1.0, 0.8, 1.0), "another's": (0.7, 0.5, 0.9), "none": (0.6, 0.4, 0.8)},
}


def test_each_condition_has_a_row_in_every_panel():
    figure = plot_shares(COUNTED, "Follows", "of 20", {"background": 1 / 3})
    background, thing = panels(figure)
    for axis, points in zip((background, thing), COUNTED.values()):
        (dots,) = [line for line in axis.lines if line.get_marker() == "o"]
        np.testing.assert_allclose(dots.get_xdata(), [share for share, *_ in points.values()])
        assert [float(place) for place in dots.get_ydata()] == [0, 1, 2]
        (bars,) = [
            collection for collection in axis.collections if hasattr(collection, "get_segments")
        ]
        np.testing.assert_allclose(
            [segment[:, 0] for segment in bars.get_segments()],
            [(low, high) for _, low, high in points.values()],
        )
    assert [label.get_text() for label in background.get_yticklabels()] == [
        "own",
        "another's",
        "none",
    ]
    dashed = [
        [line for line in axis.lines if line.get_linestyle() == "--"]
        for axis in (background, thing)
    ]
    assert dashed[0][0].get_xdata()[0] == 1 / 3 and not dashed[1]
    # titles that stand on the left, as the style has them
    assert [axis.get_title(loc="left") or axis.get_title() for axis in (background, thing)] == [
        "background",
        "thing",
    ]
    assert "Follows" in texts(figure) and texts(figure).count("by guessing") == 1
    assert background.get_ylim()[0] > background.get_ylim()[1] and closed(
        figure
    )  # the first condition is the upper one


def test_shares_need_conditions_and_are_inside_their_intervals():
    for nothing in ({}, {"a": {"own": (0.5, 0.4, 0.6)}, "b": {}}):
        with pytest.raises(ValueError, match="at least one"):
            plot_shares(nothing, "", "")
    with pytest.raises(ValueError, match=r"outside its interval: \(0.7, 0.4, 0.6\)"):
        plot_shares({"a": {"own": (0.7, 0.4, 0.6)}}, "", "")
    plot_shares({"a": {"none": (0.0, -1e-17, 0.1)}}, "", "")  # rounding is no error
