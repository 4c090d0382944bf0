"""Where dream queries look: over words, over patches, by layer and head, and through the queries into the picture."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .drawing import KINDS, LETTER, figure_function, kind_of, shares, short, strips_of

PAIRS_PER_ROW = 3  # images beside their attention maps


@figure_function
def plot_trace(
    trace,
    layer: int | None = None,
    head: int | None = None,
    query: int | None = None,
    title: str = "Where the dream queries look",
) -> Figure:
    """The signature picture: where dream queries look, over words, over the patches of every image, and in sum.

    Words and patches have a colour scale each, from 0 to the greatest value shown: what rests on `<s>`, on the markers
    (`<dream_start>` and its like) and on the queries themselves is in the bar, where it cannot drown them.

    Args:
        trace: a `probe.Trace`.
        layer, head, query: numbers; None averages over all layers or heads, and shows every query (over patches: their mean).
        title: what there is to see; layer, head and query are named beneath it.

    Returns:
        Axes in this order: strips of words, their colour bar, (image, map) of every image, their colour bar, the bar of sums.

    Raises:
        ValueError: for a layer, head or query that the trace does not have (both numbers).
    """
    sizes = dict(zip(("layer", "head", "query"), trace.weights.shape))
    for (name, size), value in zip(sizes.items(), (layer, head, query)):
        if value is not None and not 0 <= value < size:
            raise ValueError(f"{name} {value} was asked for; the trace has {size}, counted from 0")
    rows = trace.mean(layer, head).numpy()
    rows = rows if query is None else rows[[query]]
    strips = strips_of(trace.inputs)
    pictures = sorted({label[0] for label in trace.inputs if isinstance(label, tuple)})
    # Rows get thinner the more there are, so that the figure stays on one page.
    strip = min(max(min(2.3, 6 / max(len(strips), 1)), 0.012 * len(rows)), 0.35 * len(rows))
    image_rows = math.ceil(len(pictures) / PAIRS_PER_ROW)
    heights = [height for height in (len(strips) * (0.8 + strip), 1.9 * image_rows) if height] + [
        0.8
    ]
    figure = plt.figure(figsize=(9, sum(heights) + 0.55), layout="constrained")
    parts = list(np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights)))
    named = [
        f"{name} {value}"
        if value is not None
        else f"all {size} queries"
        if name == "query"
        else f"mean of {size} {name}s"
        for (name, size), value in zip(sizes.items(), (layer, head, query))
    ]
    figure.suptitle(f"{title}\n", x=0.01, ha="left")
    figure.text(
        0.01, 1 - 0.38 / figure.get_figheight(), ", ".join(named), va="center", color="#444444"
    )
    if strips:
        _draw_words(parts.pop(0), trace.inputs, strips, rows, query, strip)
    if pictures:
        _draw_patches(parts.pop(0), trace, pictures, rows, image_rows)
    _draw_shares(parts.pop(), shares(trace.inputs, rows))
    return figure


def _draw_words(
    part, inputs: list, strips: list[list[int]], rows: np.ndarray, query: int | None, height: float
) -> None:
    """Queries x words, their mean above; a dark line where an image stands before a word."""
    size, count = max(map(len, strips)), len(rows)
    axes = part.subplots(len(strips), 1, squeeze=False)[:, 0]
    upright = (
        0.1 * max(len(short(inputs[place])) for strip in strips for place in strip) < 7.6 / size
    )
    top = max(rows[:, strip].max() for strip in strips)
    gap = 0.03 * count  # between the mean and the queries
    high = max(1.0, 0.09 * count)
    for axis, strip in zip(axes, strips):
        words, thin = len(strip), dict(color="white", linewidth=0.7)
        mesh = axis.pcolormesh(rows[:, strip], vmin=0, vmax=top)
        if count <= 32:  # finer rows would be all grid
            axis.hlines(range(1, count), 0, words, **thin)
        axis.vlines(range(1, words), -high - gap, count, **thin)
        step = math.ceil(0.13 * count / height)  # a label needs so many inches
        ticks, names = (
            list(np.arange(0, count, step) + 0.5),
            list(range(0, count, step)) if query is None else [query],
        )
        if count > 1:
            axis.pcolormesh(
                np.arange(words + 1),
                [-high - gap, -gap],
                rows[:, strip].mean(axis=0, keepdims=True),
                vmin=0,
                vmax=top,
            )
            ticks, names = [-gap - high / 2, *ticks], ["mean", *names]
        axis.set(
            xlim=(0, size), ylim=(count, -high - gap if count > 1 else 0), ylabel="dream query"
        )
        axis.set_yticks(ticks, names, fontsize=7)
        axis.xaxis.tick_top()
        axis.set_xticks(
            np.arange(words) + 0.5,
            [short(inputs[place]) for place in strip],
            fontsize=9.5,
            **({} if upright else dict(rotation=40, ha="left", rotation_mode="anchor")),
        )
        axis.tick_params(length=0, pad=3)
        axis.spines[:].set_visible(False)
        for place, word in enumerate(strip):
            before = [
                label for label in inputs[max(0, word - 2) : word] if kind_of(label) != "markers"
            ]
            if before and isinstance(before[-1], tuple):
                axis.axvline(place, color="#222222", linewidth=3, clip_on=False)
                axis.text(
                    place,
                    count,
                    f" image {before[-1][0]}",
                    fontsize=7,
                    va="top",
                    ha="left" if place < size else "right",
                )
    label = "share of a query's\nattention, per word" if count > 1 else "share"
    part.colorbar(
        mesh,
        ax=list(axes),
        pad=0.01,
        aspect=14 * len(strips),
        label=label,
        format=PercentFormatter(1),
    )


def _draw_patches(part, trace, pictures: list[int], rows: np.ndarray, image_rows: int) -> None:
    """Every image, bare, beside the mean of the shown queries over its patches."""
    columns = 2 * min(PAIRS_PER_ROW, len(pictures))
    axes = part.subplots(image_rows, 2 * PAIRS_PER_ROW, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    maps = {}
    for number in pictures:
        places = [
            place
            for place, label in enumerate(trace.inputs)
            if isinstance(label, tuple) and label[0] == number
        ]
        height = 1 + max(trace.inputs[place][1] for place in places)
        maps[number] = rows[:, places].mean(axis=0).reshape(height, -1)
    top = max(map_.max() for map_ in maps.values())
    for pair, (number, map_) in enumerate(maps.items()):
        left, right = axes[pair // PAIRS_PER_ROW, 2 * (pair % PAIRS_PER_ROW) :][:2]
        left.imshow(trace.images[number])
        left.set_title(f"image {number}")
        mesh = right.pcolormesh(
            map_, vmin=0, vmax=top, edgecolors="white", linewidth=line_width(len(map_), 1.2)
        )
        right.set(aspect="equal", ylim=(len(map_), 0))
        right.set_title("attention to it")
    part.colorbar(
        mesh,
        ax=list(axes[:, :columns].flat),
        pad=0.01,
        aspect=12,
        label="share of a query's\nattention, per patch",
        format=PercentFormatter(1),
    )


def line_width(cells: int, inches: float) -> float:
    """Of the white lines between so many cells on so many inches, in points: none where they would drown the cells."""
    return 0.5 if inches / cells > 0.1 else 0.0


def _mark_even(bar, trace) -> None:
    """A line on a colour bar: what each input would get, were attention spread evenly over all that is visible."""
    even = (1 / trace.visible).mean().item()
    bar.ax.axhline(even, color="white", linewidth=1.6)
    bar.ax.annotate(
        "even",
        (0, even),
        (-3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=7.5,
        color="#444444",
    )


def _draw_shares(part, parts: dict[str, float]) -> None:
    """One bar from 0 to 1, cut by kind."""
    axis, start = part.subplots(), 0.0
    for kind, share in parts.items():
        if share > 0:
            axis.barh(
                0,
                share,
                left=start,
                color=KINDS[kind],
                edgecolor="white",
                label=f"{kind} {share:.0%}",
            )
        start += share
    axis.set(
        xlim=(0, 1), yticks=[], xticks=[], title="all of a query's attention, by what it goes to"
    )
    axis.spines[:].set_visible(False)
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        ncols=len(parts),
        handlelength=1,
        borderaxespad=0.1,
        columnspacing=1.6,
    )


@figure_function
def plot_word_layers(trace, title: str = "Which words, layer by layer") -> Figure:
    """Attention to every word in every layer, averaged over heads and queries: layers x words, in strips.

    One colour scale from 0, on which the share is marked that each input would get from a query that looks everywhere
    alike. `<s>`, markers, patches and queries are not among the words.

    Args:
        trace: a `probe.Trace`.
        title: what there is to see.

    Raises:
        ValueError: if there is no word among the inputs.
    """
    strips = strips_of(trace.inputs)
    if not strips:
        raise ValueError("there is no word among the inputs")
    rows = trace.weights.mean(dim=(1, 2)).numpy()
    layers, size = len(rows), max(map(len, strips))
    high = max(0.8, min(0.25 * layers, 3.2))
    figure, axes = plt.subplots(
        len(strips),
        1,
        figsize=(9, len(strips) * (high + 0.6) + 0.35),
        layout="constrained",
        squeeze=False,
    )
    top = max([(1 / trace.visible).mean().item(), *(rows[:, strip].max() for strip in strips)])
    upright = (
        0.1 * max(len(short(trace.inputs[place])) for strip in strips for place in strip)
        < 7.6 / size
    )
    for axis, strip in zip(axes[:, 0], strips):
        mesh = axis.pcolormesh(rows[:, strip], vmin=0, vmax=top, edgecolors="white", linewidth=0.5)
        step = math.ceil(0.14 * layers / high)
        axis.set(xlim=(0, size), ylim=(layers, 0), ylabel="layer")
        axis.set_yticks(np.arange(0, layers, step) + 0.5, range(0, layers, step), fontsize=7)
        axis.xaxis.tick_top()
        axis.set_xticks(
            np.arange(len(strip)) + 0.5,
            [short(trace.inputs[place]) for place in strip],
            fontsize=9.5,
            **({} if upright else dict(rotation=40, ha="left", rotation_mode="anchor")),
        )
        axis.tick_params(length=0, pad=3)
        axis.spines[:].set_visible(False)
    _mark_even(
        figure.colorbar(
            mesh,
            ax=list(axes[:, 0]),
            pad=0.035,
            aspect=14 * len(strips),
            label="share of a query's\nattention, per word",
            format=PercentFormatter(1),
        ),
        trace,
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_patch_layers(
    trace, image: int = 0, title: str = "Which patches, layer by layer"
) -> Figure:
    """Attention to the patches of one image, a map for every layer, averaged over heads and queries; the bare image first.

    All maps share one colour scale from 0, with the same mark as that of `plot_word_layers`.

    Args:
        trace: a `probe.Trace`.
        image: which image of the document.
        title: what there is to see.

    Raises:
        ValueError: if the document has no such image.
    """
    maps = [
        trace.patch_maps(image, layer).mean(dim=0).numpy() for layer in range(len(trace.weights))
    ]
    top = max([(1 / trace.visible).mean().item(), *(map_.max() for map_ in maps)])
    columns = min(9, len(maps) + 1)
    rows, wide = math.ceil((len(maps) + 1) / columns), min(1.7, 8.3 / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(wide * columns + 0.7, (wide + 0.22) * rows + 0.35),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    axes.flat[0].imshow(trace.images[image])
    axes.flat[0].set_title(f"image {image}")
    for axis, (layer, map_) in zip(axes.flat[1:], enumerate(maps)):
        mesh = axis.pcolormesh(
            map_, vmin=0, vmax=top, edgecolors="white", linewidth=line_width(len(map_), wide)
        )
        axis.set(aspect="equal", ylim=(len(map_), 0))
        axis.set_title(f"layer {layer}")
    _mark_even(
        figure.colorbar(
            mesh,
            ax=list(axes.flat),
            pad=0.045,
            aspect=12 * rows,
            label="share of a query's\nattention, per patch",
            format=PercentFormatter(1),
        ),
        trace,
    )
    figure.suptitle(title, x=0.01, ha="left")
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
    """One number of every head (or query) in every layer: a map of layers x heads for each name, all on one colour scale.

    Args:
        values: {name: shape (layers, heads)}, at least one.
        title: what there is to see.
        label: what a number is, in shares of 1.
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
    wide = max(
        1.75, side * heads + 0.25, 0.3 + 0.075 * max(map(len, maps))
    )  # the names need room, too
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
        mesh = axis.pcolormesh(
            map_,
            vmin=bottom,
            vmax=top,
            edgecolors="white",
            linewidth=line_width(layers, side * layers),
        )
        axis.set(aspect="equal", ylim=(layers, 0), xlabel=across, title=name)
        for place, count in ((axis.xaxis, heads), (axis.yaxis, layers)):
            step = math.ceil(0.16 / side)
            place.set_ticks(np.arange(0, count, step) + 0.5, range(0, count, step))
        axis.tick_params(length=0, labelsize=7)
        axis.spines[:].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("layer")
    figure.colorbar(
        mesh,
        ax=list(axes.flat),
        pad=0.01,
        aspect=12 * rows,
        label=label,
        format=PercentFormatter(1),
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_two_hop(
    image,
    hops,
    inputs: list,
    words: list,
    title: str = "Through the queries: which cells came from which word",
) -> Figure:
    """The painted picture, and over it, for chosen inputs, how much of each latent cell came from them.

    Args:
        image: what was painted, a PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.
        words: tokens (each of its first occurrence) or positions among the inputs.
        title: what there is to see. The colours go from the least value shown to the greatest.

    Raises:
        ValueError: for a word that is not among the inputs, or if there are not as many maps as inputs (both numbers).
    """
    if len(hops) != len(inputs):
        raise ValueError(f"{len(hops)} maps were given for {len(inputs)} inputs")
    missing = [word for word in words if isinstance(word, str) and word not in inputs]
    if missing or not words:
        raise ValueError(
            f"{missing[0]!r} is not among the inputs" if missing else "no words were chosen"
        )
    places = [inputs.index(word) if isinstance(word, str) else word for word in words]
    maps = np.stack([np.asarray(hops[place]) for place in places])
    columns = min(6, len(places) + 1)
    rows = math.ceil((len(places) + 1) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.8 * columns + 0.7, 2.05 * rows + 0.4),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    axes.flat[0].imshow(image)
    axes.flat[0].set_title("painted")
    for axis, place, map_ in zip(axes.flat[1:], places, maps):
        width, height = image.size
        axis.imshow(
            image.convert("L"),
            cmap="gray",
            vmin=-120,
            vmax=375,
            extent=(0, map_.shape[1], map_.shape[0], 0),
        )
        mesh = axis.pcolormesh(
            map_, vmin=maps.min(), vmax=maps.max(), alpha=0.72, edgecolors="white", linewidth=0.3
        )
        axis.set_aspect(map_.shape[1] * height / (map_.shape[0] * width))
        label = inputs[place]
        axis.set_title(
            short(label)
            if isinstance(label, str)
            else f"query {label}"
            if isinstance(label, int)
            else f"image {label[0]}, patch {label[1:]}"
        )
    figure.colorbar(
        mesh, ax=list(axes.flat), pad=0.01, label="share of a cell's\nattention", aspect=14
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure
