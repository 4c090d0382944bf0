"""How a diffusion model paints: latents, the noise schedule, film strips, cross-attention over a picture, curves."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .attention import line_width
from .drawing import figure_function, plain_ticks, short


@figure_function
def plot_film(rows: dict[str, list], columns: list[str], title: str, label: str = "") -> Figure:
    """Pictures in rows and columns that have a name each: a film strip, or several of them under one another.

    Args:
        rows: {name: PIL images}, as many images in each as there are columns.
        columns: their names, written above the first row.
        title: what there is to see.
        label: what the names of the columns are, with the unit.

    Raises:
        ValueError: without rows, or if a row has not as many images as there are columns (both numbers).
    """
    if not rows:
        raise ValueError("a film needs at least one row of images")
    for name, images in rows.items():
        if len(images) != len(columns):
            raise ValueError(
                f"the row {name!r} has {len(images)} images for {len(columns)} columns"
            )
    size = min(1.1, 8.4 / len(columns))
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        squeeze=False,
        layout="constrained",
        figsize=(size * len(columns) + 0.6, (size + 0.06) * len(rows) + 0.45 + 0.25 * bool(label)),
    )
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015)
    for row, (name, images) in zip(axes, rows.items()):
        row[0].set_ylabel(name)
        for axis, image in zip(row, images):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, name in zip(axes[0], columns):
        axis.set_title(name, loc="center")
    figure.suptitle(title, x=0.01, ha="left")
    if label:
        figure.supxlabel(label, fontsize=9, color="#444444")
    return figure


@figure_function
def plot_latents(images: list, latents, decoded: list, errors, title: str) -> Figure:
    """What a VAE makes of pictures and back: a row for each, with all channels of its latents, and where it errs.

    All latents share one signed scale, all errors one scale from 0.

    Args:
        images: PIL images, before.
        latents: shape (pictures, channels, height, width), in latent cells.
        decoded: PIL images, after.
        errors: shape (pictures, height, width), at least 0, in image pixels.
        title: what there is to see.

    Raises:
        ValueError: if there are not as many of each (all four numbers).
    """
    latents, errors = np.asarray(latents), np.asarray(errors)
    counts = [len(images), len(latents), len(decoded), len(errors)]
    if len(set(counts)) > 1:
        raise ValueError(
            f"{counts[0]} images, {counts[1]} latents, {counts[2]} decoded images, {counts[3]} maps of errors: as many of each are needed"
        )
    channels = latents.shape[1]
    figure, axes = plt.subplots(
        len(images),
        channels + 3,
        figsize=(1.2 * (channels + 3) + 1.2, 1.25 * len(images) + 0.6),
        layout="constrained",
        squeeze=False,
    )
    top, worst = np.abs(latents).max(), errors.max()
    for row, image, latent, back, error in zip(axes, images, latents, decoded, errors):
        row[0].imshow(image)
        for axis, channel in zip(row[1:], latent):
            signed = axis.pcolormesh(
                channel,
                vmin=-top,
                vmax=top,
                cmap="RdBu_r",
                edgecolors="white",
                linewidth=line_width(len(channel), 1.0),
            )
            axis.set(aspect="equal", ylim=(len(channel), 0))
        row[-2].imshow(back)
        lost = row[-1].imshow(error, vmin=0, vmax=worst)
        for axis in row:
            axis.set_axis_off()
    for axis, name in zip(
        axes[0],
        [
            "picture",
            *(f"channel {number}" for number in range(channels)),
            "and back",
            "what is lost",
        ],
    ):
        axis.set_title(name)
    figure.colorbar(
        signed,
        ax=list(axes[:, 1:-2].flat),
        location="bottom",
        fraction=0.08,
        pad=0.02,
        aspect=40,
        label="latent number",
    )
    figure.colorbar(lost, ax=list(axes[:, -1]), pad=0.04, aspect=14, label="error, of 1")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_schedule(signal, noise, snr, title: str, marks: list[int] | None = None) -> Figure:
    """A noise schedule: how much of the picture and of the noise is in the mixture, and how the two compare.

    Args:
        signal, noise: what picture and noise are multiplied with, by timestep, in [0, 1].
        snr: signal-to-noise ratio, by timestep, above 0.
        title: what there is to see.
        marks: timesteps to draw a line at.

    Raises:
        ValueError: if the three are not of one length (all numbers).
    """
    if not len(signal) == len(noise) == len(snr):
        raise ValueError(
            f"{len(signal)}, {len(noise)} and {len(snr)} timesteps: one schedule has as many of each"
        )
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.3), layout="constrained")
    left.plot(np.asarray(signal), label="the picture")
    left.plot(np.asarray(noise), label="the noise")
    left.set(xlabel="timestep", ylabel="multiplied with", ylim=(0, 1.03))
    left.legend(loc="center right")
    right.plot(np.asarray(snr), color="C2")
    right.axhline(1, color="#999999", linewidth=0.9)
    right.text(
        len(snr), 1, "as much of either ", fontsize=8, ha="right", va="bottom", color="#555555"
    )
    right.set(xlabel="timestep", ylabel="signal-to-noise ratio")
    right.set_yscale("log")
    plain_ticks(right.yaxis, subs=(1,))
    for axis in (left, right):
        for mark in marks or []:
            axis.axvline(mark, color="#BBBBBB", linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_lines(
    x, lines: dict[str, list], title: str, xlabel: str, ylabel: str, log: bool = False
) -> Figure:
    """Curves over one axis, each with a dot per measurement.

    Args:
        x: where was measured.
        lines: {name: values, as many as x}; a value that is nan is left out.
        title: what there is to see.
        xlabel, ylabel: with units.
        log: a logarithmic scale upwards, for values above 0; else it begins at 0.

    Raises:
        ValueError: if a line has not as many values as x (both numbers).
    """
    figure, axis = plt.subplots(figsize=(5.6, 2.5), layout="constrained")
    for number, (name, values) in enumerate(lines.items()):
        if len(values) != len(x):
            raise ValueError(f"the line {name!r} has {len(values)} values at {len(x)} places")
        axis.plot(x, np.asarray(values), label=name, marker="osD^v"[number % 5], markersize=4)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        axis.set_yscale("log")
        plain_ticks(axis.yaxis, subs=(1, 3))
    else:
        axis.set_ylim(0, None)
    axis.legend()
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_shares(panels: dict[str, dict], title: str, label: str) -> Figure:
    """Shares with their intervals, one panel for each thing that was varied; its values stand at equal distances.

    Args:
        panels: {what was varied: {its value: (share, low, high)}}, all in [0, 1].
        title: what there is to see.
        label: what the share is of.

    Raises:
        ValueError: for a share outside its interval (all three).
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.6 * len(panels), 2.4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axis, (name, points) in zip(axes[0], panels.items()):
        shares, lows, highs = np.array(list(points.values()), dtype=float).T
        if (
            (shares < lows - 1e-9) | (shares > highs + 1e-9)
        ).any():  # 1 may be above a bound of 0.9999999999999998
            raise ValueError(
                f"a share lies outside its interval: {[tuple(point) for point in points.values()]}"
            )
        axis.errorbar(
            range(len(points)),
            shares,
            np.maximum([shares - lows, highs - shares], 0),
            marker="o",
            capsize=3,
            elinewidth=1,
        )
        axis.set_xticks(range(len(points)), [f"{value:g}" for value in points])
        axis.set(xlabel=name, ylim=(-0.02, 1.04))
        axis.yaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].set_ylabel(label)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_looks(image, maps, words: list[str], title: str, columns: int = 7) -> Figure:
    """Where latent cells look among the words: the bare picture, and a map for each word, on one scale from 0.

    Args:
        image: the PIL image that was painted.
        maps: shape (words, height, width), in latent cells; the share of a cell's attention, in [0, 1].
        words: one for each map.
        title: what there is to see; name the layers and steps in it.
        columns: how many side by side at most.

    Raises:
        ValueError: if there are not as many words as maps (both numbers).
    """
    maps = np.asarray(maps)
    if len(maps) != len(words):
        raise ValueError(f"{len(maps)} maps and {len(words)} words: a word is needed for each map")
    columns = min(columns, len(words) + 1)
    rows = math.ceil((len(words) + 1) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.2 * columns + 0.8, 1.4 * rows + 0.35),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    axes.flat[0].imshow(image)
    axes.flat[0].set_title("the picture")
    for axis, map_, word in zip(axes.flat[1:], maps, words):
        mesh = axis.pcolormesh(
            map_, vmin=0, vmax=maps.max(), edgecolors="white", linewidth=line_width(len(map_), 1.1)
        )
        axis.set(aspect="equal", ylim=(len(map_), 0))
        axis.set_title(short(word))
    figure.colorbar(
        mesh,
        ax=list(axes.flat),
        pad=0.01,
        aspect=14 * rows,
        label="share of a cell's\nattention",
        format=PercentFormatter(1, 0),
        ticks=MaxNLocator(5),
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure
