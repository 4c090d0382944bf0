"""Numbers side by side: heat maps with every number written out, sizes, stacked bars, tables of text."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, PercentFormatter

from .drawing import figure_function, name_cells


@figure_function
def plot_table(
    values,
    rows: list[str],
    columns: list[str],
    title: str,
    label: str,
    words: list[list[str]] | None = None,
) -> Figure:
    """A table of shares as a heat map, with every number written in its cell.

    Args:
        values: shape (rows, columns), in [0, 1]; a cell that is nan is left without colour.
        rows, columns: their names, which may be broken into lines.
        title: what there is to see.
        label: what a number is.
        words: what is written in the cells instead of the share, with a line break or none.

    Raises:
        ValueError: if there are not as many names as rows and columns (both shapes).
    """
    values = np.asarray(values)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"values of shape {values.shape} do not fit {len(rows)} rows and {len(columns)} columns"
        )
    beside, below = (
        max(len(line) for name in names for line in name.split("\n")) for names in (rows, columns)
    )  # letters in the longest line
    wide, high = max(0.42, 0.16 + 0.075 * below), 0.34 if words is None else 0.42
    figure, axis = plt.subplots(
        figsize=(2.2 + 0.075 * beside + wide * len(columns), 1.1 + high * len(rows)),
        layout="constrained",
    )
    top = np.nanmax(values) or 1
    mesh = axis.pcolormesh(values, vmin=0, vmax=top, edgecolors="white", linewidth=1)
    for row, column in np.ndindex(values.shape):
        share = f"{values[row, column]:.0%}" if words is None else words[row][column]
        axis.text(
            column + 0.5,
            row + 0.5,
            "0" if share == "0%" else share,
            ha="center",
            va="center",
            fontsize=8,
            color="white" if values[row, column] < 0.6 * top else "black",
        )
    name_cells(axis, rows, columns)
    axis.set_title(title)
    figure.colorbar(mesh, ax=axis, pad=0.01, aspect=14, label=label, format=PercentFormatter(1))
    return figure


def text_table(columns: list[str], rows: list):
    """A table of words and numbers that a notebook shows as text; numbers stand on the right, whole ones with commas.

    Args:
        columns: their names.
        rows: as many values in each as there are columns: str, int or float (three digits).

    Returns:
        `IPython.display.Markdown`.

    Raises:
        ValueError: if a row has another number of values (both numbers).
    """
    from IPython.display import Markdown

    lines = ["| " + " | ".join(columns) + " |"]
    if wrong := [len(row) for row in rows if len(row) != len(columns)]:
        raise ValueError(f"a row has {wrong[0]} values, the table {len(columns)} columns")
    right = [
        all(isinstance(row[place], (int, float)) for row in rows) for place in range(len(columns))
    ]
    lines.append("|" + "|".join("--:" if numbers else "---" for numbers in right) + "|")
    for row in rows:
        lines.append(
            "| "
            + " | ".join(
                value
                if isinstance(value, str)
                else f"{value:,}"
                if isinstance(value, int)
                else f"{value:.3g}"
                for value in row
            )
            + " |"
        )
    return Markdown("\n".join(lines))


def _common_parts(amounts: dict[str, dict], where: str) -> list[str]:
    """The parts that all have, in their order; ValueError, which says `where`, if some have others or there is none."""
    parts = list(next(iter(amounts.values()), {}))
    if not parts or any(list(other) != parts for other in amounts.values()):
        raise ValueError(
            f"the same parts are needed {where}, at least one: {[list(other) for other in amounts.values()]}"
        )
    return parts


@figure_function
def plot_sizes(sizes: dict[str, dict[str, int]], title: str, label: str = "parameters") -> Figure:
    """How large the parts of several models are, on one logarithmic scale: a line per part, a dot per model.

    Args:
        sizes: {model: {part: number above 0}}; every model has the same parts.
        title: what there is to see.
        label: what is counted.

    Raises:
        ValueError: if the models do not have the same parts.
    """
    parts = _common_parts(sizes, "for all models")
    figure, axis = plt.subplots(figsize=(8.2, 1.3 + 0.3 * len(parts)), layout="constrained")
    for row, part in enumerate(parts):
        axis.plot(
            [
                min(model[part] for model in sizes.values()),
                max(model[part] for model in sizes.values()),
            ],
            [row, row],
            color="#D0D0D0",
            linewidth=1.2,
            zorder=1,
        )
    for number, (name, model) in enumerate(sizes.items()):
        axis.plot(
            list(model.values()),
            range(len(parts)),
            "osD^v"[number % 5],
            markersize=6.5,
            linestyle="none",
            label=name,
        )
    last, numbers = list(sizes.items())[-1]
    for row, text in enumerate([last, *map(in_words, numbers.values())], start=-1):
        axis.text(
            1.01,
            row,
            text,
            transform=axis.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color="#444444",
            weight="bold" if row < 0 else "normal",
        )
    axis.set(
        xscale="log",
        ylim=(len(parts) - 0.5, -0.5),
        xlabel=f"{label} (from line to line: ten times as many)",
    )
    axis.xaxis.set_major_locator(LogLocator(numticks=20))
    axis.minorticks_off()
    axis.set_yticks(range(len(parts)), parts)
    axis.grid(axis="x", color="#EEEEEE", zorder=0)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower left", ncols=len(sizes))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def in_words(number: float) -> str:
    """A large number, short: 6738481152 is "6.74 billion"."""
    for name, unit in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.3g}"


@figure_function
def plot_stacks(
    stacks: dict[str, dict[str, float]],
    title: str,
    label: str,
    marks: dict[str, float] | None = None,
) -> Figure:
    """What each total is made of: a bar per name, cut by part, the total written at its end.

    Args:
        stacks: {name: {part: amount}}; every name has the same parts.
        title: what there is to see.
        label: what the amounts are, with the unit.
        marks: {name: amount} of vertical lines to compare with.

    Raises:
        ValueError: if the names do not have the same parts.
    """
    parts = _common_parts(stacks, "in all bars")
    figure, axis = plt.subplots(figsize=(8.2, 1.55 + 0.36 * len(stacks)), layout="constrained")
    starts = np.zeros(len(stacks))
    for part in parts:
        amounts = np.array([stack[part] for stack in stacks.values()])
        axis.barh(
            range(len(stacks)),
            amounts,
            left=starts,
            label=part,
            edgecolor="white",
            height=0.72,
            zorder=2,
        )
        starts += amounts
    for row, total in enumerate(starts):
        axis.text(
            total,
            row,
            f" {total:,.0f}" if total >= 1000 else f" {total:.3g}",
            va="center",
            zorder=3,
            bbox=dict(facecolor="white", edgecolor="none", pad=0.5),
        )
    for name, amount in (marks or {}).items():
        axis.axvline(amount, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axis.text(amount, -0.62, f"{name} ", fontsize=8, ha="right", va="bottom", color="#555555")
    axis.set(
        ylim=(len(stacks) - 0.4, -0.95 if marks else -0.6),
        xlim=(0, 1.08 * max(starts.max(), *(marks or {"": 0}).values())),
        xlabel=label,
    )
    axis.set_yticks(range(len(stacks)), list(stacks))
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower left", ncols=len(parts), columnspacing=1.4, handlelength=1)
    figure.suptitle(title, x=0.01, ha="left")
    return figure
