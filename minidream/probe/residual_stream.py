"""The residual stream at the dream queries: what each of them has become after every layer of the language model."""

from contextlib import contextmanager

import torch
from torch import Tensor


@torch.no_grad()
def query_stream(model, prompts) -> Tensor:
    """The residual stream at the dream queries after each layer, from the very pass that `encode` makes.

    Args:
        model: a DreamLLM.
        prompts: a str or Document, or a list of them.

    Returns:
        Shape (layers, batch, queries, hidden). The last, after the final norm, is what `encode` gives.

    Raises:
        TypeError, ValueError: as `DreamLLM.dream`.
    """
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, arguments, output: seen.append(output[:, -model.queries :])
        )
        for layer in model.llm.layers
    ]
    try:
        model.encode(prompts)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(seen)


@contextmanager
def changed(model, change, layer: int | None = None):
    """Changes what the dream queries of prompts are while pictures are painted inside the `with` block.

    It acts on what `encode` encodes, and so on `dream`; the null condition, which guidance pushes away from, stays as it is.

    Args:
        model: a DreamLLM.
        change: called with states, shape (batch, queries, hidden); gives others of the same shape.
        layer: after which layer of the language model, from 0: later queries and layers see the change. None: after the
            final norm, just before the projector.

    Raises:
        ValueError: for a layer that the model does not have (both numbers).
        RuntimeError: at the end, if no prompt was encoded: `chat` and `write` do not call `encode`.
    """
    layers = model.llm.layers
    if layer is not None and not 0 <= layer < len(layers):
        raise ValueError(
            f"layer {layer} was asked for; the language model has {len(layers)}, counted from 0"
        )
    hooks, count = [], 0

    def change_rows(module, arguments, output: Tensor) -> Tensor:
        # Prompts are padded on the left, so the queries are the last positions of every row.
        before, states = output[:, : -model.queries], output[:, -model.queries :]
        return torch.cat([before, change(states)], dim=1)

    def begin(point, arguments) -> None:
        nonlocal count
        count += 1
        if layer is not None:
            hooks.append(layers[layer].register_forward_hook(change_rows))

    def end(point, arguments, output: Tensor | None) -> Tensor | None:
        if layer is not None:
            hooks.pop().remove()
        return change(output) if layer is None and output is not None else None

    point = model.query_states
    point_hooks = [
        point.register_forward_pre_hook(begin),
        point.register_forward_hook(end, always_call=True),  # also when the pass fails
    ]
    try:
        yield
    finally:
        for hook in point_hooks:
            hook.remove()
    if not count:
        raise RuntimeError(
            "no prompt was encoded inside the `with` block (`chat` and `write` read along and do not call `encode`)"
        )
