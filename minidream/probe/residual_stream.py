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
            lambda layer, arguments, output: seen.append(output[0][:, -model.queries :])
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
    encode, replaced, count = model.encode, "encode" in vars(model), 0

    def change_rows(module, arguments, output):
        # Prompts are padded on the left, so the queries stand at the end of every row.
        hidden, present = output
        return torch.cat(
            [hidden[:, : -model.queries], change(hidden[:, -model.queries :])], dim=1
        ), present

    def encode_changed(prompts) -> Tensor:
        nonlocal count
        count += 1
        if layer is None:
            return change(encode(prompts))
        hook = layers[layer].register_forward_hook(change_rows)
        try:
            return encode(prompts)
        finally:
            hook.remove()

    model.encode = encode_changed
    try:
        yield
    finally:
        if replaced:
            model.encode = encode
        else:
            del model.encode
    if not count:
        raise RuntimeError(
            "no prompt was encoded inside the `with` block (`chat` and `write` read along and do not call `encode`)"
        )
