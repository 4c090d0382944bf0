"""Figures of painting: closed, complete, drawn from the very numbers, and errors that name both counts."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from test_plots import meshes, panels, texts

from minidream.plots import (
    plot_cell_attention,
    plot_curves,
    plot_film,
    plot_latents,
    plot_schedule,
    plot_shares,
)

RED, BLUE, GREEN = (Image.new("RGB", (5, 7), colour) for colour in ("red", "blue", "green"))


def shown(figure):
    """Every image of a figure in drawing order, as arrays."""
    return [image.get_array() for axis in panels(figure) for image in axis.images]


def closed(figure):
    return not plt.fignum_exists(figure.number)


def test_film_shows_each_picture_in_its_row_and_column():
    figure = plot_film(
        {"latents": [RED, BLUE, GREEN], "guess": [GREEN, RED, BLUE]},
        ["1", "4", "done"],
        "It comes out",
        "steps taken",
    )
    for one, wanted in zip(shown(figure), [RED, BLUE, GREEN, GREEN, RED, BLUE], strict=True):
        np.testing.assert_array_equal(one, np.asarray(wanted))
    assert [axis.get_title() for axis in panels(figure)] == ["1", "4", "done", "", "", ""]
    assert [axis.get_ylabel() for axis in panels(figure)] == ["latents", "", "", "guess", "", ""]
    assert "It comes out" in texts(figure) and "steps taken" in texts(figure) and closed(figure)


def test_film_needs_an_image_for_every_column():
    with pytest.raises(ValueError, match="'guess' has 2 images for 3 columns"):
        plot_film({"latents": [RED] * 3, "guess": [RED] * 2}, ["1", "2", "3"], "")
    with pytest.raises(ValueError, match="at least one row"):
        plot_film({}, ["1"], "")


def test_latents_are_drawn_on_one_signed_scale_and_errors_on_one_from_nothing():
    latents = (
        torch.arange(2 * 3 * 2 * 5, dtype=torch.float32).reshape(2, 3, 2, 5) - 40
    )  # three channels of 2 x 5 cells
    errors = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0))
    figure = plot_latents([RED, BLUE], latents, [GREEN, RED], errors, "Lost")
    drawn = meshes(figure)
    assert len(drawn) == 6
    for mesh, wanted in zip(drawn, latents.reshape(6, 2, 5)):
        np.testing.assert_array_equal(np.asarray(mesh).reshape(2, 5), wanted)
    limits = {mesh.get_clim() for axis in panels(figure) for mesh in axis.collections}
    assert limits == {(-40, 40)}
    pictures = shown(figure)
    for one, wanted in zip(pictures, [RED, GREEN, errors[0], BLUE, RED, errors[1]], strict=True):
        np.testing.assert_array_equal(one, np.asarray(wanted))
    assert {axis.images[0].get_clim() for axis in panels(figure)[5::6]} == {
        (0, errors.max().item())
    }
    assert "channel 2" in texts(figure) and closed(figure)
    with pytest.raises(ValueError, match="1 images, 2 latents, 2 decoded images, 3 maps"):
        plot_latents([RED], latents, [RED, RED], torch.zeros(3, 2, 2), "")


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


@pytest.mark.parametrize("words", [1, 6, 9])
def test_looks_share_one_scale_from_nothing(words):
    maps = torch.rand(
        words, 2, 5, generator=torch.Generator().manual_seed(1)
    )  # lopsided, so that a transpose shows
    figure = plot_cell_attention(RED, maps, [f"word {number}" for number in range(words)], "Where")
    for mesh, wanted in zip(meshes(figure), maps, strict=True):
        np.testing.assert_array_equal(np.asarray(mesh).reshape(2, 5), wanted)
    assert {mesh.get_clim() for axis in panels(figure) for mesh in axis.collections} == {
        (0, maps.max().item())
    }
    np.testing.assert_array_equal(shown(figure)[0], np.asarray(RED))
    assert f"word {words - 1}" in texts(figure) and closed(figure)


def test_looks_need_a_word_for_each_map():
    with pytest.raises(ValueError, match="3 maps and 2 words"):
        plot_cell_attention(RED, torch.zeros(3, 2, 2), ["a", "b"], "")
