"""Attention weights: computed beside the pass, which forms none, and as visitors leave them."""

from threading import get_ident

import torch
from einops import repeat
from torch import Tensor, nn


def attention_weights(query: Tensor, key: Tensor, allowed: Tensor | None) -> Tensor:
    """softmax(query key / sqrt(head_dim)), in float32.

    Args:
        query: shape (batch, heads, rows, head_dim).
        key: shape (batch, key heads, inputs, head_dim); consecutive groups of heads share one.
        allowed: True where a row may attend; a shape that broadcasts to that of the result.

    Returns:
        Shape (batch, heads, rows, inputs).
    """
    with torch.autocast(query.device.type, enabled=False):
        scores = (
            query.float()
            * query.shape[-1] ** -0.5
            @ for_each_head(key.float(), query.shape[1]).transpose(-1, -2)
        )
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        return scores.softmax(dim=-1)


def for_each_head(shared: Tensor, heads: int) -> Tensor:
    """Keys or values, of which consecutive groups of heads share one, repeated for each head."""
    groups = heads // shared.shape[1]
    if groups == 1:
        return shared
    each = "batch shared inputs head_dim -> batch (shared groups) inputs head_dim"
    return repeat(shared, each, groups=groups)


# Attention weights as the last visitor left them, by thread and module, so that the next one at the
# same point starts from these.
left_weights: dict[tuple[int, int], Tensor] = {}


def visit_attention(module: nn.Module, visit, *states) -> Tensor | None:
    """Visits the weights of an attention; `states` as `Visit.attention` takes them."""
    key = get_ident(), id(module)
    result = visit.attention(*states, left_weights.get(key))
    if result is None:
        return None
    gathered, left_weights[key] = result
    return gathered


def forget_weights(module: nn.Module) -> None:
    """To be called when an attention begins: what was left there is of another pass."""
    left_weights.pop((get_ident(), id(module)), None)


def forget_all_weights() -> None:
    """To be called after the passes of this thread, as nothing needs them then."""
    for key in [key for key in left_weights if key[0] == get_ident()]:
        left_weights.pop(key, None)
