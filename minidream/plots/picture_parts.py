"""Pictures taken apart: patches, latents, masks of objects, and distance fields."""

import math

import matplotlib.pyplot as plt
import numpy as np
from einops import rearrange
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from ..images import as_rgb
from ..world.scenes import COLOURS, SHAPES
from .drawing import HIGHLIGHT, INK, draw_box, draw_map, figure_function, set_title, show_picture

# How a patch shows the shapes of the toy world: matplotlib's marker, and whether it is filled.
MARKERS = dict(
    zip(SHAPES, (("o", True), ("s", True), ("^", True), ("*", True), ("P", True), ("o", False)))
)
# What a word of a caption describes, and its colour: one of two objects, or neither.
DESCRIBES = {
    0: "#0072B2",
    1: HIGHLIGHT,
    "relation": "#CC79A7",
    "background": "#999999",
    None: "#E8E8E8",
}
GAP = 0.06  # inches between the words of a caption


@figure_function
def plot_patches(image, rows: int, columns: int, title: str) -> Figure:
    """A picture under the grid of its patches, and the patches apart, numbered in their order.

    Args:
        image: a PIL image whose height and width are multiples of rows and columns.
        rows, columns: of the grid.
        title: the finding.

    Raises:
        ValueError: if the picture cannot be cut into equal patches (both sizes).
    """
    pixels = np.asarray(as_rgb(image))
    height, width = pixels.shape[:2]
    if height % rows or width % columns:
        raise ValueError(
            f"a picture of {height}x{width} pixels cannot be cut into {rows}x{columns} equal "
            "patches"
        )
    patches = rearrange(
        pixels,
        "(rows height) (columns width) rgb -> rows columns height width rgb",
        rows=rows,
        columns=columns,
    )
    tall = height * columns / (width * rows)  # height of a patch, in widths
    figure, (whole, apart) = plt.subplots(
        1, 2, figsize=(6.6, 0.5 + 3.1 * tall * rows / columns), layout="constrained"
    )
    whole.imshow(pixels, extent=(0, columns, tall * rows, 0))
    whole.hlines(tall * np.arange(1, rows), 0, columns, color="#AAAAAA", linewidth=0.7)
    whole.vlines(range(1, columns), 0, tall * rows, color="#AAAAAA", linewidth=0.7)
    gap = 0.14
    for row, column in np.ndindex(rows, columns):
        patch, x, y = patches[row, column], column * (1 + gap), row * (tall + gap)
        apart.imshow(patch, vmin=0, vmax=255, extent=(x, x + 1, y + tall, y))
        dark = patch.reshape(-1, 3).mean(axis=0) @ (0.3, 0.59, 0.11) < 120
        style = dict(fontsize=7, ha="center", va="center", color="white" if dark else "black")
        apart.text(x + 0.5, y + tall / 2, str(row * columns + column), **style)
    apart.set(xlim=(0, columns * (1 + gap) - gap), ylim=(rows * (tall + gap) - gap, 0))
    whole.set_title(f"{height}x{width} pixels")
    apart.set_title(f"{rows * columns} patches, in their order")
    for axis in (whole, apart):
        axis.set_axis_off()
    set_title(figure, title)
    return figure


@figure_function
def plot_patch_words(images: list, words: list, columns: int, title: str) -> Figure:
    """What is read off each patch: the bare picture, and beside it a shape and colour per patch.

    Args:
        images: PIL images, at least one.
        words: for each image a list with an entry per patch, row by row: (colour, shape), or None
            for no object.
        columns: of the grid of patches.
        title: the finding.

    Raises:
        ValueError: without images, if there are not as many lists as images, or if a list does not
            fill whole rows (both numbers).
    """
    if not images or len(images) != len(words):
        raise ValueError(
            f"{len(images)} images and {len(words)} lists of words: at least one image is needed, "
            "and a list for each"
        )
    if uneven := [len(row) for row in words if len(row) % columns or not row]:
        raise ValueError(f"{uneven[0]} patches do not fill rows of {columns}")
    pairs = min(3, len(images))
    lines = math.ceil(len(images) / pairs)
    size = (3.0 * pairs, 1.6 * lines + 0.75)
    figure, axes = plt.subplots(lines, 2 * pairs, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, (image, patches) in enumerate(zip(images, words)):
        bare, read = axes[index // pairs, 2 * (index % pairs) :][:2]
        show_picture(bare, image)
        _draw_patch_words(read, patches, columns)
    handles = [
        plt.Line2D([], [], linestyle="none", label=shape, **_marker(shape, "#555555", 6))
        for shape in MARKERS
    ]
    tight = dict(columnspacing=1.2, handletextpad=0.1)
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), **tight)
    set_title(figure, title)
    return figure


def _draw_patch_words(axis, patches: list, columns: int) -> None:
    """A grid of patches, each with the marker of its shape in its colour."""
    rows = len(patches) // columns
    axis.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    axis.add_patch(Rectangle((0, 0), columns, rows, facecolor="#EDEDED", zorder=0))
    axis.hlines(range(rows + 1), 0, columns, color="white", linewidth=0.6, zorder=1)
    axis.vlines(range(columns + 1), 0, rows, color="white", linewidth=0.6, zorder=1)
    for patch, look in enumerate(patches):
        if look is not None:
            row, column = divmod(patch, columns)
            style = _marker(look[1], COLOURS[look[0]], 52 / columns)
            axis.plot(column + 0.5, row + 0.5, zorder=3, **style)


def _marker(shape: str, colour, size: float) -> dict:
    """The marker of a shape, as matplotlib takes it; a ring is an empty circle."""
    marker, filled = MARKERS[shape]
    return dict(
        marker=marker,
        color=colour,
        markersize=size,
        markerfacecolor=colour if filled else "none",
        markeredgewidth=0.3 if filled else 2.0,
    )


@figure_function
def plot_latents(images: list, latents, decoded: list, errors, title: str) -> Figure:
    """Pictures through a VAE: a row for each, with all channels of its latents, and the errors.

    All latents share one signed scale, all errors one scale from 0.

    Args:
        images: PIL images, before.
        latents: shape (pictures, channels, height, width), in latent cells.
        decoded: PIL images, after.
        errors: shape (pictures, height, width), at least 0, in image pixels.
        title: the finding.

    Raises:
        ValueError: if there are not as many of each (all four numbers).
    """
    latents, errors = np.asarray(latents), np.asarray(errors)
    counts = [len(images), len(latents), len(decoded), len(errors)]
    if len(set(counts)) > 1:
        raise ValueError(
            f"{counts[0]} images, {counts[1]} latents, {counts[2]} decoded images, {counts[3]} "
            "maps of errors: as many of each are needed"
        )
    channels = latents.shape[1]
    size = (1.2 * (channels + 3) + 1.2, 1.25 * len(images) + 0.6)
    figure, axes = plt.subplots(
        len(images), channels + 3, figsize=size, layout="constrained", squeeze=False
    )
    top = np.abs(latents).max()
    for row, image, latent, back, error in zip(axes, images, latents, decoded, errors):
        show_picture(row[0], image)
        for axis, channel in zip(row[1:], latent):
            signed = draw_map(axis, channel, -top, top, inches=1.0, cmap="RdBu_r")
        show_picture(row[-2], back)
        lost = row[-1].imshow(error, vmin=0, vmax=errors.max())
        for axis in row:
            axis.set_axis_off()
    names = ["picture", *(f"channel {channel}" for channel in range(channels)), "decoded", "error"]
    for axis, name in zip(axes[0], names):
        axis.set_title(name)
    below = dict(location="bottom", fraction=0.08, pad=0.02, aspect=40)
    figure.colorbar(signed, ax=list(axes[:, 1:-2].flat), label="latent value", **below)
    figure.colorbar(lost, ax=list(axes[:, -1]), pad=0.04, aspect=14, label="error, of 1")
    set_title(figure, title)
    return figure


@figure_function
def plot_scene(image, masks, phrase, title: str) -> Figure:
    """A picture, the exact mask of every object in it, and a caption in the colours of the objects.

    Args:
        image: a PIL image.
        masks: shape (objects, height, width), the share of each pixel that an object covers, in
            [0, 1].
        phrase: a `world.Phrase` of words with roles; object `n` of its roles has mask `n`.
        title: the finding.

    Raises:
        ValueError: if a word names an object that has no mask (both numbers).
    """
    masks = np.asarray(masks)
    named = [role[1] for role in phrase.roles if role is not None and role[1] is not None]
    if named and max(named) >= len(masks):
        raise ValueError(
            f"a word names object {max(named)}, counted from 0; there are {len(masks)} masks"
        )
    size = (max(2.2 * (len(masks) + 1) + 1.2, 6), 3.5)
    figure = plt.figure(figsize=size, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.5, 0.75))
    axes = above.subplots(1, len(masks) + 1)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    show_picture(axes[0], image)
    axes[0].set_title("the picture")
    axes[0].spines[:].set_visible(False)
    for index, (axis, mask) in enumerate(zip(axes[1:], masks)):
        mesh = axis.imshow(mask, vmin=0, vmax=1)
        axis.set_title(f"mask of object {index}")
        axis.spines[:].set(visible=True, color=DESCRIBES[index], linewidth=3)
    bar = dict(pad=0.01, aspect=14, label="share of the pixel\nthat is covered")
    above.colorbar(mesh, ax=list(axes), format=PercentFormatter(1), **bar)
    set_title(figure, title)
    _draw_caption(below, phrase, figure.get_figwidth())
    return figure


def _draw_caption(part, phrase, width: float) -> None:
    """The words of a phrase as boxes, with the role of each beneath it."""
    widths = [
        0.16 + max(0.082 * len(word), 0.066 * len(role[0]) if role else 0)
        for word, role in zip(phrase.words, phrase.roles)
    ]
    # A long caption is set smaller.
    scale = min(1.0, (width - 0.3) / (sum(widths) + GAP * len(widths)))
    axis = part.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, 0.75))
    axis.set_axis_off()
    x = 0.1
    for word, role, wide in zip(phrase.words, phrase.roles, widths):
        name, index = role or (None, None)
        colour = DESCRIBES[name if index is None else index] + ("77" if role else "")
        draw_box(axis, x, 0.34, wide * scale, 0.3, colour, word, 9 * scale)
        style = dict(ha="center", va="center", fontsize=8 * scale, color="#666666")
        axis.text(x + wide * scale / 2, 0.2, name or "", **style)
        x += (wide + GAP) * scale


@figure_function
def plot_distances(distances: dict, title: str, reach: float = 1.2) -> Figure:
    """Signed distances to the edges of shapes: blue inside, red outside, the edge itself as a line.

    Args:
        distances: {name: shape (height, width)}, in units of the radius, negative inside; at least
            one.
        title: the finding.
        reach: the distances were sampled on a grid from -reach to reach, y down.

    Raises:
        ValueError: without distances.
    """
    if not distances:
        raise ValueError("there are no distances to draw")
    arrays = {name: np.asarray(values) for name, values in distances.items()}
    top = max(np.abs(values).max() for values in arrays.values())
    columns = min(6, len(arrays))
    rows = math.ceil(len(arrays) / columns)
    size = (1.35 * columns + 1.1, 1.65 * rows + 0.35)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    steps, extent = plt.get_cmap("RdBu_r", 13), (-reach, reach, reach, -reach)
    for axis, (name, values) in zip(axes.flat, arrays.items()):
        mesh = axis.imshow(values, cmap=steps, vmin=-top, vmax=top, extent=extent)
        y, x = (np.linspace(-reach, reach, size) for size in values.shape)
        axis.contour(x, y, values, levels=[0], colors=INK, linewidths=1.2)
        axis.set_title(name)
    label = "distance to the edge,\nin radii"
    figure.colorbar(mesh, ax=list(axes.flat), pad=0.01, aspect=12, label=label)
    set_title(figure, title)
    return figure
