"""DreamLLM (Dong et al. 2024): the library itself, as a family among the others.

Dream queries gather what is to be painted; nobody tells them what, the denoising loss is the only teacher. `dreamllm` learns
to see and to paint at once, `creation` to paint alone with as many samples; what sees alone is `encode_only.instructions`.
Together they ask what the paper's section 5.1 asks: does painting help seeing, and seeing painting?
"""

from .family import Family, Plan, fresh
from .samples import PAINTED, TOLD


def dreamllm(plan: Plan, name: str = "dreamllm", kinds: tuple[str, ...] = PAINTED + TOLD) -> Family:
    """Language model, dream queries and both projectors learn together."""
    model = fresh()
    return Family(name, model, plan.recipe(1e-3), kinds, [model.llm, model.vision.projector, model.dream_queries, model.decoder.projector])


def creation(plan: Plan) -> Family:
    """The same without captions and questions."""
    return dreamllm(plan, "dreamllm-creation", PAINTED)
