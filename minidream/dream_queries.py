"""The heart: dream queries, and the projector that hands what they gathered to the diffusion model.

A dream query is a learned vector that stands where a word would stand. It means nothing by itself. The language model
reads it like a word, and in doing so lets it look back at everything before it; what it has gathered by the last layer
is what the U-Net is conditioned on, in place of the words of a text encoder. Nobody says what a query should gather:
the only teacher is the denoising loss, through the frozen U-Net. (Paper, section 2.2; figure 2.)
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from .vision import new_projector


def new_dream_queries(
    queries: int, dim: int, generator: torch.Generator | None = None, std: float = 0.02
) -> nn.Parameter:
    """The queries before training: shape (1, queries, dim), from N(0, std). The same ones serve every picture.

    They should be as loud as the words beside them: 0.02 is the deviation of LLaMA's word embeddings.
    """
    return nn.Parameter(std * torch.randn(1, queries, dim, generator=generator))


def block_index(blocks: list[tuple[int, int]], length: int, device) -> tuple[Tensor, Tensor]:
    """Rows and positions of blocks of `length` tokens, each given as (row, first position): two of (blocks, length)."""
    rows, firsts = torch.tensor(blocks, device=device).reshape(-1, 2).unbind(dim=1)
    positions = rearrange(firsts, "blocks -> blocks 1") + torch.arange(length, device=device)
    return rearrange(rows, "blocks -> blocks 1").expand_as(positions), positions


def insert(embeddings: Tensor, vectors: Tensor, blocks: list[tuple[int, int]]) -> Tensor:
    """Embeddings with vectors in the place of placeholder tokens.

    Args:
        embeddings: shape (batch, tokens, dim).
        vectors: dream queries or image patches, shape (blocks or 1, length, dim); 1 is the same for every block.
        blocks: (row, first position) of each block.

    Returns:
        A new tensor like `embeddings`.
    """
    if not blocks:
        return embeddings
    index = block_index(blocks, vectors.shape[1], embeddings.device)
    vectors = vectors.to(embeddings.dtype).expand(len(blocks), -1, -1)
    return embeddings.index_put(index, vectors)


def gather(hidden: Tensor, queries: int, blocks: list[tuple[int, int]]) -> Tensor:
    """What the queries of each block have become: final-norm hidden states, shape (blocks, queries, dim)."""
    return hidden[block_index(blocks, queries, hidden.device)]


class ConditionProjector(nn.Module):
    """From the language model's width to the width that the U-Net attends to: linear, without bias.

    Args:
        llm_dim: width of the language model.
        condition_dim: `cross_attention_dim` of the U-Net.
        depth: how many layers.
    """

    def __init__(self, llm_dim: int, condition_dim: int, depth: int = 1):
        super().__init__()
        self.depth = depth
        self.projector = new_projector(llm_dim, condition_dim, depth, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """(batch, queries, llm_dim) to (batch, queries, condition_dim)."""
        return self.projector(states)
