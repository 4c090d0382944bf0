"""Referring: boxes are words, in questions and in answers.

Kosmos-2 (Peng et al. 2023: one word for each cell of a grid), Shikra (Chen et al. 2023: plain
numbers in the text), ChatSpot (Zhao et al. 2023), GPT4RoI (Zhang et al. 2023: boxes in the
instruction). The family is an encode-only one that can also point: it reads pictures and writes
text. Each side of a box is one of 33 new words, "0" to "32", whose embeddings learn along with
the language model. The answer to "where is the circle?" is four of them, and the question "is the
circle at 3 5 17 19?" contains four. GPT4RoI's pooled region features are left out.
"""

from .boxes import BIN_WORDS
from .family import Family, FamilyPlan, base_model, with_new_words
from .samples import BOX_KINDS, TEXT_KINDS

WORDS = ("where", "at", *BIN_WORDS)


def referring(plan: FamilyPlan) -> Family:
    """Trains the language model and the projector, on captions, questions and boxes."""
    model = with_new_words(base_model(), WORDS)
    trained = [model.llm, model.vision.projector]
    return Family("referring", model, plan.recipe(1e-3), TEXT_KINDS + BOX_KINDS, trained)
