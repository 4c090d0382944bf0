"""Flamingo (Alayrac et al. 2022): gated cross-attention between the layers of a frozen LLM.

Light adaptation: it reads pictures and writes text. The picture is not part of the sequence: a
resampler reduces CLIP's patches to a few tokens, and new layers let every word attend to them.
The gates of the new layers start at 0, so that training starts from the unchanged language model.
"""

import torch
from einops import repeat
from torch import Tensor, nn

from ..llm import Cache
from ..weights import toy
from .cross_attention import CrossAttention, SideInputFamily, feed_forward, require_one_per_row
from .family import FamilyPlan, base_model
from .samples import TEXT_KINDS

EVERY = 3  # a gated layer precedes every third layer, starting with the first


class Resampler(nn.Module):
    """Reduces any number of patches to a fixed number of tokens.

    Learned latents attend to the patches and to themselves.

    Args:
        dim: width of patches and tokens.
        tokens: number of tokens that come out.
    """

    def __init__(self, dim: int, tokens: int = 16):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.cross_attention = CrossAttention(dim, dim, dim)
        self.feed_forward = feed_forward(dim, 4 * dim)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, patches, dim) to (batch, tokens, dim)."""
        patches = self.norm(patches)
        latents = repeat(self.latents, "tokens dim -> batch tokens dim", batch=len(patches))
        context = torch.cat([patches, latents], dim=1)
        latents = latents + self.cross_attention(latents, context)
        return latents + self.feed_forward(latents)


class GatedLayer(nn.Module):
    """A frozen layer of the language model, preceded by gated cross-attention to the picture.

    Args:
        layer: of the language model.
        dim: its width.
        context_dim: width of the picture's tokens.
    """

    def __init__(self, layer: nn.Module, dim: int, context_dim: int):
        super().__init__()
        self.layer = layer
        self.norm = nn.LayerNorm(dim)
        self.cross_attention = CrossAttention(dim, context_dim, context_dim)
        self.feed_forward = feed_forward(dim, context_dim)
        self.gates = nn.Parameter(torch.zeros(2))
        self.picture: Tensor | None = None  # (batch, tokens, context_dim); set before each pass

    @property
    def new_parts(self) -> list:
        """What is new in this layer and learns."""
        return [self.norm, self.cross_attention, self.feed_forward, self.gates]

    def forward(
        self,
        hidden: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """As `llm.Layer.forward`.

        Raises:
            ValueError: unless one picture is set for each row of the batch (both numbers).
        """
        require_one_per_row(self.picture, len(hidden))
        attention_gate, feed_forward_gate = self.gates.tanh()
        attended = self.cross_attention(self.norm(hidden), self.picture)
        hidden = hidden + attention_gate * attended
        hidden = hidden + feed_forward_gate * self.feed_forward(hidden)
        return self.layer(hidden, cos, sin, mask, cache)


class Flamingo(SideInputFamily):
    """The family; its pictures go through `model.vision`, whose projector is the resampler."""

    def set_pictures(self, pictures: list) -> None:
        """Gives every gated layer the resampled tokens of one PIL image per row."""
        tokens = self.model.vision(self.model.vision.pixels(pictures))
        for layer in gated_layers(self.model.llm):
            layer.picture = tokens


def gated_layers(llm: nn.Module) -> list[GatedLayer]:
    """The layers of a language model that attend to the picture."""
    return [layer for layer in llm.layers if isinstance(layer, GatedLayer)]


def flamingo(plan: FamilyPlan) -> Flamingo:
    """Trains the resampler and the gated layers."""
    model = base_model()
    model.vision.projector = Resampler(toy.VISION_SIZE)
    layers = model.llm.layers
    for index in range(0, len(layers), EVERY):
        layers[index] = GatedLayer(layers[index], toy.LLM_SIZE, toy.VISION_SIZE)
    new_parts = [part for layer in gated_layers(model.llm) for part in layer.new_parts]
    trained = [model.vision.projector, *new_parts]
    return Flamingo("flamingo", model, plan.recipe(2e-3), TEXT_KINDS, trained)
