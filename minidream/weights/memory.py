"""What the published weights take: bytes of each part and precision, and what fits on which card.

The sizes are those of the configs that ship with the package; nothing is loaded. What a pass needs
beside the weights was counted tensor by tensor on the meta device, where tensors have a size but no
memory; `tests/test_weights_memory.py` counts it again. Kernels that need room for themselves, and
memory that torch's allocator holds back, are not counted, and nothing here was measured on a card.
"""

import math
from collections.abc import Iterable
from functools import cache

from ..model import DreamLLM
from .fake import outline_7b
from .layout import files_of
from .quantizing import FORMS, is_quantized, packed_bytes

PRECISIONS = ("float32", "bfloat16", *FORMS)
# Bytes of a number that is not packed.
ITEMSIZE = {precision: 4 if precision == "float32" else 2 for precision in PRECISIONS}
CARDS = (8, 12, 16, 24, 48, 80)  # GB of 10^9 bytes; a card of "8 GB" has a little more
# The files of a checkpoint by their stems, and what they hold.
FILES = {
    "model": "language model",
    "clip_vision_embedding": "CLIP tower, visual projector",
    "stable_diffusion_head": "VAE, U-Net, condition projector",
    "dream_embedding": "dream queries",
}
# What a process takes on a card before it has any tensor: CUDA's context and its libraries.
CUDA_CONTEXT = 500_000_000

# What is done with the weights. The sizes are chosen large, so that what fits does fit.
POSITIONS = {"dream": 512, "attention": 2048, "chat": 2048, "tuning": 1024}
USES = {
    "load": "the weights, and nothing else",
    "dream": "a picture of 512x512 pixels, with guidance, after a prompt of up to "
    f"{POSITIONS['dream']} positions",
    "attention": "`probe.dream_attention` over a document that fills the context, "
    f"{POSITIONS['attention']:,} positions",
    "chat": "an answer; keys and values are kept for the whole context, "
    f"{POSITIONS['chat']:,} positions",
    "tuning": "a LoRA of rank 8 on `q_proj` and `v_proj`, with AdamW: a document of "
    f"{POSITIONS['tuning']:,} positions and one picture to be painted at a time",
}
RANK = 8

# Bytes in bfloat16 that are in use at once, at most, in one pass without gradients.
LAYER_PER_POSITION = 82_432  # a layer of the language model
UNET_OF_TWO = 136_321_280  # the U-Net, for a picture and its null condition
VAE_DECODER = 402_685_952  # one picture of 512x512 pixels
# Bytes that a pass keeps for the backward pass, in bfloat16; the weights are not counted.
KEPT_PER_LAYER_AND_POSITION = 164_936  # with a LoRA on two of the seven matrices
KEPT_BY_UNET = 692_075_264  # one picture; the gradient of its condition


@cache
def outline() -> DreamLLM:
    """A model of the published sizes on the meta device."""
    return outline_7b(None)


def file_sizes() -> dict[str, tuple[int, int]]:
    """{stem of a file: (tensors, numbers)}, as the official code writes them.

    The buffers that some versions store beside them are not counted.
    """
    states = {stem: module.state_dict() for stem, (module, _) in files_of(outline()).items()}
    return {
        stem: (len(state), sum(tensor.numel() for tensor in state.values()))
        for stem, state in states.items()
    }


def weight_bytes(precision: str, device: str = "cuda") -> dict[str, int]:
    """{stem of a file: the bytes of what it holds, once it is loaded}.

    Args:
        precision: one of `PRECISIONS`.
        device: "cpu" or "cuda"; int4 differs a little.
    """

    def size(name: str, shape: tuple[int, ...]) -> int:
        if precision in FORMS and is_quantized(name, shape):
            return packed_bytes(shape, precision, ITEMSIZE[precision], device)
        return math.prod(shape) * ITEMSIZE[precision]

    return {
        stem: sum(
            size(names[name], tuple(tensor.shape)) for name, tensor in module.state_dict().items()
        )
        for stem, (module, names) in files_of(outline()).items()
    }


def layer_matrices() -> list[int]:
    """How many numbers each matrix of the language model's layers has."""
    return [each.numel() for each in outline().llm.layers.parameters() if each.dim() == 2]


def work_bytes(use: str, precision: str) -> int | None:
    """The bytes that a use needs beside the weights; None if it does not work in a precision.

    Args:
        use: one of `USES`.
        precision: one of `PRECISIONS`.
    """
    if use == "load":
        return 0
    config, itemsize = outline().llm.config, ITEMSIZE[precision]
    positions, wider = POSITIONS[use], itemsize // 2
    layer = LAYER_PER_POSITION * positions * wider
    if precision == "int8":  # one matrix at a time is unpacked
        layer += max(layer_matrices()) * itemsize
    if use == "dream":
        return max(layer, UNET_OF_TWO * wider, VAE_DECODER * wider)
    if use == "attention":
        # Scores and weights of one layer in float32, on their way to the CPU.
        rows = outline().dream_queries.shape[1] * config.num_attention_heads
        return layer + 2 * rows * positions * 4
    if use == "chat":
        width = config.num_key_value_heads * config.head_dim
        return layer + 2 * config.num_hidden_layers * width * positions * itemsize
    return tuning_bytes(precision)


def tuning_bytes(precision: str) -> int | None:
    """The bytes that a step of a LoRA needs beside the weights; None if there is no gradient."""
    if precision == "int4":
        return None
    config, itemsize = outline().llm.config, ITEMSIZE[precision]
    layers, positions = config.num_hidden_layers, POSITIONS["tuning"]
    # Two matrices per layer, each with two small ones. In float32: weight, gradient, two moments.
    lora = layers * 2 * 2 * RANK * config.hidden_size * 4 * 4
    kept = KEPT_PER_LAYER_AND_POSITION * layers * positions + KEPT_BY_UNET
    # Logits in float32, their softmax and their gradient.
    logits = 3 * positions * config.vocab_size * 4
    # Each unpacked matrix is kept for the backward pass.
    unpacked = sum(layer_matrices()) * itemsize if precision == "int8" else 0
    return lora + kept * (itemsize // 2) + logits + unpacked


def needed_bytes(use: str, precision: str) -> int | None:
    """All bytes that a use takes on a card, CUDA's own included; None if it does not work."""
    work = work_bytes(use, precision)
    return None if work is None else sum(weight_bytes(precision).values()) + work + CUDA_CONTEXT


def fitting(use: str, card: int) -> str | None:
    """The most exact precision in which a use fits on a card; None if none does.

    Args:
        use: one of `USES`.
        card: its memory, GB.
    """
    for precision in PRECISIONS:
        needed = needed_bytes(use, precision)
        if needed is not None and needed <= card * 1e9:
            return precision
    return None


# --------------------------------------------------------------------------------------------------
# As tables


def table(head: Iterable[str], rows: Iterable[Iterable[str]], left: int = 1) -> str:
    """A table in Markdown, all columns but the first `left` ones aligned to the right."""
    head = list(head)
    rule = "|".join(["---"] * left + ["--:"] * (len(head) - left))
    lines = [f"| {' | '.join(row)} |" for row in [head, *rows]]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def files_table() -> str:
    """What each file holds, and its size as it is stored."""
    rows = [
        [f"`{stem}`", FILES[stem], f"{tensors:,}", f"{numbers:,}"]
        + [f"{numbers * size / 1e9:.3f}" for size in (2, 4)]
        for stem, (tensors, numbers) in file_sizes().items()
    ]
    return table(["file", "holds", "tensors", "numbers", "bfloat16, GB", "float32, GB"], rows, 2)


def sizes_table() -> str:
    """The bytes of the weights in memory, by file and precision."""
    sizes = {precision: weight_bytes(precision) for precision in PRECISIONS}
    rows = [
        [FILES[stem], *(f"{sizes[precision][stem] / 1e9:.2f}" for precision in PRECISIONS)]
        for stem in files_of(outline())
    ]
    total = [f"{sum(sizes[precision].values()) / 1e9:.2f}" for precision in PRECISIONS]
    return table(["in memory, GB", *PRECISIONS], [*rows, ["**all**", *total]])


def needs_table() -> str:
    """What each use takes on a card, by precision."""
    rows = []
    for use in USES:
        needed = [needed_bytes(use, precision) for precision in PRECISIONS]
        rows.append([use, *("no gradient" if n is None else f"{n / 1e9:.1f}" for n in needed)])
    return table(["on a card, GB", *PRECISIONS], rows)


def fits_table() -> str:
    """The most exact precision in which each use fits on each card."""
    rows = [[use, *(fitting(use, card) or "–" for card in CARDS)] for use in USES]
    return table(["", *(f"{card} GB" for card in CARDS)], rows)
