"""The parts of every interactive explorer: a figure, controls that redraw it, and a cache."""

import base64
import gc
import html
import io
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import traitlets
from ipywidgets import (
    HTML,
    HBox,
    Image,
    Label,
    Layout,
    SelectionSlider,
    ToggleButton,
    VBox,
    Widget,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .attention import plot_trace
from .pictures import plot_pictures
from .two_hops import plot_hop, shares_of, sources


class Refused(Exception):
    """The reader's input cannot be drawn; the message says why."""


class Explorer(VBox):
    """Controls over a figure, which is redrawn when one of them moves.

    An error in the first drawing is raised. A later one is raised too, and shown in the place of
    the figure, since no cell is left to show it. `Refused` is no error: its message is shown, and
    the last figure stays.

    The figure is an image widget and not an output widget as in `ipywidgets.interactive`: nbclient,
    which runs notebooks without a browser, waits forever if a reply comes while it answers one of
    those.

    Args:
        draw: called with the values of all controls by name; returns a figure.
        controls: widgets with a `value`, by name.
    """

    def __init__(self, draw: Callable[..., Figure], controls: dict[str, Widget]):
        self.draw, self.controls = draw, controls
        # Where the parts of a figure are: by setting, and in the last figure of each size.
        self.places: dict[tuple, tuple] = {}
        self.latest: dict[tuple, tuple] = {}
        # At its own size: a box would stretch a narrow figure to its width.
        own_size = Layout(max_width="100%", align_self="flex-start")
        self.picture, self.problem = Image(format="png", layout=own_size), HTML()
        row = HBox(list(controls.values()), layout=Layout(flex_flow="row wrap"))
        super().__init__([row, self.problem, self.picture])
        self.redraw()
        for control in controls.values():
            control.observe(self.redraw, names="value")

    def redraw(self, change=None) -> None:
        """Draws what the controls say; `change` is what ipywidgets reports, and is not needed."""
        setting = {name: control.value for name, control in self.controls.items()}
        try:
            with garbage_kept():
                self.picture.value = self.png(setting)
        except Refused as refusal:
            self.problem.value = html.escape(str(refusal))
        except Exception as error:
            self.picture.value = b""
            message = html.escape(str(error))
            self.problem.value = f"<b>{type(error).__name__}</b>: {message}"
            raise
        else:
            self.problem.value = ""

    def png(self, setting: dict) -> bytes:
        """The figure of a setting, as PNG.

        Laying out a figure takes nearly half of its time. So every part stays where it was in the
        last figure of this size, unless it would then reach over the edge. A setting that was shown
        before looks the same again.
        """
        figure = self.draw(**setting)
        size, chosen = (*figure.get_size_inches(), len(figure.axes)), tuple(setting.values())
        known = self.places.get(chosen, self.latest.get(size))
        if known is not None:
            put(figure, known)
            png, pixels = rasterized(figure)
            edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
            if all((edge == 255).all() for edge in edges):
                self.places[chosen] = known
                return png
            figure = self.draw(**setting)
            # With room to spare: the next labels may be longer still.
            figure.get_layout_engine().set(rect=(0.01, 0, 0.95, 1))
        png, _ = rasterized(figure)
        self.places[chosen] = self.latest[size] = places_in(figure)
        return png

    def _repr_mimebundle_(self, **options) -> dict:
        """The widget, and the figure as it is now for where no kernel runs: on paper, on GitHub."""
        frame = base64.b64encode(self.picture.value).decode()
        return super()._repr_mimebundle_(**options) | {"image/png": frame}

    def __repr__(self) -> str:
        """The text in place of the widget where neither is shown."""
        names = ", ".join(self.controls)
        return f"Controls for {names}: they move while the notebook runs in Jupyter."


@contextmanager
def garbage_kept():
    """Postpones garbage collection to the end of the `with` block.

    A figure leaves much garbage, and searching all that torch and a model hold takes longer than
    drawing: it can wait until the picture is out.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def rasterized(figure: Figure) -> tuple[bytes, np.ndarray]:
    """A figure as PNG, and its pixels, shape (height, width, 4).

    The same as `savefig` writes; but `savefig` draws everything twice.
    """
    canvas, file = FigureCanvasAgg(figure), io.BytesIO()
    canvas.print_png(file)
    return file.getvalue(), np.asarray(canvas.buffer_rgba())


def places_in(figure: Figure) -> tuple[list, list]:
    """Positions of the axes (in pixels) and titles (in fractions) of a figure that was drawn."""
    boxes = [
        axis.get_position(original=True).transformed(axis.figure.transSubfigure)
        for axis in figure.axes
    ]
    return boxes, [text.get_position() for text in figure.texts]


def put(figure: Figure, places: tuple[list, list]) -> None:
    """Puts axes and titles of a figure at the places of another one of the same size."""
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
        layout=Layout(width="20em"),  # three fit side by side
    )


class Switches(HBox):
    """A row of buttons; `value` is a sorted tuple of the indices of those that are pressed.

    Args:
        name: what is switched.
        names: one for each button.
    """

    value = traitlets.Tuple()

    def __init__(self, name: str, names: list[str]):
        size = dict(width="auto", min_width="2.6em")
        self.buttons = [ToggleButton(description=each, layout=Layout(**size)) for each in names]
        super().__init__([Label(name), *self.buttons], layout=Layout(flex_flow="row wrap"))
        for button in self.buttons:
            button.observe(self.gather, names="value")

    def gather(self, change) -> None:
        """Follows one button, which was pressed or released.

        Only its own index changes, so that `press` can move several buttons at once without
        passing through other values.
        """
        index, pressed = self.buttons.index(change["owner"]), set(self.value)
        if change["new"]:
            pressed.add(index)
        else:
            pressed.discard(index)
        self.value = tuple(sorted(pressed))

    @traitlets.observe("value")
    def press(self, change) -> None:
        """Makes the buttons follow a new value."""
        for index, button in enumerate(self.buttons):
            button.value = index in change["new"]


def explore_trace(trace) -> Explorer:
    """`plot_trace` with controls for layer, head and query; each starts with all of them together.

    The model does not run: the trace holds every layer and head, and a move only draws.

    Args:
        trace: a `probe.Trace`.
    """

    def draw(layer: int | str, head: int | str, query: int | str) -> Figure:
        settings = (layer, head, query)
        chosen = [None if isinstance(setting, str) else setting for setting in settings]
        return plot_trace(trace, *chosen)

    layers, heads, queries, _ = trace.weights.shape
    controls = {
        "layer": slider("layer", ["mean", *range(layers)]),
        "head": slider("head", ["mean", *range(heads)]),
        "query": slider("query", ["all", *range(queries)]),
    }
    return Explorer(draw, controls)


def explore_pictures(
    pictures: dict[float, list], name: str, titles: list[str] | None = None
) -> Explorer:
    """`plot_pictures` with one control, which chooses one of several lists of pictures.

    Nothing is painted: all pictures are given, and a move only draws.

    Args:
        pictures: {value of the control: PIL images}; at least one value.
        name: what the control sets.
        titles: one for each picture of a list.
    """

    def draw(**setting) -> Figure:
        value = setting[name]
        return plot_pictures(pictures[value], titles, suptitle=f"{name} {value}")

    return Explorer(draw, {name: slider(name, pictures)})


def explore_two_hops(image, hops, inputs: list) -> Explorer:
    """`plot_hop` with controls for the word, whose cells are shown, and for the cell.

    It starts at the word whose share differs most between cells, and at the cell where that share
    is greatest.

    Args:
        image: the painted PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or if neither a word nor
            a patch is among them.
    """

    def draw(word: str, row: int, column: int) -> Figure:
        return plot_hop(image, hops, inputs, word, (row, column))

    maps = shares_of(hops, inputs, sources(inputs))
    most_varied = max(maps, key=lambda name: np.ptp(maps[name]))
    height, width = maps[most_varied].shape
    row, column = divmod(int(maps[most_varied].argmax()), width)
    controls = {
        "word": slider("word", maps, most_varied),
        "row": slider("row", range(height), row),
        "column": slider("column", range(width), column),
    }
    return Explorer(draw, controls)
