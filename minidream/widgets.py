"""Interactive explorers: sliders that do nothing but call a pure figure function with other numbers."""

from ipywidgets import SelectionSlider, interactive
from matplotlib.figure import Figure

from .plots import plot_trace


class Explorer(interactive):
    """Controls over a figure; where no kernel runs (on paper, on GitHub) it says so in words.

    Like `ipywidgets.interactive`: an error inside the figure function is shown in the place of the figure.
    """

    def __repr__(self) -> str:
        names = ", ".join(control.description for control in self.kwargs_widgets)
        return f"Controls for {names}: they move while the notebook runs in Jupyter."


def control(name: str, size: int, together: str) -> SelectionSlider:
    """A slider over `together` and the numbers 0 to size - 1; it starts at `together`."""
    return SelectionSlider(description=name, options=[together, *range(size)], continuous_update=False)    # a drag draws once


def explore_trace(trace) -> Explorer:
    """`plot_trace` with a control each for layer, head and query; the first setting of each takes all together.

    Nothing runs the model: the trace holds every layer and head, and a move only draws.

    Args:
        trace: a `probe.Trace`.
    """
    def draw(layer: int | str, head: int | str, query: int | str) -> Figure:
        return plot_trace(trace, *(None if isinstance(setting, str) else setting for setting in (layer, head, query)))

    layers, heads, queries, _ = trace.weights.shape
    return Explorer(draw, {"auto_display": True}, layer=control("layer", layers, "mean"),
                    head=control("head", heads, "mean"), query=control("query", queries, "all"))
