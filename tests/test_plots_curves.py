"""Figures of curves: drawn from the very numbers, and refused where they would mislead."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import closed, lines_of, panels, texts
from matplotlib.figure import Figure

from minidream.plots import plot_curves, plot_losses, plot_schedule, plot_seed_losses


@pytest.mark.parametrize("lines", [1, 3, 400])
def test_losses(lines):
    log = [
        {
            "step": 20 * line,
            "total": 2.0 / line,
            "colour": 0.0,
            "rate": 1e-3,
            "samples_per_second": 9.0,
        }
        for line in range(1, lines + 1)
    ]
    figure = plot_losses(log, "vae")
    assert [axis.get_ylabel() for axis in figure.axes] == ["total", "colour"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [line["total"] for line in log])
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]  # 0 has no logarithm
    assert len(figure.axes[0].lines) == (2 if lines == 400 else 1)
    if lines == 400:
        smooth = figure.axes[0].lines[1]
        place = list(figure.axes[0].lines[0].get_xdata()).index(smooth.get_xdata()[50])
        assert smooth.get_ydata()[50] == pytest.approx(
            np.mean([line["total"] for line in log[place - 8 : place + 8]])
        )
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize("steps", [1, 24, 75])
def test_a_level_to_compare_with_is_drawn_in_every_panel_of_losses(steps):
    log = [{"step": step, "contrast": float(step), "other": 1.0} for step in range(steps)]
    figure = plot_losses(log, "learns", {"chance": np.log(7)})
    for axis in figure.axes:
        every, *smooth, level = axis.lines
        assert len(every.get_ydata()) == steps and list(level.get_ydata()) == [np.log(7)] * 2
        assert "chance" in [text.get_text() for text in axis.texts]
        assert len(smooth) == (steps == 75)
    if smooth:
        (line,) = figure.axes[0].lines[1:2]
        assert len(line.get_ydata()) == steps - 3 + 1  # only whole windows of three steps
        # On a straight line, the mean of a window is on the line.
        np.testing.assert_allclose(line.get_ydata(), line.get_xdata())
    with pytest.raises(ValueError, match="no losses"):
        plot_losses([], "learns")


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
    lines = lines_of(left)
    assert [y for _, y, *_ in lines[:3]] == [[4.0, 2.0], [2.0, 1.0], [3.0, 0.6]] and all(
        x == [20, 40] for x, *_ in lines
    )
    np.testing.assert_allclose(lines[3][1], [3.0, 1.2])
    assert lines[3][3] > 2 * lines[0][3]
    assert (
        left.lines[3].get_color() == "#0072B2"
    )  # the colour of the style, although the figure is saved outside of it
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
    # A name that only a later panel has is in the legend, too, in a colour of its own.
    figure = plot_curves(
        {"loss": {"a": [1, 2], "b": [1, 2]}, "right": {"c": [1, 2]}}, [1, 2], "", ""
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    assert len({line.get_color() for axis in figure.axes for line in axis.lines}) == 3
    figure = plot_curves({"right": {"a": [(0.5, 0.4, 0.6), (0.7, 0.5, 0.8)]}}, [1, 2], "", "")
    (axis,) = panels(figure)
    assert axis.lines[0].get_ydata().tolist() == [0.5, 0.7]
    (band,) = axis.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners == {(1, 0.4), (1, 0.6), (2, 0.5), (2, 0.8)}
    with pytest.raises(ValueError, match="'b' has 2 points, x has 3"):
        plot_curves({"a": {"b": [1, 2]}}, [1, 2, 3], "x", "t")
    with pytest.raises(ValueError, match="no panels"):
        plot_curves({}, [], "x", "t")


def test_curves_of_few_points_have_a_marker_at_each_and_their_scale_starts_at_zero():
    curves = {"given": [0.3, 0.2, 0.1], "not given": [0.5, float("nan"), 0.2]}
    figure = plot_curves({"error": curves}, [50, 150, 250], "timestep", "Helps")
    (axis,) = panels(figure)
    assert [line.get_label() for line in axis.lines] == ["given", "not given"]
    first, second = axis.lines
    assert first.get_ydata().tolist() == [0.3, 0.2, 0.1]
    assert first.get_xdata().tolist() == [50, 150, 250]
    assert "None" not in (first.get_marker(), second.get_marker())
    assert first.get_marker() != second.get_marker()
    assert axis.get_ylim()[0] == 0 and axis.get_xlabel() == "timestep"
    assert axis.get_ylabel() == "error" and closed(figure)
    (axis,) = panels(plot_curves({"y": {"many": range(31)}}, range(31), "x", ""))
    assert axis.lines[0].get_marker() == "None"


def test_curves_on_a_logarithmic_scale_have_plain_numbers():
    figure = plot_curves({"error": {"given": [0.02, 3.0]}}, [1, 2], "x", "", logarithmic=True)
    (axis,) = panels(figure)
    assert axis.get_yscale() == "log" and axis.yaxis.get_major_formatter()(0.03) == "0.03"


def test_schedule_draws_the_three_curves_and_the_marks():
    signal, noise, snr = [1.0, 0.8, 0.1], [0.0, 0.6, 0.99], [90.0, 1.7, 0.01]
    figure = plot_schedule(signal, noise, snr, "Louder", marks=[2])
    left, right = panels(figure)
    assert [line.get_ydata().tolist() for line in left.lines[:2]] == [signal, noise]
    assert right.lines[0].get_ydata().tolist() == snr and right.get_yscale() == "log"
    assert all(list(axis.lines[-1].get_xdata()) == [2, 2] for axis in (left, right)) and closed(
        figure
    )
    with pytest.raises(ValueError, match="3, 2 and 3 timesteps"):
        plot_schedule(signal, noise[:2], snr, "")
