"""How words and pictures flow through each family: what `family_tree.plot_flows` draws.

A flow consists of boxes on a grid and arrows between them. The colour of a box says what it is:
data (words or pictures), learned, learned apart (in a phase of training of its own), frozen, or a
teacher, whose arrow marks where the gradient starts.
"""

COLOURS = {
    "words or picture": "#FFFFFF",
    "learned": "#F6D6A8",
    "learned apart": "#FBEFD9",
    "frozen": "#D5DEE6",
    "teacher": "#F3C4D6",
}
DATA, LEARNED, APART, FROZEN, TEACHER = COLOURS


def _chain(boxes: str, words: str = "") -> list[tuple[str, str, str]]:
    """Arrows from box to box, their names in one text; `words` are written on the last arrow."""
    names = boxes.split()
    arrows = [(start, end, "") for start, end in zip(names, names[1:])]
    return [*arrows[:-1], (*arrows[-1][:2], words)]


def _reader(
    llm: str,
    projector: str = "projector",
    words: str = "as tokens",
    added: dict | None = None,
    arrows: list | None = None,
    text: str = "words",
) -> tuple[dict, list]:
    """The flow of a system that reads pictures and writes words.

    Args:
        llm: whether the language model is learned or frozen.
        projector: the box between CLIP and the language model.
        words: written on the arrow from there to the language model.
        added: further boxes.
        arrows: those from the projector on; None is one to the language model, with `words` on it.
        text: what is read and written.
    """
    boxes = {
        "picture": (0, 0, "picture", DATA),
        "clip": (1, 0, "CLIP", FROZEN),
        "projector": (2, 0, projector, LEARNED),
        "llm": (3, 1, "language model", llm),
        "words": (0, 1, text, DATA),
        "text": (4, 1, text, DATA),
        "next": (4, 0, "next word", TEACHER),
    }
    common = _chain("words llm text") + _chain("next text") + _chain("picture clip projector")
    return boxes | (added or {}), common + (arrows or _chain("projector llm", words))


def _painter(
    llm: str, queries: str, projector: str, states: str, boxes: dict, arrows: list
) -> tuple[dict, list]:
    """The flow of a system whose queries collect the conditions of a U-Net.

    Args:
        llm: whether the language model is learned or frozen.
        queries, projector, states: what is written into these boxes.
        boxes, arrows: what follows after the conditions.
    """
    common = {
        "words": (0, 1, "words, pictures", DATA),
        "llm": (1, 1, "language model", llm),
        "queries": (1, 0, queries, LEARNED),
        "projector": (2, 1, projector, LEARNED),
        "states": (3, 1, states, DATA),
    }
    return common | boxes, _chain("words llm projector states") + _chain("queries llm") + arrows


def _sayer(states: str, painted: str) -> tuple[dict, list]:
    """The flow of a system that says image states one after another.

    Args:
        states: what is read and said.
        painted: what the painter learned from.
    """
    boxes = {
        "picture": (0, 0, "picture", DATA),
        "clip": (1, 0, "CLIP", FROZEN),
        "projector": (2, 0, "projector", LEARNED),
        "words": (0, 1, "words", DATA),
        "llm": (2, 1, "language model", LEARNED),
        "said": (3, 1, f"words, {states}", DATA),
        "next": (3, 0, "next word or state", TEACHER),
        "painter": (4, 1, "U-Net", APART),
        "out": (5, 1, "picture", DATA),
        "learned": (4, 0, painted, TEACHER),
    }
    arrows = _chain("picture clip projector llm", states) + _chain("words llm said painter out")
    return boxes, arrows + _chain("next said") + _chain("learned painter")


_BY_THE_LOSS = (
    {
        "unet": (4, 1, "U-Net", FROZEN),
        "out": (5, 1, "picture", DATA),
        "loss": (5, 0, "denoising loss", TEACHER),
    },
    _chain("states unet out") + _chain("loss out"),
)
# Flow -> ({box: (column, row, text, kind)}, [(from, to, words on the arrow)]).
FLOWS = {
    "plugin": (
        {
            "given": (0, 1, 'words, "image"', DATA),
            "llm": (1, 1, "language model", LEARNED),
            "look": (2, 0, 'look(image, "…")', DATA),
            "captioner": (3, 0, "captioner", APART),
            "seen": (4, 0, "picture", DATA),
            "said": (3, 1, "words", DATA),
            "draw": (2, 2, 'draw("…")', DATA),
            "sd": (3, 2, "Stable Diffusion", FROZEN),
            "picture": (4, 2, "picture", DATA),
            "text": (1, 2, "words", DATA),
            "next": (0, 2, "next word", TEACHER),
        },
        [
            *_chain("given llm look captioner"),
            *_chain("seen captioner said llm", "as the next turn"),
            *_chain("llm draw sd picture"),
            *_chain("llm text"),
            *_chain("next text"),
        ],
    ),
    "projector": _reader(FROZEN),
    "instructions": _reader(LEARNED),
    "lora": _reader(
        FROZEN,
        added={"detour": (3, 2, "low-rank updates", LEARNED)},
        arrows=_chain("projector llm", "as tokens") + _chain("detour llm", "added to every matrix"),
    ),
    "adapter": _reader(
        FROZEN,
        "one vector",
        added={"prompts": (3, 0, "gated prompts", LEARNED)},
        arrows=_chain("projector prompts llm", "to every layer"),
    ),
    "flamingo": _reader(
        FROZEN,
        "resampler",
        added={"gates": (3, 0, "gated layers", LEARNED)},
        arrows=_chain("projector gates llm", "between its layers"),
    ),
    "qformer": _reader(FROZEN, "query former", "16 tokens"),
    "referring": _reader(LEARNED, text="words, 7 12 20 25"),
    "discrete": (
        {
            "picture": (0, 0, "picture", DATA),
            "vae": (1, 0, "VAE", FROZEN),
            "into": (2, 0, "codebook", APART),
            "words": (0, 1, "words", DATA),
            "llm": (2, 1, "language model", LEARNED),
            "text": (3, 1, "words and codes", DATA),
            "next": (3, 0, "next word or code", TEACHER),
            "out_of": (4, 1, "codebook", APART),
            "back": (4, 0, "VAE", FROZEN),
            "out": (5, 0, "picture", DATA),
        },
        [
            *_chain("picture vae into llm", "64 codes"),
            *_chain("words llm text out_of back out"),
            *_chain("next text"),
        ],
    ),
    "alignment-text": _painter(
        LEARNED,
        "dream queries",
        "projector",
        "conditions",
        {
            "clip": (3, 0, "CLIP of the caption", TEACHER),
            "unet": (4, 1, "U-Net", FROZEN),
            "out": (5, 1, "picture", DATA),
        },
        _chain("clip states", "imitate") + _chain("states unet out"),
    ),
    "alignment-image": _painter(
        LEARNED,
        "dream queries",
        "projector",
        "imitated states",
        {
            "clip": (3, 0, "CLIP of the picture", TEACHER),
            "painter": (4, 1, "U-Net", APART),
            "out": (5, 1, "picture", DATA),
        },
        _chain("clip states", "imitate") + _chain("states painter out"),
    ),
    "seed": (
        {
            "picture": (0, 0, "picture", DATA),
            "clip": (1, 0, "CLIP", FROZEN),
            "into": (2, 0, "causal query former", APART),
            "words": (0, 1, "words", DATA),
            "llm": (2, 1, "language model", LEARNED),
            "text": (3, 1, "words and codes", DATA),
            "next": (3, 0, "next word or code", TEACHER),
            "out_of": (4, 1, "reverse former", APART),
            "painter": (4, 0, "U-Net", APART),
            "out": (5, 0, "picture", DATA),
        },
        [
            *_chain("picture clip into llm", "32 codes"),
            *_chain("words llm text out_of painter out"),
            *_chain("next text"),
        ],
    ),
    "emu": _sayer("32 states", "states said, and true"),
    "emu2": _sayer("64 states", "true states"),
    "dreamllm": _painter(LEARNED, "dream queries", "projector", "conditions", *_BY_THE_LOSS),
    "metaqueries": _painter(FROZEN, "queries", "connector", "conditions", *_BY_THE_LOSS),
}
# How far back the gradient of what is painted goes: (from, to) in one row.
GRADIENTS = {
    "discrete": [("text", "llm")],
    "alignment-text": [("states", "llm")],
    "alignment-image": [("states", "llm")],
    "seed": [("text", "llm")],
    "emu": [("said", "llm")],
    "emu2": [("said", "llm")],
    "dreamllm": [("out", "llm")],
    "metaqueries": [("out", "llm")],
}
