"""Encode-only MLLMs: image tokens in, text out. They see and talk; nothing in them paints.

`projector`: the language model is frozen, a linear projector alone learns to put patches where words go. The first stage of LLaVA
(Liu et al. 2023), MiniGPT-4 (Zhu et al. 2023), whose visual part also has a frozen query former; X-LLM (Chen et al. 2023) has a
query former and an adapter for each sense in the projector's place (see `qformer.py`).
`captions`: the language model learns along, here on pictures and their captions only. MetaLM (Hao et al. 2022), Kosmos-1 (Huang et
al. 2023; it also reads plain text and interleaved pages). It is asked questions all the same: it knows them from text, as all
families here do, and never learned to answer them about pictures.
`instructions`: the same on captions and questions. MultiInstruct (Xu et al. 2023), the second stage of LLaVA; InstructBLIP (Dai et
al. 2023) learns from instructions too, but with its query former alone.
"""

from .family import Family, FamilyPlan, base_model
from .samples import TEXT_KINDS


def projector(plan: FamilyPlan) -> Family:
    """Everything frozen but the projector."""
    model = base_model()
    return Family("projector", model, plan.recipe(2e-3), TEXT_KINDS, [model.vision.projector])


def captions(plan: FamilyPlan) -> Family:
    """The language model learns from captions alone."""
    model = base_model()
    return Family(
        "captions",
        model,
        plan.recipe(1e-3),
        TEXT_KINDS,
        [model.llm, model.vision.projector],
        training_kinds=("caption",),
    )


def instructions(plan: FamilyPlan, share: float = 1.0) -> Family:
    """The language model learns from captions and questions; in `share` of the plan's steps."""
    model = base_model()
    return Family(
        "instructions",
        model,
        plan.recipe(1e-3, share),
        TEXT_KINDS,
        [model.llm, model.vision.projector],
    )
