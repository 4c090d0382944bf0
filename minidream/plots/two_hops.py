"""From a painted picture through the dream queries to the inputs: maps over latent cells."""

import math
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..images import as_rgb
from .drawing import (
    HIGHLIGHT,
    beside_picture,
    draw_map,
    figure_function,
    set_title,
)
from .tokens import TOKEN_COLOURS, kind_of, short

WIDE = 9  # inches: width of a figure
BARS = 24  # in one column; more continue in the next
COLUMNS = 3
OF_A_CELL = "share of a cell's\nattention"
FINEST = 96  # pixels, in which outlines are found
EDGE = 0.25  # by how much neighbours differ in a colour at an outline, of 1


def groups(inputs: list) -> dict[str, list[int]]:
    """Positions of all inputs by name, in reading order.

    Each token is a group of its own; the patches of an image are one, and so are all queries. A
    repeated token is numbered: "a", "a (2)". No token has a space in it, so that "image 0" and "the
    queries" cannot be tokens.

    Args:
        inputs: a label per input, as `probe.Trace.inputs`.

    Returns:
        {name: positions among the inputs}; every position is in one group.
    """
    found: dict[str, list[int]] = {}
    seen: Counter = Counter()
    for position, label in enumerate(inputs):
        if isinstance(label, str):
            seen[label] += 1
            found[label if seen[label] == 1 else f"{label} ({seen[label]})"] = [position]
        else:
            name = f"image {label[0]}" if isinstance(label, tuple) else "the queries"
            found.setdefault(name, []).append(position)
    return found


def sources(inputs: list) -> dict[str, list[int]]:
    """Those of `groups` that carry the prompt: its words, and the patches of its images."""
    return {
        name: positions
        for name, positions in groups(inputs).items()
        if kind_of(inputs[positions[0]]) in ("words", "patches")
    }


def shares_of(hops, inputs: list, positions: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """How much of each latent cell's attention came from groups of inputs.

    Args:
        hops: from `probe.two_hop`, shape (inputs, height, width), in [0, 1].
        inputs: a label per input.
        positions: {name: positions}, from `groups` or `sources`.

    Returns:
        {name: shape (height, width) in latent cells, in [0, 1]}.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or there is no group.
    """
    hops = np.asarray(hops)
    if len(hops) != len(inputs):
        raise ValueError(f"{len(hops)} maps were given for {len(inputs)} inputs")
    if not positions:
        raise ValueError("neither a word nor a patch is among the inputs")
    return {name: hops[group].sum(axis=0) for name, group in positions.items()}


@figure_function
def plot_two_hop(
    image,
    hops,
    inputs: list,
    words: list,
    title: str = "Through the queries: which cells came from which word",
) -> Figure:
    """The painted picture, and for chosen inputs how much of each latent cell came from them.

    Args:
        image: the painted PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.
        words: tokens (the first occurrence of each) or positions among the inputs.
        title: the finding. The colours of each map range from 0 to its own greatest value, which
            stands above it: words differ more in how much attention they get than in where.

    Raises:
        ValueError: for a word that is not among the inputs, without words, or if there are not as
            many maps as inputs (both numbers).
    """
    if len(hops) != len(inputs):
        raise ValueError(f"{len(hops)} maps were given for {len(inputs)} inputs")
    if not words:
        raise ValueError("no words were chosen")
    for word in words:
        if isinstance(word, str) and word not in inputs:
            raise ValueError(f"{word!r} is not among the inputs")
    places = [inputs.index(word) if isinstance(word, str) else word for word in words]
    figure, axes, own, _ = beside_picture(image, "painted", len(places), 6, 1.8, 2.2)
    for axis, position in zip(own, places):
        map_ = np.asarray(hops[position])
        mesh = draw_over(axis, image, map_, 0, map_.max(), inches=1.6)
        axis.set_title(f"{_name_of(inputs[position])}\nup to {map_.max():.1%}")
    bar_to_greatest(figure, mesh, axes)
    set_title(figure, title)
    return figure


def bar_to_greatest(figure: Figure, mesh, axes, rows: int = 1) -> None:
    """A colour bar for maps of which each has a scale of its own."""
    bar = figure.colorbar(mesh, ax=list(axes.flat), pad=0.01, label=OF_A_CELL, aspect=14 * rows)
    bar.set_ticks([0, mesh.norm.vmax], labels=["0", "its\ngreatest"])


def _name_of(label) -> str:
    """An input in a title."""
    if isinstance(label, tuple):
        return f"image {label[0]}, patch {label[1:]}"
    return short(label) if isinstance(label, str) else f"query {label}"


@figure_function
def plot_cell_attention(image, maps, words: list[str], title: str, columns: int = 7) -> Figure:
    """Cross-attention of latent cells: the picture, and for each word a map under its outlines.

    Args:
        image: the painted PIL image.
        maps: shape (words, height, width) in latent cells; shares of a cell's attention in [0, 1].
        words: one for each map; or other names of what the cells attend to, such as queries.
        title: the finding; name the layers and steps in it. The colours of each map range from 0 to
            its own greatest value, which stands above it.
        columns: how many side by side at most.

    Raises:
        ValueError: if there are not as many words as maps (both numbers).
    """
    maps = np.asarray(maps)
    if len(maps) != len(words):
        raise ValueError(f"{len(maps)} maps and {len(words)} words: each map needs a word")
    figure, axes, own, rows = beside_picture(image, "the picture", len(maps), columns, 1.2, 1.6)
    for axis, map_, word in zip(own, maps, words):
        mesh = draw_over(axis, image, map_, 0, map_.max(), inches=1.1)
        axis.set_title(f"{short(word)}\nup to {map_.max():.0%}")
    bar_to_greatest(figure, mesh, axes, rows)
    set_title(figure, title)
    return figure


def draw_under(axis, image, height: int, width: int) -> None:
    """A picture on axes in units of latent cells, the origin at the upper left.

    Args:
        axis: where to draw.
        image: a PIL image.
        height, width: in latent cells.
    """
    _prepare(axis, image, height, width)
    axis.imshow(as_rgb(image), extent=(0, width, height, 0))


def draw_over(axis, image, map_, low, high, inches: float):
    """A map of latent cells, and over it the outlines of the picture.

    Only outlines: a picture that shines through its map puts all objects into every map.

    Args:
        axis: where to draw.
        image: a PIL image.
        map_: shape (height, width).
        low, high, inches: as of `draw_map`.

    Returns:
        What a colour bar takes.
    """
    mesh = draw_map(axis, map_, low, high, inches)
    _prepare(axis, image, *map_.shape)
    height, width = map_.shape
    extent = (0, width, height, 0)
    axis.imshow(outline_layer(image), extent=extent, interpolation="nearest", zorder=2)
    return mesh


def outline_layer(image) -> np.ndarray:
    """The outlines of a picture in white and black, to be laid over any colours.

    Args:
        image: a PIL image.

    Returns:
        RGBA, 8 bits, as large as `outlines`.
    """
    drawn = outlines(image)
    around = drawn.copy()
    around[1:], around[:-1] = around[1:] | drawn[:-1], around[:-1] | drawn[1:]
    layer = np.zeros((*drawn.shape, 4), dtype=np.uint8)
    layer[around] = (0, 0, 0, 190)
    layer[drawn] = (255, 255, 255, 255)
    return layer


def outlines(image) -> np.ndarray:
    """Where neighbouring pixels differ clearly: bool, of `FINEST` pixels at most in each direction.

    Args:
        image: a PIL image.
    """
    small = as_rgb(image).copy()
    small.thumbnail((FINEST, FINEST))
    pixels = np.asarray(small, dtype=float) / 255
    found = np.zeros(pixels.shape[:2], dtype=bool)
    found[1:] |= np.abs(np.diff(pixels, axis=0)).max(axis=-1) > EDGE
    found[:, 1:] |= np.abs(np.diff(pixels, axis=1)).max(axis=-1) > EDGE
    return found


def _prepare(axis, image, height: int, width: int) -> None:
    """Axes without a frame, on which cells have the shape that they have in the picture."""
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_aspect(width * image.size[1] / (height * image.size[0]))
    axis.set_axis_off()


@figure_function
def plot_hop(image, hops, inputs: list, word: str, cell: tuple[int, int]) -> Figure:
    """Through the queries in both directions: the cells of one word, and the words of one cell.

    The map has a range of its own, since words differ more in how much attention they get than in
    where. The bars of all cells share one scale, which ends at the greatest share of any cell. If
    there are too many words, only those with the largest share of the picture get a bar.

    Args:
        image: the painted PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.
        word: one of the names that `sources` gives.
        cell: (row, column), in latent cells.

    Returns:
        Axes in this order: the picture, the map of the word, columns of bars, the colour bar.

    Raises:
        ValueError: for an unknown word or cell, or if there are not as many maps as inputs (both
            numbers).
    """
    positions = sources(inputs)
    maps = shares_of(hops, inputs, positions)
    if word not in maps:
        raise ValueError(f"{word!r} is not among the inputs: {', '.join(maps)}")
    (row, column), (height, width) = cell, maps[word].shape
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(
            f"cell {(row, column)} was asked for; there are {height} rows and {width} columns, "
            "counted from 0"
        )
    shares = {name: map_[row, column] for name, map_ in maps.items()}
    # The same words for all cells, and the chosen one among them.
    by_share = sorted(maps, key=lambda name: (name != word, -maps[name].sum()))
    shown = set(by_share[: BARS * COLUMNS])
    names = [name for name in maps if name in shown]
    columns, longest = math.ceil(len(names) / BARS), min(len(names), BARS)
    figure, axes = plt.subplots(
        1,
        2 + columns,
        figsize=(WIDE, max(3.0, 0.16 * longest + 0.95)),
        layout="constrained",
        width_ratios=[1, 1, *[max(1 / columns, 0.4)] * columns],
    )
    draw_under(axes[0], image, height, width)
    mesh = draw_over(axes[1], image, maps[word], None, None, inches=2.2)
    for axis in axes[:2]:
        _outline_cell(axis, row, column)
    axes[0].set_title(f"painted; cell ({row}, {column})")
    axes[1].set_title(f"“{short(word)}” over the cells")
    # Beside both, so that they keep the same size.
    figure.colorbar(
        mesh,
        ax=list(axes[:2]),
        pad=0.02,
        aspect=18,
        shrink=0.75,
        anchor=(0, 0.94),
        panchor="N",
        format=PercentFormatter(1),
        ticks=MaxNLocator(4),
        label=f"{OF_A_CELL}, own range",
    )
    top = max(map_.max() for map_ in maps.values())
    for index, axis in enumerate(axes[2:]):
        part = names[index * BARS : (index + 1) * BARS]
        kinds = {name: kind_of(inputs[positions[name][0]]) for name in part}
        colours = [HIGHLIGHT if name == word else TOKEN_COLOURS[kinds[name]] for name in part]
        axis.barh(range(len(part)), [shares[name] for name in part], color=colours)
        axis.set_yticks(range(len(part)), map(short, part), fontsize=8)
        axis.set(xlim=(0, top), ylim=(longest - 0.4, -0.6))
        ticks = MaxNLocator(3 if columns == 1 else 1)
        axis.xaxis.set(major_locator=ticks, major_formatter=PercentFormatter(1))
        axis.tick_params(axis="y", length=0)
    of_all = "the" if len(names) == len(maps) else f"{len(names)} of {len(maps)}"
    axes[2].set_title(f"cell ({row}, {column}) over {of_all} words")
    rest = 1 - sum(shares.values())
    axes[2].set_xlabel(
        f"share of its attention; <s>, markers\nand queries get the other {rest:.0%}"
    )
    first = max(shares, key=shares.get)
    set_title(
        figure,
        f"Cell ({row}, {column}) comes from “{short(first)}” more than from any other input: "
        f"{shares[first]:.1%}",
    )
    return figure


def _outline_cell(axis, row: int, column: int) -> None:
    """A frame around a cell, which can be seen on every colour."""
    white = [withStroke(linewidth=4, foreground="white")]
    frame = dict(fill=False, edgecolor=HIGHLIGHT, linewidth=2, zorder=3, path_effects=white)
    axis.add_patch(Rectangle((column, row), 1, 1, **frame))
