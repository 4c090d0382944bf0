"""Attention of dream queries by layer and by head."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from .attention import name_words, start_in_words
from .drawing import (
    LETTER,
    beside_picture,
    draw_map,
    figure_function,
    set_subtitle,
    set_title,
    share_bar,
)
from .tokens import strips_of

LAYER = 0.145  # inches of a layer in a heat map at least: a label of 8 points


def _subtitle(trace, what: str) -> str:
    """What a figure of layers says beneath its title, of a trace without `<s>`."""
    said = f"each layer has its own scale; 2x: the highest {what} gets twice the uniform share"
    if trace.start is None:
        return said
    return f"{said}; {start_in_words(trace.start.mean().item())}"


@figure_function
def plot_word_layers(trace, title: str = "Which words, layer by layer") -> Figure:
    """Attention to every word in every layer, averaged over heads and queries: layers x words.

    `<s>` is left out, as `Trace.without_start` does it, and markers, patches and queries are not
    shown. Each layer has a colour scale of its own, from 0 to its highest word: layers differ so
    much in how much they give to words that on a common scale most of them would be dark. Bars at
    the side say how high this is, as a multiple of uniform attention, and what `<s>` has.

    Args:
        trace: a `probe.Trace`, with or without `<s>`.
        title: the finding.

    Returns:
        For each strip of words: its heat map, the bars of the highest word, those of `<s>`; those
        of all strips but the first are empty. The colour bar is the last.

    Raises:
        ValueError: if there is no word among the inputs.
    """
    strips = strips_of(trace.inputs)
    if not strips:
        raise ValueError("there is no word among the inputs")
    trace = trace.without_start()
    strips = strips_of(trace.inputs)
    layers = range(len(trace.weights))
    rows = np.stack([trace.mean(layer).mean(dim=0).numpy() for layer in layers])
    highest = np.max([rows[:, strip].max(axis=1) for strip in strips], axis=0)
    high = max(0.8, min(0.25 * len(layers), LAYER * max(len(layers), 22)))
    size = (9, len(strips) * (high + 0.75) + 0.75)
    figure, axes = plt.subplots(
        len(strips), 3, figsize=size, layout="constrained", squeeze=False, width_ratios=(10, 1, 1)
    )
    step = math.ceil(LAYER * len(layers) / high)
    for row, (axis, strip) in enumerate(zip(axes[:, 0], strips)):
        scaled = rows[:, strip] / highest[:, None]
        mesh = axis.pcolormesh(scaled, vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        axis.set(ylim=(len(layers), 0), ylabel="layer")
        axis.set_yticks(np.arange(0, len(layers), step) + 0.5, layers[::step], fontsize=8)
        name_words(axis, trace.inputs, strips, strip)
        if row:
            axes[row, 1].set_axis_off()
            axes[row, 2].set_axis_off()
    uniform = (1 / trace.visible).mean().item()
    times = FuncFormatter(lambda ratio, _: f"{ratio:g}x")
    _draw_bars(axes[0, 1], highest / uniform, "highest", times)
    start = np.zeros(len(layers))
    if trace.start is not None:
        start = trace.start.mean(dim=(1, 2)).numpy()
    _draw_bars(axes[0, 2], start, "<s>", PercentFormatter(1), top=1)
    share_bar(figure, mesh, axes, "of the layer's\nhighest word", aspect=14 * len(strips))
    set_subtitle(figure, title, _subtitle(trace, "word"))
    return figure


def _draw_bars(axis, values, name: str, numbers, top: float | None = None) -> None:
    """A bar for each layer, beside a heat map whose first layer is on top."""
    axis.barh(np.arange(len(values)) + 0.5, values, height=0.8, color="#999999")
    axis.set(ylim=(len(values), 0), xlim=(0, top), yticks=[])
    axis.set_title(name, loc="center")
    axis.xaxis.set(major_locator=MaxNLocator(1), major_formatter=numbers)
    axis.tick_params(labelsize=8)


@figure_function
def plot_patch_layers(
    trace, image: int = 0, title: str = "Which patches, layer by layer"
) -> Figure:
    """Attention to the patches of an image, a map for every layer; the bare image comes first.

    Averaged over heads and queries. `<s>` is left out, as `Trace.without_start` does it. Each layer
    has a colour scale of its own, from 0 to its highest patch. Above its map is written how high
    this is, as a multiple of uniform attention.

    Args:
        trace: a `probe.Trace`, with or without `<s>`.
        image: its index in the document.
        title: the finding.

    Raises:
        ValueError: if the document has no such image.
    """
    trace = trace.without_start()
    layers = range(len(trace.weights))
    maps = [trace.patch_maps(image, layer).mean(dim=0).numpy() for layer in layers]
    uniform = (1 / trace.visible).mean().item()
    wide = min(1.7, 8.3 / min(8, len(maps) + 1))
    figure, axes, own, rows = beside_picture(
        trace.images[image], f"image {image}", len(maps), 8, wide, wide + 0.22
    )
    figure.set_figheight(figure.get_figheight() + 0.2)  # for the second line of the title
    for axis, layer, map_ in zip(own, layers, maps):
        mesh = draw_map(axis, map_ / map_.max(), 0, 1, inches=wide)
        axis.set_title(f"layer {layer}: {map_.max() / uniform:.2g}x", fontsize=8)
    share_bar(figure, mesh, axes, "of the layer's\nhighest patch", 12 * rows)
    set_subtitle(figure, title, _subtitle(trace, "patch"))
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
        values: {name: shape (layers, heads)}, at least one; if any is below 0, the scale has both
            signs.
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
    signed = min(map_.min() for map_ in maps.values()) < 0
    top = max(np.abs(map_).max() for map_ in maps.values()) if top is None else top
    bottom, colours = (-top, "RdBu_r") if signed else (bottom, None)
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
        mesh = draw_map(axis, map_, bottom, top, inches=side * layers, cmap=colours)
        axis.set(xlabel=across, title=name)
        step = math.ceil(0.18 / side)
        for line, count in ((axis.xaxis, heads), (axis.yaxis, layers)):
            line.set_ticks(np.arange(0, count, step) + 0.5, range(0, count, step))
        axis.tick_params(length=0, labelsize=8)
        axis.spines[:].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("layer")
    share_bar(figure, mesh, axes, label, aspect=12 * rows)
    set_title(figure, title)
    return figure
