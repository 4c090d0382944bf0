"""The explorer: every setting of its controls draws the figure that the function draws."""
import itertools

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from minidream.plots import plot_trace
from minidream.probe import Trace
from minidream.widgets import explore_trace
from test_plots import STORY, meshes, trace


def test_controls_offer_all_together_first_and_then_every_number():
    explorer = explore_trace(trace(STORY))
    offered = {control.description: control.options for control in explorer.kwargs_widgets}
    assert offered == {"layer": ("mean", 0, 1), "head": ("mean", 0, 1, 2), "query": ("all", 0, 1, 2, 3, 4)}
    assert [control.value for control in explorer.kwargs_widgets] == ["mean", "mean", "all"]


def test_every_setting_draws_its_figure():
    seen = trace(["<s>", "red", "star"], queries=2, layers=2, heads=1)
    explorer = explore_trace(seen)
    controls = explorer.kwargs_widgets
    for setting in itertools.product(*(control.options for control in controls)):
        for control, value in zip(controls, setting):
            control.value = value
        expected = plot_trace(seen, *(None if value in ("mean", "all") else value for value in setting))
        assert isinstance(explorer.result, Figure)
        for drawn, wanted in zip(meshes(explorer.result), meshes(expected), strict=True):
            np.testing.assert_array_equal(drawn, wanted)


def test_figure_is_shown_once_and_the_widget_explains_itself_where_none_can_run(capsys):
    explorer = explore_trace(trace(STORY))
    assert capsys.readouterr().out.count("Figure(") == 1     # what a notebook shows as the figure; an open one would come twice
    assert "layer, head, query" in repr(explorer) and "Jupyter" in repr(explorer)


def test_an_error_in_the_figure_surfaces(caplog):
    explorer = explore_trace(trace(STORY))
    explorer.kwargs_widgets[0].options = ["mean", 9]
    explorer.kwargs_widgets[0].value = 9
    assert "layer 9 was asked for; the trace has 2" in caplog.text


def test_trace_explore_is_the_explorer():
    explorer = Trace(torch.ones(1, 1, 1, 1), [0]).explore()
    assert len(explorer.kwargs_widgets) == 3 and isinstance(explorer.result, Figure)
    with pytest.raises(AttributeError):
        explore_trace("not a trace")
