"""What the explorers of `widgets.py` draw anew at each move; each figure also stands by itself, where no kernel runs."""

import base64
import html
import io
import json
import math
import textwrap
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .attention import line_width
from .drawing import KINDS, LETTER, figure_function, kind_of, short

WIDE = 9  # inches: width of a figure
BARS = 24  # in one column; more go on in the next
COLUMNS = 3
CHOSEN = "#D55E00"  # marks what was chosen: no colour of a map or of a kind


def groups(inputs: list) -> dict[str, list[int]]:
    """All inputs by name, in reading order: tokens each by itself, the patches of an image together, and all queries together.

    A token that comes again is numbered: "a", "a (2)". No token has a space in it, so "image 0" and "the queries" are no tokens.

    Args:
        inputs: a label per input, as `probe.Trace.inputs`.

    Returns:
        {name: positions among the inputs}; every position stands in one of them.
    """
    found: dict[str, list[int]] = {}
    seen: Counter = Counter()
    for place, label in enumerate(inputs):
        if isinstance(label, str):
            seen[label] += 1
            found[label if seen[label] == 1 else f"{label} ({seen[label]})"] = [place]
        else:
            found.setdefault(
                f"image {label[0]}" if isinstance(label, tuple) else "the queries", []
            ).append(place)
    return found


def sources(inputs: list) -> dict[str, list[int]]:
    """Those of `groups` that tell something of the prompt: words, and the patches of images."""
    return {
        name: places
        for name, places in groups(inputs).items()
        if kind_of(inputs[places[0]]) in ("words", "patches")
    }


def shares_of(hops, inputs: list, places: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """How much of each cell's attention came from groups of inputs: {name: shape (height, width) in latent cells, in [0, 1]}.

    Args:
        hops: from `probe.two_hop`, shape (inputs, height, width), in [0, 1].
        inputs: a label per input.
        places: {name: positions}, from `groups` or `sources`.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or there is no group.
    """
    hops = np.asarray(hops)
    if len(hops) != len(inputs):
        raise ValueError(f"{len(hops)} maps were given for {len(inputs)} inputs")
    if not places:
        raise ValueError("neither a word nor a patch is among the inputs")
    return {name: hops[group].sum(axis=0) for name, group in places.items()}


@figure_function
def plot_hop(image, hops, inputs: list, word: str, cell: tuple[int, int]) -> Figure:
    """Through the queries, both ways: which cells came from one word, and from which words one cell came.

    The map has a range of its own, since words differ more in how much they are looked at than in where. The bars of all
    cells have one scale, which ends at the greatest of them; of very many words, those that have most of the picture get one.

    Args:
        image: what was painted, a PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.
        word: one of the names that `sources` gives.
        cell: (row, column), in latent cells.

    Returns:
        Axes in this order: the picture, the map of the word, columns of bars, the colour bar.

    Raises:
        ValueError: for a word or a cell that is not there, or if there are not as many maps as inputs (both numbers).
    """
    places = sources(inputs)
    maps = shares_of(hops, inputs, places)
    if word not in maps:
        raise ValueError(f"{word!r} is not among the inputs: {', '.join(maps)}")
    (row, column), (height, width) = cell, maps[word].shape
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(
            f"cell {(row, column)} was asked for; there are {height} rows and {width} columns of them, counted from 0"
        )
    shares = {name: map_[row, column] for name, map_ in maps.items()}
    most = sorted(maps, key=lambda name: (name != word, -maps[name].sum()))[
        : BARS * COLUMNS
    ]  # the same for all cells
    names, first = [name for name in maps if name in most], max(shares, key=shares.get)
    columns, longest = math.ceil(len(names) / BARS), min(len(names), BARS)
    figure, axes = plt.subplots(
        1,
        2 + columns,
        figsize=(WIDE, max(3.0, 0.16 * longest + 0.95)),
        layout="constrained",
        width_ratios=[1, 1, *[max(1 / columns, 0.4)] * columns],
    )
    for axis in axes[:2]:
        _draw_under(axis, image, height, width, faint=axis is axes[1])
        axis.add_patch(
            Rectangle(
                (column, row),
                1,
                1,
                fill=False,
                edgecolor=CHOSEN,
                linewidth=2,
                zorder=3,
                path_effects=[withStroke(linewidth=4, foreground="white")],
            )
        )  # seen on every colour
    axes[0].set_title(f"painted; cell ({row}, {column})")
    axes[1].set_title(f"“{short(word)}” over the cells")
    mesh = axes[1].pcolormesh(
        maps[word], alpha=0.72, edgecolors="white", linewidth=line_width(height, 2.2)
    )
    # Beside both, so that they stay of one size.
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
        label="share of a cell's\nattention, own range",
    )
    top = max(map_.max() for map_ in maps.values())
    for number, axis in enumerate(axes[2:]):
        part = names[number * BARS : (number + 1) * BARS]
        colours = [
            CHOSEN if name == word else KINDS[kind_of(inputs[places[name][0]])] for name in part
        ]
        axis.barh(range(len(part)), [shares[name] for name in part], color=colours)
        axis.set_yticks(range(len(part)), map(short, part), fontsize=8)
        axis.set(xlim=(0, top), ylim=(longest - 0.4, -0.6))
        axis.xaxis.set(
            major_locator=MaxNLocator(3 if columns == 1 else 1), major_formatter=PercentFormatter(1)
        )
        axis.tick_params(axis="y", length=0)
    axes[2].set_title(
        f"cell ({row}, {column}) over {'the' if len(names) == len(maps) else f'{len(names)} of {len(maps)}'} words"
    )
    axes[2].set_xlabel(
        f"share of its attention; <s>, markers\nand queries have the other {1 - sum(shares.values()):.0%}"
    )
    figure.suptitle(
        f"Cell ({row}, {column}) comes from “{short(first)}” more than from any other: {shares[first]:.1%}",
        x=0.01,
        ha="left",
    )
    return figure


def hover_two_hops(image, hops, inputs: list) -> HTML:
    """`plot_hop` to hover over, which needs no kernel: a word tints the cells that came from it, a cell the words it came from.

    Words, cells and what they say can be reached by keyboard as well: tab, and arrows among the cells. Where scripts do not run,
    as on GitHub, the bare picture and the words are left. Cells are coloured by the range of each word; words by their share of
    the cell, full where a word or an image has most in any cell.

    Args:
        image: what was painted, a PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.

    Returns:
        A page of its own, without anything from the network: one element for each of `groups(inputs)`, and one for each cell.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or neither a word nor a patch is among them.
    """
    places, told = groups(inputs), sources(inputs)
    top = max(map_.max() for map_ in shares_of(hops, inputs, told).values())
    maps = shares_of(hops, inputs, places)
    height, width = next(iter(maps.values())).shape
    file = io.BytesIO()
    image.save(file, format="png")
    painted = base64.b64encode(file.getvalue()).decode()
    # In parts of a thousand with one digit: more than a colour shows, and the page stays small.
    numbers = {
        "maps": [
            [round(1000 * share, 1) for share in map_.flatten().tolist()] for map_ in maps.values()
        ],
        "top": round(1000 * float(top), 1),
        "columns": width,
    }
    words = [
        f'<span data-input tabindex="0">{html.escape(inputs[group[0]] if isinstance(inputs[group[0]], str) else f"[{name}]")}</span>'
        for name, group in places.items()
    ]
    cells = [
        f'<span data-cell tabindex="{-1 if row or column else 0}" role="img" aria-label="cell ({row}, {column})"></span>'
        for row in range(height)
        for column in range(width)
    ]
    return HTML(f"""<div class="minidream-hops" data-hops="{html.escape(json.dumps(numbers, separators=(",", ":")))}">
<style>{HOVER_STYLE}</style>
<div class="minidream-picture">
<img width="256" height="{round(256 * image.size[1] / image.size[0])}" alt="what was painted" src="data:image/png;base64,{painted}">
<div class="minidream-cells" style="grid-template: repeat({height}, 1fr) / repeat({width}, 1fr)">{"".join(cells)}</div>
</div>
<div class="minidream-words"><p>{" ".join(words)}</p><p class="minidream-said" role="status"></p></div>
<script>{HOVER_SCRIPT}</script>
</div>""")


HOVER_STYLE = """
.minidream-hops { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start; }
.minidream-picture { position: relative; }
.minidream-picture img { display: block; margin: 0; max-width: none; image-rendering: pixelated; }
.minidream-cells { position: absolute; inset: 0; display: grid; }
.minidream-words { flex: 1 1 20em; max-width: 40em; line-height: 2; }
.minidream-words [data-input] { padding: 0.15em 0.3em; border-radius: 0.2em; cursor: default; }
.minidream-words p { margin: 0 0 0.5em; }
.minidream-words .minidream-said { line-height: 1.4; min-height: 2.8em; }
.minidream-hops [data-input]:hover, .minidream-hops [data-cell]:hover, .minidream-hops :focus { outline: 2px solid CHOSEN; }
.minidream-hops [data-cell]:hover, .minidream-hops [data-cell]:focus { box-shadow: 0 0 0 4px white; z-index: 1; }
""".replace("CHOSEN", CHOSEN)

# A page is found by its numbers, not by an id, which would stand twice when a cell is shown twice; `ready` is set once for each.
HOVER_SCRIPT = """
for (const page of document.querySelectorAll(".minidream-hops[data-hops]:not([data-ready])")) {
  page.dataset.ready = "";
  const { maps, top, columns } = JSON.parse(page.dataset.hops), viridis = VIRIDIS;
  const words = [...page.querySelectorAll("[data-input]")], cells = [...page.querySelectorAll("[data-cell]")];
  const said = page.querySelector(".minidream-said");
  const percent = (number) => (number / 10).toFixed(1) + "%";
  const clear = () => {
    for (const each of [...words, ...cells]) each.style.background = "";
    said.textContent = "Point at a word to see which cells came from it, or at a cell to see from which words it came.";
  };
  const showWord = (word) => {
    clear();
    const low = Math.min(...maps[word]), high = Math.max(...maps[word]);
    cells.forEach((cell, place) => {
      const share = (maps[word][place] - low) / (high - low || 1);
      cell.style.background = viridis[Math.round(share * (viridis.length - 1))] + "b8";
    });
    said.textContent = `“${words[word].textContent}” has ${percent(low)} (dark) to ${percent(high)} (bright) of a cell's attention.`;
  };
  const showCell = (place) => {
    clear();
    words.forEach((word, number) => { word.style.background = `rgba(230, 159, 0, ${Math.min(1, maps[number][place] / top).toFixed(2)})`; });
    const most = maps.map((map, number) => number).sort((one, other) => maps[other][place] - maps[one][place]).slice(0, 5);
    said.textContent = cells[place].getAttribute("aria-label") + " comes from "
      + most.map((number) => `“${words[number].textContent}” ${percent(maps[number][place])}`).join(", ") + ", …";
  };
  const listen = (elements, show) => elements.forEach((element, number) => {
    for (const event of ["mouseenter", "focus"]) element.addEventListener(event, () => show(number));
    for (const event of ["mouseleave", "blur"]) element.addEventListener(event, clear);
  });
  listen(words, showWord);
  listen(cells, showCell);
  cells.forEach((cell, place) => cell.addEventListener("keydown", (event) => {
    const column = place % columns;
    const moves = { ArrowLeft: column > 0 ? -1 : 0, ArrowRight: column < columns - 1 ? 1 : 0, ArrowUp: -columns, ArrowDown: columns };
    const next = cells[place + moves[event.key]];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();      // arrows also move between the cells of a notebook
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }));
  clear();
}
""".replace(
    "VIRIDIS",
    json.dumps([to_hex(colour) for colour in plt.get_cmap("viridis")(np.linspace(0, 1, 17))]),
)


def _draw_under(axis, image, height: int, width: int, faint: bool) -> None:
    """A picture on axes whose units are cells, from 0 at the upper left; faint and grey where a map comes over it."""
    style = dict(cmap="gray", vmin=-120, vmax=375) if faint else {}
    axis.imshow(image.convert("L") if faint else image, extent=(0, width, height, 0), **style)
    axis.set_aspect(width * image.size[1] / (height * image.size[0]))
    axis.set_axis_off()


@figure_function
def plot_ablation(before, after, off: list[str], change) -> Figure:
    """What became of a picture without some queries: the whole, the other, and by how much each pixel differs.

    Args:
        before, after: PIL images of one size.
        off: names of the queries that were taken away, as in `plot_single_ablations`; may be none.
        change: absolute difference, mean of the colours; shape (height, width) in image pixels, in [0, 1].

    Returns:
        Axes in this order: before, after, change, colour bar.

    Raises:
        ValueError: if pictures and change are not of one size (all three).
    """
    change = np.asarray(change)
    if not before.size == after.size == change.shape[::-1]:
        raise ValueError(
            f"pictures of {before.size} and {after.size} and a change of {change.shape[::-1]} pixels: all must be of one size"
        )
    title = (
        f"Without {_told(off)}: pixels change by {change.mean():.3f} on average"
        if off
        else "Nothing is taken away: the whole picture"
    )
    title = textwrap.fill(title, int(WIDE / LETTER))
    figure, axes = plt.subplots(
        1, 3, figsize=(WIDE, 2.9 + 0.2 * title.count("\n")), layout="constrained"
    )
    for axis, picture, name in zip(
        axes, (before, after), ("all queries", "these left out" if off else "none left out")
    ):
        axis.imshow(picture)
        axis.set_title(name)
    mesh = axes[2].imshow(change, vmin=0, vmax=1)
    axes[2].set_title("what changed")
    for axis in axes:
        axis.set_axis_off()
    figure.colorbar(mesh, ax=axes[2], pad=0.02, aspect=16, label="change of a pixel, of 1")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _told(names: list[str]) -> str:
    """Queries in words: "query 3", "queries 3, 4", or, for a group of them, "queries 4–7"."""
    return f"{'query' if len(names) == 1 and names[0].isdigit() else 'queries'} {', '.join(names)}"


@figure_function
def plot_single_ablations(before, pictures: list, names: list[str]) -> Figure:
    """Every query taken away by itself: the whole picture, and the one without each, with the mean change of its pixels under it.

    Args:
        before: with all queries, a PIL image.
        pictures: without each, PIL images of the same size; at least one.
        names: of the queries, one for each picture: "3", or "4–7" where several were taken away together.

    Raises:
        ValueError: without pictures, or if there are not as many names (both numbers).
    """
    if not pictures or len(names) != len(pictures):
        raise ValueError(
            f"{len(pictures)} pictures and {len(names)} names: at least one picture is needed, and a name for each"
        )
    whole, *others = (np.asarray(picture.convert("RGB")) / 255 for picture in (before, *pictures))
    changes = [np.abs(other - whole).mean() for other in others]
    columns = min(9, len(pictures) + 1)
    rows = math.ceil((len(pictures) + 1) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(columns, 6) * WIDE / 9, 1.3 * rows + 0.35),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, picture, title, label in zip(
        axes.flat,
        (before, *pictures),
        ("all", *(f"no {name}" for name in names)),
        ("change", *(f"{change:.3f}" for change in changes)),
    ):
        axis.imshow(picture)
        axis.set_title(title)
        axis.set_xlabel(label, labelpad=2)
    most = int(np.argmax(changes))
    figure.suptitle(
        f"Without {_told([names[most]])} the picture changes most: by {changes[most]:.3f} per pixel",
        x=0.01,
        ha="left",
    )
    return figure


@figure_function
def plot_denoising(
    noisy, guess, map, step: int, query: int, timestep: int, top: float | None = None
) -> Figure:
    """One step of sampling: what stood before it, what the model took the picture to be, and where it looked at one query.

    Args:
        noisy: the latents before the step, decoded; a PIL image.
        guess: the clean picture that the model guesses at this step, decoded; a PIL image.
        map: how much of each cell's attention went to the query at this step, shape (height, width) in latent cells, in [0, 1].
        step: its number, from 0.
        query: its number.
        timestep: of the noise schedule, which falls from step to step.
        top: end of the colour scale; None is the greatest value of the map.

    Returns:
        Axes in this order: noisy, guess, map over the guess, colour bar.
    """
    map = np.asarray(map)
    figure, axes = plt.subplots(1, 3, figsize=(WIDE, 3.05), layout="constrained")
    for axis, picture, name in zip(
        axes,
        (noisy, guess, guess),
        ("before the step", "its guess of the picture", f"where it looks at query {query}"),
    ):
        _draw_under(axis, picture, *map.shape, faint=axis is axes[2])
        axis.set_title(name)
    mesh = axes[2].pcolormesh(
        map, vmin=0, vmax=top, alpha=0.72, edgecolors="white", linewidth=line_width(len(map), 2.4)
    )
    figure.colorbar(
        mesh,
        ax=axes[2],
        pad=0.02,
        aspect=16,
        label="share of a cell's attention",
        format=PercentFormatter(1),
    )
    figure.suptitle(
        f"Step {step}, timestep {timestep}: what the model guesses, and where it looks at query {query}",
        x=0.01,
        ha="left",
    )
    return figure


@figure_function
def plot_denoising_steps(
    noisy: list,
    guesses: list,
    maps,
    timesteps: list[int],
    query: int,
    columns: int = 5,
    title: str = "The noise goes step by step; the guess of the picture is there early",
) -> Figure:
    """Sampling from its first step to its last, in a few columns: what `plot_denoising` shows of each; all maps share one scale.

    Args:
        noisy, guesses: PIL images, one for each step.
        maps: of one query, shape (steps, height, width) in latent cells, in [0, 1].
        timesteps: of the steps.
        query: its number.
        columns: how many steps are shown, at equal distances, the first and the last among them.
        title: what there is to see.

    Raises:
        ValueError: if there are not as many of each (all four numbers).
    """
    counts = [len(noisy), len(guesses), len(maps), len(timesteps)]
    if len(set(counts)) > 1 or not counts[0]:
        raise ValueError(
            f"{counts[0]} noisy pictures, {counts[1]} guesses, {counts[2]} maps, {counts[3]} timesteps: "
            "as many of each are needed, at least one"
        )
    steps = sorted({round(step) for step in np.linspace(0, counts[0] - 1, columns)})
    maps = np.stack([np.asarray(maps[step]) for step in steps])
    figure, axes = plt.subplots(
        3,
        len(steps),
        figsize=(max(1.4 * len(steps) + 1.2, LETTER * len(title)), 4.9),
        layout="constrained",
        squeeze=False,
    )
    for row, name in zip(axes, ("before the step", "guessed picture", f"looks at query {query}")):
        row[0].set_ylabel(name)
    for step, map_, (above, middle, below) in zip(steps, maps, axes.T):
        above.imshow(noisy[step])
        middle.imshow(guesses[step])
        mesh = below.pcolormesh(
            map_, vmin=0, vmax=maps.max(), edgecolors="white", linewidth=line_width(len(map_), 1.3)
        )
        below.set(
            ylim=(len(map_), 0),
            aspect=map_.shape[1] * guesses[step].size[1] / (len(map_) * guesses[step].size[0]),
        )
        above.set_title(f"step {step}\ntimestep {timesteps[step]}")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.colorbar(
        mesh,
        ax=list(axes[2]),
        pad=0.01,
        aspect=10,
        label="share of a\ncell's attention",
        format=PercentFormatter(1),
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@figure_function
def plot_choice(image, prompt: str, setting: str) -> Figure:
    """One picture, large, with the prompt it was painted from.

    Args:
        image: a PIL image.
        prompt: its words; long ones are wrapped.
        setting: what else was chosen, as the title.
    """
    prompt = textwrap.fill(prompt, 50)
    figure, axis = plt.subplots(
        figsize=(3.6, 3.7 + 0.17 * prompt.count("\n")), layout="constrained"
    )
    axis.imshow(image)
    axis.set_axis_off()
    axis.set_title(prompt)
    figure.suptitle(setting, x=0.01, ha="left")
    return figure
