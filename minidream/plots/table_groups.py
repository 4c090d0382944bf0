"""A large table in parts that can be read: groups of columns, one below the other."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .drawing import figure_function, name_cells, set_title, share_bar, write_in_cell

PAGE = 8.4  # inches: as wide as a page shows a figure without making its letters smaller
ROW, NAMES = 0.27, 0.75  # inches of a row, and of the names of a group and of its columns


@figure_function
def plot_table_groups(
    groups: dict[str, tuple[list, list[str], list[str], list[list[str]]]], title: str, label: str
) -> Figure:
    """Tables of shares below one another, a page wide, with columns of one width and one scale.

    Args:
        groups: {name: (values, rows, columns, words)}, at least one. The values have the shape
            (rows, columns) and are in [0, 1]; a cell that is nan is left without colour. Rows are
            named in one line, columns in one or more. The words are written in the cells.
        title: the finding.
        label: what a number is.

    Raises:
        ValueError: without groups, or for values that do not fit their names (both shapes).
    """
    if not groups:
        raise ValueError("no groups were given to draw")
    tables = {name: np.asarray(group[0], dtype=float) for name, group in groups.items()}
    for name, (_, rows, columns, _) in groups.items():
        if tables[name].shape != (len(rows), len(columns)):
            raise ValueError(
                f"values of shape {tables[name].shape} do not fit {len(rows)} rows and "
                f"{len(columns)} columns in {name!r}"
            )
    heights = [len(table) * ROW + NAMES for table in tables.values()]
    figure, axes = plt.subplots(
        len(tables),
        1,
        figsize=(PAGE, sum(heights) + 0.4),
        layout="constrained",
        squeeze=False,
        gridspec_kw={"height_ratios": [len(table) for table in tables.values()]},
    )
    most = max(table.shape[1] for table in tables.values())
    top = max(np.nanmax(table) for table in tables.values()) or 1
    for axis, (name, (_, rows, columns, words)) in zip(axes[:, 0], groups.items()):
        mesh = axis.pcolormesh(tables[name], vmin=0, vmax=top, edgecolors="white", linewidth=1)
        for (row, column), share in np.ndenumerate(tables[name]):
            write_in_cell(axis, row, column, words[row][column], share < 0.6 * top)
        name_cells(axis, rows, columns)
        axis.tick_params(labeltop=True, labelbottom=False)
        axis.set(xlim=(0, most), title=name)
    share_bar(figure, mesh, axes, label, aspect=40)
    set_title(figure, title)
    return figure
