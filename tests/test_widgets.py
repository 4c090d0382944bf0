"""The explorer: every setting of its controls draws the figure that the function draws."""
import io
import itertools

import numpy as np
import pytest
import torch
from ipywidgets import Output, Widget
from PIL import Image

from minidream.plots import plot_pictures, plot_trace
from minidream.probe import Trace
from minidream.widgets import explore_pictures, explore_trace
from test_plots import STORY, meshes, trace


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_controls_offer_all_together_first_and_then_every_number():
    explorer = explore_trace(trace(STORY))
    offered = {name: control.options for name, control in explorer.controls.items()}
    assert offered == {"layer": ("mean", 0, 1), "head": ("mean", 0, 1, 2), "query": ("all", 0, 1, 2, 3, 4)}
    assert [control.value for control in explorer.controls.values()] == ["mean", "mean", "all"]


def test_every_setting_draws_its_figure():
    seen = trace(["<s>", "red", "star"], queries=2, layers=2, heads=1)
    explorer, drawn = explore_trace(seen), []
    draw = explorer.draw
    explorer.draw = lambda **setting: drawn.append(draw(**setting)) or drawn[-1]
    for setting in itertools.product(*(control.options for control in explorer.controls.values())):
        for control, value in zip(explorer.controls.values(), setting):
            control.value = value
        expected = plot_trace(seen, *(None if value in ("mean", "all") else value for value in setting))
        for one, wanted in zip(meshes(drawn[-1] if drawn else draw(*setting)), meshes(expected), strict=True):
            np.testing.assert_array_equal(one, wanted)
    assert len(drawn) >= 3 * 2 * 3 - 1      # the first setting was drawn before we watched


def test_what_is_shown_is_the_figure_and_moves_with_the_controls():
    seen = trace(STORY)
    explorer = explore_trace(seen)
    first = pixels(explorer.picture.value)
    file = io.BytesIO()
    plot_trace(seen).savefig(file)
    np.testing.assert_array_equal(first, pixels(file.getvalue()))
    explorer.controls["head"].value = 1
    assert pixels(explorer.picture.value).shape == first.shape and (pixels(explorer.picture.value) != first).any()
    explorer.controls["head"].value = "mean"
    np.testing.assert_array_equal(pixels(explorer.picture.value), first)


def test_errors_surface_at_once_and_after_a_move():
    explorer = explore_trace(trace(STORY))
    explorer.controls["layer"].options = ["mean", 9]
    with pytest.raises(ValueError, match="layer 9 was asked for; the trace has 2"):
        explorer.controls["layer"].value = 9
    assert "layer 9 was asked for" in explorer.problem.value and not explorer.picture.value
    explorer.controls["layer"].value = "mean"
    assert not explorer.problem.value and explorer.picture.value
    with pytest.raises(ValueError):
        explore_trace(Trace(torch.ones(1, 1, 1), [0]))      # not four axes


def test_trace_explore_explains_itself_where_no_kernel_runs():
    explorer = Trace(torch.ones(1, 1, 1, 1), [0]).explore()
    assert repr(explorer) == "Controls for layer, head, query: they move while the notebook runs in Jupyter."

    def inside(widget):
        return [widget, *(held for child in getattr(widget, "children", ()) for held in inside(child))]

    assert all(isinstance(widget, Widget) for widget in inside(explorer))
    assert not any(isinstance(widget, Output) for widget in inside(explorer))       # see Explorer: nbclient hangs on them


def test_pictures_are_chosen_by_the_control_and_drawn_as_they_are():
    colours = {1: ("red", "blue"), 2.5: ("green", "black"), 8: ("white", "pink")}
    pictures = {value: [Image.new("RGB", (5, 7), colour) for colour in pair] for value, pair in colours.items()}
    explorer = explore_pictures(pictures, "guidance scale", ["one", "other"])
    assert explorer.controls["guidance scale"].options == (1, 2.5, 8)
    for value in (8, 1, 2.5):
        explorer.controls["guidance scale"].value = value
        file = io.BytesIO()
        plot_pictures(pictures[value], ["one", "other"], suptitle=f"guidance scale {value}").savefig(file)
        np.testing.assert_array_equal(pixels(explorer.picture.value), pixels(file.getvalue()))
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        explore_pictures(pictures, "guidance scale", ["one"])
