"""Diagrams of a real sequence: its tokens, coloured by kind, and how its dream queries become a picture.

They are drawn from the labels that a probe read off the model's own layout, so they cannot show what is not there.
"""

from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

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

HIGH = 0.32  # inches: height of a token
SMALL = 0.19  # inches: width of a dream query
THUMB = 0.9  # inches: width of an image whose patches stand in the sequence
MOST_BEFORE = 6.6  # inches of the diagram for what stands before the queries


def pieces_of(inputs: list) -> list[tuple[str, list]]:
    """A sequence in pieces that are drawn as one: each token and query by itself, the patches of an image together.

    Args:
        inputs: labels, as `probe.Trace.inputs`.

    Returns:
        (kind, labels) of each piece, in order.
    """
    pieces: list[tuple[str, list]] = []
    for label in inputs:
        kind = kind_of(label)
        if (
            kind == "patches"
            and pieces
            and pieces[-1][0] == kind
            and pieces[-1][1][0][0] == label[0]
        ):
            pieces[-1][1].append(label)
        else:
            pieces.append((kind, [label]))
    return pieces


def _width(kind: str, labels: list) -> float:
    """Inches that a piece takes, without the gap after it."""
    if kind == "queries":
        return SMALL
    letter = 0.068 if kind == "markers" else 0.08
    return THUMB if kind == "patches" else 0.14 + letter * len(short(str(labels[0])))


def _rows(pieces: list, widest: float) -> list[list[tuple[float, float, str, list]]]:
    """Pieces in rows no wider than `widest` inches, as (left edge, width, kind, labels)."""
    rows, x = [[]], 0.0
    for number, (kind, labels) in enumerate(pieces):
        width = _width(kind, labels)
        # A block of queries is not torn apart if it fits into a row.
        block = width
        if kind == "queries" and (number == 0 or pieces[number - 1][0] != kind):
            following = next(
                (place for place in range(number, len(pieces)) if pieces[place][0] != kind),
                len(pieces),
            )
            block = min((following - number) * (SMALL + 0.03), widest)
        if rows[-1] and x + block > widest:
            rows.append([])
            x = 0.0
        rows[-1].append((x, width, kind, labels))
        x += width + (0.03 if kind == "queries" else 0.06)
    return rows


def _token(
    axis: Axes, x: float, y: float, width: float, kind: str, labels: list, images: list
) -> None:
    if kind == "patches":
        draw_picture(
            axis,
            images[labels[0][0]],
            x,
            y - (THUMB - HIGH) / 2,
            THUMB,
            grid=1 + max(label[1] for label in labels),
        )
        return
    text = str(labels[0]) if kind == "queries" else short(labels[0])
    draw_box(
        axis,
        x,
        y,
        width,
        HIGH,
        KINDS[kind] if kind in ("queries", "markers") else KINDS[kind] + "77",
        text,
        {"queries": 6.0, "markers": 7.0}.get(kind, 8.5),
    )


@figure_function
def plot_layout(inputs: list, images: list | None = None, width: float = 9.0) -> Figure:
    """A sequence as the model reads it: every token in the colour of its kind, every image as its grid of patches.

    Args:
        inputs: labels, as `probe.Trace.inputs`.
        images: PIL images by number, for those whose patches are among the inputs.
        width: of the figure, in inches; longer sequences go on in the next row.
    """
    pieces = pieces_of(inputs)
    rows = _rows(pieces, width - 0.2)
    heights = [
        THUMB + 0.12 if any(kind == "patches" for *_, kind, _ in row) else HIGH + 0.14
        for row in rows
    ]
    figure, axis = canvas(width, sum(heights) + 0.45)
    y = sum(heights) + 0.4
    for row, height in zip(rows, heights):
        y -= height
        for x, size, kind, labels in row:
            _token(axis, 0.1 + x, y + (height - HIGH) / 2, size, kind, labels, images or [])
    x = 0.1
    for kind in KINDS:
        count = sum(kind_of(label) == kind for label in inputs)
        if count:
            axis.add_patch(Rectangle((x, 0.13), 0.14, 0.14, color=KINDS[kind]))
            text = (
                kind
                if kind == "<s>"
                else f"{count} {kind if count > 1 else kind.removesuffix('es') if kind == 'patches' else kind.removesuffix('s')}"
            )
            axis.text(x + 0.2, 0.2, text, va="center", fontsize=8.5, color=INK)
            x += 0.5 + 0.085 * len(text)
    return figure


@figure_function
def plot_dream(inputs: list, picture, noise, images: list | None = None) -> Figure:
    """What a dream query is, in one diagram: tokens, the queries at their end, the U-Net, the picture.

    Args:
        inputs: labels of a sequence that ends with dream queries, as `probe.Trace.inputs`.
        picture: what was painted, a PIL image.
        noise: what painting started from, shape (channels, height, width) in latent cells; three channels are shown as RGB.
        images: PIL images by number, for those whose patches are among the inputs.

    Raises:
        ValueError: if the sequence does not end with a query.
    """
    pieces = pieces_of(inputs)
    if not pieces or pieces[-1][0] != "queries":
        raise ValueError("the sequence does not end with dream queries")
    own = (
        next(
            number
            for number in range(len(pieces), 0, -1)
            if number == 1 or pieces[number - 2][0] != "queries"
        )
        - 1
    )
    before, queries = pieces[:own], pieces[own:]
    # What would make the figure too wide is left out in the middle, and counted.
    taken, room = [], MOST_BEFORE
    for piece in reversed(before[1:]):
        room -= _width(*piece) + 0.06
        if room < 0:
            break
        taken.insert(0, piece)
    left_out = sum(len(labels) for _, labels in before[1 : len(before) - len(taken)])
    row = (
        before[:1]
        + ([("markers", [f"{left_out} more …"])] if left_out > 0 else [])
        + taken
        + queries
    )
    (placed,) = _rows(row, float("inf"))
    width = max(9.0, placed[-1][0] + SMALL + 0.3)
    shift = width - 0.15 - placed[-1][0] - SMALL  # the queries stand on the right, under the U-Net
    placed = [(x + shift, size, kind, labels) for x, size, kind, labels in placed]
    below = (THUMB - HIGH) / 2 if any(kind == "patches" for *_, kind, _ in placed) else 0.0
    figure, axis = canvas(width, 4.4 + below)
    start, first, end = placed[0][0], placed[-len(queries)][0], width - 0.15
    base = 0.42 + below  # of the tokens
    floor, ceiling = base + 0.58 + below / 2, base + 1.53  # of the language model
    for x, size, kind, labels in placed:
        _token(axis, x, base, size, kind, labels, images or [])
    _note(axis, start, base - 0.2 - below, "", "what is there already")
    _note(
        axis,
        first,
        base - 0.2,
        "1",
        f"{len(queries)} dream queries" if len(queries) > 8 else "queries",
    )
    _look_back(axis, placed, len(queries), base, floor, ceiling)
    for x, size, *_ in placed[-len(queries) :]:
        draw_arrow(
            axis,
            (x + size / 2, ceiling + 0.02),
            (x + size / 2, ceiling + 0.3),
            KINDS["queries"],
            1.0,
        )
    draw_box(axis, first, ceiling + 0.31, end - first, 0.26, "#F6DFAF", "condition projector", 8)
    _paint(axis, min((first + end) / 2, end - 2.2), ceiling + 0.57, picture, noise)
    lines = (
        "Dream queries: learned vectors, the same for every\npicture. They stand where words would stand.",
        "They look back at everything before them, layer by layer.",
        "What they hold after the last layer steers the U-Net,\nwhere Stable Diffusion has the words of a text encoder.",
    )
    for y, number, text in zip((ceiling + 2.17, ceiling + 1.63, ceiling + 1.23), "123", lines):
        _note(axis, 0.15, y, number, text)
    return figure


def _note(axis: Axes, x: float, y: float, number: str, text: str) -> None:
    """A line of text behind its number in a circle."""
    if number:
        axis.plot(x + 0.1, y, "o", markersize=12, color=INK, zorder=5)
        axis.text(
            x + 0.1,
            y - 0.005,
            number,
            ha="center",
            va="center_baseline",
            fontsize=8,
            weight="bold",
            color="white",
            zorder=6,
        )
    axis.text(
        x + (0.27 if number else 0),
        y + 0.065,
        text,
        va="top",
        fontsize=9,
        color=INK,
        linespacing=1.35,
    )


def _look_back(
    axis: Axes, placed: list, queries: int, base: float, floor: float, ceiling: float
) -> None:
    """The language model as a band, and arcs from one query to all that it can see: what stands before it."""
    start, end = placed[0][0], placed[-1][0] + SMALL
    axis.add_patch(
        FancyBboxPatch(
            (start, floor),
            end - start,
            ceiling - floor,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor="#EEF3F7",
            edgecolor="none",
            zorder=0,
        )
    )
    axis.text(
        start + 0.12,
        ceiling - 0.18,
        "language model",
        va="center",
        fontsize=10,
        weight="bold",
        color=INK,
    )
    looking = len(placed) - queries + queries // 2
    eye = placed[looking][0] + SMALL / 2
    for x, size, kind, _ in placed[:looking]:
        x, y = x + size / 2, base + HIGH + 0.03 + (THUMB - HIGH) / 2 * (kind == "patches")
        rise = 0.3 + 0.055 * (eye - x)  # farther inputs by higher arcs, so that none covers another
        axis.add_patch(
            FancyArrowPatch(
                (eye, base + HIGH + 0.03),
                (x, y),
                connectionstyle=f"arc3,rad={2 * rise / (eye - x)}",
                arrowstyle="->,head_length=2,head_width=1.4",
                color=KINDS["queries"],
                linewidth=1.0,
                alpha=0.75,
                shrinkA=0,
                shrinkB=0,
            )
        )
    _note(axis, eye - 0.1, ceiling - 0.2, "2", "")


def _paint(axis: Axes, middle: float, floor: float, picture, noise) -> None:
    """The U-Net between the noise it starts from and the picture it ends with; from below, the condition."""
    high, half = 1.05, 0.75
    centre = floor + 0.15 + high / 2
    draw_arrow(axis, (middle, floor + 0.02), (middle, centre - 0.25), KINDS["queries"], 2)
    _note(axis, middle + 0.1, floor + 0.12, "3", "")
    axis.add_patch(
        Polygon(
            [
                (middle - half, centre + high / 2),
                (middle, centre + 0.26),
                (middle + half, centre + high / 2),
                (middle + half, centre - high / 2),
                (middle, centre - 0.26),
                (middle - half, centre - high / 2),
            ],
            color="#D9D2E9",
        )
    )
    axis.text(
        middle, centre, "U-Net", ha="center", va="center", fontsize=9.5, weight="bold", color=INK
    )
    colours = rearrange(noise[:3].float().cpu(), "rgb height width -> height width rgb")
    draw_picture(
        axis,
        (colours / 6 + 0.5).clamp(0, 1).numpy(),
        middle - half - 0.4 - high,
        centre - high / 2,
        high,
    )
    draw_picture(axis, picture, middle + half + 0.4, centre - high / 2, high)
    for x, text in ((middle - half - 0.4 - high, "noise"), (middle + half + 0.4, "picture")):
        axis.text(x, centre + high / 2 + 0.07, text, fontsize=9, color=INK)
    for x in (middle - half - 0.35, middle + half + 0.05):
        draw_arrow(axis, (x, centre), (x + 0.3, centre), INK, 1.5)
