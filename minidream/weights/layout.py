"""The official layout: which file of a checkpoint holds which tensor, and under which name.

It also translates the names that older versions of the libraries used.
"""

import re

from torch import nn

from ..model import DreamLLM
from .files import PACKAGE, data_folder

PRETRAINED = PACKAGE / "pretrained"  # weights that ship with the package
# Runs of stages I to III from other seeds, on the same frozen parts as the toy.
OTHER_RUNS = ("toy-1", "toy-2")
# A tiny checkpoint that the official code wrote, with random weights; with `component_configs`.
TINY = data_folder("tiny", "tests/fixtures/tiny-a")

# The parts beside the language model, each in a file of its own. Training with FSDP leaves one
# `pytorch_model.bin` that holds everything, with the plugins' tensors repeated under these
# prefixes.
PLUGINS = {
    "dream_embedding": "model.dream_embedding.",
    "clip_vision_embedding": "model.clip_vision_embedding.",
    "stable_diffusion_head": "stable_diffusion_head.",
}
# The names of their classes in the official code.
OFFICIAL_CLASSES = {
    "dream_embedding": "DreamEmbedding",
    "clip_vision_embedding": "CLIPVisionEmbedding",
    "stable_diffusion_head": "StableDiffusionHead",
}

# Buffers that some versions stored. Here they are computed anew, in float32.
RECOMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids")

# Until diffusers 0.18 the attention of the VAE had other names, and some of its matrices had the
# shape of 1x1 convolutions.
OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

# The levels that `torch.compile` and peft add to names when they wrap a module.
WRAPPERS = re.compile(r"\b(_orig_mod|base_model\.model)\.")


class DreamQueriesModule(nn.Module):
    """Wraps the dream queries in a module, so that they are saved and loaded like other parts."""

    def __init__(self, dream_queries: nn.Parameter):
        super().__init__()
        self.dream_queries = dream_queries


def files_of(model: DreamLLM) -> dict[str, tuple[nn.Module, dict[str, str]]]:
    """The files of a checkpoint: {file stem: (module, {name in the module: name in the file})}.

    Names in files have no trace of the wrappers of `torch.compile` and of peft.
    """
    parts = {
        "model": (model.llm, name_in_llm_file),
        "dream_embedding": (DreamQueriesModule(model.dream_queries), str),
        "clip_vision_embedding": (model.vision, name_in_clip_file),
        "stable_diffusion_head": (model.decoder, str),
    }
    return {
        stem: (module, {name: name_in_file(WRAPPERS.sub("", name)) for name in module.state_dict()})
        for stem, (module, name_in_file) in parts.items()
    }


def part_sizes(model: DreamLLM) -> dict[str, int]:
    """The number of parameters of each part of a model; they add up to all of its parameters."""

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


def name_in_llm_file(name: str) -> str:
    """The official name of one of the tensors of `LLM`."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def name_in_clip_file(name: str) -> str:
    """The official name of one of the tensors of `VisionEncoder`."""
    if name.startswith("tower."):
        return name_in_clip_tower(name.removeprefix("tower."))
    return f"projector.{name}" if name.startswith("projector.") else name


def name_in_clip_tower(name: str) -> str:
    """The official name of a tensor of the CLIP tower.

    transformers 5 dropped the level "vision_model." that the official files have.
    """
    return f"clip_vision_model.vision_model.{name.removeprefix('vision_model.')}"


def official_name(name: str) -> str | None:
    """The official name of a tensor that some version stored as `name`.

    None for a buffer that is computed anew.
    """
    if name.endswith(RECOMPUTED):
        return None
    if name.startswith("clip_vision_model."):
        return name_in_clip_tower(name.removeprefix("clip_vision_model."))
    old = re.fullmatch(
        r"(vae\..*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.weight|\.bias)", name
    )
    return f"{old[1]}{OLD_VAE_ATTENTION[old[2]]}{old[3]}" if old else name
