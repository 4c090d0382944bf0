"""How the study of query counts trains dream queries: from a fresh start, with two losses."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import dream_queries
from ..documents import collate
from ..model import DreamLLM
from ..train import batches, stages
from ..weights import parts, toy
from ..weights.toy import clip_text_states


class PaintingStage(stages.DocumentStage):
    """Stage I on painting alone: dream queries and condition projector learn."""

    def __init__(self, model: DreamLLM):
        super().__init__("stage1", model)
        self.tasks = ((batches.simple_text_to_image, 1.0),)
        model.vision.requires_grad_(False)


class ImitationStage(PaintingStage):
    """Stage I's creation with another teacher: projected queries learn to equal CLIP's text states.

    The loss is the mean squared error; pictures are not used. The captions are those of stage I, in
    the same order. As there, a tenth of them is replaced by the empty caption.

    Args:
        model: the toy with as many dream queries as CLIP has text states.
        text_tower: the toy CLIP's, frozen.

    Raises:
        ValueError: for another number of queries (both numbers).

    Paper: section 2.1, on aligning with CLIP's embeddings.
    """

    share = None  # of several processes, each takes captions of its own
    prepare = None  # pictures are not used

    def __init__(self, model: DreamLLM, text_tower: torch.nn.Module):
        super().__init__(model)
        states = text_tower.config.max_position_embeddings
        if model.queries != states:
            raise ValueError(
                f"each text state needs a query of its own: {states} states, "
                f"{model.queries} queries"
            )
        self.text_tower = text_tower

    def forward(self, batch, generator):
        """Mean squared error over all components of the states."""
        _, documents = batch
        drop_prob = self.model.decoder.config.drop_prob
        kept = (torch.rand(len(documents), generator=generator) >= drop_prob).tolist()
        captions = [document.text if keep else "" for document, keep in zip(documents, kept)]
        with torch.no_grad():
            wanted = clip_text_states(self.text_tower, self.model.tokenizer, captions)
        return {"total": F.mse_loss(conditions(self.model, captions), wanted)}


def conditions(model: DreamLLM, captions: list[str]) -> Tensor:
    """What the U-Net is given for captions: projected queries, with gradients.

    Returns:
        Shape (batch, queries, condition_dim).
    """
    layouts = [model.prompt_layout(caption) for caption in captions]
    batch = collate(layouts, model.tokenizer.special.pad, device=model.device)
    # Padding is on the right, where causal attention never reads it.
    hidden = model.llm(model.embed(batch, []))
    return model.decoder.projector(dream_queries.gather(hidden, model.queries, batch.queries))


def fresh_model(queries: int, seed: int) -> DreamLLM:
    """The toy before stage I's creation, with new dream queries and a new condition projector."""
    model = parts.toy_before("stage1")
    generator = torch.Generator().manual_seed(seed)
    model.dream_queries = dream_queries.new_dream_queries(
        queries, toy.LLM_SIZE, generator, toy.EMBEDDING_STD
    )
    bound = toy.LLM_SIZE**-0.5  # as torch draws a new linear layer
    with torch.no_grad():
        model.decoder.projector.projector.weight.uniform_(-bound, bound, generator=generator)
    return model
