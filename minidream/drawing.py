"""What all figures share: the style, the colours by kind, and how the labels of a sequence are sorted."""

import functools
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .documents import SPECIAL_TOKENS

STYLE = Path(__file__).with_name("minidream.mplstyle")
# What can stand at a position, and its colour (Okabe and Ito's, which the colour-blind can tell apart).
KINDS = {"<s>": "#999999", "words": "#56B4E9", "patches": "#009E73", "markers": "#D0D0D0", "queries": "#E69F00"}
WORDS_PER_STRIP = 24        # more words go on in a second strip, so that they stay readable
LETTER = 0.105              # inches that a letter of a figure's title takes
LONGEST = 14                # characters of a token that are written out


def figure_function(function):
    """Draws in the package's style, and closes the figure: an open one would be shown twice in a notebook."""
    @functools.wraps(function)
    def styled(*arguments, **options) -> Figure:
        with plt.style.context(STYLE):
            figure = function(*arguments, **options)
            plt.close(figure)
        return figure
    return styled


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
    return {kind: float(rows[:, [place for place, other in enumerate(kinds) if other == kind]].sum() / len(rows)) for kind in KINDS}


def short(text: str) -> str:
    """A token as it is written in a figure: a long one is cut."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 1]}…"


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
