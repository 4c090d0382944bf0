"""Ways to say how much each dream query gets from each input, of which each can point in a picture.

| way | what it is |
|---|---|
| mean, layer 2, layer 2 head 5 | attention, averaged over what is not named |
| values of layer 2 | the norm of what an input adds to a query, all heads together |
| output of layer 2 | the same, only what agrees with the direction of the sum over all inputs |
| values, output | their means over layers |

Source: Kobayashi et al. 2020 (norms); Ferrando et al. 2022 (agreement with the output).
"""

import torch
from einops import einsum, rearrange
from torch import Tensor

from ..probe.attention import for_each_head
from ..probe.hooks import run_with_cache
from ..probe.positions import positions


def names_of_hops(layers: int, heads: int) -> list[str]:
    """The names of all ways, in the order of `first_hops`."""
    every = range(layers)
    by_head = [f"layer {layer} head {head}" for layer in every for head in range(heads)]
    return [
        "mean",
        *(f"layer {layer}" for layer in every),
        *by_head,
        "values",
        *(f"values of layer {layer}" for layer in every),
        "output",
        *(f"output of layer {layer}" for layer in every),
    ]


@torch.no_grad()
def first_hops(model, texts: list[str]) -> list[Tensor]:
    """For each prompt, how much each query gets from each input, in every way.

    Returns:
        Tensors of shape (ways, queries, inputs) on the CPU, in the order of `names_of_hops`; every
        row sums to 1.
    """
    queries = range(-model.queries, 0)
    patterns = run_with_cache(model, texts, "llm.*.pattern", queries)
    values = run_with_cache(model, texts, "llm.*.v")
    added, agreeing, attention = [], [], []
    for layer, weights, value in zip(model.llm.layers, patterns.values(), values.values()):
        each, along = contributions(weights, value, layer.self_attn.o_proj.weight)
        attention.append(weights)
        added.append(each)
        agreeing.append(along)
    by_head = torch.stack(attention, dim=1)  # batch layers heads queries inputs
    by_layer = by_head.mean(dim=2)
    added, agreeing = (torch.stack(each, dim=1) for each in (added, agreeing))
    every = torch.cat(
        [
            by_layer.mean(dim=1, keepdim=True),
            by_layer,
            rearrange(by_head, "batch layers heads ... -> batch (layers heads) ..."),
            added.mean(dim=1, keepdim=True),
            added,
            agreeing.mean(dim=1, keepdim=True),
            agreeing,
        ],
        dim=1,
    ).cpu()
    lengths = [len(positions(model, text).inputs) for text in texts]
    return [one[..., -length:] for one, length in zip(every, lengths)]


def contributions(weights: Tensor, value: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """What each input adds to each query in one layer of attention.

    Args:
        weights: after softmax, shape (batch, heads, queries, inputs).
        value: shape (batch, key/value heads, inputs, head_dim).
        out: the matrix that takes what the heads gather, shape (dim, heads * head_dim).

    Returns:
        Norms, and lengths along the direction of the sum over all inputs (0 where they point away
        from it), both of shape (batch, queries, inputs), and scaled to a sum of 1.
    """
    heads = weights.shape[1]
    matrices = rearrange(out, "dim (heads head_dim) -> heads head_dim dim", heads=heads)
    moved = einsum(
        for_each_head(value, heads),
        matrices,
        "batch heads inputs head_dim, heads head_dim dim -> batch heads inputs dim",
    )
    added = einsum(
        weights,
        moved,
        "batch heads queries inputs, batch heads inputs dim -> batch queries inputs dim",
    )
    total = added.sum(dim=2, keepdim=True)
    along = (added * total).sum(dim=-1).clamp(min=0)
    norms = added.norm(dim=-1)
    tiny = torch.finfo(norms.dtype).tiny
    norms, along = (
        each / each.sum(dim=-1, keepdim=True).clamp(min=tiny) for each in (norms, along)
    )
    return norms, along
