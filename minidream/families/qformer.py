"""The query former of BLIP-2 (Li et al. 2023) and mPLUG-Owl's visual abstractor (Ye et al. 2023), on a frozen language model.

A few learned queries look at all patches, layer by layer, and become the picture's tokens: the language model reads 16
in the place of 64. BLIP-2 first trains its queries on pictures and captions without the language model; that stage is
left out here.
"""

import torch
from einops import repeat
from torch import Tensor, nn

from ..vision import VisionEncoder
from ..weights import toy
from .cross_attention import CrossAttention, feed_forward
from .family import Family, FamilyPlan, base_model
from .samples import TEXT_KINDS

TOKENS = 16


class QueryLayer(nn.Module):
    """Queries look at one another, then at the patches, then think."""

    def __init__(self, dim: int, seen_dim: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.among, self.at_patches = (
            CrossAttention(dim, dim, dim),
            CrossAttention(dim, seen_dim, dim),
        )
        self.think = feed_forward(dim, 4 * dim)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """queries (batch, tokens, dim), patches (batch, patches, seen_dim) to the shape of queries."""
        normed = self.norms[0](queries)
        queries = queries + self.among(normed, normed)
        queries = queries + self.at_patches(self.norms[1](queries), patches)
        return queries + self.think(queries)


class QueryFormer(nn.Module):
    """Patches to a few tokens.

    Args:
        dim: width of patches and queries.
        llm_dim: width of the tokens.
        tokens: how many queries.
        layers: how many layers.
    """

    def __init__(self, dim: int, llm_dim: int, tokens: int = TOKENS, layers: int = 2):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(QueryLayer(dim, dim) for _ in range(layers))
        self.out = nn.Linear(dim, llm_dim)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, patches, dim) to (batch, tokens, llm_dim)."""
        patches = self.norm(patches)
        queries = repeat(self.queries, "tokens dim -> batch tokens dim", batch=len(patches))
        for layer in self.layers:
            queries = layer(queries, patches)
        return self.out(queries)


class FewTokens(VisionEncoder):
    """A vision encoder whose projector gives fewer tokens than there are patches."""

    @property
    def patches(self) -> int:
        """Positions that a picture takes in the sequence."""
        return len(self.projector.queries)


def qformer(plan: FamilyPlan) -> Family:
    """The query former learns, the language model reads its tokens as it is."""
    model = base_model()
    model.vision = FewTokens(model.vision.tower, toy.LLM_SIZE)
    model.vision.projector = QueryFormer(toy.VISION_SIZE, toy.LLM_SIZE)
    return Family("qformer", model, plan.recipe(2e-3), TEXT_KINDS, [model.vision.projector])
