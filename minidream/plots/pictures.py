"""Pictures, and documents as comic strips."""

import math
import textwrap

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from .drawing import figure_function


@figure_function
def plot_pictures(
    images: list, titles: list[str] | None = None, columns: int = 6, suptitle: str | None = None
) -> Figure:
    """Pictures in a grid.

    Args:
        images: PIL images, at least one.
        titles: one for each image, wrapped; None draws none.
        columns: how many side by side at most.
        suptitle: what there is to see.

    Raises:
        ValueError: without images, or if there are not as many titles as images (both numbers).
    """
    if not images or (titles is not None and len(titles) != len(images)):
        raise ValueError(
            f"{len(images)} images and {len(titles or [])} titles: at least one image is needed, and a title for each or none"
        )
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    titles = [textwrap.fill(title, 24) for title in titles or [""] * len(images)]
    lines = max(title.count("\n") + 1 for title in titles)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.95 * columns, (1.8 + 0.17 * lines) * rows + 0.35 * bool(suptitle)),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow(image)
        axis.set_title(title)
    figure.suptitle(suptitle or "", x=0.01, ha="left")
    return figure


@figure_function
def plot_boxes(
    images: list, boxes: list[dict[str, tuple]], titles: list[str], suptitle: str
) -> Figure:
    """Pictures with boxes drawn over them.

    Args:
        images: PIL images.
        boxes: for each image {name: (left, top, right, bottom)}, fractions of its width and height in [0, 1], y down. The same name has
            the same colour everywhere.
        titles: one for each image.
        suptitle: what there is to see.

    Raises:
        ValueError: if there are not as many of each (all three numbers).
    """
    if len({len(images), len(boxes), len(titles)}) > 1:
        raise ValueError(
            f"{len(images)} images, {len(boxes)} sets of boxes, {len(titles)} titles: as many of each are needed"
        )
    figure, axes = plt.subplots(
        1, len(images), figsize=(2.3 * len(images), 2.75), layout="constrained", squeeze=False
    )
    names = list(dict.fromkeys(name for some in boxes for name in some))
    colours = dict(zip(names, plt.rcParams["axes.prop_cycle"].by_key()["color"]))
    for axis, image, some, title in zip(axes[0], images, boxes, titles):
        axis.imshow(image, extent=(0, 1, 1, 0))
        for name, (left, top, right, bottom) in some.items():
            axis.add_patch(
                Rectangle(
                    (left, top),
                    right - left,
                    bottom - top,
                    fill=False,
                    edgecolor=colours[name],
                    linewidth=2.2,
                )
            )
        axis.set_title(title)
        axis.set_axis_off()
    figure.legend(
        handles=[
            Patch(facecolor="none", edgecolor=colour, linewidth=2, label=name)
            for name, colour in colours.items()
        ],
        loc="outside lower left",
        ncols=len(names),
    )
    figure.suptitle(suptitle, x=0.01, ha="left")
    return figure


@figure_function
def plot_document(document, columns: int = 4) -> Figure:
    """A document in reading order, like a comic strip: each picture under the words that lead to it.

    Args:
        document: a `minidream.Document` of any length, also an empty one.
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
    columns = min(columns, len(panels))
    wide = 27 if columns > 1 or panels[0][1] is not None else 80
    texts = [textwrap.fill(text, wide) for text, _ in panels]
    rows = [
        range(first, min(first + columns, len(panels))) for first in range(0, len(panels), columns)
    ]
    pictured = any(image is not None for _, image in panels)
    heights = [
        0.25 + 0.18 * max(texts[number].count("\n") + 1 for number in row) + 2.2 * pictured
        for row in rows
    ]
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(2.25 * columns if wide == 27 else 6.0, sum(heights)),
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
            axis.imshow(image)
            axis.set_title(text)
            axis.set_anchor(
                "N"
            )  # the layout makes room for long titles only above pictures that reach the top
    return figure
