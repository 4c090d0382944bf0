"""Tables: heat maps with their numbers written out, matrices over tokens, and tables of text."""

import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from .drawing import (
    GREY,
    HIGHLIGHT,
    LETTER,
    figure_function,
    name_cells,
    set_title,
    share_bar,
    show_picture,
    side_by_side,
    write_in_cell,
)
from .tokens import TOKEN_COLOURS, kind_of, pieces_of, short

WRITTEN_CELLS = 64  # up to so many, the numbers are written into the cells of a matrix


def _longest_line(names: list[str]) -> int:
    """Letters in the longest line of some names."""
    return max(map(len, "\n".join(names).split("\n")))


@figure_function
def plot_table(
    values,
    rows: list[str],
    columns: list[str],
    title: str,
    label: str,
    words: list[list[str]] | None = None,
    framed: list[int] | None = None,
) -> Figure:
    """Tables of shares as heat maps, with every number written in its cell.

    Args:
        values: shape (rows, columns), in [0, 1]; a cell that is nan is left without colour. Or
            {name: such a table}: tables side by side on one colour scale.
        rows, columns: their names, which may be broken into lines.
        title: the finding.
        label: what a number is.
        words: what is written in the cells instead of the share, with a line break or none.
        framed: for each row the index of a column, whose cell gets a frame.

    Raises:
        ValueError: if a table does not fit the names (both shapes), or if `framed` does not name a
            column for every row.
    """
    named = values if isinstance(values, dict) else {"": values}
    tables = {name: np.asarray(table, dtype=float) for name, table in named.items()}
    for name, table in tables.items():
        if table.shape != (len(rows), len(columns)):
            raise ValueError(
                f"values of shape {table.shape} do not fit {len(rows)} rows and {len(columns)} "
                f"columns{f' in {name!r}' if name else ''}"
            )
    if framed is not None and (
        len(framed) != len(rows) or not all(0 <= column < len(columns) for column in framed)
    ):
        raise ValueError(
            f"{len(rows)} rows need as many of the columns 0 to {len(columns) - 1}, and "
            f"{list(framed)} were given"
        )
    beside, below = _longest_line(rows), _longest_line(columns)
    wide, high = max(0.42, 0.16 + 0.075 * below), 0.34 if words is None else 0.42
    across = 1.8 + 0.075 * beside + (wide * len(columns) + 0.4) * len(tables)
    named = isinstance(values, dict)
    if named:
        across = max(across, LETTER * len(title))
    figure, axes = side_by_side(tables, across, 1.1 + high * len(rows) + 0.25 * named, sharey=True)
    top = max(np.nanmax(table) for table in tables.values()) or 1
    for axis, (name, table) in zip(axes[0], tables.items()):
        mesh = axis.pcolormesh(table, vmin=0, vmax=top, edgecolors="white", linewidth=1)
        for (row, column), share in np.ndenumerate(table):
            text = f"{share:.0%}" if words is None else words[row][column]
            write_in_cell(axis, row, column, "0" if text == "0%" else text, share < 0.6 * top)
        for row, column in enumerate(framed or []):
            frame = dict(fill=False, edgecolor=HIGHLIGHT, linewidth=2)
            axis.add_patch(Rectangle((column + 0.05, row + 0.07), 0.9, 0.86, **frame))
        name_cells(axis, rows, columns)
        axis.set_title(name if named else title)
    share_bar(figure, mesh, axes, label, aspect=14)
    if named:
        set_title(figure, title)
    return figure


@figure_function
def plot_changes(ratios, rows: list[str], columns: list[str], title: str, label: str) -> Figure:
    """A table of later over earlier values: red for growth, blue for decline, white for no change.

    Every cell shows the change in per cent, averaged over the seeds (as the mean of the
    logarithms), and beneath it the least and the greatest change of a seed.

    Args:
        ratios: later over earlier, shape (seeds, rows, columns), above 0.
        rows, columns: their names.
        title: the finding.
        label: what a number is.

    Raises:
        ValueError: if there are not as many names as rows and columns (both shapes), or for a ratio
            that is not above 0.
    """
    ratios = np.asarray(ratios, dtype=float)
    if ratios.ndim != 3 or ratios.shape[1:] != (len(rows), len(columns)):
        raise ValueError(
            f"ratios of shape {ratios.shape} do not fit {len(rows)} rows and {len(columns)} "
            "columns, with the seeds as the first axis"
        )
    if not (ratios > 0).all():
        raise ValueError(f"a ratio must be above 0, and the least is {ratios.min():g}")
    logs = np.log2(ratios)
    mean, least, greatest = logs.mean(axis=0), logs.min(axis=0), logs.max(axis=0)
    reach = max(np.abs(mean).max(), 0.1)
    wide = max(0.95, 0.2 + 0.075 * max(map(len, columns)))
    across = max(2.2 + 0.075 * max(map(len, rows)) + wide * len(columns), LETTER * len(title))
    figure, axis = plt.subplots(figsize=(across, 1.1 + 0.46 * len(rows)), layout="constrained")
    signed = dict(vmin=-reach, vmax=reach, cmap="RdBu_r")
    mesh = axis.pcolormesh(mean, edgecolors="white", linewidth=1, **signed)
    several = len(ratios) > 1
    for row, column in np.ndindex(mean.shape):
        style = dict(
            ha="center", color="white" if abs(mean[row, column]) > 0.6 * reach else "black"
        )
        low, middle, high = (2 ** logs[row, column] - 1 for logs in (least, mean, greatest))
        align = "bottom" if several else "center"
        axis.text(column + 0.5, row + 0.5, f"{middle:+.0%}", va=align, fontsize=9, **style)
        if several:
            text = f"{low:+.0%} to {high:+.0%}"
            axis.text(column + 0.5, row + 0.58, text, va="top", fontsize=6.5, **style)
    name_cells(axis, rows, columns)
    factor = FuncFormatter(lambda power, _: f"x {2**power:.2g}")
    figure.colorbar(mesh, ax=axis, pad=0.01, aspect=14, label=label, format=factor)
    set_title(figure, title)
    return figure


@figure_function
def plot_matrices(
    matrices: dict,
    tokens: list[str],
    title: str,
    label: str,
    signed: bool = False,
    columns: int = 4,
) -> Figure:
    """Matrices with the same tokens on both axes, on one colour scale: scores, masks, weights.

    Rows are query positions, columns key positions. Cells that are minus infinity or nan (masked)
    stay white. In small ones numbers are written out. Without room for names, columns are numbered.

    Args:
        matrices: {name: shape (tokens, tokens)}, at least one.
        tokens: their names, in order.
        title: the finding.
        label: what a number is.
        signed: centred on zero (scores); otherwise from zero on (weights, in [0, 1]).
        columns: how many matrices side by side at most.

    Raises:
        ValueError: without matrices, or if one has not as many rows and columns as there are tokens
            (both shapes).
    """
    drawn = {name: np.asarray(matrix, dtype=float) for name, matrix in matrices.items()}
    count = len(tokens)
    if not drawn:
        raise ValueError("no matrices were given to draw")
    for matrix in drawn.values():
        if matrix.shape != (count, count):
            raise ValueError(
                f"a matrix of shape {matrix.shape} does not fit {count} tokens, which need "
                f"{(count, count)}"
            )
    finite = np.concatenate([matrix[np.isfinite(matrix)] for matrix in drawn.values()])
    top = np.abs(finite).max(initial=0) or 1.0
    scale = dict(vmin=-top, vmax=top, cmap="RdBu_r") if signed else dict(vmin=0, vmax=top)
    columns = min(columns, len(drawn))
    rows, written = math.ceil(len(drawn) / columns), count**2 <= WRITTEN_CELLS
    names = [short(token) for token in tokens]
    room = 0.1 + 0.075 * max(map(len, names))  # of a column's name
    side = min((max(0.42, room) if written else 0.2) * count, 7.6 / columns - 0.3)
    fits = side > 0.99 * room * count
    beside = names if fits else [f"{name} {index}" for index, name in enumerate(names)]
    below = names if fits else ["" if index % 5 else str(index) for index in range(count)]
    wide = max(columns * side + room + 1.7, LETTER * len(title))
    size = wide, rows * (side + 0.35) + 0.9
    figure, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True, sharey=True
    )
    for axis in axes.flat[len(drawn) :]:
        axis.set_axis_off()
    for axis, (name, matrix) in zip(axes.flat, drawn.items()):
        masked = np.ma.masked_invalid(matrix)
        mesh = axis.pcolormesh(masked, edgecolors="white", linewidth=0.4, **scale)
        if written:
            for row, column in np.argwhere(np.isfinite(matrix)):
                value = matrix[row, column]
                dark = abs(value) > 0.6 * top if signed else value < 0.6 * top
                write_in_cell(axis, row, column, f"{value:.2g}", dark)
        name_cells(axis, beside, below, size=8)
        axis.set(aspect="equal", title=name)
    figure.supylabel("query position", fontsize=9, color=GREY)
    figure.supxlabel("key position", fontsize=9, color=GREY)
    figure.colorbar(mesh, ax=list(axes.flat), pad=0.01, aspect=14 * rows, label=label)
    set_title(figure, title)
    return figure


@figure_function
def plot_visibility(sees, inputs: list, title: str) -> Figure:
    """Which positions see which: a cell in the colour of the key position where it is visible.

    Args:
        sees: bool, shape (tokens, tokens): rows are query positions, columns key positions.
        inputs: labels, as `probe.Trace.inputs`.
        title: the finding.

    Raises:
        ValueError: if there is not one row and one column for each input (both shapes).
    """
    sees, count = np.asarray(sees, dtype=bool), len(inputs)
    if sees.shape != (count, count):
        raise ValueError(f"visibility has shape {sees.shape}; {count} inputs need {(count, count)}")
    kinds = [kind_of(label) for label in inputs]
    colours = np.array([to_rgb(TOKEN_COLOURS[kind]) for kind in kinds])
    names = [_name_of(label) for label in inputs]
    side = 0.15 * count
    figure, axis = plt.subplots(figsize=(side + 2.3, side + 1.3), layout="constrained")
    axis.imshow(np.where(sees[..., None], colours[None], 1.0), extent=(0, count, count, 0))
    # Lines around every block of queries and of patches, which are painted or read at once.
    blocks = [piece for piece in pieces_of(inputs) if piece.kind in ("queries", "patches")]
    outlines = [edge for piece in blocks for edge in (piece.first, piece.last + 1)]
    for line in (axis.axhline, axis.axvline):
        for cut in range(count + 1):
            line(cut, color="white", linewidth=0.6)
        for cut in outlines:
            line(cut, color="#888888", linewidth=0.5)
    name_cells(axis, names, names, size=6, upright=True)
    axis.set(xlabel="key position", ylabel="query position")
    handles = [
        Patch(color=colour, label=kind) for kind, colour in TOKEN_COLOURS.items() if kind in kinds
    ]
    beside = dict(loc="upper left", bbox_to_anchor=(1, 1))
    axis.legend(handles=handles, title="visible token", **beside)
    set_title(figure, title)
    return figure


def _name_of(label) -> str:
    """An input at the axis of a matrix."""
    if isinstance(label, tuple):
        return f"patch {label[1]}, {label[2]}"
    return short(label) if isinstance(label, str) else f"query {label}"


@figure_function
def plot_scores(images: list, captions: list[str], scores: dict, title: str, label: str) -> Figure:
    """Which caption fits which picture: a matrix for each name, pictures by captions.

    A frame marks the caption that belongs to a picture. All matrices share one colour scale:
    viridis from 0 for magnitudes, or red and blue around 0 if any number is below 0.

    Args:
        images: PIL images, one per row.
        captions: one per column; the first ones belong to the pictures in their order.
        scores: {name: shape (pictures, captions)}, at least one.
        title: the finding.
        label: what a number is.

    Raises:
        ValueError: without a matrix, or for one that is not pictures by captions (both shapes).
    """
    matrices = {name: np.asarray(matrix) for name, matrix in scores.items()}
    if not matrices:
        raise ValueError("no scores were given to draw")
    for matrix in matrices.values():
        if matrix.shape != (len(images), len(captions)):
            raise ValueError(
                f"scores of shape {matrix.shape} do not fit {len(images)} images and "
                f"{len(captions)} captions"
            )
    low = min(matrix.min() for matrix in matrices.values())
    top = max(matrix.max() for matrix in matrices.values())
    reach = max(top, -low)
    scale = dict(vmin=0, vmax=top) if low >= 0 else dict(cmap="RdBu_r", vmin=-reach, vmax=reach)
    cell, names = 0.42, [textwrap.fill(caption, 26) for caption in captions]
    wide = (cell * (len(captions) + 1.1) + 0.15) * len(matrices) + 1.25
    high = cell * len(images) + 0.062 * _longest_line(names) + 0.95
    figure, axes = side_by_side(matrices, wide, high)
    for axis, (name, matrix) in zip(axes[0], matrices.items()):
        mesh = axis.pcolormesh(matrix, edgecolors="white", linewidth=0.8, **scale)
        frame = dict(fill=False, edgecolor=HIGHLIGHT, linewidth=1.4)
        for index in range(min(matrix.shape)):
            axis.add_patch(Rectangle((index, index), 1, 1, **frame))
        for row, image in enumerate(images):
            show_picture(axis, image, extent=(-1.05, -0.1, row + 0.95, row + 0.05), zorder=2)
        name_cells(axis, [""] * len(images), names, size=7, upright=True)
        axis.set(xlim=(-1.1, len(captions)), aspect="equal", title=name)
    figure.colorbar(mesh, ax=list(axes[0]), pad=0.01, aspect=14, label=label)
    set_title(figure, title)
    return figure


def text_table(columns: list[str], rows: list):
    """A table of text and numbers that a notebook shows as text; numbers are aligned to the right.

    Args:
        columns: their names.
        rows: as many values in each as there are columns: str, int (written with commas) or float
            (with three digits).

    Returns:
        `IPython.display.Markdown`.

    Raises:
        ValueError: if a row has another number of values (both numbers).
    """
    from IPython.display import Markdown

    if wrong := [len(row) for row in rows if len(row) != len(columns)]:
        raise ValueError(f"a row has {wrong[0]} values, the table {len(columns)} columns")
    indices = range(len(columns))
    numeric = [not any(isinstance(row[index], str) for row in rows) for index in indices]
    lines = [columns, *([_as_text(value) for value in row] for row in rows)]
    lines = ["| " + " | ".join(line) + " |" for line in lines]
    lines.insert(1, "|" + "|".join("--:" if right else "---" for right in numeric) + "|")
    return Markdown("\n".join(lines))


def _as_text(value) -> str:
    """A value of a text table."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
