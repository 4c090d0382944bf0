"""Embedding alignment: dream queries are regressed onto embeddings of CLIP.

No gradient comes from the painter. All else (queries, language model, samples) is as in DreamLLM,
so that only the teacher differs. Paper: section 2.1.

`text`: the targets are the text states on which the U-Net was trained. GILL (Koh et al. 2023).

`short`: as `text`, but the captions of stories and edits leave out the background. It shows what
is lost where captions do not describe the whole picture.

`image`: the targets are CLIP's states of the picture itself, and the painter was trained on such
states before (`image_decoder.py`). No published system is exactly this one: SEED, Emu and Emu2,
which also say image states, have no queries (see `seed.py` and `emu.py`). It is here because only
its teacher, and the painter that goes with it, differ from those of `text` and of DreamLLM.

Every run also records the scores of pictures painted from the true states ("teacher"), since no
imitation of the states can be expected to be better.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ..documents import Document
from ..dream_queries import gather
from ..images import to_pil
from ..model import DreamLLM
from ..trainer.loop import Recipe
from ..weights import toy
from ..weights.toy import clip_text_states, paint_from_text_states
from ..world.language import description
from ..world.render import FLOATS
from .family import QUERIES, Family, FamilyPlan, base_model, stage2_modules
from .image_decoder import ImageDecoder
from .samples import IMAGE_KINDS, PAINTED_KINDS, PROMPT_KINDS, TEXT_KINDS, Sample

# Of the regression relative to the language loss. Text states have variance 1.6, image states 1.
REGRESSION_WEIGHT = 4.0


class Aligned(Family):
    """A family whose projected dream queries are regressed onto target states.

    A tenth of the samples get the empty prompt, as in `DreamLLM.drop_conditions`.
    """

    def __init__(self, name: str, model: DreamLLM, recipe: Recipe, earlier_phases: tuple = ()):
        kinds, trained = IMAGE_KINDS + TEXT_KINDS, stage2_modules(model)
        super().__init__(name, model, recipe, kinds, trained, earlier_phases=earlier_phases)

    def target_states(self, batch: list[Sample]) -> Tensor:
        """The targets, shape (batch, queries, dim), without gradient."""
        raise NotImplementedError

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """The language loss of text replies; of pictures the mean squared error ("regression")."""
        if batch[0].replies_in_text:
            return super().forward(batch, generator)
        draw = torch.rand(len(batch), generator=generator, **FLOATS)
        kept = draw >= self.model.decoder.config.drop_prob
        batch = [
            sample if keep else replace(sample, kind="nothing", given=(), scenes=())
            for sample, keep in zip(batch, kept.tolist())
        ]
        layouts, documents = zip(*map(self.lay_out, batch))
        read, hidden = self.model.read(layouts, documents)
        states = gather(hidden, self.model.queries, read.queries)
        regression = F.mse_loss(self.model.decoder.projector(states), self.target_states(batch))
        return {"total": REGRESSION_WEIGHT * regression, "regression": regression}


class TextAligned(Aligned):
    """Regressed onto CLIP's text states of a caption of the picture.

    Args:
        name, model, recipe: as for `Family`.
        caption: makes the caption of a sample.
    """

    def __init__(
        self, name: str, model: DreamLLM, recipe: Recipe, caption: Callable[[Sample], str]
    ):
        super().__init__(name, model, recipe)
        self.caption, self.text_tower = caption, toy.pretrained_text_tower()

    @torch.no_grad()
    def target_states(self, batch: list[Sample]) -> Tensor:
        """Text states of the captions, and of the empty caption for a sample without an input."""
        captions = [self.caption(sample) if sample.given else "" for sample in batch]
        return clip_text_states(self.text_tower, self.model.tokenizer, captions)

    @torch.no_grad()
    def extra_results(self, evaluation) -> dict:
        """{"teacher": {kind: scores of pictures painted from the targets}}, seen combinations."""
        scores = {}
        for kind in PAINTED_KINDS:
            samples = evaluation.samples(kind, held_out=False)
            # The last one, without an input, gives the null condition.
            targets = self.target_states([*samples, replace(samples[0], given=())])
            images = paint_from_text_states(self.model.decoder, targets[:-1], targets[-1:])
            scores[kind] = evaluation.score(samples, to_pil(images))
        return {"teacher": scores}


class ImageAligned(Aligned):
    """Regressed onto CLIP's states of the picture, which its own painter can paint."""

    def __init__(self, name: str, model: DreamLLM, recipe: Recipe, painter: ImageDecoder):
        super().__init__(name, model, recipe, earlier_phases=(painter,))

    @property
    def painter(self) -> ImageDecoder:
        """Paints image states; trained before."""
        return self.earlier_phases[0]

    @torch.no_grad()
    def target_states(self, batch: list[Sample]) -> Tensor:
        """The states of the pictures; zeros for a sample without an input."""
        states = self.painter.true_states(batch).to(self.model.device)
        given = torch.tensor([bool(sample.given) for sample in batch], device=states.device)
        return states * rearrange(given, "batch -> batch 1 1")

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """As `Family.replies`, with the painter of image states."""
        if samples[0].replies_in_text:
            return super().replies(samples)
        prompts = [Document(list(sample.given), targets=[]) for sample in samples]
        return self.painter.paint(self.model.decoder.projector(self.model.encode(prompts)))

    def extra_results(self, evaluation) -> dict:
        """{"teacher": as `ImageDecoder.teacher`}."""
        return {"teacher": self.painter.teacher(evaluation)}


def full_caption(sample: Sample) -> str:
    """The caption with all facts."""
    return sample.caption


def caption_without_background(sample: Sample) -> str:
    """The caption of a story or an edit without its background; of a prompt, the prompt itself."""
    if sample.kind in PROMPT_KINDS:
        return sample.caption
    return description(sample.scenes[-1], background=False)


def text(plan: FamilyPlan) -> TextAligned:
    """Trains the language model, the queries and both projectors; the U-Net is not used."""
    return TextAligned("alignment-text", base_model(), plan.recipe(1e-3), full_caption)


def short(plan: FamilyPlan) -> TextAligned:
    """The same with `caption_without_background`; the prompts stay as they are."""
    recipe = plan.recipe(1e-3)
    return TextAligned("alignment-short", base_model(), recipe, caption_without_background)


def image(plan: FamilyPlan) -> ImageAligned:
    """Trains the painter of image states, then the same parts as `text`."""
    model, recipe = base_model(), plan.recipe(1e-3)
    return ImageAligned("alignment-image", model, recipe, ImageDecoder(model, recipe, QUERIES))
