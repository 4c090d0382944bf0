"""Attention of dream queries: over words, over patches, by layer and by head."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ..images import as_integer
from .drawing import (
    GREY,
    LETTER,
    beside_picture,
    draw_map,
    figure_function,
    set_title,
    share_bar,
    show_picture,
)
from .tokens import TOKEN_COLOURS, kind_of, shares, short, strips_of

PAIRS_PER_ROW = 3  # images beside their attention maps
PER_WORD = "share of a query's\nattention, per word"
PER_PATCH = "share of a query's\nattention, per patch"


@figure_function
def plot_trace(
    trace,
    layer: int | None = None,
    head: int | None = None,
    query: int | None = None,
    title: str = "Where the dream queries look",
) -> Figure:
    """The signature figure: attention of dream queries over words, over patches, and in total.

    Words and patches have a colour scale each, from 0 to the greatest value shown. Attention to
    `<s>`, to the markers (such as `<dream_start>`) and to the queries themselves is shown in a bar
    of its own, because it would drown that to words and patches.

    Args:
        trace: a `probe.Trace`.
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
    rows = trace.mean(layer, head).numpy()
    rows = rows if query is None else rows[[query]]
    strips = strips_of(trace.inputs)
    pictures = sorted({label[0] for label in trace.inputs if isinstance(label, tuple)})
    # Rows get thinner the more there are, so that the figure stays on one page.
    strip = min(max(min(2.3, 6 / max(len(strips), 1)), 0.012 * len(rows)), 0.35 * len(rows))
    image_rows = math.ceil(len(pictures) / PAIRS_PER_ROW)
    heights = [len(strips) * (0.8 + strip), 1.9 * image_rows, 0.8]
    heights = [height for height in heights if height]
    figure = plt.figure(figsize=(9, sum(heights) + 0.55), layout="constrained")
    parts = list(np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights)))
    set_title(figure, f"{title}\n")
    y = 1 - 0.38 / figure.get_figheight()
    figure.text(0.01, y, ", ".join(settings), va="center", color=GREY)
    if strips:
        _draw_words(parts.pop(0), trace.inputs, strips, rows, query, strip)
    if pictures:
        _draw_patches(parts.pop(0), trace, pictures, rows, image_rows)
    _draw_shares(parts.pop(), shares(trace.inputs, rows))
    return figure


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
    step = math.ceil(0.13 * count / height)  # a label needs so many inches
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
        axis.set_yticks(ticks, names, fontsize=7)
        _name_words(axis, inputs, strips, strip)
        for column, position in enumerate(strip):
            image = _image_before(inputs, position)
            if image is not None:
                axis.axvline(column, color="#222222", linewidth=3, clip_on=False)
                axis.text(column, count, f" image {image}", fontsize=7, va="top")
    label = PER_WORD if count > 1 else "share"
    share_bar(part, mesh, axes, label, aspect=14 * len(strips))


def _name_words(axis, inputs: list, strips: list[list[int]], strip: list[int]) -> None:
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


def _uniform(trace) -> float:
    """What each input would get on average, were attention uniform over all that is visible."""
    return (1 / trace.visible).mean().item()


def _mark_uniform(bar, uniform: float) -> None:
    """A line on a colour bar at the share of uniform attention."""
    bar.ax.axhline(uniform, color="white", linewidth=1.6)
    bar.ax.annotate(
        "uniform",
        (0, uniform),
        (-3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=7.5,
        color=GREY,
    )


@figure_function
def plot_word_layers(trace, title: str = "Which words, layer by layer") -> Figure:
    """Attention to every word in every layer, averaged over heads and queries: layers x words.

    One colour scale from 0, on which the share of uniform attention is marked. `<s>`, markers,
    patches and queries are left out.

    Args:
        trace: a `probe.Trace`.
        title: the finding.

    Raises:
        ValueError: if there is no word among the inputs.
    """
    strips = strips_of(trace.inputs)
    if not strips:
        raise ValueError("there is no word among the inputs")
    rows, uniform = trace.weights.mean(dim=(1, 2)).numpy(), _uniform(trace)
    layers = len(rows)
    high = max(0.8, min(0.25 * layers, 3.2))
    size = (9, len(strips) * (high + 0.6) + 0.35)
    figure, axes = plt.subplots(len(strips), figsize=size, layout="constrained", squeeze=False)
    top = max([uniform, *(rows[:, strip].max() for strip in strips)])
    step = math.ceil(0.14 * layers / high)
    for axis, strip in zip(axes[:, 0], strips):
        mesh = axis.pcolormesh(rows[:, strip], vmin=0, vmax=top, edgecolors="white", linewidth=0.5)
        axis.set(ylim=(layers, 0), ylabel="layer")
        axis.set_yticks(np.arange(0, layers, step) + 0.5, range(0, layers, step), fontsize=7)
        _name_words(axis, trace.inputs, strips, strip)
    bar = share_bar(figure, mesh, axes, PER_WORD, aspect=14 * len(strips), pad=0.045)
    _mark_uniform(bar, uniform)
    set_title(figure, title)
    return figure


@figure_function
def plot_patch_layers(
    trace, image: int = 0, title: str = "Which patches, layer by layer"
) -> Figure:
    """Attention to the patches of an image, a map for every layer; the bare image comes first.

    Averaged over heads and queries. All maps share one colour scale from 0, on which the share of
    uniform attention is marked.

    Args:
        trace: a `probe.Trace`.
        image: its index in the document.
        title: the finding.

    Raises:
        ValueError: if the document has no such image.
    """
    layers = range(len(trace.weights))
    maps = [trace.patch_maps(image, layer).mean(dim=0).numpy() for layer in layers]
    uniform = _uniform(trace)
    top = max([uniform, *(map_.max() for map_ in maps)])
    wide = min(1.7, 8.3 / min(9, len(maps) + 1))
    figure, axes, own, rows = beside_picture(
        trace.images[image], f"image {image}", len(maps), 9, wide, wide + 0.22
    )
    for axis, layer, map_ in zip(own, layers, maps):
        mesh = draw_map(axis, map_, 0, top, inches=wide)
        axis.set_title(f"layer {layer}")
    _mark_uniform(share_bar(figure, mesh, axes, PER_PATCH, 12 * rows, pad=0.055), uniform)
    set_title(figure, title)
    return figure


@figure_function
def plot_heads(
    values: dict,
    title: str,
    label: str,
    bottom: float = 0.0,
    top: float | None = None,
    across: str = "head",
) -> Figure:
    """One number of every head (or query) in every layer: a map for each name, on one colour scale.

    Args:
        values: {name: shape (layers, heads)}, at least one; shares in [0, 1].
        title: the finding.
        label: what a number is.
        bottom, top: ends of the colour scale; None is the greatest value.
        across: what a column is.

    Raises:
        ValueError: without values.
    """
    maps = {name: np.asarray(map_) for name, map_ in values.items()}
    if not maps:
        raise ValueError("no values were given to draw")
    layers, heads = next(iter(maps.values())).shape
    top = max(map_.max() for map_ in maps.values()) if top is None else top
    side = min(0.34, 2.1 / max(layers, heads))
    columns = min(4, len(maps))
    rows = math.ceil(len(maps) / columns)
    wide = max(1.75, side * heads + 0.25, 0.3 + 0.075 * max(map(len, maps)))  # room for the names
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(
            max(columns * wide + 1.2, LETTER * len(title)),
            rows * (side * layers + 0.6) + 0.5,
        ),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis in axes.flat[len(maps) :]:
        axis.set_axis_off()
    for axis, (name, map_) in zip(axes.flat, maps.items()):
        mesh = draw_map(axis, map_, bottom, top, inches=side * layers)
        axis.set(xlabel=across, title=name)
        step = math.ceil(0.16 / side)
        for line, count in ((axis.xaxis, heads), (axis.yaxis, layers)):
            line.set_ticks(np.arange(0, count, step) + 0.5, range(0, count, step))
        axis.tick_params(length=0, labelsize=7)
        axis.spines[:].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("layer")
    share_bar(figure, mesh, axes, label, aspect=12 * rows)
    set_title(figure, title)
    return figure
