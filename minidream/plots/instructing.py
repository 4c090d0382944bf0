"""What training on instructions changes and leaves as it was: losses against what they were, and attributes kept by an edit."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, PercentFormatter

from .drawing import LETTER, figure_function, name_cells


@figure_function
def plot_changes(ratios, rows: list[str], columns: list[str], title: str, label: str) -> Figure:
    """How quantities changed: a table of later over earlier, red where it grew, blue where it shrank, white at "as before".

    In every cell the change in per cent, averaged over the seeds (the mean of the logarithms), and beneath it the least and the greatest of them.

    Args:
        ratios: later over earlier, shape (seeds, rows, columns), above 0.
        rows, columns: their names.
        title: what there is to see.
        label: what a number is.

    Raises:
        ValueError: if there are not as many names as rows and columns (both shapes), or for a ratio that is not above 0.
    """
    ratios = np.asarray(ratios, dtype=float)
    if ratios.ndim != 3 or ratios.shape[1:] != (len(rows), len(columns)):
        raise ValueError(
            f"ratios of shape {ratios.shape} do not fit {len(rows)} rows and {len(columns)} columns, with the seeds in front"
        )
    if not (ratios > 0).all():
        raise ValueError(f"a ratio has to be above 0, and the least is {ratios.min():g}")
    logs = np.log2(ratios)
    mean, least, greatest = logs.mean(axis=0), logs.min(axis=0), logs.max(axis=0)
    reach = max(np.abs(mean).max(), 0.1)
    wide = max(0.95, 0.2 + 0.075 * max(map(len, columns)))
    across = max(2.2 + 0.075 * max(map(len, rows)) + wide * len(columns), LETTER * len(title))
    figure, axis = plt.subplots(figsize=(across, 1.1 + 0.46 * len(rows)), layout="constrained")
    mesh = axis.pcolormesh(
        mean, vmin=-reach, vmax=reach, cmap="RdBu_r", edgecolors="white", linewidth=1
    )
    for row, column in np.ndindex(mean.shape):
        colour = "white" if abs(mean[row, column]) > 0.6 * reach else "black"
        axis.text(
            column + 0.5,
            row + 0.5,
            f"{2 ** mean[row, column] - 1:+.0%}",
            ha="center",
            va="bottom" if len(ratios) > 1 else "center",
            fontsize=9,
            color=colour,
        )
        if len(ratios) > 1:
            axis.text(
                column + 0.5,
                row + 0.58,
                f"{2 ** least[row, column] - 1:+.0%} to {2 ** greatest[row, column] - 1:+.0%}",
                ha="center",
                va="top",
                fontsize=6.5,
                color=colour,
            )
    name_cells(axis, rows, columns)
    figure.colorbar(
        mesh,
        ax=axis,
        pad=0.01,
        aspect=14,
        label=label,
        format=FuncFormatter(lambda power, _: f"x {2**power:.2g}"),
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_kept(
    tables: dict, rows: list[str], columns: list[str], changed: list[int], title: str, label: str
) -> Figure:
    """Tables of shares side by side on one colour scale; in each row a frame around the cell that was asked to change.

    Args:
        tables: {name: shares, shape (rows, columns), in [0, 1]}.
        rows, columns: their names.
        changed: for each row, the number of the column that was to change; all others were to stay.
        title: what there is to see.
        label: what a number is.

    Raises:
        ValueError: if a table does not fit the names (both shapes), or `changed` does not name a column for every row.
    """
    if len(changed) != len(rows) or not all(0 <= column < len(columns) for column in changed):
        raise ValueError(
            f"{len(rows)} rows need as many of the columns 0 to {len(columns) - 1}, and {list(changed)} came"
        )
    wide = max(0.5, 0.16 + 0.075 * max(map(len, columns)))
    across = max(
        1.2 + 0.075 * max(map(len, rows)) + (wide * len(columns) + 0.4) * len(tables),
        LETTER * len(title),
    )
    figure, axes = plt.subplots(
        1,
        len(tables),
        figsize=(across, 1.35 + 0.34 * len(rows)),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (name, values) in zip(axes[0], tables.items()):
        values = np.asarray(values)
        if values.shape != (len(rows), len(columns)):
            raise ValueError(
                f"the table {name!r} has shape {values.shape}, for {len(rows)} rows and {len(columns)} columns"
            )
        mesh = axis.pcolormesh(values, vmin=0, vmax=1, edgecolors="white", linewidth=1)
        for row, column in np.ndindex(values.shape):
            axis.text(
                column + 0.5,
                row + 0.5,
                f"{values[row, column]:.0%}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if values[row, column] < 0.6 else "black",
            )
        for row, column in enumerate(changed):
            axis.add_patch(
                Rectangle(
                    (column + 0.05, row + 0.07),
                    0.9,
                    0.86,
                    facecolor="none",
                    edgecolor="#D55E00",
                    linewidth=2,
                )
            )
        name_cells(axis, rows, columns)
        axis.set_title(name)
    figure.colorbar(
        mesh, ax=list(axes[0]), pad=0.01, aspect=14, label=label, format=PercentFormatter(1)
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure
