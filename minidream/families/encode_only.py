"""Encode-only systems: image tokens go in and text comes out; no part of them can paint.

`projector`: the language model is frozen, and only a linear projector learns to turn CLIP's
patches into tokens. The first stage of LLaVA (Liu et al. 2023); MiniGPT-4 (Zhu et al. 2023),
whose visual part also has a frozen query former; X-LLM (Chen et al. 2023), which has a query
former and an adapter for each modality in place of the projector (see `qformer.py`).

`captions`: the language model learns too, here only from pictures with their captions. MetaLM
(Hao et al. 2022), Kosmos-1 (Huang et al. 2023; it also reads plain text and interleaved pages).
The family is asked questions all the same: it can answer them about texts, as every family here,
but never learned to answer them about pictures.

`instructions`: as `captions`, but from captions and questions. MultiInstruct (Xu et al. 2023) and
the second stage of LLaVA; InstructBLIP (Dai et al. 2023) also learns from instructions, but
trains only its query former.
"""

from .family import Family, FamilyPlan, base_model
from .samples import TEXT_KINDS


def projector(plan: FamilyPlan) -> Family:
    """Trains the projector alone."""
    model = base_model()
    return Family("projector", model, plan.recipe(2e-3), TEXT_KINDS, [model.vision.projector])


def captions(plan: FamilyPlan) -> Family:
    """Trains the language model and the projector, on captions."""
    model = base_model()
    trained = [model.llm, model.vision.projector]
    recipe = plan.recipe(1e-3)
    return Family("captions", model, recipe, TEXT_KINDS, trained, training_kinds=("caption",))


def instructions(plan: FamilyPlan, share: float = 1.0) -> Family:
    """Trains the language model and the projector, on captions and questions.

    Args:
        plan: the budget.
        share: of the plan's steps.
    """
    model = base_model()
    trained = [model.llm, model.vision.projector]
    return Family("instructions", model, plan.recipe(1e-3, share), TEXT_KINDS, trained)
