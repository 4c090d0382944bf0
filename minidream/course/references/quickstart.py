"""The exercise of notebook 00: how much attention each input gets."""

import torch
from einops import reduce
from torch import Tensor

from ..exercises import Exercise


def attention_of_inputs(weights: Tensor) -> Tensor:
    """The attention that each input gets, averaged over layers, heads and queries.

    Args:
        weights: shape (layers, heads, queries, inputs); each query's attention adds up to 1.

    Returns:
        Shape (inputs,).
    """
    return reduce(weights, "layers heads queries inputs -> inputs", "mean")


def traces() -> list[tuple]:
    """Attention of three sizes."""
    draw, cases = torch.Generator().manual_seed(0), []
    for shape in ((2, 3, 4, 5), (3, 2, 2, 7), (1, 4, 3, 4)):
        cases.append((torch.randn(shape, generator=draw).softmax(dim=-1),))
    return cases


EXERCISES = {
    "00.1": Exercise(
        attention_of_inputs,
        traces,
        {
            "this is the sum over the queries: a word would get more if there were more of them. "
            "Take the mean.": lambda weights: weights.mean(dim=(0, 1)).sum(dim=0),
            "this is the attention in the last layer alone: take the mean over layers, too.": (
                lambda weights: weights[-1].mean(dim=(0, 1))
            ),
            "this is the attention of the last query alone: take the mean over queries, too.": (
                lambda weights: weights.mean(dim=(0, 1))[-1]
            ),
            "every query has attention of 1 to give, so the mean over inputs is the same for all "
            "queries: keep the inputs, and take the mean over all other axes.": (
                lambda weights: weights.mean(dim=(0, 1, 3))
            ),
        },
        "Three axes go, and the inputs stay. With einops, the pattern of `reduce` ends in "
        "`-> inputs`; with torch alone, `mean(dim=...)` takes a tuple of axes.",
        axes="inputs",
    ),
}
