"""Which file of a checkpoint holds which tensor, and its name there, also in older checkpoints."""

import re
from pathlib import Path

from torch import nn

from ..model import DreamLLM

PRETRAINED = Path(__file__).parents[1] / "pretrained"  # weights that ship with the package

# The parts beside the language model, each in a file of its own. Training with FSDP leaves one
# `pytorch_model.bin` that holds everything: the plugins' tensors are repeated under these prefixes.
PLUGINS = {
    "dream_embedding": "model.dream_embedding.",
    "clip_vision_embedding": "model.clip_vision_embedding.",
    "stable_diffusion_head": "stable_diffusion_head.",
}

# Buffers that some versions of transformers saved; here they are computed again, in float32.
RECOMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids")

# Until diffusers 0.18, the attention of the VAE had other names, and some of its matrices had the
# shape of 1x1 convolutions.
OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Queries(nn.Module):
    """The dream queries as a module, so that they are saved and loaded like every other part."""

    def __init__(self, dream_queries: nn.Parameter):
        super().__init__()
        self.dream_queries = dream_queries


def files_of(model: DreamLLM) -> dict[str, tuple[nn.Module, dict[str, str]]]:
    """The contents of each file: {stem of the file: (module, {its name: name in the file})}."""
    return {
        "model": (
            model.llm,
            {
                name: name if name.startswith("lm_head.") else f"model.{name}"
                for name in model.llm.state_dict()
            },
        ),
        "dream_embedding": (Queries(model.dream_queries), {"dream_queries": "dream_queries"}),
        "clip_vision_embedding": (
            model.vision,
            {name: name_in_clip_file(name) for name in model.vision.state_dict()},
        ),
        "stable_diffusion_head": (
            model.decoder,
            {name: name for name in model.decoder.state_dict()},
        ),
    }


def part_sizes(model: DreamLLM) -> dict[str, int]:
    """The number of parameters of each part, from words to pictures; no parameter is left out."""

    def count(*modules: nn.Module) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    llm, vision, decoder = model.llm, model.vision, model.decoder
    attention, tower = count(*(layer.self_attn for layer in llm.layers)), count(vision.tower)
    return {
        "words in and out": count(llm.embed_tokens, llm.lm_head),
        "LLM layers, attention": attention,
        "LLM layers, the rest": count(llm.layers, llm.norm) - attention,
        "CLIP tower": tower,
        "visual projector": count(vision) - tower,
        "dream queries": model.dream_queries.numel(),
        "condition projector": count(decoder.projector),
        "U-Net": count(decoder.unet),
        "VAE": count(decoder.vae),
    }


def name_in_clip_file(name: str) -> str:
    """The name of one of `VisionEncoder`'s tensors in the official file."""
    # transformers 5 dropped the level "vision_model." that the official files have.
    if name.startswith("tower."):
        name = name.removeprefix("tower.").removeprefix("vision_model.")
        return f"clip_vision_model.vision_model.{name}"
    return f"projector.{name}" if name.startswith("projector.") else name


def official_name(name: str) -> str | None:
    """The official name of a tensor that is called `name` in a file, which may be an older one.

    None for a buffer that is computed again.
    """
    if name.endswith(RECOMPUTED):
        return None
    if name.startswith("clip_vision_model."):
        name = name.removeprefix("clip_vision_model.").removeprefix("vision_model.")
        return f"clip_vision_model.vision_model.{name}"
    old = re.fullmatch(
        r"(vae\..*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.weight|\.bias)", name
    )
    return f"{old[1]}{OLD_VAE_ATTENTION[old[2]]}{old[3]}" if old else name
