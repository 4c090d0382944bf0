"""Interventions: does it matter what a query holds? Ablate it, swap it, patch it or steer it.

Each is a context manager around `model.dream` or `model.encode`, and never changes the null
condition of guidance. An intervention after layer k affects all layers above it and, through them,
later queries. One without a layer acts on the projector's input. They can be nested.
"""

from contextlib import contextmanager

import torch
from einops import rearrange
from torch import Tensor

from ..images import LARGEST, as_floats, as_number
from .indices import as_indices
from .residual_stream import changed


def replaced(states: Tensor, queries: list[int], values: Tensor) -> Tensor:
    """States in which those of some queries are replaced.

    Args:
        states: shape (batch, queries, hidden).
        queries: the indices of those that are replaced.
        values: of all queries, shape (queries, hidden), or (batch, queries, hidden) with different
            ones for each prompt.

    Returns:
        A new tensor like `states`.
    """
    after = states.clone()
    after[:, queries] = values[..., queries, :].to(states.dtype)
    return after


@contextmanager
def patch(model, queries, states: Tensor, layer: int | None = None):
    """Replaces the states of chosen queries by given ones: activation patching.

    Args:
        model: a DreamLLM.
        queries: the index of a query, or several indices, each once; -1 is the last.
        states: of all queries, as from `encode` (layer None) or `query_stream(...)[layer]`: shape
            (queries, hidden), or (batch, queries, hidden) with different ones for each prompt. Only
            those of the chosen queries are used.
        layer: after which layer of the language model, -1 is the last; None: after the final norm.

    Raises:
        TypeError: for a query or a layer that is not a number, or states that are no tensor of
            floating-point numbers.
        ValueError: for a query or a layer that does not exist, a query that is named twice, no
            query, states of another shape (both), or nan or infinity among them.
        RuntimeError: at the end, if no prompt was encoded.

    Source: Vig et al. 2020; Meng et al. 2022.
    """
    queries = as_indices("query", queries, model.queries)
    states = as_floats("states", states).to(model.device)
    size = (model.queries, model.dream_queries.shape[-1])
    if tuple(states.shape[-2:]) != size or states.dim() not in (2, 3):
        raise ValueError(
            f"states of shape {tuple(states.shape)} were given; "
            f"it takes {size}, with or without a batch before"
        )

    def change(before: Tensor) -> Tensor:
        if states.dim() == 3 and len(states) != len(before):
            raise ValueError(f"states of {len(states)} prompts were given for {len(before)}")
        return replaced(before, queries, states)

    with changed(model, change, layer):
        yield


@contextmanager
def ablate(model, queries, means: Tensor | None = None, layer: int | None = None):
    """Removes what chosen queries gathered.

    With zeros, the U-Net gets states that it never saw in training. The mean over many prompts
    removes what a query says about *this* prompt, and leaves what it says about every prompt.

    Args:
        model: a DreamLLM.
        queries: as in `patch`.
        means: of each query over many prompts, shape (queries, hidden), such as
            `model.encode(prompts).mean(dim=0)`; None puts zeros in their place.
        layer, errors: as in `patch`.
    """
    if means is None:
        means = torch.zeros_like(model.dream_queries[0])
    with patch(model, queries, means, layer):
        yield


@contextmanager
def swap(model, queries, layer: int | None = None):
    """Swaps chosen queries between prompts: the first and second, the third and fourth, and so on.

    Args:
        model: a DreamLLM.
        queries, layer: as in `patch`.

    Raises:
        ValueError: as `patch`, and inside the block for an odd number of prompts.
        RuntimeError: at the end, if no prompt was encoded.
    """
    queries = as_indices("query", queries, model.queries)

    def change(before: Tensor) -> Tensor:
        if len(before) % 2:
            raise ValueError(f"prompts are swapped in pairs, and there are {len(before)}")
        partners = rearrange(
            before, "(pairs two) queries hidden -> pairs two queries hidden", two=2
        ).flip(1)
        return replaced(
            before,
            queries,
            rearrange(partners, "pairs two queries hidden -> (pairs two) queries hidden"),
        )

    with changed(model, change, layer):
        yield


@contextmanager
def steer(model, direction: Tensor, strength: float = 1.0, layer: int | None = None):
    """Adds a direction to the queries: activation steering (Turner et al. 2023).

    Args:
        model: a DreamLLM.
        direction: shape (queries, hidden), such as the difference of two prompts' states; a query
            whose row is zero stays as it is.
        strength: the factor by which the direction is multiplied: a number between -65504 and
            65504, or a tensor of one.
        layer, errors: as in `patch`.
    """
    factor = as_number("strength", strength, -LARGEST, LARGEST)
    factor = strength if isinstance(strength, Tensor) else factor  # which may have a gradient
    direction = as_floats("the numbers of a direction", direction)
    size = (model.queries, model.dream_queries.shape[-1])
    if tuple(direction.shape) != size:
        raise ValueError(
            f"a direction of shape {tuple(direction.shape)} was given; it takes {size}"
        )
    with changed(model, lambda before: before + factor * direction.to(before), layer):
        yield
