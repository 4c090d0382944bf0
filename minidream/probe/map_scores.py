"""Is a map true? Scores of maps against what is known: masks, and what interventions do. And intervals of them."""

from itertools import combinations

import torch
from einops import rearrange
from torch import Tensor


def points_at(map_: Tensor, masks: Tensor) -> int | None:
    """The pointing game (Zhang et al. 2018): which thing the cell with the greatest value lies on.

    Args:
        map_: shape (height, width).
        masks: shape (things, height, width), in the map's cells, in [0, 1].

    Returns:
        The number of the thing that covers most of that cell; None where nothing covers any of it.

    Raises:
        ValueError: for masks on another grid (both).
    """
    if masks.shape[1:] != map_.shape:
        raise ValueError(
            f"the map has {tuple(map_.shape)} cells, the masks have {tuple(masks.shape[1:])}"
        )
    covered = masks.flatten(1)[:, map_.flatten().argmax()]
    return covered.argmax().item() if covered.max() > 0 else None


def mass_inside(map_: Tensor, mask: Tensor) -> float:
    """The share of a map, shape (height, width), none of it negative, that lies inside a mask of the same cells: in [0, 1]."""
    if mask.shape != map_.shape:
        raise ValueError(f"the map has {tuple(map_.shape)} cells, the mask has {tuple(mask.shape)}")
    return ((map_ * mask).sum() / map_.sum()).item()


def ranks(values: Tensor) -> Tensor:
    """The rank of each number, from 1; equal ones share the mean of theirs: shape (numbers,)."""
    below = (values[None, :] < values[:, None]).sum(dim=1)
    equal = (values[None, :] == values[:, None]).sum(dim=1)
    return below + (equal + 1) / 2


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two lists of numbers, shape (numbers,), in [-1, 1]; nan if all of one are equal."""
    if first.shape != second.shape or first.dim() != 1 or len(first) < 2:
        raise ValueError(
            f"ranks are compared of two lists of as many numbers, at least two: {tuple(first.shape)} and {tuple(second.shape)}"
        )
    one, other = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    return ((one * other).sum() / (one.norm() * other.norm())).item()


def curve_area(curve: Tensor) -> float:
    """The area under a deletion or insertion curve (Petsiuk et al. 2018), by trapezoids, its steps spread over [0, 1].

    Args:
        curve: the score after 0, 1, 2 … all deletions or insertions, shape (steps + 1,).
    """
    return ((curve[1:] + curve[:-1]) / 2).mean().item()


# --------------------------------------------------------------------------------------------------
# What section 5.2 of the paper says of query maps, each claim as a number: that their attention is structured,
# disentangled and semantic, distinct queries taking distinct objects and the background (figure 6); and that, unlike
# that of the words of Stable Diffusion, it is much alike for different prompts.


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation over cells of every map with every other: (queries, cells) and (others, cells) to (queries, others)."""
    first, second = (maps - maps.mean(dim=-1, keepdim=True) for maps in (first, second))
    first, second = (
        maps / maps.norm(dim=-1, keepdim=True).clamp(min=1e-12) for maps in (first, second)
    )
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
    return torch.stack(
        [_same_less_others(correlations(one, other)) for one, other in zip(flat, flat[1:])]
    )


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
    return torch.stack(
        [correlations(one, one).abs()[pairs[:, 0], pairs[:, 1]].mean() for one in flat]
    )


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
        raise ValueError(
            f"{int(inside.sum())} of {inside.numel()} cells are inside: there is nothing to tell apart"
        )
    within, without = maps[:, inside], maps[:, ~inside]
    greater = (within[:, :, None] > without[:, None, :]).float() + 0.5 * (
        within[:, :, None] == without[:, None, :]
    ).float()
    return (2 * greater.mean(dim=(1, 2)) - 1).abs()
