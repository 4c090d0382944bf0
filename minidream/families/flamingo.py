"""Flamingo (Alayrac et al. 2022): a resampler, and gated cross-attention between the frozen layers of a language model.

The picture is no part of the text. A resampler makes it a few tokens, and new layers look at them from every word. Their
gates start at 0, so that training starts from the language model as it was.
"""

import torch
from einops import repeat
from torch import Tensor, nn

from ..weights import toy
from .cross_attention import CrossAttention, SideInputFamily, feed_forward
from .family import FamilyPlan, base_model
from .samples import TEXT_KINDS

EVERY = 3  # a gated layer stands before every third layer


class Resampler(nn.Module):
    """Any number of patches to a fixed number of tokens: learned latents look at the patches and at themselves.

    Args:
        dim: width of patches and tokens.
        tokens: how many come out.
    """

    def __init__(self, dim: int, tokens: int = 16):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.look, self.think = CrossAttention(dim, dim, dim), feed_forward(dim, 4 * dim)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, patches, dim) to (batch, tokens, dim)."""
        patches = self.norm(patches)
        latents = repeat(self.latents, "tokens dim -> batch tokens dim", batch=len(patches))
        latents = latents + self.look(latents, torch.cat([patches, latents], dim=1))
        return latents + self.think(latents)


class GatedLayer(nn.Module):
    """A frozen layer, and before it a look at the picture, let in as far as two learned gates are open.

    Args:
        layer: of the language model.
        dim: its width.
        seen_dim: width of the picture's tokens.
    """

    def __init__(self, layer: nn.Module, dim: int, seen_dim: int):
        super().__init__()
        self.layer = layer
        self.norm, self.look = nn.LayerNorm(dim), CrossAttention(dim, seen_dim, seen_dim)
        self.think = feed_forward(dim, seen_dim)
        self.gates = nn.Parameter(torch.zeros(2))
        self.seen: Tensor | None = None  # (batch, tokens, seen_dim); set before each reading

    @property
    def added(self) -> list:
        """What is new and learns."""
        return [self.norm, self.look, self.think, self.gates]

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, mask=None, cache=None) -> Tensor:
        """As the layer's own; ValueError if there is not one picture per row (both numbers)."""
        if self.seen is None or len(self.seen) != len(hidden):
            raise ValueError(
                f"{len(hidden)} rows need as many pictures, and {0 if self.seen is None else len(self.seen)} are watched"
            )
        look, think = self.gates.tanh()
        hidden = hidden + look * self.look(self.norm(hidden), self.seen)
        return self.layer(hidden + think * self.think(hidden), cos, sin, mask, cache)


class Flamingo(SideInputFamily):
    """The family; its pictures go through `model.vision`, whose projector is the resampler."""

    def set_pictures(self, pictures: list) -> None:
        """Resamples one PIL image per row and shows it to every gated layer."""
        seen = self.model.vision(self.model.vision.pixels(pictures))
        for layer in self.model.llm.layers:
            if isinstance(layer, GatedLayer):
                layer.seen = seen


def flamingo(plan: FamilyPlan) -> Flamingo:
    """Resampler and gated layers learn."""
    model = base_model()
    model.vision.projector = Resampler(toy.VISION_SIZE)
    layers = model.llm.layers
    for number in range(0, len(layers), EVERY):
        layers[number] = GatedLayer(layers[number], toy.LLM_SIZE, toy.VISION_SIZE)
    added = [part for layer in layers if isinstance(layer, GatedLayer) for part in layer.added]
    return Flamingo(
        "flamingo", model, plan.recipe(2e-3), TEXT_KINDS, [model.vision.projector, *added]
    )
