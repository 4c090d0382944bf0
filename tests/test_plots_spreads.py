"""Results with their intervals: every seed, the mean and the interval at their places."""

import math

import numpy as np
import pytest
from figures import closed, lines_of, panels, texts

from minidream.plots import (
    plot_answers,
    plot_by_count,
    plot_costs,
    plot_gains,
    plot_shares,
    plot_spreads,
)

THREE = ([0.2, 0.3, 0.7], 0.4, 0.1, 0.9)


ONE = ([0.5], 0.5, math.nan, math.nan)


def test_spreads_show_every_seed_the_mean_and_the_interval():
    row = {"score": THREE, "reference": ONE}
    figure = plot_spreads(
        {
            "one object": {"colour": row, "all": row, "size": row},
            "two objects": {"colour": row, "all": row, "size": row},
        },
        "T",
        "right",
    )
    for axis in figure.axes:
        points = [
            line for line in lines_of(axis) if line[0] != [0, 1]
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


def test_spreads_of_losses_have_a_logarithmic_scale():
    figure = plot_spreads(
        {"": {"loss": {"a": ([0.02, 0.5], 0.26, -1.0, 1.5)}}}, "T", "loss", logarithmic=True
    )  # an interval below 0, too
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    figure.draw_without_rendering()
    assert not any("$" in text or "^" in text for text in texts(figure).split())


def test_by_count_each_number_is_at_its_place():
    points = {4: THREE, 1: ONE, 64: THREE}
    figure = plot_by_count(
        {"right": {"one object": points, "two objects": points}, "other": {"one object": points}},
        "More helps",
        "queries",
        levels={"reference": 0.95},
    )
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "4", "64"]
    line, *rest = lines_of(left)
    assert line[0] == [1, 4, 64] and line[1] == [0.5, 0.4, 0.4]
    diamonds = [(x, y) for x, y, marker, _ in rest if marker == "D"]
    assert diamonds[:3] == [([1.0], [0.5]), ([4.0], [0.4]), ([64.0], [0.4])]
    assert [y for _, (y,) in diamonds[3:]] == [0.5, 0.4, 0.4] and diamonds[3][0][
        0
    ] > 1  # the second line a little apart
    assert (
        [0.95, 0.95] in [y for _, y, *_ in lines_of(right)]
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


def test_gains_lie_beside_what_could_not_be_detected():
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


COUNTED = {
    "background": {"own": (0.9, 0.7, 0.95), "another's": (0.1, 0.0, 0.3), "none": (0.4, 0.2, 0.6)},
    "object": {"own": (1.0, 0.8, 1.0), "another's": (0.7, 0.5, 0.9), "none": (0.6, 0.4, 0.8)},
}


def test_each_condition_has_a_row_in_every_panel():
    figure = plot_shares(COUNTED, "Follows", "of 20", {"background": 1 / 3})
    background, object_ = panels(figure)
    for axis, points in zip((background, object_), COUNTED.values()):
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
    assert background.get_xlim()[0] == pytest.approx(-0.03)
    signed = {"": {"same": (0.8, 0.7, 0.9), "other": (-0.4, -0.5, -0.3)}}
    (axis,) = panels(plot_shares(signed, "Alike", "correlation", percent=False))
    assert axis.get_xlim()[0] == pytest.approx(-0.53)
    figure.canvas.draw()
    assert [label.get_text() for label in background.get_yticklabels()] == [
        "own",
        "another's",
        "none",
    ]
    dashed = [
        [line for line in axis.lines if line.get_linestyle() == "--"]
        for axis in (background, object_)
    ]
    assert dashed[0][0].get_xdata()[0] == 1 / 3 and not dashed[1]
    # titles that stand on the left, as the style has them
    assert [axis.get_title(loc="left") or axis.get_title() for axis in (background, object_)] == [
        "background",
        "object",
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


def test_shares_of_different_variables_have_their_own_rows():
    points = {
        "scale": {1: (0.5, 0.25, 0.75), 3.5: (1.0, 0.8, 1.0 - 2e-16), 30: (0.0, 0.0, 0.2)},
        "steps": {2: (0.5, 0.5, 0.5)},
    }
    figure = plot_shares(points, "Some", "accuracy")
    scale, steps = panels(figure)
    assert scale.lines[0].get_xdata().tolist() == [0.5, 1.0, 0.0]
    assert scale.lines[0].get_ydata().tolist() == [0, 1, 2]
    assert [tick.get_text() for tick in scale.get_yticklabels()] == ["1", "3.5", "30"]
    assert [tick.get_text() for tick in steps.get_yticklabels()] == ["2"]
    (bars,) = scale.collections
    np.testing.assert_allclose(
        [segment[:, 0] for segment in bars.get_segments()], [[0.25, 0.75], [0.8, 1.0], [0.0, 0.2]]
    )
    assert steps.get_title(loc="left") == "steps" and closed(figure)
    with pytest.raises(ValueError, match=r"\(0.5, 0.6, 0.7\)"):
        plot_shares({"scale": {1: (0.5, 0.6, 0.7)}}, "", "")


def test_answers_are_filled_only_beyond_their_controls():
    rows = {"sink": ((0.4, 0.3, 0.6), [0.1, 0.2], True), "focus": ((0.5, 0.4, 0.6), [0.5], False)}
    figure = plot_answers({"the toy": rows, "random": rows}, "Two answers")
    for panel in panels(figure):
        marks = [line for line in panel.lines if line.get_marker() == "D"]
        assert [line.get_xdata()[0] for line in marks] == [0.4, 0.5]
        assert [line.get_markerfacecolor() == "white" for line in marks] == [False, True]
        controls = [list(line.get_xdata()) for line in panel.lines if line.get_marker() == "|"]
        assert controls == [[0.1, 0.2], [0.5]] and panel.get_ylim() == (1.5, -0.5)
    assert closed(figure) and figure.get_figwidth() <= 9 and "random" in texts(figure)
    with pytest.raises(ValueError, match="same questions"):
        plot_answers({"one": rows, "two": {"sink": rows["sink"]}}, "")
