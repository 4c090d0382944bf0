"""DreamLLM (Dong et al. 2024): the library itself, as a family among the others.

Dream queries gather what is to be painted; nobody tells them what, the denoising loss is the only teacher. `dreamllm` learns
to see and to paint at once, `creation` to paint alone with as many samples; what sees alone is `encode_only.instructions`.
`synergy.py` asks with them what the paper's section 5.1 asks: does painting help seeing, and seeing painting?
"""

from dataclasses import replace

from .family import QUERIES, Family, FamilyPlan, base_model, stage2_modules
from .samples import IMAGE_KINDS, TEXT_KINDS


def dreamllm(
    plan: FamilyPlan,
    name: str = "dreamllm",
    kinds: tuple[str, ...] = IMAGE_KINDS + TEXT_KINDS,
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
    model = base_model(queries)
    if weight is not None:
        model.config = replace(model.config, loss_weight_vm=weight)
    return Family(name, model, plan.recipe(1e-3), kinds, stage2_modules(model))


def creation(plan: FamilyPlan) -> Family:
    """The same without captions and questions."""
    return dreamllm(plan, "dreamllm-creation", IMAGE_KINDS)
