"""Several indices at once: queries, or positions. The rule for one index is `images.as_index`."""

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from ..images import as_index


def several(given) -> list:
    """What a user gave as one thing or as several, in a list; a text is one thing."""
    if isinstance(given, (Tensor, np.ndarray)):
        given = given.tolist()
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def as_indices(name: str, given, size: int) -> list[int]:
    """One or several indices that a user gave, each once, counted from 0 and in the given order.

    Args:
        name: of one of them, for errors, such as "query".
        given: one index, or a list, range, set, array or tensor of them.
        size: how many there are.

    Raises:
        TypeError: if one of them is not a number.
        ValueError: for none, for one that is named twice, or as `as_index` (both numbers).
    """
    allowed = f"it takes some of 0 to {size - 1}, each once"
    indices = [as_index(name, index, size, allowed) for index in several(given)]
    if not indices:
        raise ValueError(f"no {name} was named; {allowed}")
    if len(set(indices)) < len(indices):
        twice = next(index for index in indices if indices.count(index) > 1)
        raise ValueError(f"{name} {twice} was named {indices.count(twice)} times; {allowed}")
    return indices
