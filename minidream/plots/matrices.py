"""What happens inside a language model: matrices with tokens on both axes, next-word probabilities, rotary angles, curves."""

import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .drawing import LETTER, figure_function, short

WRITTEN_CELLS = 64  # up to so many, the numbers are written into the cells of a matrix
LETTERS_PER_LINE = 108


@figure_function
def plot_matrices(
    matrices: dict,
    tokens: list[str],
    title: str,
    label: str,
    signed: bool = False,
    columns: int = 4,
) -> Figure:
    """Square matrices with the same tokens on both axes, all on one colour scale: scores, masks, attention weights.

    Rows are the tokens that look, columns those that are looked at. Cells that are minus infinity or nan stay white: they
    are the ones that nobody may look at. Small matrices have their numbers written in.

    Args:
        matrices: {name: shape (tokens, tokens)}, at least one.
        tokens: their names, in order.
        title: what there is to see.
        label: what a number is.
        signed: centred on zero (scores) instead of from zero on (weights, in [0, 1]).
        columns: how many matrices side by side at most.

    Raises:
        ValueError: without matrices, or if one has not as many rows and columns as there are tokens (both shapes).
    """
    drawn = {name: np.asarray(matrix, dtype=float) for name, matrix in matrices.items()}
    if not drawn:
        raise ValueError("no matrices were given to draw")
    if wrong := [
        matrix.shape for matrix in drawn.values() if matrix.shape != (len(tokens), len(tokens))
    ]:
        raise ValueError(
            f"a matrix of shape {wrong[0]} does not fit {len(tokens)} tokens, which need {(len(tokens), len(tokens))}"
        )
    finite = np.concatenate([matrix[np.isfinite(matrix)] for matrix in drawn.values()])
    top = np.abs(finite).max(initial=0) or 1.0
    scale = dict(vmin=-top, vmax=top, cmap="RdBu_r") if signed else dict(vmin=0, vmax=top)
    count, columns = len(tokens), min(columns, len(drawn))
    rows, written = math.ceil(len(drawn) / columns), count**2 <= WRITTEN_CELLS
    side = (
        min(0.42 * count, 7.6 / columns - 0.3) if written else min(0.2 * count, 7.6 / columns - 0.3)
    )
    names = [short(token) for token in tokens]
    margin = 0.25 + 0.062 * max(map(len, names))
    wide = max(columns * side + margin + 1.3, LETTER * len(title))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(wide, rows * (side + 0.35) + margin + 0.45),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for axis in axes.flat[len(drawn) :]:
        axis.set_axis_off()
    for axis, (name, matrix) in zip(axes.flat, drawn.items()):
        mesh = axis.pcolormesh(
            np.ma.masked_invalid(matrix),
            edgecolors="white",
            linewidth=1 if written else 0.4,
            **scale,
        )
        if written:
            _write_numbers(axis, matrix, top, signed)
        axis.set(aspect="equal", ylim=(count, 0), title=name)
        axis.set_xticks(np.arange(count) + 0.5, names, rotation=90, fontsize=8 if written else 6.5)
        axis.set_yticks(np.arange(count) + 0.5, names, fontsize=8 if written else 6.5)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.supylabel("who looks", fontsize=9, color="#444444")
    figure.supxlabel("at whom", fontsize=9, color="#444444")
    figure.colorbar(mesh, ax=list(axes.flat), pad=0.01, aspect=14 * rows, label=label)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _write_numbers(axis, matrix: np.ndarray, top: float, signed: bool) -> None:
    """Every finite number into its cell, dark on light or light on dark."""
    for row, column in np.argwhere(np.isfinite(matrix)):
        value = matrix[row, column]
        dark = abs(value) > 0.6 * top if signed else value < 0.6 * top
        axis.text(
            column + 0.5,
            row + 0.5,
            f"{value:.2g}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )


@figure_function
def plot_next_words(chances: dict[str, dict[str, float]], title: str, columns: int = 4) -> Figure:
    """What may come next: for each beginning, bars of the likeliest words.

    Args:
        chances: {beginning: {word: probability in [0, 1]}}, from the likeliest down; at least one.
        title: what there is to see.
        columns: how many beginnings side by side at most.

    Raises:
        ValueError: without beginnings, or if a number is no probability.
    """
    if not chances:
        raise ValueError("no beginnings were given to draw")
    if wrong := [
        value for words in chances.values() for value in words.values() if not 0 <= value <= 1
    ]:
        raise ValueError(f"a probability lies between 0 and 1; {wrong[0]} does not")
    columns = min(columns, len(chances))
    rows, most = math.ceil(len(chances) / columns), max(map(len, chances.values()))
    names = [textwrap.fill(name, 26) for name in chances]
    lines = max(name.count("\n") + 1 for name in names)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.25 * columns + 0.2, rows * (0.19 * most + 0.16 * lines + 0.55) + 0.35),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for axis in axes.flat[len(chances) :]:
        axis.set_axis_off()
    for axis, name, words in zip(axes.flat, names, chances.values()):
        axis.barh(range(len(words)), list(words.values()), height=0.72)
        axis.set(xlim=(0, 1), ylim=(most - 0.4, -0.6), title=name)
        axis.set_yticks(range(len(words)), list(map(short, words)))
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    for axis in axes[-1]:
        axis.set_xlabel("probability")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_token_bars(values: dict, tokens: list[str], title: str, label: str) -> Figure:
    """A number for every token of a sentence, as bars over the words; a row of bars for each name.

    Args:
        values: {name: shape (tokens,), 0 or more; nan draws no bar}, at least one; rows share one scale.
        tokens: their names, in order.
        title: what there is to see.
        label: what a number is, with its unit.

    Raises:
        ValueError: without values, or if there are not as many as tokens (both numbers).
    """
    rows = {name: np.asarray(row, dtype=float) for name, row in values.items()}
    if not rows or any(row.shape != (len(tokens),) for row in rows.values()):
        raise ValueError(
            f"rows of shapes {[row.shape for row in rows.values()]} were given for {len(tokens)} tokens: at least one "
            f"is needed, with a number for each token"
        )
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(9, 1.05 * len(rows) + 0.85),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    top = np.nanmax(np.stack(list(rows.values())))
    for axis, (name, row) in zip(axes[:, 0], rows.items()):
        axis.bar(range(len(tokens)), np.nan_to_num(row), width=0.72)
        for place in np.flatnonzero(np.isfinite(row)):
            axis.text(
                place, row[place], f"{row[place]:.2g}", ha="center", va="bottom", fontsize=7.5
            )
        axis.set(ylim=(0, 1.2 * top), title=name)
    axes[-1, 0].set_xticks(
        range(len(tokens)),
        list(map(short, tokens)),
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    figure.supylabel(label, fontsize=9, color="#444444")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_turns(angles, title: str) -> Figure:
    """How far each pair of numbers has been turned at each position: clock hands, pairs x positions.

    Args:
        angles: shape (positions, pairs), radians, as one row of `llm.rotary_angles`.
        title: what there is to see.

    Raises:
        ValueError: for another number of dimensions.
    """
    angles = np.asarray(angles, dtype=float)
    if angles.ndim != 2:
        raise ValueError(
            f"angles of shape (positions, pairs) are drawn, not of {angles.ndim} dimensions: {angles.shape}"
        )
    positions, pairs = angles.shape
    figure, axis = plt.subplots(
        figsize=(min(9, 1.3 + 0.5 * positions), 0.95 + 0.5 * pairs), layout="constrained"
    )
    for position, pair in np.ndindex(positions, pairs):
        angle = angles[position, pair]
        axis.add_patch(
            plt.Circle(
                (position, pair), 0.4, facecolor="#F4F4F4", edgecolor="#BBBBBB", linewidth=0.7
            )
        )
        axis.plot(
            [position, position + 0.36 * math.cos(angle)],
            [pair, pair - 0.36 * math.sin(angle)],
            color="C0",
            linewidth=1.6,
        )
    axis.set(
        aspect="equal",
        xlim=(-0.6, positions - 0.4),
        ylim=(pairs - 0.4, -0.6),
        xlabel="position",
        ylabel="pair of numbers",
        title=title,
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_yticks(range(pairs))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


@figure_function
def plot_curves(panels: dict[str, dict], x, xlabel: str, title: str) -> Figure:
    """Curves over one common axis, a panel per quantity, a curve per name; the names mean the same in every panel.

    Args:
        panels: {quantity, with its unit: {name: shape (points,)}}, at least one.
        x: where the points lie, shape (points,).
        xlabel: what x is, with its unit.
        title: what there is to see.

    Raises:
        ValueError: without panels, or if a curve has not as many points as x (both numbers).
    """
    if not panels:
        raise ValueError("no panels were given to draw")
    if wrong := [
        len(curve)
        for curves in panels.values()
        for curve in curves.values()
        if len(curve) != len(x)
    ]:
        raise ValueError(f"a curve has {wrong[0]} points, x has {len(x)}")
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(min(9, max(4.4 * len(panels) + 0.6, LETTER * len(title))), 2.9),
        layout="constrained",
        squeeze=False,
    )
    for axis, (quantity, curves) in zip(axes[0], panels.items()):
        for name, curve in curves.items():
            axis.plot(x, curve, label=name)
        axis.set(xlabel=xlabel, ylabel=quantity)
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=len(names))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_writing(texts: dict[str, str], title: str, lines: int = 3) -> Figure:
    """What was written, by whom: text under names. The size of the figure depends on the number of names alone.

    Args:
        texts: {name: text}, at least one; a text is cut after `lines` lines.
        title: what there is to see.
        lines: room for each text.

    Raises:
        ValueError: without texts.
    """
    if not texts:
        raise ValueError("no texts were given to draw")
    block = 0.26 + 0.175 * lines
    figure, axis = plt.subplots(figsize=(9, 0.4 + block * len(texts)), layout="constrained")
    axis.set(xlim=(0, 1), ylim=(block * len(texts), 0))
    axis.set_axis_off()
    for number, (name, text) in enumerate(texts.items()):
        written = textwrap.wrap(text, LETTERS_PER_LINE, max_lines=lines, placeholder=" …")
        axis.text(0, block * number, name, va="top", weight="bold", fontsize=8.5, color="#0072B2")
        axis.text(0.01, block * number + 0.19, "\n".join(written), va="top", fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure
