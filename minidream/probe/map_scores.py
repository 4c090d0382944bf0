"""Scores of maps: do they agree with masks and with interventions, and with one another?"""

from itertools import combinations

import torch
from einops import rearrange
from torch import Tensor


def points_at(map_: Tensor, masks: Tensor) -> int | None:
    """The pointing game: which object covers the cell with the highest value.

    Args:
        map_: shape (height, width).
        masks: shape (objects, height, width), in the map's cells, in [0, 1].

    Returns:
        The index of the object that covers most of that cell; None if none covers any of it.

    Raises:
        ValueError: for masks on another grid (both shapes).

    Source: Zhang et al. 2018.
    """
    if masks.shape[1:] != map_.shape:
        raise ValueError(
            f"the map has {tuple(map_.shape)} cells, the masks have {tuple(masks.shape[1:])}"
        )
    covered = masks.flatten(1)[:, map_.flatten().argmax()]
    return covered.argmax().item() if covered.max() > 0 else None


def mass_inside(map_: Tensor, mask: Tensor) -> float:
    """The share of a map that lies inside a mask, in [0, 1].

    Args:
        map_: shape (height, width), nowhere negative.
        mask: shape (height, width), in [0, 1].

    Raises:
        ValueError: for a mask on another grid (both shapes).
    """
    if mask.shape != map_.shape:
        raise ValueError(f"the map has {tuple(map_.shape)} cells, the mask has {tuple(mask.shape)}")
    return ((map_ * mask).sum() / map_.sum()).item()


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two lists of numbers, in [-1, 1].

    Args:
        first, second: shape (numbers,), at least two.

    Returns:
        nan if all numbers of one list are equal.

    Raises:
        ValueError: for lists of different or too small size (both shapes).
    """
    if first.shape != second.shape or first.dim() != 1 or len(first) < 2:
        raise ValueError(
            "ranks are compared between two lists of equal length, at least two: "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    if (first == first[0]).all() or (second == second[0]).all():
        return float("nan")
    from scipy.stats import spearmanr  # here, since scipy.stats takes nearly a second to import

    return float(spearmanr(first.cpu(), second.cpu()).statistic)


def curve_area(curve: Tensor) -> float:
    """The area under a deletion or insertion curve, by trapezoids, its steps spread over [0, 1].

    Args:
        curve: the score after 0, 1, 2, ... deletions or insertions, shape (steps + 1,).

    Source: Petsiuk et al. 2018.
    """
    return (torch.trapezoid(curve) / (len(curve) - 1)).item()


# --------------------------------------------------------------------------------------------------
# The claims of the paper's section 5.2 about query maps, as numbers. Their attention is structured,
# disentangled and semantic: different queries attend to different objects and to the background
# (figure 6). And unlike the maps of Stable Diffusion's words, they change little between prompts.


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation over cells, of every map with every other.

    Args:
        first: shape (queries, cells).
        second: shape (others, cells).

    Returns:
        Shape (queries, others); 0 where a map is the same in all cells.
    """
    first, second = (maps - maps.mean(dim=-1, keepdim=True) for maps in (first, second))
    first, second = (
        maps / maps.norm(dim=-1, keepdim=True).clamp(min=1e-12) for maps in (first, second)
    )
    with torch.autocast(first.device.type, enabled=False):
        return first @ second.T


def stability(maps: Tensor) -> Tensor:
    """How similar the map of a query is for different prompts.

    Args:
        maps: shape (prompts, queries, height, width), at least two prompts.

    Returns:
        Shape (prompts - 1,): for each pair of neighbouring prompts, the correlation of a query's
        two maps, averaged over queries, minus the mean correlation of two different queries' maps.
        At 0 a map does not depend on its query; at 1 it depends on nothing else.
    """
    flat = rearrange(maps, "prompts queries height width -> prompts queries (height width)")
    return torch.stack(
        [same_minus_others(correlations(one, other)) for one, other in zip(flat, flat[1:])]
    )


def same_minus_others(table: Tensor) -> Tensor:
    """The mean of a square table's diagonal minus the mean of all other entries."""
    size = len(table)
    same = table.diagonal().mean()
    return same - (table.sum() - table.diagonal().sum()) / (size * size - size)


def overlap(maps: Tensor) -> Tensor:
    """How similar the maps of one picture's queries are: the mean absolute correlation of two.

    Args:
        maps: shape (prompts, queries, height, width).

    Returns:
        Shape (prompts,). At 0 the maps are disentangled; at 1 all are one map, or its negative.
    """
    flat = rearrange(maps, "prompts queries height width -> prompts queries (height width)")
    pairs = torch.tensor(list(combinations(range(flat.shape[1]), 2)), device="cpu")
    return torch.stack(
        [correlations(one, one).abs()[pairs[:, 0], pairs[:, 1]].mean() for one in flat]
    )


def separation(maps: Tensor, inside: Tensor) -> Tensor:
    """How well each query's map separates the cells inside from those outside: |2 AUC - 1|.

    The AUC is the probability that a cell inside has a higher value than one outside (ties count
    half). It is found as Mann and Whitney's U.

    Args:
        maps: of one picture, shape (queries, height, width).
        inside: True inside, shape (height, width).

    Returns:
        Shape (queries,), in [0, 1]: 0 is chance; at 1 a map is higher, or lower, in all cells
        inside than in any outside.

    Raises:
        ValueError: if all cells are inside, or none.
    """
    if inside.all() or not inside.any():
        raise ValueError(
            f"{int(inside.sum())} of {inside.numel()} cells are inside: nothing is to be separated"
        )
    from scipy.stats import mannwhitneyu

    within, outside = maps[:, inside].cpu(), maps[:, ~inside].cpu()
    # The statistic alone is used, so that the fastest way to its p-value is good enough.
    wins = mannwhitneyu(within, outside, axis=1, method="asymptotic").statistic
    auc = torch.as_tensor(wins, device="cpu") / (within.shape[1] * outside.shape[1])
    return (2 * auc - 1).abs().to(maps)
