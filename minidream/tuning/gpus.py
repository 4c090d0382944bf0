"""What the published 7B needs in each stage on 1, 8 and 64 GPUs, from counted bytes and operations.

`python -m minidream.tuning.gpus` prints the table. Nothing was measured on a GPU. The bytes are
those of `needs`. The operations are counted by torch on the meta device: of one layer, the output
layer, the U-Net, the vision tower and the VAE's encoder. How much of a GPU's peak a program reaches
is an assumption; the paper's own hours, on 128 GPUs, are beside it to compare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..model import DreamLLM
from ..weights.fake import outline_7b
from ..weights.memory import CUDA_CONTEXT, table
from .choices import choose
from .needs import Needs, empty, needs, weight_bytes

# An A800, as in the paper: bytes, and operations a second in bfloat16.
CARD, PEAK = 80e9, 312e12
REACHED = 0.4  # of the peak: what good programs reach
PAPERS_GPUS = 128
COUNTS = (1, 8, 64)
PIXELS = 512


@dataclass(frozen=True)
class StageOf7B:
    """One of the paper's stages.

    learn: as `choices.choose` takes it.
    documents: how many it learns from (paper, appendix: training details).
    positions: of a document; a context is filled with several short ones.
    pictures: to be painted in each of them.
    papers_hours: on the paper's 128 GPUs.
    """

    learn: tuple[str, ...]
    documents: int
    positions: int
    pictures: int
    papers_hours: float


STAGES = {
    "I": StageOf7B(("projectors",), 30_000_000, 512, 1, 6),
    "II": StageOf7B(("llm", "projectors"), 4_000_000, 2048, 2, 10),
    "III": StageOf7B(("llm", "projectors"), 3 * 120_000, 2048, 2, 1.5),
}


@dataclass(frozen=True)
class Plan:
    """What a stage needs on some GPUs.

    bytes: on each GPU, with one document at a time.
    at_once: documents that fit on each; 0 if it does not.
    days: of the whole stage.
    """

    bytes: int
    at_once: int
    days: float


def plan(name: str, gpus: int, card: float = CARD, speed: float = REACHED * PEAK) -> Plan:
    """What a stage needs; layers are computed again, and the weights are shared out.

    Args:
        name: one of `STAGES`.
        gpus: how many.
        card: memory of each, in bytes.
        speed: operations a second that each reaches.
    """
    stage, one = STAGES[name], one_document(name)
    weights, learning = weight_bytes(model_of(name), gpus), one.learning // gpus
    fixed, each = CUDA_CONTEXT + weights + learning, one.kept + one.logits
    at_once = max(0, int((card - fixed) // each))
    seconds = stage.documents * operations(name) / (gpus * speed)
    return Plan(fixed + each, at_once, seconds / 86_400)


@cache
def model_of(name: str) -> DreamLLM:
    """The published sizes on the meta device, with what learns in a stage chosen."""
    model = outline_7b(None).to(torch.bfloat16)
    choose(model, STAGES[name].learn)
    return model


@cache
def one_document(name: str) -> Needs:
    """What a stage needs with one document at a time on one GPU."""
    stage = STAGES[name]
    sizes = dict(positions=stage.positions, pictures=stage.pictures)
    return needs(model_of(name), rows=1, **sizes, checkpointing=True)


@cache
def operations(name: str) -> int:
    """Operations of one document in one step: two for each product that is added to another.

    A layer runs forward twice, since it is computed again. Backward, it takes as much as forward
    for its inputs, and as much again for its weights if they learn. The U-Net is not computed
    again here, and what is frozen and comes first runs once.
    """
    stage, model = STAGES[name], model_of(name)
    learns = "llm" in stage.learn
    passes = {"layers": 4 if learns else 3, "output": 3 if learns else 2, "U-Net": 2, "frozen": 1}
    counted = forward_operations(model, stage.positions, stage.pictures)
    return sum(passes[part] * count for part, count in counted.items())


def forward_operations(model: DreamLLM, positions: int, pictures: int) -> dict[str, int]:
    """Operations of one forward pass, by part.

    Each picture is read, too, as pictures in documents are.
    """
    llm, decoder, tower = model.llm, model.decoder, model.vision.tower
    config, side = llm.config, tower.config.image_size
    dtype = torch.bfloat16
    hidden = empty(1, positions, config.hidden_size, dtype=llm.layers[0].mlp.up_proj.weight.dtype)
    angles = empty(1, 1, positions, config.head_dim // 2)
    channels, *size = decoder.latent_shape
    condition = empty(1, model.queries, decoder.unet.config.cross_attention_dim, dtype=dtype)
    latents, pixels = (
        empty(1, channels, *size, dtype=dtype),
        empty(1, 3, PIXELS, PIXELS, dtype=dtype),
    )
    times, seen = (
        torch.empty(1, dtype=torch.long, device="meta"),
        empty(1, 3, side, side, dtype=dtype),
    )
    layer = counted(lambda: llm.layers[0](hidden, angles, angles))
    return {
        "layers": config.num_hidden_layers * layer,
        "output": counted(lambda: llm.lm_head(hidden)),
        "U-Net": pictures * counted(lambda: decoder.unet(latents, times, condition).sample),
        "frozen": pictures
        * (counted(lambda: tower(pixel_values=seen)) + counted(lambda: decoder.vae.encode(pixels))),
    }


@torch.no_grad()
def counted(work: Callable[[], Tensor]) -> int:
    """The operations of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def gpus_table() -> str:
    """All stages on all numbers of GPUs, in Markdown."""
    rows = []
    for name, stage in STAGES.items():
        for gpus in (*COUNTS, PAPERS_GPUS):
            found = plan(name, gpus)
            days = f"{found.days:,.1f}" if found.at_once else "–"
            papers = f"{stage.papers_hours / 24:.2f}" if gpus == PAPERS_GPUS else ""
            at_once = str(found.at_once or "none")
            rows.append([name, str(gpus), f"{found.bytes / 1e9:.0f}", at_once, days, papers])
    head = ["stage", "GPUs of 80 GB", "GB on each", "documents at once", "days", "paper, days"]
    return table(head, rows)


if __name__ == "__main__":
    print(gpus_table())
