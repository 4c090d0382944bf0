"""What changes while a model learns."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from .drawing import LETTER, figure_function, plain_ticks


@figure_function
def plot_losses(log: list[dict], title: str) -> Figure:
    """Loss curves of a run's log, one panel per loss: every line thinly, a moving average boldly.

    Args:
        log: one dict per line, as `train.fit` returns: step, the losses, rate, samples_per_second. At least one line.
        title: of the run.
    """
    names = [name for name in log[0] if name not in ("step", "rate", "samples_per_second")]
    figure, axes = plt.subplots(
        1,
        len(names),
        figsize=(max(3.6 * len(names), LETTER * len(title)), 2.8),
        layout="constrained",
        squeeze=False,
    )
    steps = np.array([line["step"] for line in log])
    window = max(1, len(log) // 25)
    for axis, name in zip(axes[0], names):
        values = np.array([line[name] for line in log], dtype=float)
        axis.plot(steps, values, linewidth=0.7, alpha=0.45)
        if window > 1:  # only whole windows: at the ends an average over fewer lines would jump
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            axis.plot(steps[window // 2 :][: len(smooth)], smooth, color="C0")
        axis.set(xlabel="step", ylabel=name)
        if (values > 0).all():
            axis.set_yscale("log")
            plain_ticks(axis.yaxis)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_seed_losses(
    panels: dict[str, dict[str, list]], title: str, xlabel: str = "step"
) -> Figure:
    """Loss curves of several runs of the same thing: each seed thinly, the mean over the seeds boldly.

    Args:
        panels: {what is measured: {condition: curves}}, a curve per seed, each a list of (step, loss above 0); all seeds
            of a condition have the same steps. Each panel has a scale of its own: losses of two kinds cannot be compared.
        title: what there is to see.
        xlabel: what is counted, if not steps.

    Raises:
        ValueError: if the curves of a condition have different steps, or there are none.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.7 * len(panels), 2.7), layout="constrained", squeeze=False
    )
    for axis, (measured, conditions) in zip(axes[0], panels.items()):
        for number, (name, curves) in enumerate(conditions.items()):
            steps = [tuple(step for step, _ in curve) for curve in curves]
            if not curves or len(set(steps)) != 1:
                raise ValueError(
                    f"{name!r} has {len(curves)} curves with {len(set(steps))} different lists of steps; one list for all is needed"
                )
            losses = np.array([[loss for _, loss in curve] for curve in curves])
            for seed in losses:
                axis.plot(steps[0], seed, color=cycle(number), linewidth=0.7, alpha=0.5)
            axis.plot(steps[0], losses.mean(axis=0), color=cycle(number), linewidth=2.2, label=name)
        axis.set(xlabel=xlabel, ylabel=measured, yscale="log")
        plain_ticks(axis.yaxis)
        if len(conditions) > 1:  # below, where no curve runs
            axis.legend(
                loc="upper left", bbox_to_anchor=(0, -0.2), ncols=len(conditions), columnspacing=1
            )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def cycle(number: int) -> str:
    """A colour of the style, by number. Its name "C0" would be looked up when the figure is saved, in another style."""
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    return colours[number % len(colours)]


def draw_spread(
    axis, place: float, spread: tuple, colour: str, across: bool = True, label: str | None = None
) -> None:
    """One condition's dots: every seed small, the mean large, the interval a line, along x (`across`) or along y.

    Args:
        axis: where to draw.
        place: on the other axis.
        spread: (values of the seeds, mean, low, high), as `studies.spread` gives it; without an interval low and high are nan.
    """
    values, mean, low, high = spread

    def line(numbers, **style) -> None:
        places = [place] * len(numbers)
        axis.plot(*((numbers, places) if across else (places, numbers)), color=colour, **style)

    line([low, high], linewidth=1.6, alpha=0.55)
    line(values, marker="o", markersize=3.2, alpha=0.6, linestyle="none")
    line([mean], marker="D", markersize=6.5, linestyle="none", label=label)


@figure_function
def plot_spreads(
    panels: dict[str, dict[str, dict[str, tuple]]],
    title: str,
    label: str,
    logarithmic: bool = False,
    shares: bool = True,
) -> Figure:
    """Conditions beside one another, over seeds: a row per quantity, in it a diamond per condition with its interval.

    Args:
        panels: {panel: {row: {condition: (values of the seeds, mean, low, high)}}}; low and high are nan without an interval.
            The conditions of all rows are the same. Shares, in [0, 1], unless `logarithmic`.
        title: what there is to see.
        label: what a number is.
        logarithmic: for positive numbers of different sizes.
        shares: written in per cent; False for other numbers in [0, 1], such as correlations.

    Raises:
        ValueError: if rows have different conditions (both).
    """
    names = [tuple(row) for panel in panels.values() for row in panel.values()]
    if len(set(names)) != 1:
        raise ValueError(f"every row needs the same conditions, and there are {sorted(set(names))}")
    rows = max(map(len, panels.values()))
    high = 0.24 + 0.11 * len(names[0])
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(max(1.2 + 3.4 * len(panels), LETTER * len(title)), 1.2 + high * rows),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (panel, content) in zip(axes[0], panels.items()):
        for row, conditions in enumerate(content.values()):
            for number, (name, spread) in enumerate(conditions.items()):
                offset = (number - (len(conditions) - 1) / 2) * 0.7 / len(conditions)
                draw_spread(
                    axis,
                    row + offset,
                    spread,
                    cycle(number),
                    label=name if row == 0 and axis is axes[0][0] else None,
                )
            if row:
                axis.axhline(row - 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
        axis.set_yticks(range(len(content)), list(content))
        axis.set(ylim=(rows - 0.5, -0.5), xlabel=label, title=panel)
        axis.tick_params(axis="y", length=0)
        if logarithmic:
            axis.set_xscale("log")
            plain_ticks(axis.xaxis)
        else:
            axis.set_xlim(-0.03, 1.03)
            if shares:
                axis.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower left", ncols=min(len(names[0]), 3 * len(panels)))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_gains(panels: dict[str, dict[str, tuple]], title: str, label: str) -> Figure:
    """Differences over seeds beside nothing: for each row every seed, the mean and its interval; in grey what could not have been found.

    Args:
        panels: {panel: {row: (values of the seeds, mean, low, high, detectable)}}; the rows of all panels are the same. Fractions, written in
            per cent: differences between `-detectable` and `detectable` are too small for so few seeds.
        title: what there is to see.
        label: what a number is.

    Raises:
        ValueError: if panels have different rows (both).
    """
    names = {tuple(rows) for rows in panels.values()}
    if len(names) != 1:
        raise ValueError(f"every panel needs the same rows, and there are {sorted(names)}")
    (rows,) = names
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(max(1.8 + 3.2 * len(panels), LETTER * len(title)), 1.2 + 0.3 * len(rows)),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (panel, content) in zip(axes[0], panels.items()):
        for number, (*spread, detectable) in enumerate(content.values()):
            axis.barh(
                number, 2 * detectable, left=-detectable, height=0.8, color="#E8E8E8", zorder=0
            )
            draw_spread(axis, number, spread, cycle(0))
        axis.axvline(0, color="#888888", linewidth=0.8, zorder=1)
        axis.set(title=panel, ylim=(len(rows) - 0.5, -0.5))
        axis.set_yticks(range(len(rows)), rows)
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.supxlabel(label, fontsize=9, color="#444444")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_costs(
    points: dict[str, tuple[int, tuple]], title: str, xlabel: str, ylabel: str
) -> Figure:
    """What is reached for how much: a point with its interval for each name.

    Args:
        points: {name: (cost above 0, (values of the seeds, mean, low, high))}; shares in [0, 1].
        title: what there is to see.
        xlabel: what the cost is; its scale is logarithmic.
        ylabel: what is reached.
    """
    figure, axis = plt.subplots(figsize=(7.6, 3.4), layout="constrained")
    for number, (name, (cost, spread)) in enumerate(points.items()):
        # Costs that are nearly equal stand a little apart, around where they are, so that no interval hides another.
        near = sorted(
            (other for other in points if 0.9 < points[other][0] / cost < 1.1),
            key=lambda other: points[other][0],
        )
        draw_spread(
            axis,
            cost * 1.06 ** (near.index(name) - (len(near) - 1) / 2),
            spread,
            cycle(number),
            across=False,
            label=name,
        )
    axis.set_xscale("log")
    plain_ticks(axis.xaxis, subs=(1, 3))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:,.0f}"))
    axis.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.03, 1.03))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside right center")
    figure.suptitle(title, x=0.01, ha="left")
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
        panels: {panel, its y axis: {line: {number above 0: (values of the seeds, mean, low, high)}}}.
        title: what there is to see.
        xlabel: what the number counts.
        shares: the values are shares in [0, 1]; else positive numbers on a logarithmic scale.
        levels: {name: height} of lines to compare with, in all panels.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.3 * len(panels), 2.8), layout="constrained", squeeze=False
    )
    for axis, (panel, lines) in zip(axes[0], panels.items()):
        for number, (name, points) in enumerate(lines.items()):
            counts = sorted(points)
            axis.plot(
                counts, [points[count][1] for count in counts], color=cycle(number), linewidth=1.4
            )
            for count in counts:
                # Lines that share a number stand a little apart, so that no interval hides another.
                draw_spread(
                    axis,
                    count * 1.05**number,
                    points[count],
                    cycle(number),
                    across=False,
                    label=name if count == counts[0] else None,
                )
        for name, height in (levels or {}).items():
            axis.axhline(height, color="#888888", linestyle="dashed", linewidth=1)
            axis.text(
                1,
                height,
                name,
                transform=axis.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=8,
                color="#444444",
            )
        axis.set_xscale("log", base=2)
        everyone = sorted({count for points in lines.values() for count in points})
        axis.set_xticks(everyone, [f"{count}" for count in everyone])
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
    figure.suptitle(title, x=0.01, ha="left")
    return figure
