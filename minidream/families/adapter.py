"""LLaMA-Adapter (Zhang et al. 2023): learned prompts that every layer can look at, let in by a gate that starts at 0.

The picture is one vector, CLIP's summary, projected and added to the prompts. The prompts have no place in the sequence: each
layer makes keys and values of them with its own frozen matrices, and attends to them with a softmax of their own, so that
with the gate at 0 the language model is exactly what it was.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from .cross_attention import SideInputFamily
from .family import FamilyPlan, base_model
from .samples import TEXT_KINDS

PROMPTS = 10


class AdaptedAttention(nn.Module):
    """Stands in the place of a layer's `DotProductAttention` and adds a gated look at the prompts.

    Args:
        attention: the layer's `llm.Attention`; its frozen matrices make keys and values of the prompts.
        prompts: how many.
    """

    def __init__(self, attention: nn.Module, prompts: int = PROMPTS):
        super().__init__()
        self.config, self.inner = attention.config, attention.attend
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        self.prompts = nn.Parameter(torch.randn(prompts, self.config.hidden_size))
        self.gate = nn.Parameter(torch.zeros(self.config.num_attention_heads))
        self.picture: Tensor | None = None  # (batch, dim); set before each reading

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """As `DotProductAttention.forward`; ValueError if there is not one picture per row (both numbers)."""
        if self.picture is None or len(self.picture) != len(query):
            raise ValueError(
                f"{len(query)} rows need as many pictures, and {0 if self.picture is None else len(self.picture)} are watched"
            )
        prompts = self.prompts + rearrange(self.picture, "batch dim -> batch 1 dim")
        groups = self.config.num_attention_heads // self.config.num_key_value_heads
        prompt_key, prompt_value = (
            repeat(
                proj(prompts),
                "batch prompts (heads head_dim) -> batch (heads groups) prompts head_dim",
                groups=groups,
                head_dim=self.config.head_dim,
            )
            for proj in (self.k_proj, self.v_proj)
        )
        looked = F.scaled_dot_product_attention(query, prompt_key, prompt_value)
        return (
            self.inner(query, key, value, mask)
            + rearrange(self.gate.tanh(), "heads -> heads 1 1") * looked
        )


class Adapter(SideInputFamily):
    """The family; `model.vision.projector` makes the picture's one vector."""

    def set_pictures(self, pictures: list) -> None:
        """Shows CLIP's summary of one PIL image per row to every layer."""
        vision = self.model.vision
        summary = vision.projector(vision.tower(pixel_values=vision.pixels(pictures)).pooler_output)
        for layer in self.model.llm.layers:
            layer.self_attn.attend.picture = summary


def adapter(plan: FamilyPlan) -> Adapter:
    """Prompts, gates and the picture's projector learn."""
    model = base_model()
    for layer in model.llm.layers:
        layer.self_attn.attend = AdaptedAttention(layer.self_attn)
    added = [
        part
        for layer in model.llm.layers
        for part in (layer.self_attn.attend.prompts, layer.self_attn.attend.gate)
    ]
    return Adapter(
        "adapter", model, plan.recipe(4e-3), TEXT_KINDS, [model.vision.projector, *added]
    )
