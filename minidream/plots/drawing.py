"""What all figures share: the style, and the marks that several of them draw."""

import functools
import math
from collections.abc import Sized

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)
from PIL import Image

from ..images import as_rgb
from .letters import add_fallbacks
from .style import keep_style, package_style

INK = "#333333"
GREY = "#444444"
HIGHLIGHT = "#D55E00"  # of no map and of no kind of token
LETTER = 0.105  # inches that one letter of a figure's title takes


def figure_function(function=None, *, settle: bool = False):
    """Draws in the package's style and closes the figure: a notebook would show an open one twice.

    A figure that an error left unfinished is closed as well.

    Args:
        function: returns a figure.
        settle: lay the figure out once before it is shown, as long names beside pictures need.
    """
    if function is None:
        return functools.partial(figure_function, settle=settle)

    @functools.wraps(function)
    def styled(*arguments, **options) -> Figure:
        with package_style() as families:
            open_before = set(plt.get_fignums())
            try:
                figure = function(*arguments, **options)
                add_fallbacks(figure, families)
                if settle:
                    figure.draw_without_rendering()
                return keep_style(figure)
            finally:
                for number in set(plt.get_fignums()) - open_before:
                    plt.close(number)

    return styled


def set_title(figure: Figure, title: str) -> None:
    """Writes the title of a figure at its upper left."""
    figure.suptitle(title, x=0.01, ha="left")


def set_subtitle(figure: Figure, title: str, subtitle: str) -> None:
    """Writes a title, and a line of grey text beneath it."""
    set_title(figure, f"{title}\n")
    y = 1 - 0.38 / figure.get_figheight()
    figure.text(0.01, y, subtitle, va="center", color=GREY)


def show_picture(axis: Axes, image, **options):
    """Shows a picture as the model reads it, upright and in its colours.

    Args:
        axis: where to draw.
        image: a PIL image, or an array as matplotlib takes it.
        options: of matplotlib's `imshow`.

    Returns:
        What `imshow` returns.
    """
    return axis.imshow(as_rgb(image) if isinstance(image, Image.Image) else image, **options)


def side_by_side(panels: Sized, width: float, height: float, sharey: bool = False) -> tuple:
    """A figure, width x height in inches, with axes in a row, one for each panel."""
    return plt.subplots(
        1,
        len(panels),
        figsize=(width, height),
        layout="constrained",
        squeeze=False,
        sharey=sharey,
    )


def beside_picture(
    image, name: str, count: int, columns: int, width: float, height: float
) -> tuple:
    """A bare picture under its name, and empty axes for maps after it, row by row.

    Args:
        image: a PIL image.
        name: written above the picture.
        count: of the maps.
        columns: how many axes side by side at most.
        width, height: of each, in inches, with its title.

    Returns:
        (figure, all axes, those for the maps, number of rows).
    """
    columns = min(columns, count + 1)
    rows = math.ceil((count + 1) / columns)
    size = (width * columns + 0.7, height * rows + 0.35)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    show_picture(axes.flat[0], image)
    axes.flat[0].set_title(name)
    return figure, axes, axes.flat[1 : count + 1], rows


def cycle_colour(index: int) -> str:
    """A colour of the style, by its value."""
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    return colours[index % len(colours)]


def draw_level(axis: Axes, height: float, name: str) -> None:
    """A named horizontal line to compare with."""
    axis.axhline(height, color="#888888", linestyle="dashed", linewidth=1)
    at_right = dict(transform=axis.get_yaxis_transform(), ha="right", va="bottom")
    axis.text(1, height, name, fontsize=8, color=GREY, **at_right)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose coordinates are inches, from the bottom left."""
    figure = plt.figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axis.set_axis_off()
    return figure, axis


def draw_box(
    axis: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str,
    text: str = "",
    size: float = 8.5,
    edge: str = "none",
) -> None:
    """A rounded box, (x, y) its lower left corner, with a text of `size` points in its middle."""
    box = FancyBboxPatch(
        (x + 0.03, y + 0.03),
        width - 0.06,
        height - 0.06,
        boxstyle="round,pad=0.03,rounding_size=0.06",
        facecolor=colour,
        edgecolor=edge,
        linewidth=0.8,
    )
    axis.add_patch(box)
    middle = (x + width / 2, y + height / 2)
    axis.text(*middle, text, ha="center", va="center_baseline", fontsize=size, color=INK)


def draw_picture(
    axis: Axes, image, x: float, y: float, width: float, grid: int = 0, edge: str = "#888888"
) -> None:
    """A square picture in a frame, (x, y) its lower left corner, under the lines of a grid.

    Args:
        axis: where to draw.
        image: a PIL image, or an array.
        x, y, width: in the units of the axes.
        grid: cells along a side; 0 draws no lines.
        edge: colour of the frame.
    """
    extent = (x, x + width, y, y + width)
    show_picture(axis, image, extent=extent, aspect="auto", zorder=2)
    thin = dict(color="white", linewidth=0.4, zorder=3)
    for cut in range(1, grid):
        offset = width * cut / grid
        axis.plot([x + offset] * 2, [y, y + width], **thin)
        axis.plot([x, x + width], [y + offset] * 2, **thin)
    axis.add_patch(Rectangle((x, y), width, width, fill=False, edgecolor=edge, lw=1.2, zorder=4))


def draw_arrow(
    axis: Axes, start: tuple, end: tuple, colour: str, width: float = 0.9, linestyle="-"
) -> None:
    """A straight arrow; its width in points."""
    arrow = FancyArrowPatch(
        start,
        end,
        arrowstyle=f"-|>,head_length={2 + width},head_width={1.2 + width / 2}",
        color=colour,
        linewidth=width,
        linestyle=linestyle,
        shrinkA=0,
        shrinkB=0,
    )
    axis.add_patch(arrow)


def draw_legend(axis: Axes, entries: list[tuple[str, str, str]]) -> None:
    """A legend in one line at the bottom of a canvas; entries are (colour, edge colour, text)."""
    x = 0.1
    for colour, edge, text in entries:
        square = Rectangle((x, 0.1), 0.13, 0.13, facecolor=colour, edgecolor=edge, linewidth=0.8)
        axis.add_patch(square)
        axis.text(x + 0.18, 0.165, text, va="center_baseline", fontsize=8, color=INK)
        x += 0.36 + 0.067 * len(text)


def draw_map(axis: Axes, values, low, high, inches: float, cmap=None, alpha=None):
    """A map of square cells, the first row on top, with white lines between them.

    Args:
        axis: where to draw.
        values: shape (height, width).
        low, high: ends of the colour scale; None is the least or the greatest value.
        inches: height of the map, for `line_width`.
        cmap, alpha: as in matplotlib.

    Returns:
        What a colour bar takes.
    """
    axis.set(aspect="equal", ylim=(len(values), 0))
    return axis.pcolormesh(
        values,
        vmin=low,
        vmax=high,
        cmap=cmap,
        alpha=alpha,
        edgecolors="white",
        linewidth=line_width(len(values), inches),
    )


def line_width(cells: int, inches: float) -> float:
    """Points of the lines between cells: none where the lines would hide the cells.

    Args:
        cells: along a side.
        inches: length of that side.
    """
    return 0.5 if inches / cells > 0.1 else 0.0


def share_bar(figure, mesh, axes, label: str, aspect: float, pad: float = 0.01):
    """A colour bar in per cent beside some axes."""
    percent = PercentFormatter(1)
    return figure.colorbar(
        mesh, ax=list(np.ravel(axes)), pad=pad, aspect=aspect, label=label, format=percent
    )


def name_cells(axis, rows: list[str], columns: list[str], size=None, upright=False) -> None:
    """Names rows and columns of a heat map, the first row on top, without ticks or a frame.

    Args:
        axis: of the heat map.
        rows, columns: their names.
        size: of the letters, in points; None is the style's.
        upright: the names of the columns are turned by 90 degrees.
    """
    axis.set(ylim=(len(rows), 0))
    rotation = 90 if upright else 0
    axis.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=rotation, fontsize=size)
    axis.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=size)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def write_in_cell(axis, row: int, column: int, text: str, on_dark: bool) -> None:
    """Writes into a cell of a heat map, light on dark or dark on light."""
    colour = "white" if on_dark else "black"
    axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8, color=colour)


def plain_ticks(axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Plain numbers on a logarithmic axis: 0.02, because powers of ten need mathtext (off here).

    Args:
        axis: `axes.xaxis` or `axes.yaxis`.
        subs: which digits of a decade get a tick.
    """
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
