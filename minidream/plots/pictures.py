"""Pictures side by side: in grids, film strips and comic strips, with boxes, before and after."""

import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..images import as_rgb
from .drawing import (
    GREY,
    LETTER,
    cycle_colour,
    draw_map,
    figure_function,
    set_title,
    share_bar,
    show_picture,
    side_by_side,
)
from .two_hops import draw_over, draw_under

WIDE = 9  # inches: width of a figure


@figure_function
def plot_pictures(
    images: list, titles: list[str] | None = None, columns: int = 6, suptitle: str | None = None
) -> Figure:
    """Pictures in a grid.

    Args:
        images: PIL images, at least one.
        titles: one for each image, wrapped; None draws none.
        columns: how many side by side at most.
        suptitle: the finding.

    Raises:
        ValueError: without images, or if there are not as many titles as images (both numbers).
    """
    if not images or (titles is not None and len(titles) != len(images)):
        raise ValueError(
            f"{len(images)} images and {len(titles or [])} titles: at least one image is needed, "
            "and a title for each or none"
        )
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    titles = [textwrap.fill(title, 24) for title in titles or [""] * len(images)]
    lines = max(title.count("\n") + 1 for title in titles)
    size = (1.95 * columns, (1.8 + 0.17 * lines) * rows + 0.35 * bool(suptitle))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles):
        show_picture(axis, image)
        axis.set_title(title)
    set_title(figure, suptitle or "")
    return figure


@figure_function
def plot_choice(image, prompt: str, setting: str) -> Figure:
    """One picture, large, with the prompt it was painted from.

    Args:
        image: a PIL image.
        prompt: wrapped if it is long.
        setting: what else was chosen, as the title.
    """
    prompt = textwrap.fill(prompt, 50)
    size = (3.6, 3.7 + 0.17 * prompt.count("\n"))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    show_picture(axis, image)
    axis.set_axis_off()
    axis.set_anchor("W")  # a narrow picture too: its prompt, which may be wider, starts above it
    axis.set_title(prompt)
    set_title(figure, setting)
    return figure


@figure_function(settle=True)
def plot_film(rows: dict[str, list], columns: list[str], title: str, label: str = "") -> Figure:
    """Pictures in named rows and columns: a film strip, or several, one below the other.

    Args:
        rows: {name: PIL images}, as many images in each as there are columns. A name may be broken
            into lines.
        columns: their names, written above the first row.
        title: the finding.
        label: what the names of the columns are, with the unit.

    Raises:
        ValueError: without rows, or if a row has not as many images as there are columns (both
            numbers).
    """
    if not rows:
        raise ValueError("a film needs at least one row of images")
    for name, images in rows.items():
        if len(images) != len(columns):
            raise ValueError(
                f"the row {name!r} has {len(images)} images for {len(columns)} columns"
            )
    side = min(1.1, 8.4 / len(columns))
    beside = 0.075 * max(len(line) for name in rows for line in name.split("\n"))
    wide = max(side * len(columns) + beside + 0.2, LETTER * len(title))
    high = (side + 0.06) * len(rows) + 0.45 + 0.25 * bool(label)
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        squeeze=False,
        layout="constrained",
        figsize=(wide, high),
    )
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015)
    for row, (name, images) in zip(axes, rows.items()):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axis, image in zip(row, images):
            show_picture(axis, image)
    _without_ticks(axes)
    for axis, name in zip(axes[0], columns):
        axis.set_title(name, loc="center")
    set_title(figure, title)
    if label:
        figure.supxlabel(label, fontsize=9, color=GREY)
    return figure


def _without_ticks(axes) -> None:
    """Takes ticks and frames away, but leaves the labels."""
    for axis in np.ravel(axes):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)


@figure_function
def plot_boxes(
    images: list, boxes: list[dict[str, tuple]], titles: list[str], suptitle: str
) -> Figure:
    """Pictures with boxes drawn over them.

    Args:
        images: PIL images.
        boxes: for each image {name: (left, top, right, bottom)}, fractions of its width and height
            in [0, 1], y down. A name has the same colour in all images.
        titles: one for each image.
        suptitle: the finding.

    Raises:
        ValueError: if there are not as many of each (all three numbers).
    """
    if len({len(images), len(boxes), len(titles)}) > 1:
        raise ValueError(
            f"{len(images)} images, {len(boxes)} sets of boxes, {len(titles)} titles: "
            "as many of each are needed"
        )
    figure, axes = side_by_side(images, 2.3 * len(images), 2.75)
    names = list(dict.fromkeys(name for some in boxes for name in some))
    colours = {name: cycle_colour(index) for index, name in enumerate(names)}
    for axis, image, some, title in zip(axes[0], images, boxes, titles):
        show_picture(axis, image, extent=(0, 1, 1, 0))
        for name, (left, top, right, bottom) in some.items():
            style = dict(fill=False, edgecolor=colours[name], linewidth=2.2)
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, **style))
        axis.set_title(title)
        axis.set_axis_off()
    handles = [
        Patch(facecolor="none", edgecolor=colour, linewidth=2, label=name)
        for name, colour in colours.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(names))
    set_title(figure, suptitle)
    return figure


@figure_function
def plot_document(document, columns: int = 4) -> Figure:
    """A document in reading order, like a comic strip: each picture under the words before it.

    Args:
        document: a `minidream.Document` of any length; it may be empty.
        columns: how many panels side by side at most.
    """
    panels: list[list] = [["", None]]
    for item in document.items:
        if panels[-1][1] is not None:
            panels.append(["", None])
        if isinstance(item, str):
            panels[-1][0] = f"{panels[-1][0]} {item}".strip()
        else:
            panels[-1][1] = item
    count, columns = len(panels), min(columns, len(panels))
    narrow = columns > 1 or panels[0][1] is not None
    texts = [textwrap.fill(text, 27 if narrow else 80) for text, _ in panels]
    lines = [text.count("\n") + 1 for text in texts]
    pictured = any(image is not None for _, image in panels)
    heights = [
        0.25 + 0.18 * max(lines[first : first + columns]) + 2.2 * pictured
        for first in range(0, count, columns)
    ]
    figure, axes = plt.subplots(
        len(heights),
        columns,
        figsize=(2.25 * columns if narrow else 6.0, sum(heights)),
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, text, (_, image) in zip(axes.flat, texts, panels):
        if image is None:
            axis.text(0, 1, text, va="top", transform=axis.transAxes)
        else:
            show_picture(axis, image)
            axis.set_title(text)
            # The layout makes room for a long title only above a picture that reaches the top.
            axis.set_anchor("N")
    return figure


@figure_function
def plot_ablation(before, after, ablated: list[str], change) -> Figure:
    """A picture with all queries, the one without some of them, and how much each pixel differs.

    Args:
        before, after: PIL images of one size.
        ablated: names of the queries: "3", or "4–7" for several; may be empty.
        change: absolute difference, averaged over the colours; shape (height, width) in image
            pixels, in [0, 1].

    Returns:
        Axes in this order: before, after, change, colour bar.

    Raises:
        ValueError: if pictures and change are not of one size (all three).
    """
    before, after, change = as_rgb(before), as_rgb(after), np.asarray(change)
    if not before.size == after.size == change.shape[::-1]:
        raise ValueError(
            f"pictures of {before.size} and {after.size} and a change of {change.shape[::-1]} "
            "pixels: all must be of one size"
        )
    title, name = "Nothing is ablated: the whole picture", "none ablated"
    if ablated:
        noun = "query" if len(ablated) == 1 and ablated[0].isdigit() else "queries"
        names = f"{noun} {', '.join(ablated)}"
        title = f"Without {names}: pixels change by {change.mean():.3f} on average"
        name = "these ablated"
    title = textwrap.fill(title, int(WIDE / LETTER))
    figure, axes = plt.subplots(
        1, 3, figsize=(WIDE, 2.9 + 0.2 * title.count("\n")), layout="constrained"
    )
    axes[0].imshow(before)
    axes[1].imshow(after)
    mesh = axes[2].imshow(change, vmin=0, vmax=1)
    for axis, text in zip(axes, ("all queries", name, "what changed")):
        axis.set_title(text)
        axis.set_axis_off()
    figure.colorbar(mesh, ax=axes[2], pad=0.02, aspect=16, label="change of a pixel, of 1")
    set_title(figure, title)
    return figure


@figure_function
def plot_denoising(
    noisy, guess, map, step: int, query: int, timestep: int, top: float | None = None
) -> Figure:
    """One step of sampling: the noisy latents, the estimated picture, and attention to one query.

    Args:
        noisy: the latents before the step, decoded; a PIL image.
        guess: the clean picture that the model estimates at this step, decoded; a PIL image.
        map: how much of each cell's attention went to the query at this step, shape (height, width)
            in latent cells, in [0, 1].
        step: its index.
        query: its index.
        timestep: of the noise schedule; it falls from step to step.
        top: end of the colour scale; None is the greatest value of the map.

    Returns:
        Axes in this order: noisy, guess, map over the guess, colour bar.
    """
    map = np.asarray(map)
    figure, axes = plt.subplots(1, 3, figsize=(WIDE, 3.05), layout="constrained")
    draw_under(axes[0], noisy, *map.shape)
    draw_under(axes[1], guess, *map.shape)
    mesh = draw_over(axes[2], guess, map, 0, top, inches=2.4)
    names = ("before the step", "estimated picture", f"attention to query {query}")
    for axis, name in zip(axes, names):
        axis.set_title(name)
    share_bar(figure, mesh, axes[2], "share of a cell's attention", aspect=16, pad=0.02)
    set_title(
        figure,
        f"Step {step}, timestep {timestep}: the estimated picture, and attention to query {query}",
    )
    return figure


@figure_function
def plot_denoising_steps(
    noisy: list,
    guesses: list,
    maps,
    timesteps: list[int],
    query: int,
    columns: int = 5,
    title: str = "The noise goes step by step; the estimated picture is there early",
) -> Figure:
    """Sampling from the first step to the last in a few columns; all maps share one scale.

    Args:
        noisy, guesses: PIL images, one for each step, as in `plot_denoising`.
        maps: of one query, shape (steps, height, width) in latent cells, in [0, 1].
        timesteps: of the steps.
        query: its index.
        columns: how many steps are shown, at equal distances, from the first to the last.
        title: the finding.

    Raises:
        ValueError: if there are not as many of each (all four numbers).
    """
    counts = [len(noisy), len(guesses), len(maps), len(timesteps)]
    if len(set(counts)) > 1 or not counts[0]:
        raise ValueError(
            f"{counts[0]} noisy pictures, {counts[1]} guesses, {counts[2]} maps, {counts[3]} "
            "timesteps: as many of each are needed, at least one"
        )
    steps = sorted({round(step) for step in np.linspace(0, counts[0] - 1, columns)})
    maps = np.stack([np.asarray(maps[step]) for step in steps])
    wide = max(1.4 * len(steps) + 1.2, LETTER * len(title))
    figure, axes = plt.subplots(
        3, len(steps), figsize=(wide, 4.9), layout="constrained", squeeze=False
    )
    for row, name in zip(
        axes, ("before the step", "estimated picture", f"attention\nto query {query}")
    ):
        row[0].set_ylabel(name)
    for step, map_, (above, middle, below) in zip(steps, maps, axes.T):
        show_picture(above, noisy[step])
        high, wide = show_picture(middle, guesses[step]).get_size()
        mesh = draw_map(below, map_, 0, maps.max(), inches=1.3)
        below.set_aspect(map_.shape[1] * high / (len(map_) * wide))
        above.set_title(f"step {step}\ntimestep {timesteps[step]}")
    _without_ticks(axes)
    share_bar(figure, mesh, axes[2], "share of a\ncell's attention", aspect=10)
    set_title(figure, title)
    return figure
