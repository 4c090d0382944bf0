"""Is a map true? Scores of maps against what is known: masks, and what interventions do. And intervals of them."""

import random

import torch
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
        raise ValueError(f"the map has {tuple(map_.shape)} cells, the masks have {tuple(masks.shape[1:])}")
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
        raise ValueError(f"ranks are compared of two lists of as many numbers, at least two: {tuple(first.shape)} and {tuple(second.shape)}")
    one, other = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    return ((one * other).sum() / (one.norm() * other.norm())).item()


def curve_area(curve: Tensor) -> float:
    """The area under a deletion or insertion curve (Petsiuk et al. 2018), by trapezoids, its steps spread over [0, 1].

    Args:
        curve: the score after 0, 1, 2 … all deletions or insertions, shape (steps + 1,).
    """
    return ((curve[1:] + curve[:-1]) / 2).mean().item()


def interval(values: list[float], draws: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high) of numbers: a 95 % percentile bootstrap over them (Efron 1979); ValueError for none.

    What is not independent, such as two words of one scene, is to be averaged before.
    """
    if not values:
        raise ValueError("the mean of no numbers is not defined")
    rng, size = random.Random(seed), len(values)
    means = sorted(sum(rng.choices(values, k=size)) / size for _ in range(draws))
    return sum(values) / size, means[int(0.025 * draws)], means[min(draws - 1, int(0.975 * draws))]
