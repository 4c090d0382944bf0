"""Emu and Emu2 (Sun et al. 2023a, 2023b): image states are said like words, one after another.

A picture is a row of image states (`image_decoder.py`), and the same row whether it is read or
painted. At each state of a picture that is to be painted, the language model is regressed onto the
next state; to paint, it says the first one, reads it, says the second, and so on. There are no
queries, and no gradient comes from the painter. What differs is when the painter learns, and from
what:

`emu`: 32 states. The painter learns last, from what *this* language model says, as Emu's visual
decoder does. So it can get used to how these states differ from true ones (of what cannot be known,
they hold a mean). Half of what it learns from here are true states, so that it has a teacher to be
compared with.

`emu2`: 64 states, one for each patch, as many as Emu2 has. The painter learns from true states
alone and never meets the language model: with CLIP it is an autoencoder.

What is simpler than in Emu and Emu2:
- Emu's states come from a causal transformer that learns along with the language model; ours, like
  those of Emu2, are CLIP's, pooled, and do not change.
- Emu2 has a language model of 33 billion parameters and the U-Net of SDXL, and it was made to show
  what size does: it learns from examples in its context. Here both families have the same language
  model and U-Net as all others, and `emu2` is larger only in the number of states.
- Both are pretrained on pages and videos in which pictures stand anywhere, and then instructed.
  Ours learn from the samples of all families, in which only the reply is a target.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ..documents import Document, Layout, collate
from ..dream_queries import gather
from ..llm import Cache
from ..model import DreamLLM
from ..trainer.lessons import laid_out
from ..trainer.loop import Recipe
from .alignment import REGRESSION_WEIGHT
from .family import Family, FamilyPlan, base_model
from .image_decoder import ImageDecoder, StateEncoder
from .samples import IMAGE_KINDS, TEXT_KINDS, Sample


class Emu2(Family):
    """The family with a painter that learns first.

    `model.decoder.projector` makes a state of what the language model says, and
    `model.vision.projector` an input of a state.

    Args:
        name: of the family.
        model: its vision encoder is replaced by the painter's, with a new projector.
        recipe: of the language model.
        painter: of image states.
    """

    def __init__(self, name: str, model: DreamLLM, recipe: Recipe, painter: ImageDecoder):
        model.vision = StateEncoder(model.vision, painter.encoder.states)
        trained = [model.llm, model.vision.projector, model.decoder.projector]
        kinds = IMAGE_KINDS + TEXT_KINDS
        super().__init__(name, model, recipe, kinds, trained, earlier_phases=(painter,))

    @property
    def painter(self) -> ImageDecoder:
        """Paints image states."""
        return self.earlier_phases[0]

    def lay_out(self, sample: Sample) -> tuple[Layout, Document]:
        """A sample as one sequence; a picture to be painted stands in it as one that is read."""
        if sample.replies_in_text:
            return super().lay_out(sample)
        document = Document([*sample.given, sample.reply], targets=[])
        (layout,), _ = laid_out([document], self.model, learn_text=False)
        return layout, document

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """The language loss of text replies; of pictures the mean squared error ("regression")."""
        if batch[0].replies_in_text:
            return super().forward(batch, generator)
        layouts, documents = zip(*map(self.lay_out, batch))
        seen = self.model.features(layouts, documents).patches
        read, hidden = self.model.read(layouts, documents, seen)
        # The reply is each row's last picture. What precedes a state says it.
        last = {row: (index, first) for index, (row, first) in enumerate(read.patches)}
        before = [(row, first - 1) for row, (_, first) in last.items()]
        said = self.model.decoder.projector(gather(hidden, self.painter.encoder.states, before))
        targets = seen[[index for index, _ in last.values()]]
        regression = F.mse_loss(said, targets)
        return {"total": REGRESSION_WEIGHT * regression, "regression": regression}

    @torch.no_grad()
    def said_states(self, samples: list[Sample]) -> Tensor:
        """The image states that are said as replies, shape (batch, states, dim), one by one."""
        model, cache = self.model, Cache()
        special = model.tokenizer.special
        documents = [Document(list(sample.given), targets=[]) for sample in samples]
        layouts = [model.open_layout(document) for document in documents]
        for layout in layouts:
            layout.add([special.im_start], learned=False)
        batch = collate(layouts, special.pad, side="left", device=model.device)
        images = [picture for document in documents for picture in document.images]
        inputs, mask = model.embed(batch, images), batch.mask
        states = []
        for _ in range(self.painter.encoder.states):
            hidden = model.llm(inputs, mask, cache)
            states.append(model.decoder.projector(hidden[:, -1]))
            inputs = rearrange(model.vision.project(states[-1]), "batch dim -> batch 1 dim")
            mask = torch.ones_like(batch.mask[:, :1])
        return torch.stack(states, dim=1)

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """As `Family.replies`; pictures are painted from the states that are said."""
        if samples[0].replies_in_text:
            return super().replies(samples)
        return self.painter.paint(self.said_states(samples))

    def extra_results(self, evaluation) -> dict:
        """{"teacher": as `ImageDecoder.teacher`}."""
        return {"teacher": self.painter.teacher(evaluation)}


class Emu(Emu2):
    """The family with a painter that learns last, from what the language model says."""

    def __init__(self, name: str, model: DreamLLM, recipe: Recipe, painter: "SaidStatesDecoder"):
        super().__init__(name, model, recipe, painter)
        painter.said_states = self.said_states

    @property
    def phases(self) -> list:
        """The language model, then the painter, which is in `earlier_phases` all the same."""
        return [self, self.painter]


class SaidStatesDecoder(ImageDecoder):
    """A painter that learns half from true states and half from those that a family says.

    The family gives it its `said_states`.
    """

    def conditions_of(self, batch: list[Sample]) -> Tensor:
        """What is said for the first half of the batch, and the true states of the second."""
        states, half = self.true_states(batch), len(batch) // 2
        if half:
            states[:half] = self.said_states(batch[:half])
        return states


def emu(plan: FamilyPlan) -> Emu:
    """Trains the language model with both projectors, then the painter."""
    model, recipe = base_model(), plan.recipe(1e-3)
    return Emu("emu", model, recipe, SaidStatesDecoder(model, recipe, states=32))


def emu2(plan: FamilyPlan) -> Emu2:
    """Trains the painter, then the language model with both projectors."""
    model, recipe = base_model(), plan.recipe(1e-3)
    return Emu2("emu2", model, recipe, ImageDecoder(model, recipe, states=64))
