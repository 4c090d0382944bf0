"""A document as one row of tokens, position by position, and what belongs to each position."""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from .drawing import (
    INK,
    canvas,
    draw_arrow,
    draw_box,
    draw_legend,
    draw_picture,
    figure_function,
    set_title,
)
from .token_strip import TokenStrip
from .tokens import PADDING, TOKEN_COLOURS, Piece, count_of, kind_of, pieces_of, short

HIGH = 0.27  # inches: height of a token
THUMB = 0.66  # inches: width of an image whose patches are in the row, or that is painted
SMALL = 0.19  # inches: width of a dream query
GAP = 0.06  # inches between tokens
# What put a token at its position, and its colour.
ORIGINS = {"given": "#BBBBBB", "written": "#56B4E9", "by rule": "#E3E3E3", "painted": "#E69F00"}


@dataclass
class _Box:
    """A piece as it is drawn.

    piece: its positions and labels.
    colour: of the box, or of the frame of the image.
    predicts: the target of its last position, written beneath it; None draws nothing.
    painted: index of the image that a block of queries paints, drawn beneath it.
    edge: colour of the edge of the box.
    """

    piece: Piece
    colour: str
    predicts: str | None = None
    painted: int | None = None
    edge: str = "none"

    @property
    def is_small(self) -> bool:
        """Markers are written in smaller letters than words."""
        return self.piece.kind in ("markers", "<s>")

    @property
    def cells(self) -> list[str]:
        """Queries as they are written out: all of a few, else the first two and the last."""
        labels = self.piece.labels
        shown = labels if len(labels) <= 4 else [*labels[:2], "…", labels[-1]]
        return [str(label) for label in shown]

    def width(self, images: list) -> float:
        """Inches that it takes, with what is drawn beneath it."""
        beneath = 0.0
        if self.painted is not None and images:
            beneath = THUMB
        elif self.predicts:
            beneath = 0.1 + 0.076 * len(short(self.predicts))
        if self.piece.kind == "queries":
            return max(SMALL * len(self.cells), beneath)
        if self.piece.kind == "patches" and images:
            return max(THUMB, beneath)
        letter = 0.072 if self.is_small else 0.075
        return max(0.13 + letter * len(self.piece.text), beneath)

    def depth(self, images: list) -> float:
        """Inches that it reaches below the tokens of its row."""
        if images and self.painted is not None:
            return 0.17 + THUMB
        patches = THUMB - HIGH if images and self.piece.kind == "patches" else 0.0
        return max(patches, 0.13 + HIGH if self.predicts else 0.0)


def _draw_rows(boxes: list[_Box], images: list, title: str, width: float, legend: list) -> Figure:
    """Boxes in rows of at most `width` inches, under a title and over a legend."""
    rows: list[list[tuple[float, float, _Box]]] = [[]]
    x = 0.0
    for box in boxes:
        wide = box.width(images)
        if rows[-1] and x + wide > width - 0.2:
            rows.append([])
            x = 0.0
        rows[-1].append((0.1 + x, wide, box))
        x += wide + GAP
    heights = [0.27 + HIGH + max((box.depth(images) for *_, box in row), default=0) for row in rows]
    head = 0.36 if title else 0.05
    total = head + sum(heights) + 0.36
    figure, axis = canvas(width, total)
    axis.text(0.1, total - 0.2, title, fontsize=11, weight="bold", va="center")
    top = total - head
    for row, height in zip(rows, heights):
        for x, wide, box in row:
            _draw_box(axis, box, images, x, wide, top - 0.15)
        top -= height
    draw_legend(axis, legend)
    return figure


def _draw_box(axis: Axes, box: _Box, images: list, x: float, wide: float, top: float) -> None:
    """A box that hangs from `top`, with its positions above and its target or picture beneath."""
    piece, base, middle = box.piece, top - HIGH, x + wide / 2
    span = str(piece.first) if piece.first == piece.last else f"{piece.first}–{piece.last}"
    axis.text(middle, top + 0.07, span, ha="center", va="center", fontsize=8, color="#777777")
    if piece.kind == "queries":
        left = middle - SMALL * len(box.cells) / 2
        for index, text in enumerate(box.cells):
            draw_box(axis, left + SMALL * index, base, SMALL - 0.015, HIGH, box.colour, text, 8)
    elif piece.kind == "patches" and images:
        image, left = images[piece.labels[0][0]], middle - THUMB / 2
        draw_picture(axis, image, left, top - THUMB, THUMB, grid=piece.grid, edge=box.colour)
    else:
        size = 8.0 if box.is_small else 8.5
        draw_box(axis, x, base, wide, HIGH, box.colour, piece.text, size, edge=box.edge)
    if box.painted is not None and images:
        draw_arrow(axis, (middle, base - 0.01), (middle, base - 0.16), INK)
        image, left = images[box.painted], middle - THUMB / 2
        draw_picture(axis, image, left, base - 0.17 - THUMB, THUMB, edge=box.colour)
    elif box.predicts:
        draw_arrow(axis, (middle, base - 0.01), (middle, base - 0.16), INK)
        low = base - 0.13 - HIGH
        draw_box(axis, x, low, wide, HIGH - 0.04, "white", short(box.predicts), 8, edge=INK)


@figure_function
def plot_token_strip(
    strip: TokenStrip, images: list | None = None, title: str = "", width: float = 9.0
) -> Figure:
    """A document as the model reads it, with the prediction target of every position beneath it.

    Above each token is its position. Beneath it, after an arrow, is the token that the language
    loss asks this position to predict; beneath a block of queries, the image that the denoising
    loss asks them to paint. A position without anything beneath it is only read. Patches, queries
    and padding are abbreviated. A long strip continues in the next row.

    Args:
        strip: from `token_strip`.
        images: PIL images by index; without them, patches are a box with their count.
        title: the finding.
        width: of the figure, in inches.

    Raises:
        ValueError: if there is not one entry of `predicts` per input, or not one of `painted` per
            block of queries (both numbers).
    """
    blocks = sum(label == 0 for label in strip.inputs if isinstance(label, int))
    if len(strip.predicts) != len(strip.inputs):
        raise ValueError(
            f"{len(strip.inputs)} inputs and {len(strip.predicts)} predictions: "
            "each position needs one, or None"
        )
    if len(strip.painted) != blocks:
        raise ValueError(
            f"{blocks} blocks of queries and {len(strip.painted)} painted images: "
            "each block paints one"
        )
    # A target belongs to the last position of its piece.
    asked = [position for position, token in enumerate(strip.predicts) if token is not None]
    painted, boxes = iter(strip.painted), []
    for piece in pieces_of(strip.inputs, {position + 1 for position in asked}):
        colour, predicts = TOKEN_COLOURS[piece.kind], strip.predicts[piece.last]
        if piece.kind == "queries":
            image = next(painted) if piece.labels[0] == 0 else None
            boxes.append(_Box(piece, colour, predicts, image))
        elif piece.labels[0] == PADDING:
            boxes.append(_Box(piece, "white", predicts, edge="#BBBBBB"))
        else:
            pale = "77" if piece.kind == "words" else ""
            boxes.append(_Box(piece, colour + pale, predicts))
    kinds = [PADDING if label == PADDING else kind_of(label) for label in strip.inputs]
    legend = [
        (colour, "none", count_of(kind, kinds.count(kind)))
        for kind, colour in TOKEN_COLOURS.items()
        if kind in kinds
    ]
    if PADDING in kinds:
        legend.append(("white", "#BBBBBB", count_of(PADDING, kinds.count(PADDING))))
    legend.append(("white", INK, f"beneath: language loss ({len(asked)})"))
    if strip.painted:
        text = f"beneath: to be painted ({len(strip.painted)})"
        legend.append(("white", TOKEN_COLOURS["queries"], text))
    return _draw_rows(boxes, images or [], title, width, legend)


@figure_function
def plot_origins(
    inputs: list, origins: list[str], images: list, title: str, width: float = 9.0
) -> Figure:
    """A row that was written and painted, in colours that say what put each token there.

    From each block of queries an arrow leads to the picture that they painted. The picture appears
    again where its patches are read.

    Args:
        inputs: labels, as `probe.Trace.inputs`.
        origins: for every input a key of `ORIGINS`: given, written by the model, put there by rule
            (as queries are), or painted.
        images: PIL images by index; a block of queries painted the image that is read next.
        title: the finding.
        width: of the figure, in inches; a long sequence continues in the next row.

    Raises:
        ValueError: if there is not one origin for each input (both numbers), or an unknown one.
    """
    if len(origins) != len(inputs):
        raise ValueError(
            f"{len(inputs)} inputs and {len(origins)} origins: each position needs one"
        )
    if unknown := set(origins) - set(ORIGINS):
        raise ValueError(f"{sorted(unknown)[0]!r} is no origin; there are {', '.join(ORIGINS)}")
    boxes, read = [], None
    for piece in reversed(pieces_of(inputs)):  # from the end, to know which image is read next
        if piece.kind == "patches":
            read = piece.labels[0][0]
        painted = read if piece.kind == "queries" else None
        boxes.append(_Box(piece, ORIGINS[origins[piece.first]], painted=painted))
    legend = [
        (colour, "none", f"{origin} ({origins.count(origin)})")
        for origin, colour in ORIGINS.items()
        if origin in origins
    ]
    return _draw_rows(boxes[::-1], images, title, width, legend)


@figure_function
def plot_strips(strips: dict[str, TokenStrip], title: str) -> Figure:
    """Several documents, one below the other on one scale, with a cell for every position.

    Below a row, positions with a target of the language loss are dark, and queries, which paint,
    are orange. Padding is left white.

    Args:
        strips: {name: from `token_strip`}, at least one.
        title: the finding.

    Raises:
        ValueError: without strips.
    """
    if not strips:
        raise ValueError("there are no strips to draw")
    longest = max(len(strip.inputs) for strip in strips.values())
    figure, axis = plt.subplots(figsize=(9, 1.25 + 0.4 * len(strips)), layout="constrained")
    edge = dict(edgecolor="white", linewidth=0.4 if longest <= 300 else 0)
    padding = dict(facecolor="white", edgecolor="#DDDDDD", linewidth=0.4)
    orange = TOKEN_COLOURS["queries"]
    for row, strip in enumerate(strips.values()):
        for position, (label, asked) in enumerate(zip(strip.inputs, strip.predicts)):
            kind = kind_of(label)
            style = padding if label == PADDING else dict(facecolor=TOKEN_COLOURS[kind], **edge)
            axis.add_patch(Rectangle((position, row), 1, 0.5, **style))
            if asked is not None or kind == "queries":
                colour = INK if asked is not None else orange
                below = Rectangle((position, row + 0.54), 1, 0.16, facecolor=colour, linewidth=0)
                axis.add_patch(below)
    axis.set(xlim=(0, longest), ylim=(len(strips), -0.1), xlabel="position")
    axis.set_yticks(np.arange(len(strips)) + 0.27, list(strips))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    present = {kind_of(label) for strip in strips.values() for label in strip.inputs}
    kinds = {kind: colour for kind, colour in TOKEN_COLOURS.items() if kind in present}
    handles = [Patch(color=colour, label=kind) for kind, colour in kinds.items()]
    handles += [Patch(color=INK, label="beneath: language loss")]
    if "queries" in present:
        handles += [Patch(color=orange, label="beneath: paints")]
    if any(PADDING in strip.inputs for strip in strips.values()):
        handles += [Patch(facecolor="white", edgecolor="#BBBBBB", label="padding")]
    tight = dict(handlelength=1, columnspacing=1.2, handletextpad=0.5)
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), **tight)
    set_title(figure, title)
    return figure


@figure_function
def plot_turns(angles, title: str) -> Figure:
    """Rotary angles as clock hands: how far each pair of numbers is turned at each position.

    Args:
        angles: shape (positions, pairs), radians, as one row of `llm.rotary_angles`.
        title: the finding.

    Raises:
        ValueError: for another number of dimensions.
    """
    angles = np.asarray(angles, dtype=float)
    if angles.ndim != 2:
        raise ValueError(
            f"angles need the shape (positions, pairs), and {angles.ndim} dimensions were given: "
            f"{angles.shape}"
        )
    positions, pairs = angles.shape
    size = (min(9, 1.3 + 0.5 * positions), 0.95 + 0.5 * pairs)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    face = dict(facecolor="#F4F4F4", edgecolor="#BBBBBB", linewidth=0.7)
    for (position, pair), angle in np.ndenumerate(angles):
        axis.add_patch(plt.Circle((position, pair), 0.4, **face))
        x, y = 0.36 * math.cos(angle), 0.36 * math.sin(angle)
        axis.plot([position, position + x], [pair, pair - y], color="C0", linewidth=1.6)
    axis.set(aspect="equal", xlim=(-0.6, positions - 0.4), ylim=(pairs - 0.4, -0.6))
    axis.set(xlabel="position", ylabel="pair of numbers", title=title)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_yticks(range(pairs))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure
