"""What all figures share: the style, the colours by kind, and how the labels of a sequence are sorted."""

import functools
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from ..tokenizers import SPECIAL_TOKENS

STYLE = Path(__file__).with_name("minidream.mplstyle")
# What can stand at a position, and its colour (Okabe and Ito's, which the colour-blind can tell apart).
KINDS = {
    "<s>": "#999999",
    "words": "#56B4E9",
    "patches": "#009E73",
    "markers": "#D0D0D0",
    "queries": "#E69F00",
}
INK = "#333333"
WORDS_PER_STRIP = 24  # more words go on in a second strip, so that they stay readable
LETTER = 0.105  # inches that a letter of a figure's title takes
LONGEST = 14  # characters of a token that are written out


def figure_function(function):
    """Draws in the package's style and closes the figure: an open one would be shown twice in a notebook.

    A figure that an error left unfinished is closed as well.
    """

    @functools.wraps(function)
    def styled(*arguments, **options) -> Figure:
        open_before = set(plt.get_fignums())
        try:
            with plt.style.context(STYLE):
                return function(*arguments, **options)
        finally:
            for number in set(plt.get_fignums()) - open_before:
                plt.close(number)

    return styled


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
    """A rounded box, (x, y) its lower left corner, with a text of so many points in its middle."""
    axis.add_patch(
        FancyBboxPatch(
            (x + 0.03, y + 0.03),
            width - 0.06,
            height - 0.06,
            boxstyle="round,pad=0.03,rounding_size=0.06",
            facecolor=colour,
            edgecolor=edge,
            linewidth=0.8,
        )
    )
    axis.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center_baseline",
        fontsize=size,
        color=INK,
    )


def draw_picture(
    axis: Axes, image, x: float, y: float, width: float, grid: int = 0, edge: str = "#888888"
) -> None:
    """A square picture in a frame, (x, y) its lower left corner, with the lines of a grid of so many cells over it."""
    axis.imshow(image, extent=(x, x + width, y, y + width), aspect="auto", zorder=2)
    for cut in range(1, grid):
        axis.plot(
            [x + width * cut / grid] * 2, [y, y + width], color="white", linewidth=0.4, zorder=3
        )
        axis.plot(
            [x, x + width], [y + width * cut / grid] * 2, color="white", linewidth=0.4, zorder=3
        )
    axis.add_patch(
        Rectangle((x, y), width, width, facecolor="none", edgecolor=edge, linewidth=1.2, zorder=4)
    )


def draw_arrow(
    axis: Axes, start: tuple, end: tuple, colour: str, width: float = 0.9, linestyle="-"
) -> None:
    """A straight arrow; its width in points."""
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=f"-|>,head_length={2 + width},head_width={1.2 + width / 2}",
            color=colour,
            linewidth=width,
            linestyle=linestyle,
            shrinkA=0,
            shrinkB=0,
        )
    )


def name_cells(axis, rows: list[str], columns: list[str]) -> None:
    """Writes the names of rows and columns beside the cells of a heat map, the first row on top, without ticks or a frame."""
    axis.set(ylim=(len(rows), 0))
    axis.set_xticks([column + 0.5 for column in range(len(columns))], columns)
    axis.set_yticks([row + 0.5 for row in range(len(rows))], rows)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def plain_ticks(axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Plain numbers on a logarithmic x or y axis: 0.02, not a power of ten, which needs the mathtext that the style turns off.

    Args:
        axis: `axes.xaxis` or `axes.yaxis`.
        subs: which digits of a decade get a tick.
    """
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def kind_of(label) -> str:
    """What stands at a position, as a key of `KINDS`.

    Args:
        label: as in `probe.Trace.inputs`: a token's text, (image, patch row, patch column), or a query's number.
    """
    if isinstance(label, tuple):
        return "patches"
    if isinstance(label, int):
        return "queries"
    # The first token is set apart: attention that has nothing to look for rests there (an "attention sink").
    return "<s>" if label == "<s>" else "markers" if label in SPECIAL_TOKENS else "words"


def shares(inputs: list, rows) -> dict[str, float]:
    """How much attention goes to each kind of input: {kind: share in [0, 1]}, averaged over rows; 1 in sum.

    Args:
        inputs: labels, as `probe.Trace.inputs`.
        rows: attention after softmax, shape (queries, inputs).
    """
    kinds = [kind_of(label) for label in inputs]
    return {
        kind: float(
            rows[:, [place for place, other in enumerate(kinds) if other == kind]].sum() / len(rows)
        )
        for kind in KINDS
    }


def short(text: str) -> str:
    """A token as it is written in a figure: a long one is cut."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def strips_of(inputs: list) -> list[list[int]]:
    """Positions of the words, in strips of at most `WORDS_PER_STRIP`, broken where an image stands if that is possible."""
    runs, after_image = [], True
    for place, label in enumerate(inputs):
        if kind_of(label) == "words":
            if after_image or len(runs[-1]) == WORDS_PER_STRIP:
                runs.append([])
            runs[-1].append(place)
        after_image = isinstance(label, tuple) or (after_image and kind_of(label) != "words")
    strips: list[list[int]] = []
    for run in runs:
        if strips and len(strips[-1]) + len(run) <= WORDS_PER_STRIP:
            strips[-1] += run
        else:
            strips.append(run)
    return strips
