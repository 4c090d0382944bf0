"""The families of multimodal systems: the tree of them all, and a flow diagram for each.

A flow diagram shows how words and pictures flow, what learns, and what provides the training
signal. What is drawn is in `family_flows.py`. A teacher's dashed arrow marks where the gradient
starts.
"""

from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import INK, canvas, draw_arrow, draw_box, figure_function
from .family_flows import COLOURS, DATA, FLOWS, FROZEN, GRADIENTS, LEARNED, TEACHER

GRADIENT, DASHED = "#C2487E", (0, (3, 2))
WIDE, HIGH = 1.42, 0.44  # inches of a box
ACROSS, DOWN = 1.78, 0.68  # inches from one to the next
BETWEEN = 0.42  # inches between two flows


_PLUGINS = "Visual ChatGPT, VisProg, TaskMatrix.AI, HuggingGPT, GPT4Tools, MM-ReAct, ViperGPT"
_ENCODERS = "MetaLM, Kosmos-1, X-LLM, LLaVA, MiniGPT-4, MultiInstruct, InstructBLIP"
_ADAPTED = "LoRA, LLaMA-Adapter, Flamingo, BLIP-2, mPLUG-Owl"
_ALIGNED = ("alignment-text", "alignment-short", "alignment-image")
_SAID = ("seed", "emu", "emu2")
_META = ("metaqueries", "metaqueries-bidirectional")
# Question -> answers; a branch ends with families: (name, systems of this kind, rows of the table).
TREE = (
    "Do pictures enter and leave the model?",
    {
        "no: tools see and paint": [("plug-ins", _PLUGINS, ("plugin",))],
        "they enter": [
            ("encode only", _ENCODERS, ("projector", "captions", "instructions")),
            ("light adaptation", _ADAPTED, ("lora", "adapter", "flamingo", "qformer")),
            ("referring", "Kosmos-2, Shikra, ChatSpot, GPT4RoI", ("referring",)),
        ],
        "they enter and leave": [
            ("discrete tokens", "VQ-VAE, OFA, Unified-IO, DaVinci, CM3Leon", ("discrete",)),
            ("embedding alignment", "GILL; the same with image states", _ALIGNED),
            ("image states, said", "SEED as codes; Emu, Emu2 one by one", _SAID),
            (
                "DreamLLM",
                "queries learned from the denoising loss alone",
                ("dreamllm", "dreamllm-creation"),
            ),
            ("after it", "MetaQueries: the language model stays frozen", _META),
        ],
    },
)


def _box(axis: Axes, x: float, y: float, text: str, kind: str, wide: float = WIDE) -> None:
    """A box around its middle (x, y)."""
    edge = INK if kind == DATA else "none"
    draw_box(axis, x - wide / 2, y - HIGH / 2, wide, HIGH, COLOURS[kind], text, edge=edge)


def _edge(start: tuple, end: tuple) -> tuple:
    """Where the line between the middles of two boxes leaves the first one.

    It leaves at the side, unless the boxes are one above the other.
    """
    if abs(end[0] - start[0]) > 0.1:
        return start[0] + (WIDE / 2 if end[0] > start[0] else -WIDE / 2), start[1]
    return start[0], start[1] + (HIGH / 2 if end[1] > start[1] else -HIGH / 2)


def _arrow(axis: Axes, start: tuple, end: tuple, words: str, teaches: bool) -> None:
    """An arrow between two boxes, given by their middles, with words on it."""
    (x, y), (x_end, y_end) = _edge(start, end), _edge(end, start)
    colour = GRADIENT if teaches else INK
    draw_arrow(axis, (x, y), (x_end, y_end), colour, 1.2, DASHED if teaches else "-")
    if not words:
        return
    x_text, y_text = (x + x_end) / 2, (y + y_end) / 2
    # Beside an upright arrow, over a level one, and to the left of one that falls.
    if abs(x - x_end) < 0.1:
        x_text, align = x_text + 0.08, "left"
    elif abs(y - y_end) < 0.1:
        y_text, align = y_text + 0.1, "center"
    else:
        x_text, y_text, align = x_text - 0.1, y_text - 0.02, "right"
    under = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    style = dict(fontsize=7.5, color=colour, va="center", bbox=under)
    axis.text(x_text, y_text, words, ha=align, **style)


def _gradient(axis: Axes, start: tuple, end: tuple) -> None:
    """An arrow under the boxes, back to where the gradient ends."""
    y = start[1] - HIGH / 2 - 0.07
    right, left = start[0] + WIDE / 2, end[0] - WIDE / 2
    draw_arrow(axis, (right, y), (left, y), GRADIENT, 1.2, DASHED)
    style = dict(fontsize=7.5, color=GRADIENT, ha="right", va="center")
    axis.text(right - 0.04, y - 0.08, "gradient", **style)


@figure_function
def plot_flows(flows: dict[str, str]) -> Figure:
    """How words and pictures flow through families, one diagram below the other.

    Args:
        flows: {name in `FLOWS`: its title}.

    Raises:
        ValueError: for a name that has no flow.
    """
    if missing := [name for name in flows if name not in FLOWS]:
        raise ValueError(f"no flow of {missing}; there are {', '.join(FLOWS)}")
    drawn = {name: FLOWS[name] for name in flows}
    rows = {name: 1 + max(box[1] for box in boxes.values()) for name, (boxes, _) in drawn.items()}
    columns = 1 + max(box[0] for boxes, _ in drawn.values() for box in boxes.values())
    high = 0.45 + sum(DOWN * count + BETWEEN for count in rows.values())
    figure, axis = canvas(ACROSS * (columns - 1) + WIDE + 0.3, high)
    top, used = high, set()
    for name, (boxes, arrows) in drawn.items():
        style = dict(fontsize=10, weight="bold", color=INK, va="center")
        axis.text(0.15, top - 0.15, flows[name], **style)
        middles = {
            box: (0.15 + WIDE / 2 + ACROSS * column, top - 0.3 - DOWN * (row + 0.5))
            for box, (column, row, _, _) in boxes.items()
        }
        for start, end, words in arrows:
            _arrow(axis, middles[start], middles[end], words, boxes[start][3] == TEACHER)
        for box, (_, _, text, kind) in boxes.items():
            _box(axis, *middles[box], text, kind)
            used.add(kind)
        for start, end in GRADIENTS.get(name, []):
            _gradient(axis, middles[start], middles[end])
        top -= DOWN * rows[name] + BETWEEN
    handles = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=kind)
        for kind, colour in COLOURS.items()
        if kind in used
    ]
    place = dict(loc="lower left", bbox_to_anchor=(0, 0), frameon=False)
    axis.legend(handles=handles, ncols=len(COLOURS), fontsize=8, **place)
    return figure


@figure_function
def plot_tree() -> Figure:
    """The family tree: from the question to the families, with the systems of each family."""
    question, branches = TREE
    leaves, step = sum(map(len, branches.values())), 0.56
    high = 0.35 + step * leaves
    figure, axis = canvas(9.6, high)
    axis.text(0.1, high - 0.16, question, fontsize=10, weight="bold", color=INK, va="center")
    root, y = (0.15, (high - 0.35) / 2), high - 0.35 - step / 2
    for answer, families in branches.items():
        middle = y - step * (len(families) - 1) / 2
        _branch(axis, root, (0.6, middle))
        axis.text(0.65, middle, answer, fontsize=9, color=INK, va="center")
        for name, systems, _ in families:
            _branch(axis, (0.75 + 0.069 * len(answer), middle), (2.95, y))
            _box(axis, 3.75, y, name, LEARNED if name == "DreamLLM" else FROZEN, wide=1.6)
            style = dict(fontsize=8, color=INK, va="center", linespacing=1.3)
            axis.text(4.65, y, fill(systems, 76), **style)
            y -= step
    return figure


def _branch(axis: Axes, start: tuple, end: tuple) -> None:
    """A branch that leaves to the right and arrives from the left."""
    middle = end[0] - 0.25
    xs, ys = [start[0], middle, middle, end[0]], [start[1], start[1], end[1], end[1]]
    axis.plot(xs, ys, color="#999999", linewidth=1.2)
