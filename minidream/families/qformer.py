"""The query former of BLIP-2 (Li et al. 2023) and of mPLUG-Owl (Ye et al. 2023).

Light adaptation: it reads pictures and writes text, with a frozen language model. A few learned
queries attend to all patches, layer by layer, and become the tokens of the picture: 16 in place of
64. Unlike Flamingo's, these tokens stand in the sequence among the words. BLIP-2 first trains its
queries on pictures and captions without the language model; that stage is left out here.
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
    """A transformer layer in which queries attend to one another and to the patches.

    Args:
        dim: width of the queries.
        context_dim: width of the patches.
        causal: queries attend to earlier queries only.
    """

    def __init__(self, dim: int, context_dim: int, causal: bool = False):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.self_attention = CrossAttention(dim, dim, dim, causal=causal)
        self.cross_attention = CrossAttention(dim, context_dim, dim)
        self.feed_forward = feed_forward(dim, 4 * dim)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """queries (batch, tokens, dim), patches (batch, patches, context_dim) to queries' shape."""
        normed = self.norms[0](queries)
        queries = queries + self.self_attention(normed, normed)
        queries = queries + self.cross_attention(self.norms[1](queries), patches)
        return queries + self.feed_forward(queries)


class QueryFormer(nn.Module):
    """Reduces patches to a few tokens of the language model.

    Args:
        dim: width of patches and queries.
        llm_dim: width of the tokens.
        tokens: number of queries, and of tokens.
        layers: number of layers.
        causal: queries attend to earlier queries only, as in `seed.py`.
    """

    def __init__(
        self, dim: int, llm_dim: int, tokens: int = TOKENS, layers: int = 2, causal: bool = False
    ):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(QueryLayer(dim, dim, causal) for _ in range(layers))
        self.out = nn.Linear(dim, llm_dim)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, patches, dim) to (batch, tokens, llm_dim)."""
        patches = self.norm(patches)
        queries = repeat(self.queries, "tokens dim -> batch tokens dim", batch=len(patches))
        for layer in self.layers:
            queries = layer(queries, patches)
        return self.out(queries)


class FewTokenEncoder(VisionEncoder):
    """A vision encoder whose projector gives fewer tokens than there are patches."""

    @property
    def patches(self) -> int:
        """Number of positions that a picture takes in the sequence."""
        return len(self.projector.queries)


def qformer(plan: FamilyPlan) -> Family:
    """Trains the query former alone."""
    model = base_model()
    model.vision = FewTokenEncoder(model.vision.tower, toy.LLM_SIZE)
    model.vision.projector = QueryFormer(toy.VISION_SIZE, toy.LLM_SIZE)
    return Family("qformer", model, plan.recipe(2e-3), TEXT_KINDS, [model.vision.projector])
