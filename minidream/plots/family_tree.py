"""The families drawn: the tree of them all, and for each how words and pictures flow, what learns, and who teaches.

A flow is boxes on a grid and arrows between them. Colours say what a box is: given or made (words, pictures), learned, frozen, or
a teacher, whose dashed arrow is where the gradient starts.
"""

from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import INK, canvas, draw_arrow, draw_box, figure_function

COLOURS = {
    "words or picture": "#FFFFFF",
    "learned": "#F6D6A8",
    "learned before": "#FBEFD9",
    "frozen": "#D5DEE6",
    "teacher": "#F3C4D6",
}
TAUGHT, DASHED = "#C2487E", (0, (3, 2))
WIDE, HIGH = 1.42, 0.44  # inches of a box
ACROSS, DOWN = 1.78, 0.68  # inches from one to the next
BETWEEN = 0.42  # inches between two flows

# Flow -> ({box: (column, row, text, kind)}, [(from, to, words on the arrow)]). An arrow from a teacher is dashed.
DATA, LEARNED, BEFORE, FROZEN, TEACHER = COLOURS
LOOK = {"picture": (0, 0, "picture", DATA), "clip": (1, 0, "CLIP", FROZEN)}
TELL = {
    "words": (0, 1, "words", DATA),
    "text": (4, 1, "words", DATA),
    "next": (4, 0, "next word", TEACHER),
}
TOLD = [("picture", "clip", ""), ("words", "llm", ""), ("llm", "text", ""), ("next", "text", "")]
FLOWS = {
    "plugin": (
        {
            "given": (0, 1, 'words, "image"', DATA),
            "llm": (1, 1, "language model", LEARNED),
            "look": (2, 0, 'look(image, "…")', DATA),
            "captioner": (3, 0, "captioner", BEFORE),
            "seen": (4, 0, "picture", DATA),
            "said": (3, 1, "words", DATA),
            "draw": (2, 2, 'draw("…")', DATA),
            "sd": (3, 2, "Stable Diffusion", FROZEN),
            "picture": (4, 2, "picture", DATA),
            "text": (1, 2, "words", DATA),
            "next": (0, 2, "next word", TEACHER),
        },
        [
            ("given", "llm", ""),
            ("llm", "look", ""),
            ("look", "captioner", ""),
            ("seen", "captioner", ""),
            ("captioner", "said", ""),
            ("said", "llm", "as the next turn"),
            ("llm", "draw", ""),
            ("draw", "sd", ""),
            ("sd", "picture", ""),
            ("llm", "text", ""),
            ("next", "text", ""),
        ],
    ),
    "projector": (
        {
            **LOOK,
            "projector": (2, 0, "projector", LEARNED),
            "llm": (3, 1, "language model", FROZEN),
            **TELL,
        },
        [*TOLD, ("clip", "projector", ""), ("projector", "llm", "as tokens")],
    ),
    "instructions": (
        {
            **LOOK,
            "projector": (2, 0, "projector", LEARNED),
            "llm": (3, 1, "language model", LEARNED),
            **TELL,
        },
        [*TOLD, ("clip", "projector", ""), ("projector", "llm", "as tokens")],
    ),
    "lora": (
        {
            **LOOK,
            "projector": (2, 0, "projector", LEARNED),
            "llm": (3, 1, "language model", FROZEN),
            "detour": (3, 2, "thin detours", LEARNED),
            **TELL,
        },
        [
            *TOLD,
            ("clip", "projector", ""),
            ("projector", "llm", "as tokens"),
            ("detour", "llm", "added to every matrix"),
        ],
    ),
    "adapter": (
        {
            **LOOK,
            "projector": (2, 0, "one vector", LEARNED),
            "prompts": (3, 0, "gated prompts", LEARNED),
            "llm": (3, 1, "language model", FROZEN),
            **TELL,
        },
        [
            *TOLD,
            ("clip", "projector", ""),
            ("projector", "prompts", ""),
            ("prompts", "llm", "every layer looks"),
        ],
    ),
    "flamingo": (
        {
            **LOOK,
            "projector": (2, 0, "resampler", LEARNED),
            "gates": (3, 0, "gated layers", LEARNED),
            "llm": (3, 1, "language model", FROZEN),
            **TELL,
        },
        [
            *TOLD,
            ("clip", "projector", ""),
            ("projector", "gates", ""),
            ("gates", "llm", "between its layers"),
        ],
    ),
    "qformer": (
        {
            **LOOK,
            "projector": (2, 0, "query former", LEARNED),
            "llm": (3, 1, "language model", FROZEN),
            **TELL,
        },
        [*TOLD, ("clip", "projector", ""), ("projector", "llm", "16 tokens")],
    ),
    "referring": (
        {
            **LOOK,
            "projector": (2, 0, "projector", LEARNED),
            "llm": (3, 1, "language model", LEARNED),
            **TELL,
            "words": (0, 1, "words, 7 12 20 25", DATA),
            "text": (4, 1, "words, 7 12 20 25", DATA),
        },
        [*TOLD, ("clip", "projector", ""), ("projector", "llm", "as tokens")],
    ),
    "discrete": (
        {
            "picture": (0, 0, "picture", DATA),
            "vae": (1, 0, "VAE", FROZEN),
            "into": (2, 0, "codebook", BEFORE),
            "words": (0, 1, "words", DATA),
            "llm": (2, 1, "language model", LEARNED),
            "text": (3, 1, "words and codes", DATA),
            "next": (3, 0, "next word or code", TEACHER),
            "out_of": (4, 1, "codebook", BEFORE),
            "back": (4, 0, "VAE", FROZEN),
            "out": (5, 0, "picture", DATA),
        },
        [
            ("picture", "vae", ""),
            ("vae", "into", ""),
            ("into", "llm", "64 codes"),
            ("words", "llm", ""),
            ("llm", "text", ""),
            ("text", "out_of", ""),
            ("out_of", "back", ""),
            ("back", "out", ""),
            ("next", "text", ""),
        ],
    ),
    "alignment-text": (
        {
            "words": (0, 1, "words, pictures", DATA),
            "llm": (1, 1, "language model", LEARNED),
            "queries": (1, 0, "dream queries", LEARNED),
            "projector": (2, 1, "projector", LEARNED),
            "states": (3, 1, "conditions", DATA),
            "clip": (3, 0, "CLIP of the caption", TEACHER),
            "unet": (4, 1, "U-Net", FROZEN),
            "out": (5, 1, "picture", DATA),
        },
        [
            ("words", "llm", ""),
            ("queries", "llm", ""),
            ("llm", "projector", ""),
            ("projector", "states", ""),
            ("clip", "states", "be like these"),
            ("states", "unet", ""),
            ("unet", "out", ""),
        ],
    ),
    "alignment-image": (
        {
            "words": (0, 1, "words, pictures", DATA),
            "llm": (1, 1, "language model", LEARNED),
            "queries": (1, 0, "dream queries", LEARNED),
            "projector": (2, 1, "projector", LEARNED),
            "states": (3, 1, "imitated states", DATA),
            "clip": (3, 0, "CLIP of the picture", TEACHER),
            "decoder": (4, 1, "linear decoder", LEARNED),
            "loss": (4, 0, "denoising loss", TEACHER),
            "unet": (5, 1, "U-Net", FROZEN),
            "out": (5, 0, "picture", DATA),
        },
        [
            ("words", "llm", ""),
            ("queries", "llm", ""),
            ("llm", "projector", ""),
            ("projector", "states", ""),
            ("clip", "states", "be like these"),
            ("states", "decoder", ""),
            ("decoder", "unet", ""),
            ("unet", "out", ""),
            ("loss", "out", ""),
        ],
    ),
    "dreamllm": (
        {
            "words": (0, 1, "words, pictures", DATA),
            "llm": (1, 1, "language model", LEARNED),
            "queries": (1, 0, "dream queries", LEARNED),
            "projector": (2, 1, "projector", LEARNED),
            "states": (3, 1, "conditions", DATA),
            "unet": (4, 1, "U-Net", FROZEN),
            "out": (5, 1, "picture", DATA),
            "loss": (5, 0, "denoising loss", TEACHER),
        },
        [
            ("words", "llm", ""),
            ("queries", "llm", ""),
            ("llm", "projector", ""),
            ("projector", "states", ""),
            ("states", "unet", ""),
            ("unet", "out", ""),
            ("loss", "out", ""),
        ],
    ),
    "metaqueries": (
        {
            "words": (0, 1, "words, pictures", DATA),
            "llm": (1, 1, "language model", FROZEN),
            "queries": (1, 0, "queries", LEARNED),
            "projector": (2, 1, "connector", LEARNED),
            "states": (3, 1, "conditions", DATA),
            "unet": (4, 1, "U-Net", FROZEN),
            "out": (5, 1, "picture", DATA),
            "loss": (5, 0, "denoising loss", TEACHER),
        },
        [
            ("words", "llm", ""),
            ("queries", "llm", ""),
            ("llm", "projector", ""),
            ("projector", "states", ""),
            ("states", "unet", ""),
            ("unet", "out", ""),
            ("loss", "out", ""),
        ],
    ),
}

# How far back the gradient of what is painted goes: (from, to) in one row.
GRADIENTS = {
    "discrete": [("text", "llm")],
    "alignment-text": [("states", "llm")],
    "alignment-image": [("states", "llm"), ("unet", "decoder")],
    "dreamllm": [("out", "llm")],
    "metaqueries": [("out", "llm")],
}

# Question -> answers; a family ends a branch: (name, systems it stands for, rows of the table).
TREE = (
    "Do pictures enter and leave the model?",
    {
        "no: tools see and paint": [
            (
                "plug-ins",
                "Visual ChatGPT, VisProg, TaskMatrix.AI, HuggingGPT, GPT4Tools, MM-ReAct, ViperGPT",
                ("plugin",),
            )
        ],
        "they enter": [
            (
                "encode only",
                "MetaLM, Kosmos-1, X-LLM, LLaVA, MiniGPT-4, MultiInstruct, InstructBLIP",
                ("projector", "captions", "instructions"),
            ),
            (
                "light adaptation",
                "LoRA, LLaMA-Adapter, Flamingo, BLIP-2, mPLUG-Owl",
                ("lora", "adapter", "flamingo", "qformer"),
            ),
            ("referring", "Kosmos-2, Shikra, ChatSpot, GPT4RoI", ("referring",)),
        ],
        "they enter and leave": [
            ("discrete tokens", "VQ-VAE, OFA, Unified-IO, DaVinci, CM3Leon", ("discrete",)),
            (
                "embedding alignment",
                "GILL, SEED, Emu",
                ("alignment-text", "alignment-short", "alignment-image"),
            ),
            (
                "DreamLLM",
                "queries taught by the denoising loss alone",
                ("dreamllm", "dreamllm-creation"),
            ),
            (
                "after it",
                "MetaQueries: the language model stays frozen",
                ("metaqueries", "metaqueries-bidirectional"),
            ),
        ],
    },
)


def _box(axis: Axes, x: float, y: float, text: str, kind: str, wide: float = WIDE) -> None:
    """A box around its middle (x, y)."""
    draw_box(
        axis,
        x - wide / 2,
        y - HIGH / 2,
        wide,
        HIGH,
        COLOURS[kind],
        text,
        edge=INK if kind == DATA else "none",
    )


def _edge(start: tuple, end: tuple) -> tuple:
    """Where the line from one box's middle to another's leaves the first: at its side, unless they stand above one another."""
    if abs(end[0] - start[0]) > 0.1:
        return start[0] + (WIDE / 2 if end[0] > start[0] else -WIDE / 2), start[1]
    return start[0], start[1] + (HIGH / 2 if end[1] > start[1] else -HIGH / 2)


def _arrow(axis: Axes, start: tuple, end: tuple, words: str, teaches: bool) -> None:
    """An arrow between two boxes, given by their middles, with words on it."""
    (x, y), (x_end, y_end) = _edge(start, end), _edge(end, start)
    colour = TAUGHT if teaches else INK
    draw_arrow(axis, (x, y), (x_end, y_end), colour, 1.2, DASHED if teaches else "-")
    if words:
        # Beside an upright arrow, over a level one, and to the left of one that falls.
        aside, above, align = (
            (0.08, 0, "left")
            if abs(x - x_end) < 0.1
            else (0, 0.1, "center")
            if abs(y - y_end) < 0.1
            else (-0.1, -0.02, "right")
        )
        axis.text(
            (x + x_end) / 2 + aside,
            (y + y_end) / 2 + above,
            words,
            fontsize=7.5,
            color=colour,
            ha=align,
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )


def _gradient(axis: Axes, start: tuple, end: tuple) -> None:
    """An arrow under the boxes, back to where the gradient ends."""
    height = start[1] - HIGH / 2 - 0.07
    draw_arrow(
        axis, (start[0] + WIDE / 2, height), (end[0] - WIDE / 2, height), TAUGHT, 1.2, DASHED
    )
    axis.text(
        start[0] + WIDE / 2 - 0.04,
        height - 0.08,
        "gradient",
        fontsize=7.5,
        color=TAUGHT,
        ha="right",
        va="center",
    )


@figure_function
def plot_flows(flows: dict[str, str]) -> Figure:
    """How words and pictures flow through families, one under another.

    Args:
        flows: {name in `FLOWS`: its title}.

    Raises:
        ValueError: for a name that has no flow.
    """
    if missing := [name for name in flows if name not in FLOWS]:
        raise ValueError(f"no flow of {missing}; there are {', '.join(FLOWS)}")
    rows = {name: 1 + max(row for _, row, _, _ in FLOWS[name][0].values()) for name in flows}
    columns = 1 + max(column for name in flows for column, _, _, _ in FLOWS[name][0].values())
    wide, high = (
        ACROSS * (columns - 1) + WIDE + 0.3,
        0.45 + sum(DOWN * count + BETWEEN for count in rows.values()),
    )
    sheet, axis = canvas(wide, high)
    top = high
    for name, title in flows.items():
        boxes, arrows = FLOWS[name]
        axis.text(0.15, top - 0.15, title, fontsize=10, weight="bold", color=INK, va="center")
        places = {
            box: (0.15 + WIDE / 2 + ACROSS * column, top - 0.3 - DOWN * (row + 0.5))
            for box, (column, row, _, _) in boxes.items()
        }
        for start, end, words in arrows:
            _arrow(axis, places[start], places[end], words, boxes[start][3] == TEACHER)
        for box, (_, _, text, kind) in boxes.items():
            _box(axis, *places[box], text, kind)
        for start, end in GRADIENTS.get(name, []):
            _gradient(axis, places[start], places[end])
        top -= DOWN * rows[name] + BETWEEN
    used = {kind for name in flows for *_, kind in FLOWS[name][0].values()}
    axis.legend(
        handles=[
            Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=kind)
            for kind, colour in COLOURS.items()
            if kind in used
        ],
        loc="lower left",
        ncols=len(COLOURS),
        fontsize=8,
        frameon=False,
        bbox_to_anchor=(0, 0),
    )
    return sheet


@figure_function
def plot_tree() -> Figure:
    """The family tree: from the question to the families and the systems that each stands for."""
    question, branches = TREE
    leaves = sum(map(len, branches.values()))
    wide, step = 9.6, 0.56
    high = 0.35 + step * leaves
    sheet, axis = canvas(wide, high)
    axis.text(0.1, high - 0.16, question, fontsize=10, weight="bold", color=INK, va="center")
    root, y = (0.15, (high - 0.35) / 2), high - 0.35 - step / 2
    for answer, families in branches.items():
        middle = y - step * (len(families) - 1) / 2
        _branch(axis, root, (0.6, middle))
        axis.text(0.65, middle, answer, fontsize=9, color=INK, va="center")
        for name, systems, _ in families:
            _branch(axis, (0.75 + 0.069 * len(answer), middle), (2.95, y))
            _box(axis, 3.75, y, name, LEARNED if name == "DreamLLM" else FROZEN, wide=1.6)
            axis.text(
                4.65, y, fill(systems, 76), fontsize=8, color=INK, va="center", linespacing=1.3
            )
            y -= step
    return sheet


def _branch(axis: Axes, start: tuple, end: tuple) -> None:
    """A branch that leaves to the right and arrives from the left."""
    middle = end[0] - 0.25
    axis.plot(
        [start[0], middle, middle, end[0]],
        [start[1], start[1], end[1], end[1]],
        color="#999999",
        linewidth=1.2,
    )
