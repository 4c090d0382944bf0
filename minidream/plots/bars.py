"""Amounts: bars over words and models, sizes on one scale, and texts under their names."""

import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

from .drawing import GREY, draw_map, figure_function, set_title, show_picture
from .tokens import kind_of, short

LETTERS_PER_LINE = 108
SLANTED = dict(rotation=35, ha="right", rotation_mode="anchor")  # the names of tokens below bars


@figure_function
def plot_next_words(chances: dict[str, dict[str, float]], title: str, columns: int = 4) -> Figure:
    """Probabilities of the next word: for each beginning, bars of the most likely words.

    Args:
        chances: {beginning: {word: probability in [0, 1]}}, the most likely first; at least one.
        title: the finding.
        columns: how many beginnings side by side at most.

    Raises:
        ValueError: without beginnings, or if a number is not a probability.
    """
    if not chances:
        raise ValueError("no beginnings were given to draw")
    for words in chances.values():
        for value in words.values():
            if not 0 <= value <= 1:
                raise ValueError(f"a probability is between 0 and 1; {value} is not")
    columns = min(columns, len(chances))
    rows, most = math.ceil(len(chances) / columns), max(map(len, chances.values()))
    names = [textwrap.fill(name, 26) for name in chances]
    lines = max(name.count("\n") + 1 for name in names)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.25 * columns + 0.2, rows * (0.19 * most + 0.16 * lines + 0.55) + 0.35),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for axis in axes.flat[len(chances) :]:
        axis.set_axis_off()
    for axis, name, words in zip(axes.flat, names, chances.values()):
        axis.barh(range(len(words)), list(words.values()), height=0.72)
        axis.set(xlim=(0, 1), ylim=(most - 0.4, -0.6), title=name)
        axis.set_yticks(range(len(words)), list(map(short, words)))
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    for axis in axes[-1]:
        axis.set_xlabel("probability")
    set_title(figure, title)
    return figure


@figure_function
def plot_token_bars(values: dict, tokens: list[str], title: str, label: str) -> Figure:
    """A number for every token of a sentence, as bars over the words; a row of bars for each name.

    Args:
        values: {name: shape (tokens,), 0 or more; nan draws no bar}, at least one; rows share one
            scale.
        tokens: their names, in order.
        title: the finding.
        label: what a number is, with its unit.

    Raises:
        ValueError: without values, or if there are not as many as tokens (both numbers).
    """
    rows = {name: np.asarray(row, dtype=float) for name, row in values.items()}
    if not rows or any(row.shape != (len(tokens),) for row in rows.values()):
        raise ValueError(
            f"rows of shapes {[row.shape for row in rows.values()]} were given for {len(tokens)} "
            "tokens: at least one is needed, with a number for each token"
        )
    # Level names need room: where they are too long for one line, they take turns on several.
    names = [short(token) for token in tokens]
    lines = math.ceil((0.1 + 0.075 * max(map(len, names))) * len(names) / 8)
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(9, 1.05 * len(rows) + 0.55 + 0.15 * lines),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    top = np.nanmax(np.stack(list(rows.values())))
    for axis, (name, row) in zip(axes[:, 0], rows.items()):
        axis.bar(range(len(tokens)), np.nan_to_num(row), width=0.72)
        for index in np.flatnonzero(np.isfinite(row)):
            number, style = f"{row[index]:.2g}", dict(ha="center", va="bottom", fontsize=8)
            axis.text(index, row[index], number, **style)
        axis.set(ylim=(0, 1.2 * top), title=name)
    names = ["\n" * (index % lines) + name for index, name in enumerate(names)]
    axes[-1, 0].set_xticks(range(len(names)), names)
    figure.supylabel(label, fontsize=9, color=GREY)
    set_title(figure, title)
    return figure


@figure_function
def plot_attributions(attributions: dict, title: str, label: str) -> Figure:
    """What each word and each patch contributes to a target: a signed row for each attribution.

    The words of all rows share one scale, the patches of each image have a scale of their own. The
    title of a row says how much of the target's difference the contributions leave unexplained.

    Args:
        attributions: {name: `probe.Attribution`}, at least one, all of the same inputs.
        title: the finding.
        label: what a number is, with its unit.

    Returns:
        For each attribution the axes of its words, then of each image: bare, and with the
        contributions of its patches.

    Raises:
        ValueError: without attributions, or if their inputs differ.
    """
    rows = list(attributions.values())
    if not rows or any(row.inputs != rows[0].inputs for row in rows):
        raise ValueError(
            f"{len(rows)} attributions were given: at least one is needed, and all of the same "
            "inputs"
        )
    inputs = rows[0].inputs
    words = [index for index, label in enumerate(inputs) if kind_of(label) == "words"]
    names = [short(inputs[index]) for index in words]
    patches: dict[int, list[int]] = {}  # image -> the positions of its patches
    for position, entry in enumerate(inputs):
        if isinstance(entry, tuple):
            patches.setdefault(entry[0], []).append(position)
    both = np.stack([row.values[words].numpy() for row in rows])
    reach = 0.08 * (both.max() - both.min() or 1.0)
    figure, axes = plt.subplots(
        len(rows),
        1 + 2 * len(patches),
        figsize=(9, 1.35 * len(rows) + 1.25),
        layout="constrained",
        squeeze=False,
        width_ratios=[6 - 1.6 * min(2, len(patches))] + [1] * 2 * len(patches),
    )
    for axis, name, row, values in zip(axes[:, 0], attributions, rows, both):
        colours = np.where(values < 0, "#0072B2", "#D55E00")
        axis.bar(range(len(words)), values, width=0.72, color=colours)
        axis.axhline(0, color=GREY, linewidth=0.7)
        axis.set_ylim(min(both.min(), 0) - reach, max(both.max(), 0) + reach)
        unexplained = abs(row.delta / (row.whole - row.nothing))
        axis.set_title(f"{name}: {unexplained:.0%} not accounted for")
        axis.set_xticks(range(len(words)), names if row is rows[-1] else [], **SLANTED)
    for pair, (image, positions) in enumerate(patches.items()):
        maps = [row.values[positions].reshape(inputs[positions[-1]][1] + 1, -1) for row in rows]
        top = max(map_.abs().max().item() for map_ in maps) or 1.0
        for row, map_, axis, spread in zip(
            rows, maps, axes[:, 1 + 2 * pair], axes[:, 2 + 2 * pair]
        ):
            show_picture(axis, row.images[image])
            axis.set_axis_off()
            draw_map(spread, map_.numpy(), -top, top, inches=1.0, cmap="RdBu_r")
            spread.set_title(f"patches, ±{top:.2g}")
            spread.set_axis_off()
    figure.supylabel(label, fontsize=9, color=GREY)
    set_title(figure, title)
    return figure


def _common_parts(amounts: dict[str, dict], where: str) -> list[str]:
    """The parts that all entries have, in their order.

    Raises:
        ValueError: that names `where`, if some entries have other parts, or if there is none.
    """
    parts = list(next(iter(amounts.values()), {}))
    if not parts or any(list(other) != parts for other in amounts.values()):
        raise ValueError(
            f"the same parts are needed {where}, at least one: "
            f"{[list(other) for other in amounts.values()]}"
        )
    return parts


@figure_function
def plot_sizes(sizes: dict[str, dict[str, int]], title: str, label: str = "parameters") -> Figure:
    """Sizes of the parts of several models, on a logarithmic scale: a dot per part and model.

    Args:
        sizes: {model: {part: number above 0}}; every model has the same parts.
        title: the finding.
        label: what is counted.

    Raises:
        ValueError: if the models do not have the same parts.
    """
    parts = _common_parts(sizes, "for all models")
    figure, axis = plt.subplots(figsize=(8.2, 1.3 + 0.3 * len(parts)), layout="constrained")
    for row, part in enumerate(parts):
        numbers = [model[part] for model in sizes.values()]
        line = dict(color="#D0D0D0", linewidth=1.2, zorder=1)
        axis.plot([min(numbers), max(numbers)], [row, row], **line)
    for index, (name, model) in enumerate(sizes.items()):
        dots = dict(marker="osD^v"[index % 5], markersize=6.5, linestyle="none", label=name)
        axis.plot(list(model.values()), range(len(parts)), **dots)
    last, numbers = list(sizes.items())[-1]
    beside = dict(transform=axis.get_yaxis_transform(), va="center", fontsize=8.5, color=GREY)
    axis.text(1.01, -1, last, weight="bold", **beside)
    for row, number in enumerate(numbers.values()):
        axis.text(1.01, row, in_words(number), **beside)
    axis.set(xscale="log", ylim=(len(parts) - 0.5, -0.5))
    axis.set_xlabel(f"{label} (from line to line: ten times as many)")
    axis.xaxis.set_major_locator(LogLocator(numticks=20))
    low, high = np.log10(axis.get_xlim())
    step = 1 if high - low < 5 else 2  # many names side by side would run into one another

    def name_of(value: float, _) -> str:
        return "" if round(math.log10(value)) % step else in_words(value)

    axis.xaxis.set_major_formatter(FuncFormatter(name_of))
    axis.minorticks_off()
    axis.set_yticks(range(len(parts)), parts)
    axis.grid(axis="x", color="#EEEEEE", zorder=0)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower left", ncols=len(sizes))
    set_title(figure, title)
    return figure


def in_words(number: float) -> str:
    """A large number, short: 6738481152 is "6.74 billion"."""
    for name, unit in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.3g}"


@figure_function
def plot_stacks(
    stacks: dict[str, dict[str, float]],
    title: str,
    label: str,
    marks: dict[str, float] | None = None,
) -> Figure:
    """What each total consists of: a bar per name, divided by part, with the total at its end.

    Args:
        stacks: {name: {part: amount}}; every name has the same parts.
        title: the finding.
        label: what the amounts are, with the unit.
        marks: {name: amount} of vertical lines to compare with.

    Raises:
        ValueError: if the names do not have the same parts.
    """
    parts, marks = _common_parts(stacks, "in all bars"), marks or {}
    figure, axis = plt.subplots(figsize=(8.2, 1.55 + 0.36 * len(stacks)), layout="constrained")
    totals, rows = np.zeros(len(stacks)), range(len(stacks))
    for part in parts:
        amounts = np.array([stack[part] for stack in stacks.values()])
        style = dict(edgecolor="white", height=0.72, zorder=2)
        axis.barh(rows, amounts, left=totals, label=part, **style)
        totals = totals + amounts
    under = dict(facecolor="white", edgecolor="none", pad=0.5)
    for row, total in enumerate(totals):
        text = f" {total:,.0f}" if total >= 1000 else f" {total:.3g}"
        axis.text(total, row, text, va="center", zorder=3, bbox=under)
    for name, amount in marks.items():
        axis.axvline(amount, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axis.text(amount, -0.62, f"{name} ", fontsize=8, ha="right", va="bottom", color="#555555")
    axis.set(ylim=(len(stacks) - 0.4, -0.95 if marks else -0.6), xlabel=label)
    axis.set_xlim(0, 1.08 * max([*totals, *marks.values()]))
    axis.set_yticks(rows, list(stacks))
    axis.tick_params(axis="y", length=0)
    tight = dict(columnspacing=1.4, handlelength=1)
    figure.legend(loc="outside lower left", ncols=len(parts), **tight)
    set_title(figure, title)
    return figure


@figure_function
def plot_writing(texts: dict[str, str], title: str, lines: int = 3) -> Figure:
    """Texts under the names of their writers; the size of the figure depends on their number alone.

    Args:
        texts: {name: text}, at least one; a text is cut after `lines` lines.
        title: the finding.
        lines: room for each text.

    Raises:
        ValueError: without texts.
    """
    if not texts:
        raise ValueError("no texts were given to draw")
    block = 0.26 + 0.175 * lines
    figure, axis = plt.subplots(figsize=(9, 0.4 + block * len(texts)), layout="constrained")
    axis.set(xlim=(0, 1), ylim=(block * len(texts), 0))
    axis.set_axis_off()
    for index, (name, text) in enumerate(texts.items()):
        y, bold = block * index, dict(weight="bold", fontsize=8.5, color="#0072B2")
        axis.text(0, y, name, va="top", **bold)
        written = textwrap.wrap(text, LETTERS_PER_LINE, max_lines=lines, placeholder=" …")
        axis.text(0.01, y + 0.19, "\n".join(written), va="top", fontsize=9)
    set_title(figure, title)
    return figure
