"""Interactive explorers: sliders that do nothing but call a pure figure function with other numbers."""

import html
import io
from collections.abc import Callable

from ipywidgets import HTML, HBox, Image, Layout, SelectionSlider, VBox
from matplotlib.figure import Figure

from .plots import plot_pictures, plot_trace


class Explorer(VBox):
    """Controls over a figure, which is drawn anew when one of them moves.

    An error in the first drawing is raised; a later one is raised too, and shown in the place of the figure, since no
    cell is left to show it. The figure is an image widget and not, as in `ipywidgets.interactive`, an output widget:
    nbclient, which runs notebooks without a browser, waits for ever when a reply comes while it answers one of those.

    Args:
        draw: called with the values of all controls by name; gives a figure.
        controls: the widgets that are moved, by name.
    """

    def __init__(self, draw: Callable[..., Figure], controls: dict[str, SelectionSlider]):
        self.draw, self.controls = draw, controls
        self.picture, self.problem = Image(format="png", layout=Layout(max_width="100%")), HTML()
        super().__init__([HBox(list(controls.values())), self.problem, self.picture])
        self.redraw()
        for control in controls.values():
            control.observe(self.redraw, names="value")

    def redraw(self, change=None) -> None:
        """Draws what the controls say; `change` is what ipywidgets reports, and is not needed."""
        try:
            figure, file = self.draw(**{name: control.value for name, control in self.controls.items()}), io.BytesIO()
            figure.savefig(file, format="png")
        except Exception as error:
            self.picture.value, self.problem.value = b"", f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"
            raise
        self.picture.value, self.problem.value = file.getvalue(), ""

    def __repr__(self) -> str:
        """What stands for the widget where no kernel runs: on paper, on GitHub."""
        return f"Controls for {', '.join(self.controls)}: they move while the notebook runs in Jupyter."


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
    return Explorer(draw, {"layer": control("layer", layers, "mean"), "head": control("head", heads, "mean"),
                           "query": control("query", queries, "all")})


def explore_pictures(pictures: dict[float, list], name: str, titles: list[str] | None = None) -> Explorer:
    """`plot_pictures` with one control, which says which of several lists of pictures is shown.

    Nothing is painted: all pictures are there, and a move only draws.

    Args:
        pictures: {value of the control: PIL images}; at least one value.
        name: what the control sets.
        titles: one for each picture of a list.
    """
    def draw(**setting) -> Figure:
        return plot_pictures(pictures[setting[name]], titles, suptitle=f"{name} {setting[name]}")

    slider = SelectionSlider(description=name, options=list(pictures), continuous_update=False, style={"description_width": "initial"})
    return Explorer(draw, {name: slider})
