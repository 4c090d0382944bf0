"""DreamLLM (Dong et al. 2024): this library's own system, trained as one family among the others.

Dream queries gather the conditions of a picture, and only the denoising loss teaches them.
`dreamllm` learns to read and to paint pictures together; `creation` learns only to paint, from as
many samples in all. (`encode_only.instructions` learns only to read.) `studies/synergy.py`
compares them to answer the question of the paper's section 5.1: does painting help comprehension,
and the other way round?
"""

from dataclasses import replace

from .family import Family, FamilyPlan, base_model, stage2_modules
from .samples import IMAGE_KINDS, TEXT_KINDS


def dreamllm(
    plan: FamilyPlan,
    name: str = "dreamllm",
    kinds: tuple[str, ...] = IMAGE_KINDS + TEXT_KINDS,
    weight: float | None = None,
) -> Family:
    """Trains the language model, the dream queries and both projectors.

    Args:
        plan: the budget.
        name: of the family.
        kinds: that it learns from and is asked.
        weight: of the denoising loss relative to the language loss; None means the toy's.
    """
    model = base_model()
    if weight is not None:
        model.config = replace(model.config, loss_weight_vm=weight)
    return Family(name, model, plan.recipe(1e-3), kinds, stage2_modules(model))


def creation(plan: FamilyPlan) -> Family:
    """The same without captions and questions."""
    return dreamllm(plan, "dreamllm-creation", IMAGE_KINDS)
