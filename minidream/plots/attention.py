"""Attention of dream queries over words and patches: the signature figure."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ..images import as_integer
from .drawing import (
    draw_map,
    figure_function,
    set_subtitle,
    share_bar,
    show_picture,
)
from .tokens import TOKEN_COLOURS, kind_of, shares, short, strips_of

PAIRS_PER_ROW = 3  # images beside their attention maps
PER_WORD = "share of attention\nbeyond <s>, per word"
PER_PATCH = "share of attention\nbeyond <s>, per patch"


@figure_function
def plot_trace(
    trace,
    layer: int | None = None,
    head: int | None = None,
    query: int | None = None,
    title: str = "Where the dream queries look",
) -> Figure:
    """The signature figure: attention of dream queries over words, over patches, and in total.

    Words and patches have a colour scale each, from 0 to the greatest value shown. `<s>` is left
    out, as `Trace.without_start` does it, so that queries can be compared that leave different
    shares on it; this share is written beneath the title. Attention to `<s>`, to the markers (such
    as `<dream_start>`) and to the queries themselves is shown in a bar of its own, because it would
    drown that to words and patches.

    Args:
        trace: a `probe.Trace`, with or without `<s>`.
        layer, head: their indices; None averages over all of them.
        query: its index; None shows every query, and over patches their mean.
        title: the finding; layer, head and query are named beneath it.

    Returns:
        Axes in this order: strips of words, their colour bar, (image, map) of every image, their
        colour bar, the bar of totals.

    Raises:
        TypeError: for a layer, head or query that is not a number.
        ValueError: for one that the trace does not have (both numbers).
    """
    settings, indices = [], []
    sizes = zip(("layer", "head", "query"), trace.weights.shape, (layer, head, query))
    for name, size, chosen in sizes:
        if chosen is None:
            settings.append(f"all {size} queries" if name == "query" else f"mean of {size} {name}s")
        else:
            chosen = as_integer(name, chosen)
            if not 0 <= chosen < size:
                raise ValueError(
                    f"{name} {chosen} was asked for; the trace has {size}, counted from 0"
                )
            settings.append(f"{name} {chosen}")
        indices.append(chosen)
    layer, head, query = indices
    trace = trace.without_start()
    # Of all attention, for the bar; and of what is not on `<s>`, for the maps.
    of_all = replace(trace, start=None).mean(layer, head).numpy()
    rows = trace.mean(layer, head).numpy()
    if query is not None:
        of_all, rows = of_all[[query]], rows[[query]]
    totals = shares(trace.inputs, of_all)
    if trace.start is not None:
        totals["<s>"] = float(1 - of_all.sum(axis=1).mean())
        settings.append(start_in_words(totals["<s>"]))
    strips = strips_of(trace.inputs)
    pictures = sorted({label[0] for label in trace.inputs if isinstance(label, tuple)})
    # Rows get thinner the more there are, so that the figure stays on one page.
    strip = min(max(min(2.3, 6 / max(len(strips), 1)), 0.012 * len(rows)), 0.35 * len(rows))
    image_rows = math.ceil(len(pictures) / PAIRS_PER_ROW)
    heights = [len(strips) * (0.8 + strip), 1.9 * image_rows, 0.8]
    heights = [height for height in heights if height]
    figure = plt.figure(figsize=(9, sum(heights) + 0.55), layout="constrained")
    parts = list(np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights)))
    set_subtitle(figure, title, ", ".join(settings))
    if strips:
        _draw_words(parts.pop(0), trace.inputs, strips, rows, query, strip)
    if pictures:
        _draw_patches(parts.pop(0), trace, pictures, rows, image_rows)
    _draw_shares(parts.pop(), totals)
    return figure


def start_in_words(share: float) -> str:
    """How much attention the maps of a figure leave out."""
    return f"<s> has {share:.0%} of the attention and is left out"


def _draw_words(
    part, inputs: list, strips: list[list[int]], rows: np.ndarray, query: int | None, height: float
) -> None:
    """Queries x words, their mean above; a dark line where an image precedes a word."""
    count = len(rows)
    axes = part.subplots(len(strips), 1, squeeze=False)[:, 0]
    top = max(rows[:, strip].max() for strip in strips)
    gap = 0.03 * count  # between the mean and the queries
    high = max(1.0, 0.09 * count)
    thin = dict(color="white", linewidth=0.7)
    step = math.ceil(0.14 * count / height)  # a label needs so many inches
    ticks = list(np.arange(0, count, step) + 0.5)
    names: list = list(range(0, count, step)) if query is None else [query]
    if count > 1:
        ticks, names = [-gap - high / 2, *ticks], ["mean", *names]
    for axis, strip in zip(axes, strips):
        words = len(strip)
        mesh = axis.pcolormesh(rows[:, strip], vmin=0, vmax=top)
        if count <= 32:  # finer rows would be all grid
            axis.hlines(range(1, count), 0, words, **thin)
        axis.vlines(range(1, words), -high - gap, count, **thin)
        if count > 1:
            mean = rows[:, strip].mean(axis=0, keepdims=True)
            axis.pcolormesh(np.arange(words + 1), [-high - gap, -gap], mean, vmin=0, vmax=top)
        axis.set(ylim=(count, -high - gap if count > 1 else 0), ylabel="dream query")
        axis.set_yticks(ticks, names, fontsize=8)
        name_words(axis, inputs, strips, strip)
        for column, position in enumerate(strip):
            image = _image_before(inputs, position)
            if image is not None:
                axis.axvline(column, color="#222222", linewidth=3, clip_on=False)
                axis.text(column, count, f" image {image}", fontsize=8, va="top")
    label = PER_WORD if count > 1 else "share"
    share_bar(part, mesh, axes, label, aspect=14 * len(strips))


def name_words(axis, inputs: list, strips: list[list[int]], strip: list[int]) -> None:
    """The words of a strip above its axes, slanted if those of any strip would overlap."""
    size = max(map(len, strips))
    longest = max(len(short(inputs[position])) for some in strips for position in some)
    slanted = dict(rotation=40, ha="left", rotation_mode="anchor")
    options = {} if 0.1 * longest < 7.6 / size else slanted
    names = [short(inputs[position]) for position in strip]
    axis.set_xlim(0, size)
    axis.xaxis.tick_top()
    axis.set_xticks(np.arange(len(strip)) + 0.5, names, fontsize=9.5, **options)
    axis.tick_params(length=0, pad=3)
    axis.spines[:].set_visible(False)


def _image_before(inputs: list, position: int) -> int | None:
    """Index of the image that ends right before a word, but for a marker between them."""
    before = [
        label for label in inputs[max(0, position - 2) : position] if kind_of(label) != "markers"
    ]
    return before[-1][0] if before and isinstance(before[-1], tuple) else None


def _draw_patches(part, trace, pictures: list[int], rows: np.ndarray, image_rows: int) -> None:
    """Every image, bare, beside the mean of the shown queries over its patches."""
    columns = 2 * min(PAIRS_PER_ROW, len(pictures))
    axes = part.subplots(image_rows, 2 * PAIRS_PER_ROW, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    maps = {}
    for image in pictures:
        places = [
            position
            for position, label in enumerate(trace.inputs)
            if isinstance(label, tuple) and label[0] == image
        ]
        height = 1 + trace.inputs[places[-1]][1]
        maps[image] = rows[:, places].mean(axis=0).reshape(height, -1)
    top = max(map_.max() for map_ in maps.values())
    for pair, (image, map_) in enumerate(maps.items()):
        left, right = axes[pair // PAIRS_PER_ROW, 2 * (pair % PAIRS_PER_ROW) :][:2]
        show_picture(left, trace.images[image])
        left.set_title(f"image {image}")
        mesh = draw_map(right, map_, 0, top, inches=1.2)
        right.set_title("attention to it")
    share_bar(part, mesh, axes[:, :columns], PER_PATCH, aspect=12)


def _draw_shares(part, parts: dict[str, float]) -> None:
    """One bar from 0 to 1, divided by kind of input."""
    axis, start = part.subplots(), 0.0
    for kind, share in parts.items():
        if share > 0:
            colour = TOKEN_COLOURS[kind]
            label = f"{kind} {share:.0%}"
            axis.barh(0, share, left=start, color=colour, edgecolor="white", label=label)
        start += share
    axis.set(xlim=(0, 1), yticks=[], xticks=[])
    axis.set_title("all of a query's attention, by kind of input")
    axis.spines[:].set_visible(False)
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        ncols=len(parts),
        handlelength=1,
        borderaxespad=0.1,
        columnspacing=1.6,
    )
