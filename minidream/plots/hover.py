"""The two-hop figure as a page to hover over, which needs no kernel."""

import base64
import html
import io
import json

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.colors import to_hex

from .drawing import HIGHLIGHT
from .two_hops import groups, shares_of, sources


def hover_two_hops(image, hops, inputs: list) -> HTML:
    """`plot_hop` as a page: a word tints the cells that came from it, and a cell its words.

    Words, cells and their shares can be reached by keyboard as well: with the tabulator, and with
    the arrow keys among the cells. Where scripts do not run, as on GitHub, the bare picture and the
    words remain. Cells are coloured by the range of each word. Words are coloured by their share of
    the cell; the full colour is the greatest share that a word or an image has of any cell.

    Args:
        image: the painted PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.

    Returns:
        A page that loads nothing from the network, with one element for each of `groups(inputs)`
        and one for each cell.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or if neither a word nor
            a patch is among them.
    """
    positions = groups(inputs)
    top = max(map_.max() for map_ in shares_of(hops, inputs, sources(inputs)).values())
    maps = shares_of(hops, inputs, positions)
    height, width = next(iter(maps.values())).shape
    file = io.BytesIO()
    image.save(file, format="png")
    painted = base64.b64encode(file.getvalue()).decode()
    # In thousandths with one digit: finer than a colour shows, and the page stays small.
    numbers = {
        "maps": [
            [round(1000 * share, 1) for share in map_.ravel().tolist()] for map_ in maps.values()
        ],
        "top": round(1000 * float(top), 1),
        "columns": width,
    }
    data = html.escape(json.dumps(numbers, separators=(",", ":")))
    words = []
    for name, group in positions.items():
        label = inputs[group[0]]
        text = html.escape(label if isinstance(label, str) else f"[{name}]")
        words.append(f'<span data-input tabindex="0">{text}</span>')
    cells = [
        f'<span data-cell tabindex="{-1 if row or column else 0}" role="img" '
        f'aria-label="cell ({row}, {column})"></span>'
        for row, column in np.ndindex(height, width)
    ]
    tall = round(256 * image.size[1] / image.size[0])
    source = f"data:image/png;base64,{painted}"
    grid = f"grid-template: repeat({height}, 1fr) / repeat({width}, 1fr)"
    shown = " ".join(words)
    return HTML(f"""<div class="minidream-hops" data-hops="{data}">
<style>{HOVER_STYLE}</style>
<div class="minidream-picture">
<img width="256" height="{tall}" alt="what was painted" src="{source}">
<div class="minidream-cells" style="{grid}">{"".join(cells)}</div>
</div>
<div class="minidream-words"><p>{shown}</p><p class="minidream-said" role="status"></p></div>
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
.minidream-hops [data-input]:hover, .minidream-hops [data-cell]:hover, \
.minidream-hops :focus { outline: 2px solid CHOSEN; }
.minidream-hops [data-cell]:hover, .minidream-hops [data-cell]:focus \
{ box-shadow: 0 0 0 4px white; z-index: 1; }
""".replace("CHOSEN", HIGHLIGHT)

# A page is found by its data, not by an id, which would appear twice when a cell is shown twice.
# `ready` is set once for each page. A backslash at the end of a line joins it with the next.
HOVER_SCRIPT = """
for (const page of document.querySelectorAll(".minidream-hops[data-hops]:not([data-ready])")) {
  page.dataset.ready = "";
  const { maps, top, columns } = JSON.parse(page.dataset.hops), viridis = VIRIDIS;
  const words = [...page.querySelectorAll("[data-input]")], \
cells = [...page.querySelectorAll("[data-cell]")];
  const said = page.querySelector(".minidream-said");
  const percent = (number) => (number / 10).toFixed(1) + "%";
  const clear = () => {
    for (const each of [...words, ...cells]) each.style.background = "";
    said.textContent = "Point at a word to see which cells came from it, \
or at a cell to see from which words it came.";
  };
  const showWord = (word) => {
    clear();
    const low = Math.min(...maps[word]), high = Math.max(...maps[word]);
    cells.forEach((cell, place) => {
      const share = (maps[word][place] - low) / (high - low || 1);
      cell.style.background = viridis[Math.round(share * (viridis.length - 1))] + "b8";
    });
    said.textContent = `“${words[word].textContent}” has ${percent(low)} (dark) \
to ${percent(high)} (bright) of a cell's attention.`;
  };
  const showCell = (place) => {
    clear();
    words.forEach((word, number) => { word.style.background = \
`rgba(230, 159, 0, ${Math.min(1, maps[number][place] / top).toFixed(2)})`; });
    const most = maps.map((map, number) => number)\
.sort((one, other) => maps[other][place] - maps[one][place]).slice(0, 5);
    said.textContent = cells[place].getAttribute("aria-label") + " comes from "
      + most.map((number) => `“${words[number].textContent}” ${percent(maps[number][place])}`)\
.join(", ") + ", …";
  };
  const listen = (elements, show) => elements.forEach((element, number) => {
    for (const event of ["mouseenter", "focus"]) element.addEventListener(event, () => \
show(number));
    for (const event of ["mouseleave", "blur"]) element.addEventListener(event, clear);
  });
  listen(words, showWord);
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
