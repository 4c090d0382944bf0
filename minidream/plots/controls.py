"""What every interactive explorer is made of: a figure, the controls that redraw it, and a cache of what was drawn."""

import gc
import html
import io
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import traitlets
from ipywidgets import HTML, HBox, Image, Label, Layout, SelectionSlider, ToggleButton, VBox, Widget
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .attention import plot_trace
from .exploring import plot_hop, shares_of, sources
from .pictures import plot_pictures


class Refused(Exception):
    """What a reader typed cannot be drawn; the message says why."""


class Explorer(VBox):
    """Controls over a figure, which is drawn anew when one of them moves.

    An error in the first drawing is raised; a later one is raised too, and shown in the place of the figure, since no
    cell is left to show it. `Refused` is no error: its message is shown, and the last figure stays. The figure is an image widget
    and not, as in `ipywidgets.interactive`, an output widget: nbclient, which runs notebooks without a browser, waits for ever
    when a reply comes while it answers one of those.

    Args:
        draw: called with the values of all controls by name; gives a figure.
        controls: the widgets that are moved, by name; whatever has a `value`.
    """

    def __init__(self, draw: Callable[..., Figure], controls: dict[str, Widget]):
        self.draw, self.controls = draw, controls
        self.places: dict[
            tuple, tuple
        ] = {}  # by setting, and of the last figure of each size: where its parts stand
        self.latest: dict[tuple, tuple] = {}
        # At its own size: a box would stretch a narrow figure to its width.
        self.picture, self.problem = (
            Image(format="png", layout=Layout(max_width="100%", align_self="flex-start")),
            HTML(),
        )
        super().__init__(
            [
                HBox(list(controls.values()), layout=Layout(flex_flow="row wrap")),
                self.problem,
                self.picture,
            ]
        )
        self.redraw()
        for control in controls.values():
            control.observe(self.redraw, names="value")

    def redraw(self, change=None) -> None:
        """Draws what the controls say; `change` is what ipywidgets reports, and is not needed."""
        try:
            with garbage_kept():
                self.picture.value = self.png(
                    {name: control.value for name, control in self.controls.items()}
                )
        except Refused as refusal:
            self.problem.value = html.escape(str(refusal))
        except Exception as error:
            self.picture.value, self.problem.value = (
                b"",
                f"<b>{type(error).__name__}</b>: {html.escape(str(error))}",
            )
            raise
        else:
            self.problem.value = ""

    def png(self, setting: dict) -> bytes:
        """The figure of a setting, as PNG.

        Finding a place for everything takes nearly half of the time of a figure. So everything stays where it was in the last
        figure of this size, unless something would then reach over the edge. What was shown once looks the same again.
        """
        figure = self.draw(**setting)
        size, chosen = (*figure.get_size_inches(), len(figure.axes)), tuple(setting.values())
        known = self.places.get(chosen, self.latest.get(size))
        if known is not None:
            put(figure, known)
            png, pixels = rasterized(figure)
            if all(
                (edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
            ):
                self.places[chosen] = known
                return png
            figure = self.draw(**setting)
            figure.get_layout_engine().set(
                rect=(0.01, 0, 0.95, 1)
            )  # with room to spare: the next labels may be longer still
        png, _ = rasterized(figure)
        self.places[chosen] = self.latest[size] = places_in(figure)
        return png

    def __repr__(self) -> str:
        """What stands for the widget where no kernel runs: on paper, on GitHub."""
        return f"Controls for {', '.join(self.controls)}: they move while the notebook runs in Jupyter."


@contextmanager
def garbage_kept():
    """Puts off the collection of garbage to the end of the `with` block.

    A figure leaves much of it, and to look through all that torch and a model hold takes longer than to draw: it can wait
    until the picture is out.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def rasterized(figure: Figure) -> tuple[bytes, np.ndarray]:
    """A figure as PNG, and its pixels, shape (height, width, 4): what `savefig` writes, which draws everything twice."""
    canvas, file = FigureCanvasAgg(figure), io.BytesIO()
    canvas.print_png(file)
    return file.getvalue(), np.asarray(canvas.buffer_rgba())


def places_in(figure: Figure) -> tuple[list, list]:
    """Where axes and titles of a figure stand that was drawn: boxes in pixels, and (x, y) in parts of the figure."""
    return (
        [
            axis.get_position(original=True).transformed(axis.figure.transSubfigure)
            for axis in figure.axes
        ],
        [text.get_position() for text in figure.texts],
    )


def put(figure: Figure, places: tuple[list, list]) -> None:
    """Puts axes and titles of a figure at the places of another of the same size."""
    figure.set_layout_engine("none")
    for axis, box in zip(figure.axes, places[0]):
        axis.set_position(box.transformed(axis.figure.transSubfigure.inverted()))
    for text, place in zip(figure.texts, places[1]):
        text.set_position(place)


def slider(name: str, options, value=None) -> SelectionSlider:
    """A slider over options; it starts at `value`, or at the first of them."""
    options = list(options)
    return SelectionSlider(
        description=name,
        options=options,
        value=options[0] if value is None else value,
        continuous_update=False,  # a drag draws once
        style={"description_width": "initial"},
        layout=Layout(width="20em"),
    )  # three fit beside one another


class Switches(HBox):
    """A row of buttons; `value` is a tuple of the numbers of those that are pressed, in order.

    Args:
        name: what is switched.
        names: one for each button.
    """

    value = traitlets.Tuple()

    def __init__(self, name: str, names: list[str]):
        self.buttons = [
            ToggleButton(description=each, layout=Layout(width="auto", min_width="2.6em"))
            for each in names
        ]
        super().__init__([Label(name), *self.buttons], layout=Layout(flex_flow="row wrap"))
        for button in self.buttons:
            button.observe(self.gather, names="value")

    def gather(self, change) -> None:
        """A button was pressed or let go: only its own number changes, so that `press` can move several without a value between."""
        number = self.buttons.index(change["owner"])
        self.value = tuple(
            sorted({*self.value, number} if change["new"] else {*self.value} - {number})
        )

    @traitlets.observe("value")
    def press(self, change) -> None:
        """The value changed: the buttons follow."""
        for number, button in enumerate(self.buttons):
            button.value = number in change["new"]


def explore_trace(trace) -> Explorer:
    """`plot_trace` with a control each for layer, head and query; the first setting of each takes all together.

    Nothing runs the model: the trace holds every layer and head, and a move only draws.

    Args:
        trace: a `probe.Trace`.
    """

    def draw(layer: int | str, head: int | str, query: int | str) -> Figure:
        return plot_trace(
            trace,
            *(None if isinstance(setting, str) else setting for setting in (layer, head, query)),
        )

    layers, heads, queries, _ = trace.weights.shape
    return Explorer(
        draw,
        {
            "layer": slider("layer", ["mean", *range(layers)]),
            "head": slider("head", ["mean", *range(heads)]),
            "query": slider("query", ["all", *range(queries)]),
        },
    )


def explore_pictures(
    pictures: dict[float, list], name: str, titles: list[str] | None = None
) -> Explorer:
    """`plot_pictures` with one control, which says which of several lists of pictures is shown.

    Nothing is painted: all pictures are there, and a move only draws.

    Args:
        pictures: {value of the control: PIL images}; at least one value.
        name: what the control sets.
        titles: one for each picture of a list.
    """

    def draw(**setting) -> Figure:
        return plot_pictures(pictures[setting[name]], titles, suptitle=f"{name} {setting[name]}")

    return Explorer(draw, {name: slider(name, pictures)})


def explore_two_hops(image, hops, inputs: list) -> Explorer:
    """`plot_hop` with controls for the word, whose cells are shown, and for row and column of the cell, whose words are shown.

    It starts at the word whose share differs most between cells, and at the cell where it is greatest.

    Args:
        image: what was painted, a PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or neither a word nor a patch is among them.
    """

    def draw(word: str, row: int, column: int) -> Figure:
        return plot_hop(image, hops, inputs, word, (row, column))

    maps = shares_of(hops, inputs, sources(inputs))
    telling = max(maps, key=lambda name: np.ptp(maps[name]))
    height, width = maps[telling].shape
    row, column = divmod(int(maps[telling].argmax()), width)
    return Explorer(
        draw,
        {
            "word": slider("word", maps, telling),
            "row": slider("row", range(height), row),
            "column": slider("column", range(width), column),
        },
    )
