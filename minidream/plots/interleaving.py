"""One row that is read, written and painted: who sees whom in it, who put each position there, and what becomes of changed rows."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from .diagrams import pieces_of
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

HIGH, THUMB, QUERY = (
    0.27,
    0.62,
    0.19,
)  # inches: height of a token, width of an image, width of a query
ORIGINS = {"given": "#BBBBBB", "written": "#56B4E9", "by rule": "#E3E3E3", "painted": "#E69F00"}


@figure_function
def plot_sight(sees, inputs: list, title: str) -> Figure:
    """Who sees whom in a row: a cell is filled, in the colour of what is seen, where the position on the left sees the one below.

    Args:
        sees: bool, shape (tokens, tokens): rows are those who look, columns those who are looked at.
        inputs: labels, as `probe.Trace.inputs`.
        title: what there is to see.

    Raises:
        ValueError: if there is not one row and one column for each input (both shapes).
    """
    sees, count = np.asarray(sees, dtype=bool), len(inputs)
    if sees.shape != (count, count):
        raise ValueError(
            f"who sees whom has shape {sees.shape}; {count} inputs need {(count, count)}"
        )
    kinds = [kind_of(label) for label in inputs]
    colours = np.array([to_rgb(KINDS[kind]) for kind in kinds])
    names = [
        f"query {label}"
        if kind == "queries"
        else f"patch {label[1]}, {label[2]}"
        if kind == "patches"
        else short(label)
        for kind, label in zip(kinds, inputs)
    ]
    side = 0.15 * count
    figure, axis = plt.subplots(figsize=(side + 2.3, side + 1.3), layout="constrained")
    axis.imshow(np.where(sees[..., None], colours[None], 1.0), extent=(0, count, count, 0))
    for cut in range(count + 1):
        axis.axhline(cut, color="white", linewidth=0.6)
        axis.axvline(cut, color="white", linewidth=0.6)
    # Lines around every block of queries and of patches, along both axes: what is painted or read at once.
    for first, last in _runs(inputs):
        for line in (axis.axhline, axis.axvline):
            line(first, color="#888888", linewidth=0.5)
            line(last, color="#888888", linewidth=0.5)
    axis.set_xticks(np.arange(count) + 0.5, names, rotation=90, fontsize=6)
    axis.set_yticks(np.arange(count) + 0.5, names, fontsize=6)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="at whom", ylabel="who looks")
    axis.legend(
        handles=[Patch(color=KINDS[kind], label=kind) for kind in KINDS if kind in kinds],
        loc="upper left",
        bbox_to_anchor=(1, 1),
        title="what is seen",
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _runs(inputs: list) -> list[tuple[int, int]]:
    """First position of every block of queries and of patches, and the position behind it."""
    runs, place = [], 0
    for kind, labels in _blocks(inputs):
        if kind in ("queries", "patches"):
            runs.append((place, place + len(labels)))
        place += len(labels)
    return runs


def _blocks(inputs: list) -> list[tuple[str, list]]:
    """As `pieces_of`, with the queries of a block together, too."""
    blocks: list[tuple[str, list]] = []
    for kind, labels in pieces_of(inputs):
        if kind == "queries" and blocks and blocks[-1][0] == kind and labels[0] > 0:
            blocks[-1][1].append(labels[0])
        else:
            blocks.append((kind, list(labels)))
    return blocks


@dataclass
class _Part:
    """What is drawn as one: its kind, its labels, where it begins, who put it there, and the image that its queries paint."""

    kind: str
    labels: list
    first: int
    origin: str
    painted: int | None

    @property
    def cells(self) -> list[str]:
        """Queries as they are written out: all of a few, else the first two and the last."""
        return [
            str(label)
            for label in (
                self.labels if len(self.labels) <= 4 else [*self.labels[:2], "…", self.labels[-1]]
            )
        ]

    @property
    def text(self) -> str:
        return (
            f"{len(self.labels)} patches" if self.kind == "patches" else short(str(self.labels[0]))
        )

    def width(self, images: list) -> float:
        """Inches that it takes, with the picture beneath it."""
        if self.kind == "queries":
            return max(QUERY * len(self.cells), THUMB)
        return (
            THUMB
            if self.kind == "patches" and images
            else 0.13 + (0.075 if self.kind == "words" else 0.064) * len(self.text)
        )


@figure_function
def plot_origins(
    inputs: list, origins: list[str], images: list, title: str, width: float = 9.0
) -> Figure:
    """A row that was written and painted, every position in the colour of who put it there.

    From each block of queries an arrow leads to the picture that they painted; where its patches stand, it is drawn again.

    Args:
        inputs: labels, as `probe.Trace.inputs`.
        origins: for every input a key of `ORIGINS`: given, written by the model, by rule, painted. Queries stand there by rule.
        images: PIL images by number; the blocks of queries paint those that are read next behind them.
        title: what there is to see.
        width: of the figure, in inches; what is too long goes on in the next row.

    Raises:
        ValueError: if there is not one origin for each input (both numbers), or an unknown one.
    """
    if len(origins) != len(inputs):
        raise ValueError(
            f"{len(inputs)} inputs and {len(origins)} origins: each position needs one"
        )
    if unknown := set(origins) - set(ORIGINS):
        raise ValueError(f"{sorted(unknown)[0]!r} is no origin; there are {', '.join(ORIGINS)}")
    blocks, parts, place = _blocks(inputs), [], 0
    for number, (kind, labels) in enumerate(blocks):
        read = next((later[0][0] for kind, later in blocks[number:] if kind == "patches"), None)
        parts.append(
            _Part(kind, labels, place, origins[place], read if kind == "queries" else None)
        )
        place += len(labels)
    rows: list[list[tuple[float, _Part]]] = [[]]
    x = 0.1
    for part in parts:
        wide = part.width(images)
        if rows[-1] and x + wide > width - 0.1:
            rows.append([])
            x = 0.1
        rows[-1].append((x, part))
        x += wide + 0.06
    heights = [
        0.5
        + max(
            [0.0]
            + [
                THUMB + 0.17 if part.kind == "queries" else THUMB - HIGH
                for _, part in row
                if part.kind in ("queries", "patches")
            ]
        )
        for row in rows
    ]
    total = 0.4 + sum(heights) + 0.3
    figure, axis = canvas(width, total)
    axis.text(0.1, total - 0.2, title, fontsize=11, weight="bold", va="center")
    top = total - 0.52
    for row, height in zip(rows, heights):
        for x, part in row:
            _draw(axis, part, images, x, top)
        top -= height
    x = 0.1
    for origin, colour in ORIGINS.items():
        if count := origins.count(origin):
            axis.add_patch(Rectangle((x, 0.1), 0.13, 0.13, facecolor=colour))
            text = f"{origin} ({count})"
            axis.text(x + 0.18, 0.165, text, va="center_baseline", fontsize=8, color=INK)
            x += 0.4 + 0.067 * len(text)
    return figure


def _draw(axis: Axes, part: _Part, images: list, x: float, top: float) -> None:
    """A part that hangs from `top`: its positions above, what its queries painted beneath."""
    wide, colour, last = part.width(images), ORIGINS[part.origin], part.first + len(part.labels) - 1
    axis.text(
        x + wide / 2,
        top + 0.065,
        str(part.first) if last == part.first else f"{part.first}–{last}",
        ha="center",
        va="center",
        fontsize=5.5,
        color="#888888",
    )
    if part.kind == "queries":
        left = x + (wide - QUERY * len(part.cells)) / 2
        for number, text in enumerate(part.cells):
            draw_box(
                axis, left + QUERY * number, top - HIGH, QUERY - 0.015, HIGH, colour, text, 6.5
            )
        if part.painted is not None and images:
            middle = x + wide / 2
            draw_arrow(axis, (middle, top - HIGH - 0.01), (middle, top - HIGH - 0.16), INK)
            draw_picture(
                axis,
                images[part.painted],
                middle - THUMB / 2,
                top - HIGH - 0.17 - THUMB,
                THUMB,
                edge=colour,
            )
    elif part.kind == "patches" and images:
        draw_picture(
            axis,
            images[part.labels[0][0]],
            x,
            top - THUMB,
            THUMB,
            grid=1 + max(label[1] for label in part.labels),
            edge=colour,
        )
    else:
        draw_box(
            axis, x, top - HIGH, wide, HIGH, colour, part.text, 8.5 if part.kind == "words" else 7.0
        )


@figure_function
def plot_conditions(
    panels: dict[str, dict], title: str, label: str, levels: dict[str, float] | None = None
) -> Figure:
    """Shares with their intervals under several conditions: a panel for each thing that is counted, a row for each condition.

    Args:
        panels: {what is counted: {condition: (share, low, high)}}, all in [0, 1]; every panel has the same conditions.
        title: what there is to see.
        label: what a share is of.
        levels: {what is counted: the share that guessing gives}, drawn as a dashed line.

    Raises:
        ValueError: if panels have different conditions, or a share lies outside its interval (all three).
    """
    conditions = list(next(iter(panels.values()), {}))
    if not conditions or any(list(points) != conditions for points in panels.values()):
        raise ValueError(
            f"every panel needs the same conditions, at least one: {[list(points) for points in panels.values()]}"
        )
    for points in panels.values():
        if wrong := [
            point for point in points.values() if not point[1] - 1e-9 <= point[0] <= point[2] + 1e-9
        ]:
            raise ValueError(f"a share lies outside its interval: {tuple(wrong[0])}")
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(
            0.8 + 0.07 * max(map(len, conditions)) + 2.5 * len(panels),
            1.15 + 0.33 * len(conditions),
        ),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (name, points) in zip(axes[0], panels.items()):
        shares, lows, highs = np.array(list(points.values()), dtype=float).T
        axis.errorbar(
            shares,
            range(len(points)),
            xerr=np.maximum([shares - lows, highs - shares], 0),
            marker="o",
            linestyle="none",
            capsize=3,
            elinewidth=1.2,
        )
        if name in (levels or {}):
            axis.axvline(levels[name], color="#888888", linestyle="dashed", linewidth=1, zorder=0)
            axis.text(
                levels[name], -0.62, " by guessing", fontsize=7.5, color="#666666", va="center"
            )
        axis.set(xlim=(-0.03, 1.03), ylim=(len(points) - 0.5, -0.85), xlabel=label, title=name)
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color="#EEEEEE", zorder=0)
    axes[0, 0].set_yticks(range(len(conditions)), conditions)
    figure.suptitle(title, x=0.01, ha="left")
    return figure
