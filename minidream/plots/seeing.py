"""How a model sees: patches, which caption fits which picture, and what is read off each patch."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from einops import rearrange
from matplotlib.figure import Figure

from ..world.scenes import COLOURS, SHAPES
from .drawing import figure_function

# How the shapes of the toy world are marked where a patch names one: matplotlib's marker, and whether it is filled.
MARKERS = dict(
    zip(SHAPES, (("o", True), ("s", True), ("^", True), ("*", True), ("P", True), ("o", False)))
)


@figure_function
def plot_patches(image, rows: int, columns: int, title: str) -> Figure:
    """A picture with the grid of its patches, and the same patches pulled apart and numbered, row by row from the top left.

    Args:
        image: a PIL image whose height and width are multiples of rows and columns.
        rows, columns: of the grid.
        title: what there is to see.

    Raises:
        ValueError: if the picture cannot be cut so (both sizes).
    """
    pixels = np.asarray(image)
    if pixels.shape[0] % rows or pixels.shape[1] % columns:
        raise ValueError(
            f"a picture of {pixels.shape[0]}x{pixels.shape[1]} pixels cannot be cut into {rows}x{columns} equal patches"
        )
    patches = rearrange(
        pixels,
        "(rows height) (columns width) rgb -> rows columns height width rgb",
        rows=rows,
        columns=columns,
    )
    tall = pixels.shape[0] * columns / (pixels.shape[1] * rows)  # height of a patch, in widths
    figure, (whole, apart) = plt.subplots(
        1, 2, figsize=(6.6, 0.5 + 3.1 * tall * rows / columns), layout="constrained"
    )
    whole.imshow(pixels, extent=(0, columns, tall * rows, 0))
    whole.hlines(tall * np.arange(1, rows), 0, columns, color="#AAAAAA", linewidth=0.7)
    whole.vlines(range(1, columns), 0, tall * rows, color="#AAAAAA", linewidth=0.7)
    gap = 0.14
    for row, column in np.ndindex(rows, columns):
        left, top = column * (1 + gap), row * (tall + gap)
        apart.imshow(
            patches[row, column], vmin=0, vmax=255, extent=(left, left + 1, top + tall, top)
        )
        dark = patches[row, column].reshape(-1, 3).mean(axis=0) @ (0.3, 0.59, 0.11) < 120
        apart.text(
            left + 0.5,
            top + tall / 2,
            str(row * columns + column),
            fontsize=7,
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    apart.set(xlim=(0, columns * (1 + gap) - gap), ylim=(rows * (tall + gap) - gap, 0))
    for axis, name in (
        (whole, f"{pixels.shape[0]}x{pixels.shape[1]} pixels"),
        (apart, f"{rows * columns} patches, in their order"),
    ):
        axis.set_title(name)
        axis.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_scores(images: list, captions: list[str], scores: dict, title: str, label: str) -> Figure:
    """Which caption fits which picture: a matrix for each name, pictures down the side, captions along the foot.

    Where picture i has caption i, a frame marks it. All matrices share one colour scale: viridis from 0 for magnitudes,
    and if any number is below 0, red and blue around 0.

    Args:
        images: PIL images, one per row.
        captions: one per column; the first ones belong to the pictures in their order.
        scores: {name: shape (pictures, captions)}, at least one.
        title: what there is to see.
        label: what a number is.

    Raises:
        ValueError: without a matrix, or if one does not have a row per picture and a column per caption (both shapes).
    """
    matrices = {name: np.asarray(matrix) for name, matrix in scores.items()}
    wrong = [
        matrix.shape for matrix in matrices.values() if matrix.shape != (len(images), len(captions))
    ]
    if wrong or not matrices:
        raise ValueError(
            f"scores of shape {wrong[0]} do not fit {len(images)} images and {len(captions)} captions"
            if wrong
            else "no scores were given to draw"
        )
    low, top = (
        min(matrix.min() for matrix in matrices.values()),
        max(matrix.max() for matrix in matrices.values()),
    )
    scale = (
        dict(vmin=0, vmax=top)
        if low >= 0
        else dict(cmap="RdBu_r", vmin=-max(top, -low), vmax=max(top, -low))
    )
    cell, names = 0.42, [textwrap.fill(caption, 26) for caption in captions]
    longest = max(len(line) for name in names for line in name.splitlines())
    figure, axes = plt.subplots(
        1,
        len(matrices),
        figsize=(
            (cell * (len(captions) + 1.1) + 0.15) * len(matrices) + 1.25,
            cell * len(images) + 0.062 * longest + 0.95,
        ),
        layout="constrained",
        squeeze=False,
    )
    for axis, (name, matrix) in zip(axes[0], matrices.items()):
        mesh = axis.pcolormesh(matrix, edgecolors="white", linewidth=0.8, **scale)
        for place in range(min(matrix.shape)):
            axis.add_patch(
                plt.Rectangle((place, place), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.4)
            )
        for row, image in enumerate(images):
            axis.imshow(image, extent=(-1.05, -0.1, row + 0.95, row + 0.05), zorder=2)
        axis.set(
            xlim=(-1.1, len(captions)), ylim=(len(images), 0), aspect="equal", title=name, yticks=[]
        )
        axis.set_xticks(
            np.arange(len(captions)) + 0.5, names, rotation=90, fontsize=7, linespacing=0.95
        )
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.colorbar(mesh, ax=list(axes[0]), pad=0.01, aspect=14, label=label)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_patch_words(images: list, words: list, columns: int, title: str) -> Figure:
    """What is read off each patch: the bare picture, and beside it every patch with the shape and colour that it names.

    Args:
        images: PIL images, at least one.
        words: for each image a list with an entry per patch, row by row: (colour, shape), or None for "nothing here".
        columns: of the grid of patches.
        title: what there is to see.

    Raises:
        ValueError: without images, if there are not as many lists as images, or if a list does not fill whole rows (both numbers).
    """
    if not images or len(images) != len(words):
        raise ValueError(
            f"{len(images)} images and {len(words)} lists of words: at least one image is needed, and a list for each"
        )
    if uneven := [len(row) for row in words if len(row) % columns or not row]:
        raise ValueError(f"{uneven[0]} patches do not fill rows of {columns}")
    pairs = min(3, len(images))
    lines = -(-len(images) // pairs)
    figure, axes = plt.subplots(
        lines,
        2 * pairs,
        figsize=(3.0 * pairs, 1.6 * lines + 0.75),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (image, said) in enumerate(zip(images, words)):
        bare, read = axes[number // pairs, 2 * (number % pairs) :][:2]
        bare.imshow(image)
        rows = len(said) // columns
        read.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
        read.add_patch(
            plt.Rectangle((0, 0), columns, rows, facecolor="#EDEDED", edgecolor="none", zorder=0)
        )
        read.hlines(range(rows + 1), 0, columns, color="white", linewidth=0.6, zorder=1)
        read.vlines(range(columns + 1), 0, rows, color="white", linewidth=0.6, zorder=1)
        for place, look in enumerate(said):
            if look is not None:
                colour, shape = look
                marker, filled = MARKERS[shape]
                read.plot(
                    place % columns + 0.5,
                    place // columns + 0.5,
                    marker,
                    color=COLOURS[colour],
                    markersize=52 / columns,
                    markerfacecolor=COLOURS[colour] if filled else "none",
                    markeredgewidth=0.3 if filled else 2.0,
                    zorder=3,
                )
    handles = [
        plt.Line2D(
            [],
            [],
            marker=marker,
            linestyle="none",
            color="#555555",
            markersize=6,
            markerfacecolor="#555555" if filled else "none",
            markeredgewidth=0.3 if filled else 1.6,
            label=shape,
        )
        for shape, (marker, filled) in MARKERS.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=len(handles),
        columnspacing=1.2,
        handletextpad=0.1,
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_contrast(losses: list[float], pairs: int, title: str) -> Figure:
    """A contrastive loss, step by step: every step thinly, a moving average boldly, and a line for who tells no pair apart.

    Args:
        losses: in nats, one per step, at least one.
        pairs: in a batch; telling none apart costs log(pairs).
        title: what there is to see.

    Raises:
        ValueError: without losses.
    """
    if not losses:
        raise ValueError("no losses were given to draw")
    figure, axis = plt.subplots(figsize=(6.6, 2.7), layout="constrained")
    axis.plot(losses, linewidth=0.7, alpha=0.45)
    window = max(1, len(losses) // 25)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")  # only whole windows
    axis.plot(
        np.arange(len(smooth)) + (window - 1) / 2,
        smooth,
        color="C0",
        label=f"mean of {window} steps",
    )
    axis.axhline(
        np.log(pairs),
        color="#555555",
        linewidth=0.9,
        linestyle=(0, (4, 3)),
        label=f"log {pairs}: no pair told apart",
    )
    axis.set(xlabel="step", ylabel="loss, nats", ylim=(0, 1.6 * np.log(pairs)), title=title)
    axis.legend(loc="upper right")
    return figure
