"""Attribution patching: what would patching do at every position and head, from one gradient?

Patching one activation after the other takes a pass for each. To first order, the effect of
patching is the difference of the two activations times the gradient, so that three passes give an
estimate for all. It is a way to find where to look; `patch` says what is there.

Source: Nanda 2023; Kramár et al. 2024 show where the estimate fails.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..documents import as_documents
from .hooks import named, record, visits


@torch.inference_mode(False)
def attribution_patching(
    model, clean, corrupted, target: Callable[[Tensor], Tensor], names, heads=None
) -> dict[str, Tensor]:
    """How much patching what a clean prompt has into a corrupted one would change the target.

    Args:
        model: a DreamLLM.
        clean, corrupted: prompts, a str or Document, or equally many of them, which differ in some
            words of equal length, so that each position has a counterpart.
        target: states (batch, queries, hidden) to (batch,), differentiable, as for
            `integrated_gradients`.
        names: of points in the language model or at the queries, one or several, `*` matches within
            one part.
        heads: None is all.

    Returns:
        {name: estimate of target(patched) - target(corrupted), where one position is patched},
        float32: shape (batch, positions), with heads (batch, heads, positions).

    Raises:
        TypeError, ValueError: as `record` and `encode`; for a point elsewhere; for prompts of
            another number or length (both).
    """
    known = list(named(model, names))
    if elsewhere := [name for name in known if name.split(".")[0] not in ("llm", "queries")]:
        raise ValueError(f"{elsewhere[0]} is not in the language model")
    documents = [as_documents(prompts) for prompts in (clean, corrupted)]
    layouts = [[model.prompt_layout(document) for document in each] for each in documents]
    lengths = [[len(layout.ids) for layout in each] for each in layouts]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"clean and corrupted prompts take {lengths[0]} and {lengths[1]} positions: each needs "
            "a counterpart of its length"
        )
    with torch.no_grad(), record(model, known, heads=heads) as cache:
        model.encode(clean)
    held: dict[str, Tensor] = {}

    def leaf(value: Tensor, columns) -> Tensor:
        return value.detach().requires_grad_()  # where the gradient ends

    def keep(name: str) -> Callable:
        def hold(value: Tensor, columns) -> Tensor:
            held[name] = value if value.requires_grad else leaf(value, columns)
            return held[name]  # so that what follows depends on it

        return hold

    with torch.enable_grad(), visits(model, [("llm.embed", leaf)]):
        with visits(model, [(name, keep(name)) for name in known], heads=heads):
            total = target(model.encode_layouts(documents[1], layouts[1])).sum()
            gradients = torch.autograd.grad(total, list(held.values()), allow_unused=True)
    estimates = {}
    for (name, corrupt), gradient in zip(held.items(), gradients):
        change = cache[name][0].detach() - corrupt.detach()
        slope = torch.zeros_like(change) if gradient is None else gradient
        estimates[name] = (change * slope).float().sum(dim=-1)
    return estimates
