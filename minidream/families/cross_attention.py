"""Looking at a picture by cross-attention: the one block that resampler, query former and gated layers are made of.

And `SideInputFamily`, for families whose pictures do not stand among the words: they see them while they read.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .family import Family
from .samples import Sample


class CrossAttention(nn.Module):
    """Attention from one sequence to another, without positions.

    Args:
        dim: width of the sequence that looks.
        seen_dim: width of the sequence that is looked at.
        inner: width of all heads together; a multiple of `heads`.
        heads: how many.
    """

    def __init__(self, dim: int, seen_dim: int, inner: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(seen_dim, inner, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """hidden (batch, tokens, dim) and seen (batch, inputs, seen_dim) to (batch, tokens, dim)."""
        split = "batch tokens (heads head_dim) -> batch heads tokens head_dim"
        query, key, value = (
            rearrange(states, split, heads=self.heads)
            for states in (self.q_proj(hidden), self.k_proj(seen), self.v_proj(seen))
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.o_proj(
            rearrange(mixed, "batch heads tokens head_dim -> batch tokens (heads head_dim)")
        )


def feed_forward(dim: int, inner: int) -> nn.Sequential:
    """Norm and two layers with GELU between them."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))


class SideInputFamily(Family):
    """A family whose text has no place for patches. Before it reads, `set_pictures` gives its layers the pictures to look at."""

    def set_pictures(self, pictures: list) -> None:
        """Lets the layers see one PIL image for each row of the next batch."""
        raise NotImplementedError

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """As `Family.forward`, on the words alone."""
        self.set_pictures([picture for sample in batch for picture in sample.pictures])
        return super().forward(batch, generator)

    def lay_out(self, sample: Sample):
        """The words of a sample."""
        return super().lay_out(without_pictures(sample))

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """As `Family.replies`, one sample after another."""
        said = []
        for sample in samples:
            self.set_pictures(sample.pictures)
            said += super().replies([without_pictures(sample)])
        return said


def without_pictures(sample: Sample) -> Sample:
    """A sample with only its words given."""
    return Sample(
        sample.kind,
        tuple(item for item in sample.given if isinstance(item, str)),
        sample.reply,
        sample.scenes,
        sample.expected,
        sample.follow_ups,
    )
