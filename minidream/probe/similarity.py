"""What the paper's section 5.2 says of query maps, each claim as a number.

Said there of figure 6: the attention of queries is structured, disentangled and semantic, distinct queries take distinct
things and the background; and it is much alike for different prompts, unlike that of the words of Stable Diffusion.
"""

from itertools import combinations

import torch
from einops import rearrange
from torch import Tensor


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation over cells of every map with every other: (queries, cells) and (others, cells) to (queries, others)."""
    first, second = (maps - maps.mean(dim=-1, keepdim=True) for maps in (first, second))
    first, second = (maps / maps.norm(dim=-1, keepdim=True).clamp(min=1e-12) for maps in (first, second))
    return first @ second.T


def stability(maps: Tensor) -> Tensor:
    """How much alike the map of a query is for different prompts.

    Args:
        maps: shape (prompts, queries, height, width), at least two prompts.

    Returns:
        For every pair of neighbouring prompts, the correlation of a query's two maps, averaged over queries, less that of two
        different queries' maps: shape (prompts - 1,). 0: the map says nothing of which query it is; 1: it is all one needs.
    """
    flat = rearrange(maps, "prompts queries height width -> prompts queries (height width)")
    return torch.stack([_same_less_others(correlations(one, other)) for one, other in zip(flat, flat[1:])])


def _same_less_others(table: Tensor) -> Tensor:
    size = len(table)
    same = table.diagonal().mean()
    return same - (table.sum() - table.diagonal().sum()) / (size * size - size)


def overlap(maps: Tensor) -> Tensor:
    """How much the queries of one picture look alike: the mean absolute correlation of two of them, shape (prompts,).

    0: disentangled; 1: all maps are one, or its negative.
    """
    flat = rearrange(maps, "prompts queries height width -> prompts queries (height width)")
    pairs = torch.tensor(list(combinations(range(flat.shape[1]), 2)))
    return torch.stack([correlations(one, one).abs()[pairs[:, 0], pairs[:, 1]].mean() for one in flat])


def separation(maps: Tensor, inside: Tensor) -> Tensor:
    """How well each query's map tells the cells inside from those outside: |2 AUC - 1|, shape (queries,), in [0, 1].

    AUC is the chance that a cell inside has the greater value (ties count half); 0 is chance, 1 tells them apart wholly, by
    looking there or by looking away.

    Args:
        maps: of one picture, shape (queries, height, width).
        inside: True inside, shape (height, width).

    Raises:
        ValueError: if nothing is inside, or nothing outside.
    """
    if inside.all() or not inside.any():
        raise ValueError(f"{int(inside.sum())} of {inside.numel()} cells are inside: there is nothing to tell apart")
    within, without = maps[:, inside], maps[:, ~inside]
    greater = (within[:, :, None] > without[:, None, :]).float() + 0.5 * (within[:, :, None] == without[:, None, :]).float()
    return (2 * greater.mean(dim=(1, 2)) - 1).abs()
