"""Results with their intervals: over seeds, or of shares that were counted."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from .drawing import (
    GREY,
    LETTER,
    cycle_colour,
    draw_level,
    figure_function,
    plain_ticks,
    set_title,
    side_by_side,
)


def draw_spread(
    axis, position: float, spread: tuple, colour: str, across: bool = True, label: str | None = None
) -> None:
    """The results of a condition: every seed a small dot, the mean a diamond, the interval a line.

    Args:
        axis: where to draw.
        position: on the other axis.
        spread: (values of the seeds, mean, low, high), as
            `studies.intervals.mean_with_interval` gives it; low and high are nan without one.
        colour: of all.
        across: the values are on the x axis; otherwise on the y axis.
        label: for the legend.
    """
    values, mean, low, high = spread

    def line(numbers, **style) -> None:
        positions = [position] * len(numbers)
        places = (numbers, positions) if across else (positions, numbers)
        axis.plot(*places, color=colour, **style)

    line([low, high], linewidth=1.6, alpha=0.55)
    line(values, marker="o", markersize=3.2, alpha=0.6, linestyle="none")
    line([mean], marker="D", markersize=6.5, linestyle="none", label=label)


def _name_rows(axis, rows: list[str]) -> None:
    """Names of the rows at the y axis, the first on top."""
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(axis="y", length=0)


@figure_function
def plot_spreads(
    panels: dict[str, dict[str, dict[str, tuple]]],
    title: str,
    label: str,
    logarithmic: bool = False,
    shares: bool = True,
) -> Figure:
    """Conditions compared over seeds: a row per quantity, in it a diamond per condition.

    Args:
        panels: {panel: {row: {condition: (values of the seeds, mean, low, high)}}}; low and high
            are nan without an interval. The conditions of all rows are the same. The values are
            shares in [0, 1], unless `logarithmic`.
        title: the finding.
        label: what a value is.
        logarithmic: for positive values of different magnitudes.
        shares: written in per cent; False for other numbers in [0, 1], such as correlations.

    Raises:
        ValueError: if rows have different conditions (both).
    """
    names = [tuple(row) for panel in panels.values() for row in panel.values()]
    if len(set(names)) != 1:
        raise ValueError(f"every row needs the same conditions, and there are {sorted(set(names))}")
    rows, count = max(map(len, panels.values())), len(names[0])
    wide = max(1.2 + 3.4 * len(panels), LETTER * len(title))
    figure, axes = side_by_side(panels, wide, 1.2 + (0.24 + 0.11 * count) * rows, sharey=True)
    for axis, (panel, content) in zip(axes[0], panels.items()):
        for row, conditions in enumerate(content.values()):
            for index, (name, spread) in enumerate(conditions.items()):
                offset = (index - (count - 1) / 2) * 0.7 / count
                in_legend = name if row == 0 and axis is axes[0][0] else None
                draw_spread(axis, row + offset, spread, cycle_colour(index), label=in_legend)
            if row:
                axis.axhline(row - 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
        _name_rows(axis, list(content))
        axis.set(ylim=(rows - 0.5, -0.5), xlabel=label, title=panel)
        if logarithmic:
            axis.set_xscale("log")
            plain_ticks(axis.xaxis)
        else:
            axis.set_xlim(-0.03, 1.03)
            if shares:
                axis.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower left", ncols=min(count, 3 * len(panels)))
    set_title(figure, title)
    return figure


@figure_function
def plot_gains(panels: dict[str, dict[str, tuple]], title: str, label: str) -> Figure:
    """Differences over seeds around zero: every seed, the mean and its interval for each row.

    Grey bars mark the differences that could not have been detected.

    Args:
        panels: {panel: {row: (values of the seeds, mean, low, high, detectable)}}; the rows of all
            panels are the same. Fractions, written in per cent: differences between `-detectable`
            and `detectable` are too small for so few seeds.
        title: the finding.
        label: what a difference is.

    Raises:
        ValueError: if panels have different rows (both).
    """
    names = {tuple(rows) for rows in panels.values()}
    if len(names) != 1:
        raise ValueError(f"every panel needs the same rows, and there are {sorted(names)}")
    (rows,) = names
    wide = max(1.8 + 3.2 * len(panels), LETTER * len(title))
    figure, axes = side_by_side(panels, wide, 1.2 + 0.3 * len(rows), sharey=True)
    for axis, (panel, content) in zip(axes[0], panels.items()):
        for row, (*spread, detectable) in enumerate(content.values()):
            grey = dict(height=0.8, color="#E8E8E8", zorder=0)
            axis.barh(row, 2 * detectable, left=-detectable, **grey)
            draw_spread(axis, row, spread, cycle_colour(0))
        axis.axvline(0, color="#888888", linewidth=0.8, zorder=1)
        axis.set(title=panel, ylim=(len(rows) - 0.5, -0.5))
        _name_rows(axis, list(rows))
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.supxlabel(label, fontsize=9, color=GREY)
    set_title(figure, title)
    return figure


@figure_function
def plot_costs(
    points: dict[str, tuple[int, tuple]], title: str, xlabel: str, ylabel: str
) -> Figure:
    """Results by cost: a point with its interval for each name.

    Args:
        points: {name: (cost above 0, (values of the seeds, mean, low, high))}; shares in [0, 1].
        title: the finding.
        xlabel: what the cost is; its scale is logarithmic.
        ylabel: what the result is.
    """
    figure, axis = plt.subplots(figsize=(7.6, 3.4), layout="constrained")
    for index, (name, (cost, spread)) in enumerate(points.items()):
        # Points of nearly equal cost are moved a little apart, so that no interval hides another.
        near = [other for other in points if 0.9 < points[other][0] / cost < 1.1]
        near.sort(key=lambda other: points[other][0])
        moved = cost * 1.06 ** (near.index(name) - (len(near) - 1) / 2)
        draw_spread(axis, moved, spread, cycle_colour(index), across=False, label=name)
    axis.set_xscale("log")
    plain_ticks(axis.xaxis, subs=(1, 3))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:,.0f}"))
    axis.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.03, 1.03))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside right center")
    set_title(figure, title)
    return figure


@figure_function
def plot_by_count(
    panels: dict[str, dict[str, dict[int, tuple]]],
    title: str,
    xlabel: str,
    shares: bool = True,
    levels: dict[str, float] | None = None,
) -> Figure:
    """How results depend on a number that doubles, with intervals over seeds.

    Args:
        panels: {panel, its y axis: {line: {number above 0: (values of the seeds, mean, low,
            high)}}}.
        title: the finding.
        xlabel: what the number counts.
        shares: the values are shares in [0, 1]; otherwise positive, on a logarithmic scale.
        levels: {name: height} of lines to compare with, in all panels.
    """
    figure, axes = side_by_side(panels, 3.3 * len(panels), 2.8)
    for axis, (panel, lines) in zip(axes[0], panels.items()):
        for index, (name, points) in enumerate(lines.items()):
            counts, colour = sorted(points), cycle_colour(index)
            axis.plot(counts, [points[count][1] for count in counts], color=colour, linewidth=1.4)
            for count in counts:
                # Lines with a number in common are moved apart, so that no interval hides another.
                label, moved = name if count == counts[0] else None, count * 1.05**index
                draw_spread(axis, moved, points[count], colour, across=False, label=label)
        for name, height in (levels or {}).items():
            draw_level(axis, height, name)
        axis.set_xscale("log", base=2)
        counts = sorted({count for points in lines.values() for count in points})
        axis.set_xticks(counts, [f"{count}" for count in counts])
        axis.xaxis.minorticks_off()
        axis.set(xlabel=xlabel, ylabel=panel)
        if shares:
            axis.set_ylim(-0.03, 1.03)
            axis.yaxis.set_major_formatter(PercentFormatter(1))
        else:
            axis.set_yscale("log")
            plain_ticks(axis.yaxis)
        if len(lines) > 1:
            axis.legend()
    set_title(figure, title)
    return figure


@figure_function
def plot_shares(
    panels: dict[str, dict],
    title: str,
    label: str,
    levels: dict[str, float] | None = None,
    percent: bool = True,
) -> Figure:
    """Shares with their intervals: a panel for each outcome or variable, a row for each condition.

    Args:
        panels: {panel: {condition: (share, low, high)}}; a condition is a name, or a value of the
            variable. At least one. Differences and correlations, which may be below 0, will do too.
        title: the finding.
        label: what a share is of.
        levels: {panel: the share that guessing gives}, drawn as a dashed line.
        percent: whether numbers are written in per cent.

    Raises:
        ValueError: without conditions, or if a share is outside its interval (all three).
    """
    if not panels or not all(panels.values()):
        raise ValueError("every panel needs at least one condition")
    names = {
        panel: [name if isinstance(name, str) else f"{name:g}" for name in points]
        for panel, points in panels.items()
    }
    rows = max(map(len, names.values()))
    same = len(set(map(tuple, names.values()))) == 1  # then they are written only once
    longest = max(len(name) for some in names.values() for name in some)
    wide = 0.8 + 0.07 * longest * (1 if same else len(panels)) + 2.5 * len(panels)
    figure, axes = side_by_side(panels, wide, 1.15 + 0.33 * rows, sharey=same)
    for axis, (panel, points) in zip(axes[0], panels.items()):
        shares, lows, highs = np.array(list(points.values()), dtype=float).T
        # With a margin: 1 may be above a bound of 0.9999999999999998.
        for share, low, high in points.values():
            if not low - 1e-9 <= share <= high + 1e-9:
                raise ValueError(f"a share is outside its interval: {(share, low, high)}")
        below, above = np.maximum([shares - lows, highs - shares], 0)
        style = dict(marker="o", linestyle="none", capsize=3, elinewidth=1.2)
        axis.errorbar(shares, range(len(points)), xerr=[below, above], **style)
        if panel in (levels or {}):
            axis.axvline(levels[panel], color="#888888", linestyle="dashed", lw=1, zorder=0)
            style = dict(fontsize=7.5, color="#666666", va="center")
            axis.text(levels[panel], -0.62, " by guessing", **style)
        least = min(0, *(low for _, low, _ in points.values()))
        axis.set(xlim=(least - 0.03, 1.03), ylim=(rows - 0.5, -0.85), xlabel=label, title=panel)
        if percent:
            axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.grid(axis="x", color="#EEEEEE", zorder=0)
        _name_rows(axis, names[panel])
    set_title(figure, title)
    return figure


@figure_function
def plot_answers(panels: dict[str, dict[str, tuple]], title: str) -> Figure:
    """Numbers with their intervals beside those of several controls, for a few models.

    A mean that lies beyond its controls is a filled diamond, another one an empty diamond.

    Args:
        panels: {model: {question: ((mean, low, high), mean of each control, whether the mean is
            beyond them)}}; shares in [0, 1]. The questions of all models are the same.
        title: the finding.

    Raises:
        ValueError: if models have different questions (both).
    """
    names = {tuple(rows) for rows in panels.values()}
    if len(names) != 1:
        raise ValueError(f"every model needs the same questions, and there are {sorted(names)}")
    (questions,) = names
    figure, axes = side_by_side(panels, 9, 1.3 + 0.27 * len(questions), sharey=True)
    own, other = cycle_colour(0), cycle_colour(1)
    for axis, (panel, rows) in zip(axes[0], panels.items()):
        for row, ((mean, low, high), controls, beyond) in enumerate(rows.values()):
            axis.plot([low, high], [row, row], color=own, linewidth=1.6, alpha=0.55)
            style = dict(color=other, marker="|", markersize=11, markeredgewidth=1.6)
            axis.plot(controls, [row] * len(controls), linestyle="none", **style)
            face = own if beyond else "white"
            axis.plot(mean, row, marker="D", color=own, markerfacecolor=face, linestyle="none")
        axis.set(title=panel, xlim=(-0.03, 1.03), ylim=(len(questions) - 0.5, -0.5))
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.grid(axis="y", color="#EEEEEE", zorder=0)
        _name_rows(axis, list(questions))
    entries = {
        "the model, beyond the control": dict(marker="D", color=own),
        "the model, not beyond it": dict(marker="D", color=own, markerfacecolor="white"),
        "the control": dict(marker="|", color=other, markersize=11),
    }
    handles = [
        Line2D([], [], linestyle="none", label=label, **style) for label, style in entries.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    set_title(figure, title)
    return figure
