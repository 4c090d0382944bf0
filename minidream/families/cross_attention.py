"""For families whose pictures enter beside the text: layers of the language model attend to them.

`CrossAttention` is also the block of the query former and of Flamingo's resampler.
"""

from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..documents import Document, Layout
from .family import Family
from .samples import Sample


class CrossAttention(nn.Module):
    """Attention from the tokens of one sequence to those of another, without positions.

    Args:
        dim: width of the sequence that the queries are made of.
        context_dim: width of the sequence that the keys and values are made of.
        inner: width of all heads together, a multiple of `heads`.
        heads: number of heads.
        causal: token i attends only to the inputs up to the i-th, in a sequence's attention to
            itself.
    """

    def __init__(
        self, dim: int, context_dim: int, inner: int, heads: int = 4, causal: bool = False
    ):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q_proj = nn.Linear(dim, inner, bias=False)
        self.k_proj = nn.Linear(context_dim, inner, bias=False)
        self.v_proj = nn.Linear(context_dim, inner, bias=False)
        self.o_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        """hidden (batch, tokens, dim) attends to context (batch, inputs, context_dim).

        Returns:
            Shape (batch, tokens, dim).
        """
        split = "batch tokens (heads head_dim) -> batch heads tokens head_dim"
        query, key, value = (
            rearrange(states, split, heads=self.heads)
            for states in (self.q_proj(hidden), self.k_proj(context), self.v_proj(context))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        merged = rearrange(mixed, "batch heads tokens head_dim -> batch tokens (heads head_dim)")
        return self.o_proj(merged)


def feed_forward(dim: int, inner: int) -> nn.Sequential:
    """A norm, then two linear layers with GELU between them."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))


class SideInputFamily(Family):
    """A family whose sequences hold no patches: its layers attend to pictures set beforehand.

    A subclass says in `set_pictures` how its layers get them.
    """

    def set_pictures(self, pictures: list) -> None:
        """Sets one PIL image for each row of the next batch."""
        raise NotImplementedError

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """As `Family.forward`, with the pictures beside the text."""
        self.set_pictures([picture for sample in batch for picture in sample.pictures])
        return super().forward(batch, generator)

    def lay_out(self, sample: Sample) -> tuple[Layout, Document]:
        """The words of a sample as one sequence."""
        return super().lay_out(without_pictures(sample))

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """As `Family.replies`, one sample at a time."""
        replies = []
        for sample in samples:
            self.set_pictures(sample.pictures)
            replies += super().replies([without_pictures(sample)])
        return replies


def without_pictures(sample: Sample) -> Sample:
    """The sample with only the words of its input."""
    return replace(sample, given=tuple(item for item in sample.given if isinstance(item, str)))


def require_one_per_row(pictures: Tensor | None, rows: int) -> None:
    """Raises ValueError, with both numbers, unless one picture is set for each row of a batch."""
    count = 0 if pictures is None else len(pictures)
    if count != rows:
        raise ValueError(f"{rows} rows need as many pictures, and {count} are set")
