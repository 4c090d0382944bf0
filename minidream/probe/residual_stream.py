"""The residual stream at the dream queries: their states after every layer of the LLM."""

import torch
from torch import Tensor

from .watch import watch


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
