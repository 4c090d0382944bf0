"""Figures of learning: drawn from the very numbers, over lopsided sizes, and refused where they would mislead."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from minidream.plots import plot_by_count, plot_costs, plot_gains, plot_seed_losses, plot_spreads

THREE = ([0.2, 0.3, 0.7], 0.4, 0.1, 0.9)
ONE = ([0.5], 0.5, math.nan, math.nan)


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(plt.Text))


def drawn(axis):
    """(x values, y values, marker, width) of every line of a panel."""
    return [
        (list(line.get_xdata()), list(line.get_ydata()), line.get_marker(), line.get_linewidth())
        for line in axis.lines
    ]


def test_each_seed_is_thin_and_the_mean_bold():
    curves = [[(20, 4.0), (40, 2.0)], [(20, 2.0), (40, 1.0)], [(20, 3.0), (40, 0.6)]]
    figure = plot_seed_losses(
        {
            "squared error": {"imitation": curves},
            "denoising loss": {"a": curves[:1], "b": curves[1:]},
        },
        "Both fall",
    )
    assert isinstance(figure, Figure) and not plt.fignum_exists(figure.number)
    left, right = figure.axes
    lines = drawn(left)
    assert [y for _, y, *_ in lines[:3]] == [[4.0, 2.0], [2.0, 1.0], [3.0, 0.6]] and all(
        x == [20, 40] for x, *_ in lines
    )
    np.testing.assert_allclose(lines[3][1], [3.0, 1.2])
    assert lines[3][3] > 2 * lines[0][3]
    assert (
        left.lines[3].get_color() == "#0072B2"
    )  # of the style also when the figure is saved, outside of it
    assert len(right.lines) == 2 + 3 and right.get_legend() and not left.get_legend()
    assert (
        left.get_ylabel() == "squared error"
        and right.get_ylabel() == "denoising loss"
        and "Both fall" in texts(figure)
    )


def test_curves_of_different_lengths_have_no_mean():
    with pytest.raises(ValueError, match="'a' has 2 curves with 2 different lists of steps"):
        plot_seed_losses({"loss": {"a": [[(1, 1.0)], [(1, 1.0), (2, 0.5)]]}}, "")
    with pytest.raises(ValueError, match="'a' has 0 curves"):
        plot_seed_losses({"loss": {"a": []}}, "")


def test_spreads_show_every_seed_the_mean_and_the_interval():
    row = {"score": THREE, "reference": ONE}
    figure = plot_spreads(
        {
            "one thing": {"colour": row, "all": row, "size": row},
            "two things": {"colour": row, "all": row, "size": row},
        },
        "T",
        "right",
    )
    for axis in figure.axes:
        points = [
            line for line in drawn(axis) if line[0] != [0, 1]
        ]  # without the lines between rows
        for number in range(3):
            interval, seeds, mean, _, single, same = points[6 * number : 6 * number + 6]
            assert (
                interval[0] == [0.1, 0.9]
                and seeds[0] == THREE[0]
                and mean[0] == [0.4]
                and single[0] == same[0] == [0.5]
            )
            heights = {height for line in (interval, seeds, mean) for height in line[1]}
            assert len(heights) == 1 and number - 0.5 < heights.pop() < number + 0.5
        low, high = axis.get_xlim()
        assert low < 0 and high > 1 and axis.yaxis_inverted()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "colour",
        "all",
        "size",
    ]
    assert texts(figure).count("score") == 1 and "reference" in texts(figure)
    with pytest.raises(ValueError, match="every row needs the same conditions"):
        plot_spreads({"one": {"colour": row, "size": {"score": THREE}}}, "T", "right")


def test_spreads_of_losses_stand_on_a_logarithmic_scale():
    figure = plot_spreads(
        {"": {"loss": {"a": ([0.02, 0.5], 0.26, -1.0, 1.5)}}}, "T", "loss", logarithmic=True
    )  # an interval below 0, too
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    figure.canvas.draw()
    assert not any("$" in text or "^" in text for text in texts(figure).split())


def test_by_count_each_number_stands_at_its_place():
    points = {4: THREE, 1: ONE, 64: THREE}
    figure = plot_by_count(
        {"right": {"one thing": points, "two things": points}, "other": {"one thing": points}},
        "More helps",
        "queries",
        levels={"reference": 0.95},
    )
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "4", "64"]
    line, *rest = drawn(left)
    assert line[0] == [1, 4, 64] and line[1] == [0.5, 0.4, 0.4]
    diamonds = [(x, y) for x, y, marker, _ in rest if marker == "D"]
    assert diamonds[:3] == [([1.0], [0.5]), ([4.0], [0.4]), ([64.0], [0.4])]
    assert [y for _, (y,) in diamonds[3:]] == [0.5, 0.4, 0.4] and diamonds[3][0][
        0
    ] > 1  # the second line a little apart
    assert (
        [0.95, 0.95] in [y for _, y, *_ in drawn(right)]
        and "reference" in texts(figure)
        and "More helps" in texts(figure)
    )
    assert left.get_legend() and not right.get_legend() and left.get_xlabel() == "queries"


def test_by_count_of_losses():
    figure = plot_by_count(
        {
            "loss": {
                "a": {1: ([0.02], 0.02, math.nan, math.nan), 16: ([0.01, 0.03], 0.02, 0.001, 0.5)}
            }
        },
        "T",
        "queries",
        shares=False,
    )
    assert figure.axes[0].get_yscale() == "log" and not figure.axes[0].get_legend()


def test_gains_stand_beside_what_could_not_be_found():
    rows = {
        "captions": ([0.1, 0.3], 0.2, -0.1, 0.5, 0.25),
        "questions": ([-0.1, 0.0], -0.05, -0.2, 0.1, 0.15),
    }
    figure = plot_gains({"facts": rows, "loss": rows}, "T", "gain")
    first = figure.axes[0]
    assert [axis.get_title("left") for axis in figure.axes] == ["facts", "loss"]
    assert [(bar.get_x(), bar.get_width()) for bar in first.patches] == [(-0.25, 0.5), (-0.15, 0.3)]
    assert [list(line.get_xdata()) for line in first.lines[:3]] == [[-0.1, 0.5], [0.1, 0.3], [0.2]]
    assert [label.get_text() for label in first.get_yticklabels()] == ["captions", "questions"]
    with pytest.raises(ValueError, match="the same rows"):
        plot_gains({"facts": rows, "loss": {"captions": rows["captions"]}}, "T", "gain")


def test_costs_are_points_with_a_name():
    figure = plot_costs(
        {
            "LoRA": (300_000, ([0.5, 0.7], 0.6, 0.4, 0.8)),
            "all": (2_500_000, alone := ([1.0], 1.0, float("nan"), float("nan"))),
        },
        "T",
        "learned",
        "right",
    )
    (axis,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "LoRA",
        "all",
    ] and axis.get_xscale() == "log"
    assert [float(line.get_ydata()[0]) for line in axis.lines if len(line.get_ydata()) == 1] == [
        0.6,
        1.0,
        1.0,
    ]
    assert {float(line.get_xdata()[0]) for line in axis.lines if len(line.get_xdata()) == 1} == {
        300_000,
        2_500_000,
    }  # each where it costs,
    (axis,) = plot_costs(
        {
            "one": (310_000, alone),
            "few": (1_000, alone),
            "two": (300_000, alone),
            "three": (310_000, alone),
        },
        "T",
        "learned",
        "right",
    ).axes
    one, few, two, three = dict.fromkeys(
        float(line.get_xdata()[0]) for line in axis.lines if len(line.get_xdata()) == 1
    )
    assert (
        few == 1_000 and 280_000 < two < one == 310_000 < three < 330_000
    )  # and around it, if others do as well
