"""Referring: boxes as words, in questions and in answers. They see and talk, and point.

Kosmos-2 (Peng et al. 2023: one word per cell of a grid), Shikra (Chen et al. 2023: plain numbers in the text), ChatSpot (Zhao et
al. 2023), GPT4RoI (Zhang et al. 2023: boxes in the instruction). Here each side of a box is one of 33 new words, "0" to "32",
whose embeddings are learned with the language model; "where is the circle?" is answered by four of them, and "is the
circle at 3 5 17 19?" has four of them in the question. GPT4RoI's pooled region features are left out.
"""

from .boxes import MARKS
from .family import Family, FamilyPlan, base_model, with_words
from .samples import BOX_KINDS, TEXT_KINDS

WORDS = ("where", "at", *MARKS)


def referring(plan: FamilyPlan) -> Family:
    """An encode-only family that also knows boxes."""
    model = with_words(base_model(), WORDS)
    return Family(
        "referring",
        model,
        plan.recipe(1e-3),
        TEXT_KINDS + BOX_KINDS,
        [model.llm, model.vision.projector],
    )
