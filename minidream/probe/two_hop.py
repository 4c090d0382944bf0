"""Both hops joined: latent cells look at queries, and queries look at words and patches."""

import torch
from einops import einsum
from torch import Tensor

from .llm_attention import Trace
from .unet_attention import ImageMaps


def two_hop(
    trace: Trace,
    maps: ImageMaps,
    layer: int | None = None,
    head: int | None = None,
    picture: int = 0,
) -> Tensor:
    """Attention of every latent cell to every input, through the queries.

    Args:
        trace: where the queries looked.
        maps: where the cells looked among the queries, of a picture painted from the same prompt.
        layer, head: of the language model; None averages over all.
        picture: which picture of the batch.

    Returns:
        Shape (inputs, height, width); every cell sums to 1 over the inputs.

    Raises:
        TypeError, ValueError: for a layer, head or picture that was not recorded; -1 is the last.
        ValueError: if trace and maps have different numbers of queries.
    """
    cells, looked = maps.mean(picture), trace.mean(layer, head)
    if len(cells) != len(looked):
        raise ValueError(
            f"the trace has {len(looked)} queries, the maps have {len(cells)}: "
            "are they of one model?"
        )
    return join(cells, looked)


def join(cells: Tensor, looked: Tensor) -> Tensor:
    """Both hops as one: cell-to-query times query-to-input attention, summed over all queries.

    Args:
        cells: where latent cells look, shape (queries, height, width).
        looked: where queries look, shape (queries, inputs).

    Returns:
        Shape (inputs, height, width). If both hops sum to 1, so does this one, over the inputs.
    """
    with torch.autocast(cells.device.type, enabled=False):  # which would round the product
        return einsum(cells, looked, "queries height width, queries inputs -> inputs height width")
