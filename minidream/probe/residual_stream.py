"""The residual stream at the dream queries: their states after every layer of the LLM."""

from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from ..images import as_index
from .watch import hooked, watch


@torch.inference_mode(False)
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
        RuntimeError: if a layer did not run its hooks.
    """
    # By the list of layers itself, whose name is another one inside a wrapper such as peft's.
    with watch(model.llm.layers, "*") as outputs:
        model.encode(prompts)
    silent = [f"llm.layers.{name}" for name, each in outputs.items() if not each]
    if silent:
        raise RuntimeError(
            f"a prompt was encoded, but {', '.join(silent)} did not run their hooks, so that "
            "nothing was recorded there"
        )
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
        layer: after which layer of the language model, from 0 (-1 is the last); later queries and
            layers see the change. None: after the final norm, just before the projector.

    Raises:
        TypeError: for a layer that is not a number.
        ValueError: for a layer that the model does not have (both numbers).
        RuntimeError: at the end, if no prompt was encoded: `chat` and `write` do not encode any. At
            once, if a layer did not run its hooks.
    """
    layers = model.llm.layers
    if layer is not None:
        held = f"the language model has {len(layers)}, counted from 0"
        layer = as_index("layer", layer, len(layers), held)
    count, inside, changes = 0, 0, 0

    def begin(point, inputs) -> None:
        nonlocal count, inside, changes
        count, inside, changes = count + 1, inside + 1, 0

    def change_queries(module, inputs: tuple) -> tuple | None:
        nonlocal changes
        if not inside:  # another pass, such as that of the null condition
            return None
        changes += 1
        hidden, *others = inputs
        # Prompts are padded on the left, so that the queries are the last positions of every row.
        before, states = hidden[:, : -model.queries], hidden[:, -model.queries :]
        return torch.cat([before, change(states)], dim=1), *others

    def end(point, inputs, output: Tensor | None) -> Tensor | None:
        nonlocal inside
        inside -= 1
        if output is None:  # the pass failed
            return None
        if layer is None:
            return change(output)
        if not changes:
            raise RuntimeError(
                f"a prompt was encoded, but layer {layer} of the language model did not run its "
                "hooks, so that nothing was changed"
            )
        return None

    point = model.query_states
    hooks = [
        (point.register_forward_pre_hook, begin),
        (partial(point.register_forward_hook, always_call=True), end),
    ]
    if layer is not None:
        # Where the states enter the next module, so that recorders see what the layer returned.
        following = [*layers, model.llm.norm][layer + 1]
        hooks.append((following.register_forward_pre_hook, change_queries))
    with hooked(hooks, recomputed=True):
        yield
    if not count:
        raise RuntimeError(
            "no prompt was encoded inside the `with` block (`chat` and `write` do not encode any)"
        )
