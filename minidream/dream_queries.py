"""The heart of DreamLLM: dream queries, and the projector from what they gather to the U-Net.

A dream query is a learned vector that takes the place of a word embedding. By itself it means
nothing. The language model processes it like a word and so lets it attend to everything before it,
earlier queries included. What it has gathered after the last layer conditions the U-Net, in place
of the states of a text encoder. Nothing says what a query should gather: its only teacher is the
denoising loss, through the U-Net, which stays frozen in training. (Paper, section 2.2, figure 2.)
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from .vision import new_projector


def new_dream_queries(
    queries: int, dim: int, generator: torch.Generator | None = None, std: float = 0.02
) -> nn.Parameter:
    """Untrained dream queries, drawn from N(0, std²): shape (1, queries, dim).

    The same queries serve every picture. They should be about as large as the word embeddings
    beside them: 0.02 is the standard deviation of LLaMA's.
    """
    return nn.Parameter(std * torch.randn(1, queries, dim, generator=generator))


def block_index(blocks: list[tuple[int, int]], length: int, device) -> tuple[Tensor, Tensor]:
    """Rows and positions of all tokens of some blocks, to index a (batch, tokens, ...) tensor.

    Args:
        blocks: (row, first position) of each block.
        length: tokens in a block.
        device: of the result.

    Returns:
        Two integer tensors of shape (blocks, length).
    """
    rows, firsts = torch.tensor(blocks, device=device).reshape(-1, 2).unbind(dim=1)
    offsets = torch.arange(length, device=device)
    positions = rearrange(firsts, "blocks -> blocks 1") + offsets
    return rearrange(rows, "blocks -> blocks 1").expand_as(positions), positions


def insert(embeddings: Tensor, vectors: Tensor, blocks: list[tuple[int, int]]) -> Tensor:
    """Embeddings in which placeholder tokens are replaced by vectors.

    Args:
        embeddings: shape (batch, tokens, dim).
        vectors: dream queries or image patches, shape (blocks, length, dim); or (1, length, dim)
            to use the same vectors for every block.
        blocks: (row, first position) of each block of placeholders.

    Returns:
        A new tensor of the shape of `embeddings`.
    """
    if not blocks:
        return embeddings
    index = block_index(blocks, vectors.shape[1], embeddings.device)
    vectors = vectors.to(embeddings.dtype).expand(len(blocks), -1, -1)
    return embeddings.index_put(index, vectors)


def gather(hidden: Tensor, queries: int, blocks: list[tuple[int, int]]) -> Tensor:
    """The hidden states at the dream queries of each block.

    Args:
        hidden: final-norm hidden states, shape (batch, tokens, dim).
        queries: dream queries per block.
        blocks: (row, first position) of each block.

    Returns:
        Shape (blocks, queries, dim).
    """
    return hidden[block_index(blocks, queries, hidden.device)]


class ConditionProjector(nn.Module):
    """From the width of the language model to the width the U-Net attends to: linear, without bias.

    Args:
        llm_dim: width of the language model.
        condition_dim: `cross_attention_dim` of the U-Net.
        depth: number of layers; 1 as published.
    """

    def __init__(self, llm_dim: int, condition_dim: int, depth: int = 1):
        super().__init__()
        self.depth = depth
        self.projector = new_projector(llm_dim, condition_dim, depth, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """(batch, queries, llm_dim) to (batch, queries, condition_dim)."""
        return self.projector(states)
