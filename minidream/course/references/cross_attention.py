"""Exercise 04.1: the U-Net's cross-attention, from latent cells to a condition."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from ..exercises import Exercise


def cross_attention(
    cells: Tensor, condition: Tensor, to_query: Tensor, to_key: Tensor, to_value: Tensor, heads: int
) -> Tensor:
    """What the latent cells gather from the condition: queries from cells, the rest from it.

    Args:
        cells: shape (batch, cells, dim).
        condition: shape (batch, words, condition_dim).
        to_query: shape (inner, dim).
        to_key, to_value: shape (inner, condition_dim).
        heads: inner is heads * head_dim.

    Returns:
        Shape (batch, cells, inner), the heads side by side, before the output matrix.
    """
    split = "batch positions (heads head_dim) -> batch heads positions head_dim"
    query = rearrange(cells @ to_query.T, split, heads=heads)
    key = rearrange(condition @ to_key.T, split, heads=heads)
    value = rearrange(condition @ to_value.T, split, heads=heads)
    scores = query @ key.mT / query.shape[-1] ** 0.5
    weights = scores.softmax(dim=-1)  # over the words
    mixed = weights @ value
    return rearrange(mixed, "batch heads cells head_dim -> batch cells (heads head_dim)")


def cells_and_conditions() -> list[tuple]:
    """Cells, conditions of another width and number, three matrices, and the number of heads."""
    draw, cases = torch.Generator().manual_seed(6), []
    for batch, positions, words, heads in ((2, 6, 3, 2), (1, 4, 7, 3)):
        inner = 4 * heads
        cells = torch.randn(batch, positions, 5, generator=draw)
        condition = torch.randn(batch, words, 7, generator=draw)
        to_query = torch.randn(inner, 5, generator=draw)
        to_key, to_value = torch.randn(2, inner, 7, generator=draw)
        cases.append((cells, condition, to_query, to_key, to_value, heads))
    return cases


def attended(
    cells: Tensor,
    condition: Tensor,
    to_query: Tensor,
    to_key: Tensor,
    to_value: Tensor,
    heads: int,
    axis: int = -1,
    width: Callable[[int, int], float] = lambda inner, heads: inner / heads,
    split: str = "(heads head_dim)",
    merge: str = "(heads head_dim)",
) -> Tensor:
    """As `cross_attention`, with one thing changed."""
    query, key, value = (
        rearrange(states, f"batch positions {split} -> batch heads positions head_dim", heads=heads)
        for states in (cells @ to_query.T, condition @ to_key.T, condition @ to_value.T)
    )
    scores = query @ key.mT / width(len(to_query), heads) ** 0.5
    mixed = scores.softmax(dim=axis) @ value
    return rearrange(mixed, f"batch heads cells head_dim -> batch cells {merge}")


CROSS_ATTENTION = Exercise(
    cross_attention,
    cells_and_conditions,
    {
        "softmax is taken over the wrong axis: each cell spreads its attention over the words.": (
            lambda *case: attended(*case, axis=-2)
        ),
        "softmax is taken over the heads; each head has a softmax of its own, over the words.": (
            lambda *case: attended(*case, axis=1)
        ),
        "divide by the root of head_dim, do not multiply by it.": (
            lambda *case: attended(*case, width=lambda inner, heads: heads / inner)
        ),
        "divide the scores by the root of head_dim.": (
            lambda *case: attended(*case, width=lambda inner, heads: 1)
        ),
        "divide by the root of head_dim, the width of one head, not of all heads together.": (
            lambda *case: attended(*case, width=lambda inner, heads: inner)
        ),
        "the heads are consecutive parts of the width: (heads head_dim), not (head_dim heads).": (
            lambda *case: attended(*case, split="(head_dim heads)", merge="(head_dim heads)")
        ),
        "at the end the heads stand side by side: (heads head_dim), not (head_dim heads).": (
            lambda *case: attended(*case, merge="(head_dim heads)")
        ),
        "each head attends by itself; this is one head of the whole width.": (
            lambda *case: attended(*case[:5], heads=1)
        ),
        "the keys and the values have a matrix each.": (
            lambda cells, condition, to_query, to_key, _, heads: cross_attention(
                cells, condition, to_query, to_key, to_key, heads
            )
        ),
        "`to_key` and `to_value` are exchanged.": (
            lambda cells, condition, to_query, to_key, to_value, heads: cross_attention(
                cells, condition, to_query, to_value, to_key, heads
            )
        ),
    },
    "Queries come from the cells, keys and values from the condition. Split all three into heads "
    "(`rearrange`), and take softmax over the last axis of (batch, heads, cells, words).",
    axes="batch cells inner",
)
