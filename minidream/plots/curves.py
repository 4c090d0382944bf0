"""Curves: losses by step, and quantities along one axis."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import (
    LETTER,
    cycle_colour,
    draw_level,
    figure_function,
    plain_ticks,
    set_title,
    side_by_side,
)

MARKED = 30  # up to so many points of a curve get a marker each


@figure_function
def plot_losses(log: list[dict], title: str, levels: dict[str, float] | None = None) -> Figure:
    """Loss curves of a run's log, one panel per loss: every line thinly, a moving average boldly.

    Args:
        log: one dict per line, as `trainer.fit` returns: step, the losses, rate and
            samples_per_second. At least one line.
        title: of the run.
        levels: {name: loss} of lines to compare with, in all panels.

    Raises:
        ValueError: without a line.
    """
    if not log:
        raise ValueError("no losses were given to draw")
    names = [name for name in log[0] if name not in ("step", "rate", "samples_per_second")]
    wide = max(3.6 * len(names), LETTER * len(title))
    figure, axes = side_by_side(names, wide, 2.8)
    steps = np.array([line["step"] for line in log])
    window = max(1, len(log) // 25)
    for axis, name in zip(axes[0], names):
        values = np.array([line[name] for line in log], dtype=float)
        axis.plot(steps, values, linewidth=0.7, alpha=0.45)
        if window > 1:  # only whole windows: at the ends an average over fewer lines would jump
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            axis.plot(steps[window // 2 :][: len(smooth)], smooth, color="C0")
        for level, height in (levels or {}).items():
            draw_level(axis, height, level)
        axis.set(xlabel="step", ylabel=name)
        if (values > 0).all():
            axis.set_yscale("log")
            plain_ticks(axis.yaxis)
    set_title(figure, title)
    return figure


@figure_function
def plot_seed_losses(
    panels: dict[str, dict[str, list]], title: str, xlabel: str = "step"
) -> Figure:
    """Loss curves of several seeds: each seed thinly, the mean over the seeds boldly.

    Args:
        panels: {loss: {condition: curves}}, a curve per seed, each a list of (step, loss above 0);
            all seeds of a condition have the same steps. Each panel has a scale of its own, because
            losses of two kinds cannot be compared.
        title: the finding.
        xlabel: what is counted, if not steps.

    Raises:
        ValueError: if the curves of a condition have different steps, or there are none.
    """
    figure, axes = side_by_side(panels, 3.7 * len(panels), 2.7)
    for axis, (loss, conditions) in zip(axes[0], panels.items()):
        for index, (name, curves) in enumerate(conditions.items()):
            steps = [tuple(step for step, _ in curve) for curve in curves]
            if len(set(steps)) != 1:
                raise ValueError(
                    f"{name!r} has {len(curves)} curves with {len(set(steps))} different lists of "
                    "steps; one list for all is needed"
                )
            losses = np.array([[value for _, value in curve] for curve in curves])
            colour = cycle_colour(index)
            for seed in losses:
                axis.plot(steps[0], seed, color=colour, linewidth=0.7, alpha=0.5)
            axis.plot(steps[0], losses.mean(axis=0), color=colour, linewidth=2.2, label=name)
        axis.set(xlabel=xlabel, ylabel=loss, yscale="log")
        plain_ticks(axis.yaxis)
        if len(conditions) > 1:  # below, where no curve runs
            below = dict(loc="upper left", bbox_to_anchor=(0, -0.2), columnspacing=1)
            axis.legend(ncols=len(conditions), **below)
    set_title(figure, title)
    return figure


@figure_function
def plot_curves(
    panels: dict[str, dict], x, xlabel: str, title: str, logarithmic: bool = False
) -> Figure:
    """Curves over one common axis, a panel per quantity; a name has the same colour in all panels.

    A curve of few points has a marker at each of them.

    Args:
        panels: {quantity, with its unit: {name: shape (points,), or (points, 3) with the ends of an
            interval, which is shaded}}, at least one; nan is left out.
        x: where the points are, shape (points,).
        xlabel: what x is, with its unit.
        title: the finding.
        logarithmic: the y axis, for values above 0; otherwise it starts at 0 or below.

    Raises:
        ValueError: without panels, or if a curve has not as many points as x (both numbers).
    """
    if not panels:
        raise ValueError("no panels were given to draw")
    wide = min(9, max(3.3 * len(panels) + 0.6, LETTER * len(title)))
    figure, axes = side_by_side(panels, wide, 2.9)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    handles = {}
    for axis, (quantity, curves) in zip(axes[0], panels.items()):
        for name, curve in curves.items():
            if len(curve) != len(x):
                raise ValueError(f"the curve {name!r} has {len(curve)} points, x has {len(x)}")
            index = names.index(name)
            style = dict(label=name, color=cycle_colour(index), markersize=4)
            marker = "osD^v"[index % 5] if len(x) <= MARKED else None
            values = np.asarray(curve, dtype=float)
            if values.ndim == 2:
                values, low, high = values.T
                axis.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
            (handles[name],) = axis.plot(x, values, marker=marker, **style)
        axis.set(xlabel=xlabel, ylabel=quantity)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if logarithmic:
            axis.set_yscale("log")
            plain_ticks(axis.yaxis, subs=(1, 3))
        else:
            axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
    figure.legend(handles.values(), names, loc="outside lower left", ncols=len(names))
    set_title(figure, title)
    return figure


@figure_function
def plot_schedule(signal, noise, snr, title: str, marks: list[int] | None = None) -> Figure:
    """A noise schedule: the factors of picture and noise in the mixture, and their ratio.

    Args:
        signal, noise: factors of picture and noise, by timestep, in [0, 1].
        snr: signal-to-noise ratio, by timestep, above 0.
        title: the finding.
        marks: timesteps at which a line is drawn.

    Raises:
        ValueError: if the three are not of one length (all numbers).
    """
    if not len(signal) == len(noise) == len(snr):
        raise ValueError(
            f"{len(signal)}, {len(noise)} and {len(snr)} timesteps: a schedule has as many of each"
        )
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.3), layout="constrained")
    left.plot(np.asarray(signal), label="picture")
    left.plot(np.asarray(noise), label="noise")
    left.set(xlabel="timestep", ylabel="factor", ylim=(0, 1.03))
    left.legend(loc="center right")
    right.plot(np.asarray(snr), color="C2")
    right.axhline(1, color="#999999", linewidth=0.9)
    style = dict(fontsize=8, ha="right", va="bottom", color="#555555")
    right.text(len(snr), 1, "as much of either ", **style)
    right.set(xlabel="timestep", ylabel="signal-to-noise ratio", yscale="log")
    plain_ticks(right.yaxis, subs=(1,))
    for axis in (left, right):
        for mark in marks or []:
            axis.axvline(mark, color="#BBBBBB", linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
    set_title(figure, title)
    return figure
