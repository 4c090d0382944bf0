"""What the model is shown: a scene with the words that name it, and a document as one row of tokens, position by position."""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from ..documents import IGNORED, Layout
from .drawing import (
    INK,
    KINDS,
    canvas,
    draw_arrow,
    draw_box,
    draw_picture,
    figure_function,
    kind_of,
    short,
)

HIGH = 0.27  # inches: height of a token
THUMB = 0.66  # inches: width of an image whose patches stand in the row, or which is painted
SMALL = 0.19  # inches: width of a dream query
GAP = 0.06  # inches between tokens
PADDING = "[PAD]"


@dataclass(frozen=True)
class TokenStrip:
    """A document as one row of positions.

    inputs: what stands at each, as `probe.Trace.inputs`: a token's text, (image, patch row, patch column), or a query's number.
    predicts: the token that the language loss asks of each, as text; None where it asks nothing.
    painted: for every block of queries, in order, the number of the image that it shall paint.
    """

    inputs: list
    predicts: list
    painted: list[int]


def token_strip(layout, tokenizer, queries: int, grid: int) -> TokenStrip:
    """A layout as it is drawn: labels moved by one, as inside the loss, to the position that has to predict them.

    Args:
        layout: a `documents.Layout`.
        tokenizer: whose ids it holds.
        queries: how many stand in a block of queries.
        grid: patches along a side of an image.

    Raises:
        ValueError: if the layout keeps another number of places for patches and queries (both numbers).
    """
    kept, needed = (
        layout.ids.count(tokenizer.special.im_patch),
        len(layout.queries) * queries + len(layout.patches) * grid**2,
    )
    if kept != needed:
        raise ValueError(
            f"the layout keeps {kept} places for patches and queries; {queries} queries and {grid}x{grid} patches take {needed}"
        )
    inputs: list = [tokenizer.label(token) for token in layout.ids]
    for number, first in layout.patches:
        inputs[first : first + grid**2] = [
            (number, row, column) for row in range(grid) for column in range(grid)
        ]
    for _, first in layout.queries:
        inputs[first : first + queries] = range(queries)
    predicts = [None if label == IGNORED else tokenizer.label(label) for label in layout.labels[1:]]
    return TokenStrip(inputs, [*predicts, None], [number for number, _ in layout.queries])


def batch_strips(batch, tokenizer, queries: int, grid: int) -> list[TokenStrip]:
    """The rows of a padded batch, padding included; images are numbered over the batch, in the order of its blocks.

    Args:
        batch: a `documents.Batch`.
        tokenizer, queries, grid: as in `token_strip`, whose errors it shares.
    """
    strips = []
    for row, (ids, labels) in enumerate(zip(batch.ids.tolist(), batch.labels.tolist())):
        patches, painted = (
            [(number, first) for number, (line, first) in enumerate(blocks) if line == row]
            for blocks in (batch.patches, batch.queries)
        )
        strips.append(token_strip(Layout(ids, labels, patches, painted), tokenizer, queries, grid))
    return strips


@dataclass
class _Piece:
    """Positions `first` to `last` that are drawn as one, what the last of them has to predict, and which image the queries paint."""

    kind: str
    first: int
    last: int
    labels: list
    predicts: str | None
    painted: int | None = None

    @property
    def text(self) -> str:
        count = len(self.labels)
        return (
            f"{count} patches"
            if self.kind == "patches"
            else short(self.labels[0]) + (f" x {count}" if count > 1 else "")
        )

    @property
    def cells(self) -> list[str]:
        """Queries as they are written out: all of a few, else the first two and the last."""
        return [
            str(label)
            for label in (
                self.labels if len(self.labels) <= 4 else [*self.labels[:2], "…", self.labels[-1]]
            )
        ]

    def width(self, images: list) -> float:
        """Inches that it takes, with what stands beneath it."""
        beneath = (
            THUMB
            if self.painted is not None and images
            else 0.1 + 0.068 * len(short(self.predicts))
            if self.predicts
            else 0.0
        )
        if self.kind == "queries":
            own = SMALL * len(self.cells)
        elif self.kind == "patches" and images:
            own = THUMB
        else:
            own = 0.13 + (0.064 if self.kind in ("markers", "<s>") else 0.075) * len(self.text)
        return max(own, beneath)


def _pieces(strip: TokenStrip) -> list[_Piece]:
    """Each token by itself; the patches of an image, the queries of a block, and padding, together."""
    pieces: list[_Piece] = []
    painted = iter(strip.painted)
    for place, (label, predicts) in enumerate(zip(strip.inputs, strip.predicts)):
        kind = kind_of(label)
        last = pieces[-1] if pieces else None
        same = (
            last is not None
            and last.kind == kind
            and last.predicts is None
            and (
                kind == "patches"
                and last.labels[0][0] == label[0]
                or kind == "queries"
                and label > 0
                or PADDING == label == last.labels[0]
            )
        )
        if same:
            last.last, last.predicts = place, predicts
            last.labels.append(label)
        else:
            pieces.append(
                _Piece(
                    kind,
                    place,
                    place,
                    [label],
                    predicts,
                    next(painted, None) if kind == "queries" and label == 0 else None,
                )
            )
    return pieces


@figure_function
def plot_token_strip(
    strip: TokenStrip, images: list | None = None, title: str = "", width: float = 9.0
) -> Figure:
    """A document as the model reads it, and beneath every position what is asked of it.

    Above each token stands its position, beneath it, behind an arrow, the token that the language loss asks of this
    position, and beneath a block of queries the image that it shall paint (the denoising loss). A position with nothing
    beneath it is only read. Patches, queries and padding are abbreviated; what is too long goes on in the next row.

    Args:
        strip: from `token_strip`.
        images: PIL images by number; without them patches are a box with their count.
        title: what there is to see.
        width: of the figure, in inches.

    Raises:
        ValueError: if there is not one entry of `predicts` per input, or not one of `painted` per block of queries (both numbers).
    """
    images = images or []
    blocks = sum(label == 0 for label in strip.inputs if isinstance(label, int))
    if len(strip.predicts) != len(strip.inputs):
        raise ValueError(
            f"{len(strip.inputs)} inputs and {len(strip.predicts)} predictions: each position needs one, or None"
        )
    if len(strip.painted) != blocks:
        raise ValueError(
            f"{blocks} blocks of queries and {len(strip.painted)} painted images: each block paints one"
        )
    rows: list[list[tuple[float, float, _Piece]]] = [[]]
    x = 0.0
    for piece in _pieces(strip):
        wide = piece.width(images)
        if rows[-1] and x + wide > width - 0.2:
            rows.append([])
            x = 0.0
        rows[-1].append((x, wide, piece))
        x += wide + GAP
    heights = [_height([piece for *_, piece in row], images) for row in rows]
    head = 0.36 if title else 0.05
    total = head + sum(heights) + 0.36
    figure, axis = canvas(width, total)
    axis.text(0.1, total - 0.2, title, fontsize=11, weight="bold", va="center")
    top = total - head
    for row, height in zip(rows, heights):
        for x, wide, piece in row:
            _draw_piece(axis, piece, images, 0.1 + x, wide, top - 0.15)
        top -= height
    _legend(axis, strip)
    return figure


def _height(pieces: list[_Piece], images: list) -> float:
    """Inches of a row: positions, tokens, and as much beneath as its tallest piece needs."""
    beneath = 0.0
    for piece in pieces:
        if images and piece.painted is not None:
            beneath = max(beneath, 0.17 + THUMB)
        elif piece.predicts:
            beneath = max(beneath, 0.17 + HIGH - 0.04)
        if images and piece.kind == "patches":
            beneath = max(beneath, THUMB - HIGH)
    return 0.15 + HIGH + beneath + 0.12


def _draw_piece(axis: Axes, piece: _Piece, images: list, x: float, wide: float, top: float) -> None:
    """A piece whose tokens hang from `top`; its position above, what is asked beneath."""
    base, middle = top - HIGH, x + wide / 2
    places = str(piece.first) if piece.first == piece.last else f"{piece.first}–{piece.last}"
    axis.text(middle, top + 0.065, places, ha="center", va="center", fontsize=5.5, color="#888888")
    colour = KINDS[piece.kind]
    if piece.kind == "queries":
        left = middle - SMALL * len(piece.cells) / 2
        for number, text in enumerate(piece.cells):
            draw_box(axis, left + SMALL * number, base, SMALL - 0.015, HIGH, colour, text, 6.5)
    elif piece.kind == "patches" and images:
        draw_picture(
            axis,
            images[piece.labels[0][0]],
            middle - THUMB / 2,
            top - THUMB,
            THUMB,
            grid=1 + max(label[1] for label in piece.labels),
            edge=colour,
        )
    else:
        padding = piece.labels[0] == PADDING
        draw_box(
            axis,
            x,
            base,
            wide,
            HIGH,
            "white" if padding else colour if piece.kind in ("markers", "<s>") else colour + "77",
            piece.text,
            7.0 if piece.kind in ("markers", "<s>") else 8.5,
            edge="#BBBBBB" if padding else "none",
        )
    if piece.painted is not None and images:
        draw_arrow(axis, (middle, base - 0.01), (middle, base - 0.16), colour)
        draw_picture(
            axis, images[piece.painted], middle - THUMB / 2, base - 0.17 - THUMB, THUMB, edge=colour
        )
    elif piece.predicts:
        draw_arrow(axis, (middle, base - 0.01), (middle, base - 0.16), INK)
        text, kind = short(piece.predicts), kind_of(piece.predicts)
        draw_box(
            axis,
            x,
            base - 0.17 - HIGH + 0.04,
            wide,
            HIGH - 0.04,
            "white",
            text,
            7.0 if kind == "markers" else 8.0,
            edge=INK,
        )


def _legend(axis: Axes, strip: TokenStrip) -> None:
    """Kinds with their counts, and how many positions are asked something."""
    x = 0.1
    kinds = [kind_of(label) if label != PADDING else PADDING for label in strip.inputs]
    entries = [
        (
            KINDS.get(kind, "white"),
            "none" if kind in KINDS else "#BBBBBB",
            _counted(kind, kinds.count(kind)),
        )
        for kind in [*KINDS, PADDING]
        if kind in kinds
    ]
    asked = sum(token is not None for token in strip.predicts)
    entries.append(("white", INK, f"beneath: asked by the language loss ({asked})"))
    if strip.painted:
        entries.append(
            ("white", KINDS["queries"], f"beneath: to be painted ({len(strip.painted)})")
        )
    for colour, edge, text in entries:
        axis.add_patch(
            Rectangle((x, 0.1), 0.13, 0.13, facecolor=colour, edgecolor=edge, linewidth=0.8)
        )
        axis.text(x + 0.18, 0.165, text, va="center_baseline", fontsize=8, color=INK)
        x += 0.36 + 0.067 * len(text)


def _counted(kind: str, count: int) -> str:
    if kind == "<s>":
        return kind
    if kind == PADDING:
        return f"{count} padding"
    return f"{count} {kind if count != 1 else {'patches': 'patch', 'queries': 'query'}.get(kind, kind[:-1])}"


@figure_function
def plot_strips(strips: dict[str, TokenStrip], title: str) -> Figure:
    """Several documents beneath one another, every position a cell, on one scale.

    Under a row: dark where the language loss asks for a token, orange where queries paint. Padding is left white.

    Args:
        strips: {name: from `token_strip`}, at least one.
        title: what there is to see.

    Raises:
        ValueError: without strips.
    """
    if not strips:
        raise ValueError("there are no strips to draw")
    longest = max(len(strip.inputs) for strip in strips.values())
    figure, axis = plt.subplots(figsize=(9, 1.25 + 0.4 * len(strips)), layout="constrained")
    edge = dict(edgecolor="white", linewidth=0.4) if longest <= 300 else {}
    for row, strip in enumerate(strips.values()):
        for place, (label, asked) in enumerate(zip(strip.inputs, strip.predicts)):
            if label == PADDING:
                axis.add_patch(
                    Rectangle(
                        (place, row), 1, 0.5, facecolor="white", edgecolor="#DDDDDD", linewidth=0.4
                    )
                )
                continue
            kind = kind_of(label)
            axis.add_patch(Rectangle((place, row), 1, 0.5, facecolor=KINDS[kind], **edge))
            if asked is not None or kind == "queries":
                axis.add_patch(
                    Rectangle(
                        (place, row + 0.54),
                        1,
                        0.16,
                        facecolor=INK if asked is not None else KINDS["queries"],
                        linewidth=0,
                    )
                )
    axis.set(xlim=(0, longest), ylim=(len(strips), -0.1), xlabel="position")
    axis.set_yticks(np.arange(len(strips)) + 0.27, list(strips))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    present = {kind_of(label) for strip in strips.values() for label in strip.inputs}
    handles = [Patch(color=KINDS[kind], label=kind) for kind in KINDS if kind in present]
    handles += [Patch(color=INK, label="beneath: asked by the language loss")]
    if "queries" in present:
        handles += [Patch(color=KINDS["queries"], label="beneath: paints")]
    if any(PADDING in strip.inputs for strip in strips.values()):
        handles += [Patch(facecolor="white", edgecolor="#BBBBBB", label="padding")]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=len(handles),
        handlelength=1,
        columnspacing=1.2,
        handletextpad=0.5,
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


# What a word of a caption speaks of, and its colour: the two things, and what belongs to neither.
SPEAKS_OF = {
    0: "#0072B2",
    1: "#D55E00",
    "relation": "#CC79A7",
    "background": "#999999",
    None: "#E8E8E8",
}


@figure_function
def plot_scene(image, masks, phrase, title: str) -> Figure:
    """A picture, the exact mask of every thing in it, and the words, in the colour of the thing that they name.

    Args:
        image: a PIL image.
        masks: shape (things, height, width), the share of each pixel that a thing covers, in [0, 1].
        phrase: a `world.Phrase` of words with roles; thing `n` of its roles is mask `n`.
        title: what there is to see.

    Raises:
        ValueError: if a word names a thing that has no mask (both numbers).
    """
    masks = np.asarray(masks)
    named = [role[1] for role in phrase.roles if role is not None and role[1] is not None]
    if named and max(named) >= len(masks):
        raise ValueError(
            f"a word names thing {max(named)}, counted from 0; there are {len(masks)} masks"
        )
    figure = plt.figure(figsize=(max(2.2 * (len(masks) + 1) + 1.2, 6), 3.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.5, 0.75))
    axes = above.subplots(1, len(masks) + 1)
    for axis in np.atleast_1d(axes):
        axis.set(xticks=[], yticks=[])
    axes[0].imshow(image)
    axes[0].set_title("the picture")
    axes[0].spines[:].set_visible(False)
    for number, axis in enumerate(axes[1:]):
        mesh = axis.imshow(masks[number], vmin=0, vmax=1)
        axis.set_title(f"mask of thing {number}")
        axis.spines[:].set(visible=True, color=SPEAKS_OF[number], linewidth=3)
    above.colorbar(
        mesh,
        ax=list(axes),
        pad=0.01,
        aspect=14,
        label="share of the pixel\nthat is covered",
        format=PercentFormatter(1),
    )
    figure.suptitle(title, x=0.01, ha="left")
    _draw_words(below, phrase, figure.get_figwidth())
    return figure


def _draw_words(part, phrase, width: float) -> None:
    """The words of a phrase as boxes, and beneath each what it says."""
    widths = [
        0.16 + max(0.082 * len(word), 0.066 * len(role[0]) if role else 0)
        for word, role in zip(phrase.words, phrase.roles)
    ]
    scale = min(
        1.0, (width - 0.3) / (sum(widths) + GAP * len(widths))
    )  # a long caption is set smaller
    axis = part.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, 0.75))
    axis.set_axis_off()
    x = 0.1
    for word, role, wide in zip(phrase.words, phrase.roles, widths):
        speaks_of = None if role is None else role[0] if role[1] is None else role[1]
        draw_box(
            axis,
            x,
            0.34,
            wide * scale,
            0.3,
            SPEAKS_OF[speaks_of] + ("" if role is None else "77"),
            word,
            9 * scale,
        )
        axis.text(
            x + wide * scale / 2,
            0.2,
            role[0] if role else "",
            ha="center",
            va="center",
            fontsize=7.5 * scale,
            color="#666666",
        )
        x += (wide + GAP) * scale


@figure_function
def plot_distances(distances: dict, title: str, reach: float = 1.2) -> Figure:
    """Signed distances to the edges of several shapes, in steps: blue inside, red outside, the edge itself as a line.

    Args:
        distances: {name: shape (height, width)}, in units of the radius, negative inside; at least one.
        title: what there is to see.
        reach: the distances lie on a grid from -reach to reach, y down.

    Raises:
        ValueError: without distances.
    """
    if not distances:
        raise ValueError("there are no distances to draw")
    arrays = {name: np.asarray(values) for name, values in distances.items()}
    top = max(np.abs(values).max() for values in arrays.values())
    columns = min(6, len(arrays))
    rows = math.ceil(len(arrays) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.35 * columns + 1.1, 1.65 * rows + 0.35),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, values) in zip(axes.flat, arrays.items()):
        mesh = axis.imshow(
            values,
            cmap=plt.get_cmap("RdBu_r", 13),
            vmin=-top,
            vmax=top,
            extent=(-reach, reach, reach, -reach),
        )
        axis.contour(
            np.linspace(-reach, reach, values.shape[1]),
            np.linspace(-reach, reach, values.shape[0]),
            values,
            levels=[0],
            colors=INK,
            linewidths=1.2,
        )
        axis.set_title(name)
    figure.colorbar(
        mesh, ax=list(axes.flat), pad=0.01, aspect=12, label="distance to the edge,\nin radii"
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure
