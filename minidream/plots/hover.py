"""The two-hop figure as a page to hover over, which needs no kernel."""

import base64
import html
import io
import json

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.colors import to_hex
from PIL import Image

from .drawing import HIGHLIGHT
from .two_hops import groups, outline_layer, shares_of, sources


def hover_two_hops(image, hops, inputs: list, queries: tuple | None = None) -> HTML:
    """`plot_hop` as a page: a word tints the cells that came from it, and a cell its words.

    Words, cells and their shares can be reached by keyboard as well: with the tabulator, and with
    the arrow keys among the cells. Where scripts do not run, as on GitHub, the bare picture and the
    words remain. Cells are coloured by the range of each word. Words are coloured by their share of
    the cell; the full colour is the greatest share that a word or an image has of any cell.

    Args:
        image: the painted PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.
        queries: both hops apart, to show the queries between words and cells as well: where cells
            attend, `ImageMaps.mean`, shape (queries, height, width); and where queries attend,
            `Trace.mean`, shape (queries, inputs).

    Returns:
        A page that loads nothing from the network, with one element for each of `groups(inputs)`,
        one for each query if there are any, and one for each cell.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or if neither a word nor
            a patch is among them.
    """
    explorer = explorer_of(image, hops, inputs, queries)
    own = f"<style>{HOVER_STYLE}</style>\n<script>{HOVER_SCRIPT}</script>\n</div>"
    return HTML(explorer.removesuffix("</div>") + own)


def two_hop_page(dreams: list[tuple[str, tuple]], title: str, about: str) -> str:
    """`hover_two_hops` of several dreams as a whole page of HTML, for a file of its own.

    It loads nothing from the network, and needs neither a kernel nor this package.

    Args:
        dreams: (prompt, arguments of `hover_two_hops`) of each; the first is shown until the reader
            chooses another.
        title: of the page.
        about: a paragraph that says how to read it.

    Raises:
        ValueError: without dreams, and for one of them as in `hover_two_hops`.
    """
    if not dreams:
        raise ValueError("no dreams were given")
    names = [f"<option>{html.escape(name)}</option>" for name, _ in dreams]
    explorers = [f"<section>\n{explorer_of(*parts)}\n</section>" for _, parts in dreams]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{PAGE_STYLE}{HOVER_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(about)}</p>
<p><label>prompt <select>{"".join(names)}</select></label></p>
{"".join(explorers)}
<script>{HOVER_SCRIPT}{PAGE_SCRIPT}</script>
</body>
</html>
"""


def explorer_of(image, hops, inputs: list, queries: tuple | None = None) -> str:
    """The elements of `hover_two_hops` with their data, in one `div`, without style and script.

    Arguments and errors are those of `hover_two_hops`.
    """
    positions = groups(inputs)
    words = shares_of(hops, inputs, sources(inputs))
    maps = shares_of(hops, inputs, positions)
    height, width = next(iter(maps.values())).shape
    numbers = {
        "maps": thousandths(list(maps.values())),
        "top": thousandths([np.max(list(words.values()))])[0][0],
        "columns": width,
    }
    labels = [inputs[group[0]] for group in positions.values()]
    shown = [
        label if isinstance(label, str) else f"[{name}]" for name, label in zip(positions, labels)
    ]
    rows = f"<p>{focusable('input', shown)}</p>"
    if queries is not None:
        looks, reads = map(np.asarray, queries)
        if looks.shape[1:] != (height, width) or reads.shape != (len(looks), len(inputs)):
            raise ValueError(
                f"the queries have shapes {looks.shape} and {reads.shape}; with {len(inputs)} "
                f"inputs they should have (n, {height}, {width}) and (n, {len(inputs)})"
            )
        by_group = {name: reads[:, group].sum(axis=1) for name, group in positions.items()}
        numbers |= {
            "looks": thousandths(looks),
            "reads": thousandths(np.stack(list(by_group.values()), axis=1)),
            "most": thousandths([np.max([by_group[name] for name in words])])[0][0],
        }
        rows += f"<p>queries {focusable('query', map(str, range(len(looks))))}</p>"
    data = html.escape(json.dumps(numbers, separators=(",", ":")))
    cells = [
        f'<span data-cell tabindex="{-1 if row or column else 0}" role="img" '
        f'aria-label="cell ({row}, {column})"></span>'
        for row, column in np.ndindex(height, width)
    ]
    tall = round(256 * image.size[1] / image.size[0])
    size = f'width="256" height="{tall}"'
    lines = Image.fromarray(outline_layer(image))
    grid = f"grid-template: repeat({height}, 1fr) / repeat({width}, 1fr)"
    return f"""<div class="minidream-hops" data-hops="{data}">
<img {size} alt="what was painted" src="{source_of(image)}">
<div class="minidream-picture">
<img {size} alt="the same, under the cells" src="{source_of(image)}">
<div class="minidream-cells" style="{grid}">{"".join(cells)}</div>
<img class="minidream-lines" {size} alt="its outlines" src="{source_of(lines)}">
</div>
<div class="minidream-words">{rows}<p class="minidream-said" role="status"></p></div>
</div>"""


def source_of(image) -> str:
    """A picture as the source of an `img`, so that the page needs no other file."""
    file = io.BytesIO()
    image.save(file, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def focusable(kind: str, texts) -> str:
    """Elements that the tabulator reaches, marked with `data-` and their kind."""
    shown = [f'<span data-{kind} tabindex="0">{html.escape(text)}</span>' for text in texts]
    return " ".join(shown)


def thousandths(shares) -> list[list[float]]:
    """Shares, flat for each row, with one digit: finer than a colour shows, and the page is small.

    Args:
        shares: shape (rows, ...), in [0, 1].
    """
    return [[round(1000 * share, 1) for share in np.ravel(row).tolist()] for row in shares]


PAGE_STYLE = """
body { max-width: 60em; margin: 1.5em auto; padding: 0 1em; color: #222; background: white; }
body { font-family: system-ui, sans-serif; line-height: 1.5; }
h1 { font-size: 1.4em; }
select { font: inherit; max-width: 100%; }
"""

HOVER_STYLE = """
.minidream-hops { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start; }
.minidream-picture { position: relative; }
.minidream-hops img { display: block; margin: 0; max-width: none; image-rendering: pixelated; }
.minidream-picture .minidream-lines { position: absolute; inset: 0; pointer-events: none; }
.minidream-cells { position: absolute; inset: 0; display: grid; }
.minidream-words { flex: 1 1 20em; max-width: 40em; line-height: 2; }
.minidream-words span { padding: 0.15em 0.3em; border-radius: 0.2em; cursor: default; }
.minidream-words p { margin: 0 0 0.5em; }
.minidream-words .minidream-said { line-height: 1.4; min-height: 4.2em; }
.minidream-hops span:hover, .minidream-hops :focus { outline: 2px solid CHOSEN; }
.minidream-hops [data-cell]:hover, .minidream-hops [data-cell]:focus \
{ box-shadow: 0 0 0 4px white; z-index: 1; }
""".replace("CHOSEN", HIGHLIGHT)

PAGE_SCRIPT = """
const choice = document.querySelector("select");
const choose = () => document.querySelectorAll("section").forEach((section, number) => {
  section.hidden = number !== choice.selectedIndex;
});
choice.addEventListener("change", choose);
choose();
"""

# A page is found by its data, not by an id, which would appear twice when a cell is shown twice.
# `ready` is set once for each page. A backslash at the end of a line joins it with the next.
HOVER_SCRIPT = """
for (const page of document.querySelectorAll(".minidream-hops[data-hops]:not([data-ready])")) {
  page.dataset.ready = "";
  const { maps, top, columns, looks, reads, most } = JSON.parse(page.dataset.hops);
  const viridis = VIRIDIS;
  const all = (kind) => [...page.querySelectorAll(`[data-${kind}]`)];
  const words = all("input"), queries = all("query"), cells = all("cell");
  const said = page.querySelector(".minidream-said");
  const percent = (number) => (number / 10).toFixed(1) + "%";
  const column = (rows, number) => rows.map((row) => row[number]);
  const leading = (elements, shares, count) => shares.map((share, number) => number)
    .sort((one, other) => shares[other] - shares[one]).slice(0, count)
    .map((number) => `“${elements[number].textContent}” ${percent(shares[number])}`).join(", ");
  const paint = (shares) => {
    const low = Math.min(...shares), high = Math.max(...shares);
    cells.forEach((cell, place) => {
      const share = (shares[place] - low) / (high - low || 1);
      cell.style.background = viridis[Math.round(share * (viridis.length - 1))];
    });
    return `has ${percent(low)} (dark) to ${percent(high)} (bright) of a cell's attention.`;
  };
  const mark = (elements, shares, full) => elements.forEach((element, number) => {
    element.style.background = \
`rgba(230, 159, 0, ${Math.min(1, shares[number] / full).toFixed(2)})`;
  });
  const clear = () => {
    for (const each of [...words, ...queries, ...cells]) each.style.background = "";
    said.textContent = "Point at a word to see which cells came from it, \
or at a cell to see from which words it came."
      + (looks ? " Point at a query to see what it attends to, and which cells attend to it." : "");
  };
  const showWord = (word) => {
    clear();
    said.textContent = `“${words[word].textContent}” ${paint(maps[word])}`;
    if (!looks) return;
    const readers = column(reads, word);
    mark(queries, readers, most);
    said.textContent += ` The queries that attend to it most: ${leading(queries, readers, 3)}.`;
  };
  const showQuery = (query) => {
    clear();
    mark(words, reads[query], most);
    said.textContent = `Query ${query} ${paint(looks[query])} \
It attends most to ${leading(words, reads[query], 5)}, …`;
  };
  const showCell = (place) => {
    clear();
    mark(words, column(maps, place), top);
    said.textContent = cells[place].getAttribute("aria-label") + " comes from "
      + leading(words, column(maps, place), 5) + ", …";
    if (!looks) return;
    mark(queries, column(looks, place), Math.max(...looks.flat()));
    said.textContent += ` It attends most to the queries \
${leading(queries, column(looks, place), 3)}.`;
  };
  const listen = (elements, show) => elements.forEach((element, number) => {
    for (const event of ["mouseenter", "focus"]) element.addEventListener(event, () => \
show(number));
    for (const event of ["mouseleave", "blur"]) element.addEventListener(event, clear);
  });
  listen(words, showWord);
  listen(queries, showQuery);
  listen(cells, showCell);
  cells.forEach((cell, place) => cell.addEventListener("keydown", (event) => {
    const column = place % columns;
    const moves = { ArrowLeft: column > 0 ? -1 : 0, ArrowRight: column < columns - 1 ? 1 : 0, \
ArrowUp: -columns, ArrowDown: columns };
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
