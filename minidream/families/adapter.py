"""LLaMA-Adapter (Zhang et al. 2023): each layer also attends to learned prompts, through a gate.

Light adaptation: it reads pictures and writes text. The language model is frozen. The picture is
one vector, CLIP's pooled output, projected and added to the prompts, which differ from layer to
layer. The prompts have no position in the sequence: each layer makes their keys and values with its
own frozen matrices and attends to them with a separate softmax. The gates start at 0, where the
language model is unchanged. Unlike Flamingo, it sees only a summary of the picture, not its
patches.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from .cross_attention import SideInputFamily, require_one_per_row
from .family import FamilyPlan, base_model
from .samples import TEXT_KINDS

PROMPTS = 10


class AdaptedAttention(nn.Module):
    """Replaces a layer's `DotProductAttention` and adds gated attention to the prompts.

    Args:
        attention: the layer's `llm.Attention`; its frozen matrices make keys and values of the
            prompts.
        prompts: number of prompts.
    """

    def __init__(self, attention: nn.Module, prompts: int = PROMPTS):
        super().__init__()
        self.config, self.inner = attention.config, attention.attend
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        self.prompts = nn.Parameter(torch.randn(prompts, self.config.hidden_size))
        self.gate = nn.Parameter(torch.zeros(self.config.num_attention_heads))
        self.picture: Tensor | None = None  # (batch, dim); set before each forward pass

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """As `DotProductAttention.forward`.

        Raises:
            ValueError: unless one picture is set for each row of the batch (both numbers).
        """
        require_one_per_row(self.picture, len(query))
        prompts = self.prompts + rearrange(self.picture, "batch dim -> batch 1 dim")
        prompt_key = self.split_heads(self.k_proj(prompts))
        prompt_value = self.split_heads(self.v_proj(prompts))
        attended = F.scaled_dot_product_attention(query, prompt_key, prompt_value)
        gate = rearrange(self.gate.tanh(), "heads -> heads 1 1")
        return self.inner(query, key, value, mask) + gate * attended

    def split_heads(self, states: Tensor) -> Tensor:
        """Keys or values of the prompts for every query head; groups of heads share one."""
        return repeat(
            states,
            "batch prompts (heads head_dim) -> batch (heads groups) prompts head_dim",
            groups=self.config.num_attention_heads // self.config.num_key_value_heads,
            head_dim=self.config.head_dim,
        )


class Adapter(SideInputFamily):
    """The family; `model.vision.projector` projects CLIP's pooled output."""

    def set_pictures(self, pictures: list) -> None:
        """Gives every layer the projected pooled output of one PIL image per row."""
        vision = self.model.vision
        pooled = vision.tower(pixel_values=vision.pixels(pictures)).pooler_output
        projected = vision.projector(pooled)
        for layer in self.model.llm.layers:
            layer.self_attn.attend.picture = projected


def adapter(plan: FamilyPlan) -> Adapter:
    """Trains the prompts, the gates and the projector of the picture."""
    model = base_model()
    trained = [model.vision.projector]
    for layer in model.llm.layers:
        adapted = AdaptedAttention(layer.self_attn)
        layer.self_attn.attend = adapted
        trained += [adapted.prompts, adapted.gate]
    return Adapter("adapter", model, plan.recipe(4e-3), TEXT_KINDS, trained)
