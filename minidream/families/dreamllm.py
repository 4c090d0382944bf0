"""DreamLLM (Dong et al. 2024): the library itself, as a family among the others.

Dream queries gather what is to be painted; nobody tells them what, the denoising loss is the only teacher. `dreamllm` learns
to see and to paint at once, `creation` to paint alone with as many samples; what sees alone is `encode_only.instructions`.
`synergy.py` asks with them what the paper's section 5.1 asks: does painting help seeing, and seeing painting?
"""

from dataclasses import replace

from .family import QUERIES, Family, Plan, fresh, learned_together
from .samples import PAINTED, TOLD


def dreamllm(
    plan: Plan,
    name: str = "dreamllm",
    kinds: tuple[str, ...] = PAINTED + TOLD,
    queries: int = QUERIES,
    weight: float | None = None,
) -> Family:
    """Language model, dream queries and both projectors learn together.

    Args:
        plan: of all families.
        name: of the family.
        kinds: that it learns and is asked.
        queries: how many.
        weight: of the denoising loss beside the language loss; None is the toy's.
    """
    model = fresh(queries)
    if weight is not None:
        model.config = replace(model.config, loss_weight_vm=weight)
    return Family(name, model, plan.recipe(1e-3), kinds, learned_together(model))


def creation(plan: Plan) -> Family:
    """The same without captions and questions."""
    return dreamllm(plan, "dreamllm-creation", PAINTED)
