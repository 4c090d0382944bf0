"""Diagrams of a real sequence: its tokens, and how its dream queries become a picture.

They are drawn from labels that were read off the model's own layout, so that they cannot show
anything that is not in it.
"""

from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from .drawing import (
    INK,
    LETTER,
    canvas,
    draw_arrow,
    draw_box,
    draw_legend,
    draw_picture,
    figure_function,
    set_title,
)
from .tokens import TOKEN_COLOURS, Piece, count_of, kind_of, pieces_of

HIGH = 0.32  # inches: height of a token
SMALL = 0.19  # inches: width of a dream query
BETWEEN = 0.03  # inches between dream queries
THUMB = 0.9  # inches: width of an image whose patches are in the sequence
GAP = 0.06  # inches between other pieces
SIDE = 0.5  # inches: the largest maps of a U-Net
ROW = 0.64  # inches between its parts
LISTENS, COMPUTES, SKIPS = "#D9D2E9", "#E8E8E8", "#0072B2"
LONGEST_BEFORE = 6.6  # inches for what precedes the queries in `plot_dream`
NOTES = (
    "Dream queries: learned vectors, the same for every\npicture. They are placed like words.",
    "They attend to everything before them, layer by layer.",
    "Their states after the last layer condition the U-Net,\n"
    "where Stable Diffusion has the words of a text encoder.",
)


def _width(piece: Piece) -> float:
    """Inches that a piece takes, without the gap after it."""
    if piece.kind == "queries":
        return len(piece.labels) * (SMALL + BETWEEN) - BETWEEN
    letter = 0.068 if piece.kind == "markers" else 0.08
    return THUMB if piece.kind == "patches" else 0.14 + letter * len(piece.text)


def _in_rows(pieces: list[Piece], widest: float) -> list[list[tuple[float, Piece]]]:
    """Pieces in rows of at most `widest` inches, with their left edges.

    A block of queries that is longer than a row is cut.
    """
    rows: list[list[tuple[float, Piece]]] = [[]]
    x, most = 0.0, (widest + BETWEEN) / (SMALL + BETWEEN)  # queries in a row
    for piece in pieces:
        count = len(piece.labels)
        step = int(min(most, count)) if piece.kind == "queries" else count
        for first in range(0, count, step):
            labels = piece.labels[first : first + step]
            part = Piece(piece.kind, piece.first + first, labels)
            if rows[-1] and x + _width(part) > widest:
                rows.append([])
                x = 0.0
            rows[-1].append((x, part))
            x += _width(part) + GAP
    return rows


def _draw_piece(axis: Axes, x: float, y: float, piece: Piece, images: list) -> None:
    """A piece, (x, y) the lower left corner of its tokens."""
    colour = TOKEN_COLOURS[piece.kind]
    if piece.kind == "patches":
        image, y = images[piece.labels[0][0]], y - (THUMB - HIGH) / 2
        draw_picture(axis, image, x, y, THUMB, grid=piece.grid)
    elif piece.kind == "queries":
        for index, query in enumerate(piece.labels):
            left = x + index * (SMALL + BETWEEN)
            draw_box(axis, left, y, SMALL, HIGH, colour, str(query), 6.0)
    elif piece.kind == "markers":
        draw_box(axis, x, y, _width(piece), HIGH, colour, piece.text, 7.0)
    else:
        draw_box(axis, x, y, _width(piece), HIGH, colour + "77", piece.text, 8.5)


@figure_function
def plot_layout(inputs: list, images: list | None = None, width: float = 9.0) -> Figure:
    """A sequence as the model reads it: tokens in the colours of their kinds, images as patches.

    Args:
        inputs: labels, as `probe.Trace.inputs`.
        images: PIL images by index, for those whose patches are among the inputs.
        width: of the figure, in inches; a long sequence continues in the next row.
    """
    rows = _in_rows(pieces_of(inputs), width - 0.2)
    heights = [
        THUMB + 0.12 if any(piece.kind == "patches" for _, piece in row) else HIGH + 0.14
        for row in rows
    ]
    figure, axis = canvas(width, sum(heights) + 0.45)
    y = sum(heights) + 0.4
    for row, height in zip(rows, heights):
        y -= height
        for x, piece in row:
            _draw_piece(axis, 0.1 + x, y + (height - HIGH) / 2, piece, images or [])
    kinds = [kind_of(label) for label in inputs]
    legend = [
        (colour, "none", count_of(kind, kinds.count(kind)))
        for kind, colour in TOKEN_COLOURS.items()
        if kind in kinds
    ]
    draw_legend(axis, legend)
    return figure


@figure_function
def plot_dream(inputs: list, picture, noise, images: list | None = None) -> Figure:
    """What a dream query is: tokens, the queries after them, the U-Net, and the picture.

    Args:
        inputs: labels of a sequence that ends with dream queries, as `probe.Trace.inputs`.
        picture: the painted PIL image.
        noise: where painting started, shape (channels, height, width) in latent cells; three
            channels are shown as RGB.
        images: PIL images by index, for those whose patches are among the inputs.

    Raises:
        ValueError: if the sequence does not end with a query.
    """
    pieces = pieces_of(inputs)
    if not pieces or pieces[-1].kind != "queries":
        raise ValueError("the sequence does not end with dream queries")
    *before, queries = pieces
    (row,) = _in_rows([*_abbreviated(before), queries], float("inf"))
    width = max(9.0, row[-1][0] + _width(queries) + 0.3)
    end = width - 0.15
    shift = end - row[-1][0] - _width(queries)  # the queries are on the right, below the U-Net
    row = [(x + shift, piece) for x, piece in row]
    below = (THUMB - HIGH) / 2 if any(piece.kind == "patches" for _, piece in row) else 0.0
    figure, axis = canvas(width, 4.4 + below)
    start, first, count = row[0][0], row[-1][0], len(queries.labels)
    base = 0.42 + below  # of the tokens
    floor, ceiling = base + 0.58 + below / 2, base + 1.53  # of the language model
    for x, piece in row:
        _draw_piece(axis, x, base, piece, images or [])
    _note(axis, start, base - 0.2 - below, "", "what is there already")
    _note(axis, first, base - 0.2, "1", f"{count} dream queries" if count > 8 else "queries")
    _draw_language_model(axis, start, end, floor, ceiling)
    _draw_attention(axis, row, base, ceiling)
    for index in range(count):
        x = first + index * (SMALL + BETWEEN) + SMALL / 2
        colour = TOKEN_COLOURS["queries"]
        draw_arrow(axis, (x, ceiling + 0.02), (x, ceiling + 0.3), colour, 1.0)
    draw_box(axis, first, ceiling + 0.31, end - first, 0.26, "#F6DFAF", "condition projector", 8)
    _draw_unet(axis, min((first + end) / 2, end - 2.2), ceiling + 0.57, picture, noise)
    for y, number, text in zip((ceiling + 2.17, ceiling + 1.63, ceiling + 1.23), "123", NOTES):
        _note(axis, 0.15, y, number, text)
    return figure


def _abbreviated(pieces: list[Piece]) -> list[Piece]:
    """Pieces that fit beside the queries: the first one and the last ones, the rest as a count."""
    first, rest = pieces[:1], pieces[1:]
    kept, room = len(rest), LONGEST_BEFORE
    for index in reversed(range(len(rest))):
        room -= _width(rest[index]) + GAP
        if room < 0:
            break
        kept = index
    left_out = sum(len(piece.labels) for piece in rest[:kept])
    count = [Piece("markers", 1, [f"{left_out} more …"])] if left_out else []
    return first + count + rest[kept:]


def _note(axis: Axes, x: float, y: float, number: str, text: str) -> None:
    """A text after its number in a circle."""
    if number:
        axis.plot(x + 0.1, y, "o", markersize=12, color=INK, zorder=5)
        style = dict(ha="center", va="center_baseline", fontsize=8, weight="bold", color="white")
        axis.text(x + 0.1, y - 0.005, number, zorder=6, **style)
    style = dict(va="top", fontsize=9, color=INK, linespacing=1.35)
    axis.text(x + (0.27 if number else 0), y + 0.065, text, **style)


def _draw_language_model(axis: Axes, start: float, end: float, floor: float, top: float) -> None:
    """The language model as a band above the tokens."""
    style = dict(boxstyle="round,pad=0,rounding_size=0.12", facecolor="#EEF3F7", zorder=0)
    band = FancyBboxPatch((start, floor), end - start, top - floor, edgecolor="none", **style)
    axis.add_patch(band)
    style = dict(va="center", fontsize=10, weight="bold", color=INK)
    axis.text(start + 0.12, top - 0.18, "language model", **style)


def _draw_attention(axis: Axes, row: list[tuple[float, Piece]], base: float, top: float) -> None:
    """Arcs from the middle query to all that it can attend to, which is what precedes it."""
    (first, queries), low = row[-1], base + HIGH + 0.03
    count = len(queries.labels) // 2
    earlier = [first + index * (SMALL + BETWEEN) + SMALL / 2 for index in range(count)]
    eye = first + count * (SMALL + BETWEEN) + SMALL / 2
    targets = [(x, low) for x in earlier]
    for x, piece in row[:-1]:
        above = (THUMB - HIGH) / 2 if piece.kind == "patches" else 0.0
        targets.append((x + _width(piece) / 2, low + above))
    for x, y in targets:
        rise = 0.3 + 0.055 * (eye - x)  # farther inputs by higher arcs, so that none covers another
        arc = FancyArrowPatch(
            (eye, low),
            (x, y),
            connectionstyle=f"arc3,rad={2 * rise / (eye - x)}",
            arrowstyle="->,head_length=2,head_width=1.4",
            color=TOKEN_COLOURS["queries"],
            linewidth=1.0,
            alpha=0.75,
            shrinkA=0,
            shrinkB=0,
        )
        axis.add_patch(arc)
    _note(axis, eye - 0.1, top - 0.2, "2", "")


def _draw_unet(axis: Axes, middle: float, floor: float, picture, noise) -> None:
    """The U-Net between the initial noise and the picture, with its condition from below."""
    high, half = 1.05, 0.75
    centre = floor + 0.15 + high / 2
    colour = TOKEN_COLOURS["queries"]
    draw_arrow(axis, (middle, floor + 0.02), (middle, centre - 0.25), colour, 2)
    _note(axis, middle + 0.1, floor + 0.12, "3", "")
    right = [(half, high / 2), (half, -high / 2), (0, -0.26)]
    outline = [(0, 0.26), *right, (-half, -high / 2), (-half, high / 2)]
    corners = [(middle + x, centre + y) for x, y in outline]
    axis.add_patch(Polygon(corners, color="#D9D2E9"))
    style = dict(ha="center", va="center", fontsize=9.5, weight="bold", color=INK)
    axis.text(middle, centre, "U-Net", **style)
    colours = rearrange(noise[:3].float().cpu(), "rgb height width -> height width rgb")
    colours = (colours / 6 + 0.5).clamp(0, 1).numpy()
    left, right = middle - half - 0.4 - high, middle + half + 0.4
    for x, image, name in ((left, colours, "noise"), (right, picture, "picture")):
        draw_picture(axis, image, x, centre - high / 2, high)
        axis.text(x, centre + high / 2 + 0.07, name, fontsize=9, color=INK)
    for x in (middle - half - 0.35, middle + half + 0.05):
        draw_arrow(axis, (x, centre), (x + 0.3, centre), INK, 1.5)


@figure_function
def plot_unet(
    parts: list[tuple[str, tuple[int, int, int]]],
    skips: list[tuple[int, int]],
    listening: list[int],
    title: str,
) -> Figure:
    """A U-Net, down on the left and up on the right, so that skip connections are level.

    Each part is a square of as many cells as its output has, with its name and its shape beside it.

    Args:
        parts: (name, shape of its output), in the order of calls; a shape is (channels, height,
            width), in latent cells.
        skips: (from, to), as indices of parts: whose output is read once more, and where. At least
            one; what comes first is read last.
        listening: indices of the parts that read the condition.
        title: the finding.

    Raises:
        ValueError: without a skip connection, or if an index is not that of a part (the index and
            how many there are).
    """
    if not skips:
        raise ValueError("a U-Net without skip connections cannot be drawn")
    for index in [*listening, *(end for skip in skips for end in skip)]:
        if not 0 <= index < len(parts):
            raise ValueError(f"there is no part {index} among {len(parts)}")
    targets = dict(skips)
    turn, back = max(targets), min(targets.values())  # the last on the left, the first on the right
    rows = {index: len(parts) - 1 - index for index in range(back, len(parts))}
    for index in range(turn, -1, -1):
        rows[index] = rows[targets[index]] if index in targets else rows[index + 1] - 1
    rows |= {index: rows[back] + index - turn for index in range(turn + 1, back)}
    lowest, highest = max(rows.values()), min(rows.values())
    labels = [f"{name}  {' × '.join(map(str, shape))}" for name, shape in parts]
    beside = SIDE / 2 + 0.1  # inches from the middle of a square to its label
    outside = 0.082 * max(map(len, labels)) + beside  # and to the end of the longest label
    width = max(2 * outside + 2.6, LETTER * len(title))
    figure, axis = canvas(width, ROW * (lowest - highest + 1) + 0.85)
    centres = {}
    for index, (_, (_, height, _)) in enumerate(parts):
        side = -1 if index <= turn else int(index >= back)  # left, in the middle or right
        x, y = width / 2 + side * (width / 2 - outside), 0.45 + ROW * (lowest - rows[index] + 0.5)
        half = SIDE / 2 * height / max(shape[1] for _, shape in parts)
        centres[index] = (x, y, half)
        colour = LISTENS if index in listening else COMPUTES
        _draw_map(axis, x - half, y - half, 2 * half, height, colour)
        style = dict(ha=["left", "left", "right"][side], va="center", fontsize=9.5, color=INK)
        axis.text(x + (side or 1) * beside, y, labels[index], **style)
    for index in range(len(parts) - 1):
        (x, y, half), (other_x, other_y, other) = centres[index], centres[index + 1]
        if x == other_x:
            up = 1 if other_y > y else -1
            ends = (x, y + up * (half + 0.02)), (x, other_y - up * (other + 0.02))
        elif index < back - 1:  # from the left column to the middle
            ends = (x, y - half - 0.02), (other_x - other - 0.02, other_y)
        else:
            ends = (x + half + 0.02, y), (other_x, other_y - other - 0.02)
        draw_arrow(axis, *ends, INK, 0.8)
    for start, end in skips:
        (x, y, half), (other_x, other_y, other) = centres[start], centres[end]
        ends = (x + half + 0.03, y), (other_x - other - 0.03, other_y)
        draw_arrow(axis, *ends, SKIPS, 1.4)
    names = [(LISTENS, "reads the condition"), (COMPUTES, "does not"), (SKIPS, "skip connection")]
    draw_legend(axis, [(colour, "none", name) for colour, name in names])
    set_title(figure, title)
    return figure


def _draw_map(axis: Axes, x: float, y: float, side: float, cells: int, colour: str) -> None:
    """A square of cells x cells, (x, y) its lower left corner."""
    square = Rectangle((x, y), side, side, facecolor=colour, edgecolor="#999999", linewidth=0.8)
    axis.add_patch(square)
    for cut in range(1, cells):
        offset = side * cut / cells
        thin = dict(color="white", linewidth=0.6)
        axis.plot([x + offset] * 2, [y, y + side], **thin)
        axis.plot([x, x + side], [y + offset] * 2, **thin)
