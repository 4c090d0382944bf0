"""The residual stream at the dream queries: their states after every layer of the LLM."""

from contextlib import contextmanager

import torch
from torch import Tensor

from .watch import hooked, watch


@torch.no_grad()
def query_stream(model, prompts) -> Tensor:
    """The residual stream at the dream queries after each layer, from the pass of `encode`.

    Args:
        model: a DreamLLM.
        prompts: a str or Document, or a list of them.

    Returns:
        Shape (layers, batch, queries, hidden). The last layer's, after the final norm, is what
        `encode` returns.

    Raises:
        TypeError, ValueError: as `DreamLLM.dream`.
    """
    with watch(model, "llm.layers.*") as outputs:
        model.encode(prompts)
    # Prompts are padded on the left, so that the queries are the last positions of every row.
    return torch.stack([hidden[:, -model.queries :] for (hidden,) in outputs.values()])


@contextmanager
def changed(model, change, layer: int | None = None):
    """Changes the states of the dream queries while pictures are painted inside the `with` block.

    It acts at the hook point `model.query_states`, and so on `encode` and `dream`. The null
    condition, which guidance pushes away from, does not pass through there and stays as it is.

    Args:
        model: a DreamLLM.
        change: called with states, shape (batch, queries, hidden); returns others of that shape.
        layer: after which layer of the language model, from 0; later queries and layers see the
            change. None: after the final norm, just before the projector.

    Raises:
        ValueError: for a layer that the model does not have (both numbers).
        RuntimeError: at the end, if no prompt was encoded: `chat` and `write` do not encode any.
    """
    layers = model.llm.layers
    if layer is not None and not 0 <= layer < len(layers):
        raise ValueError(
            f"layer {layer} was asked for; the language model has {len(layers)}, counted from 0"
        )
    layer_hooks, count = [], 0

    def change_queries(module, inputs, output: Tensor) -> Tensor:
        # Prompts are padded on the left, so that the queries are the last positions of every row.
        before, states = output[:, : -model.queries], output[:, -model.queries :]
        return torch.cat([before, change(states)], dim=1)

    def begin(point, inputs) -> None:
        nonlocal count
        count += 1
        if layer is not None:
            layer_hooks.append(layers[layer].register_forward_hook(change_queries))

    def end(point, inputs, output: Tensor | None) -> Tensor | None:
        if layer is not None:
            layer_hooks.pop().remove()
        return change(output) if layer is None and output is not None else None

    point = model.query_states
    handles = [
        point.register_forward_pre_hook(begin),
        point.register_forward_hook(end, always_call=True),  # also when the pass fails
    ]
    with hooked(handles):
        yield
    if not count:
        raise RuntimeError(
            "no prompt was encoded inside the `with` block (`chat` and `write` do not encode any)"
        )
