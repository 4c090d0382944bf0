"""Embedding alignment: dream queries are regressed onto embeddings of CLIP.

No gradient comes from the painter. All else (queries, language model, samples) is as in DreamLLM,
so that only the teacher differs. Paper: section 2.1.

`text`: the targets are the text states on which the U-Net was trained. GILL (Koh et al. 2023).

`short`: as `text`, but the captions of stories and edits leave out the background. It shows what
is lost where captions do not describe the whole picture.

`image`: the targets are CLIP's states of the picture itself. SEED (Ge et al. 2023), Emu (Sun et
al. 2023). The frozen U-Net was never trained on such states. Therefore a linear decoder learns,
from the true states and by the denoising loss, to turn them into conditions. (Emu trains a whole
decoder in this way, and SEED maps to text states; SEED's discrete codes are left out.)

Every run also records the scores of pictures painted from the true states ("teacher"), since no
imitation of the states can be expected to be better.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from ..dream_queries import gather
from ..images import to_pil
from ..model import DreamLLM
from ..trainer.loop import Recipe
from ..weights import toy
from ..weights.toy import clip_text_states, paint_from_text_states
from ..world.language import description
from ..world.render import FLOATS
from .family import Family, FamilyPlan, base_model, stage2_modules
from .samples import IMAGE_KINDS, TEXT_KINDS, Sample

# Of the regression relative to the language loss. Text states have variance 1.6, image states 1.
REGRESSION_WEIGHT = 4.0


class Aligned(Family):
    """A family whose projected dream queries are regressed onto target states.

    A tenth of the samples get the empty prompt, as in `DreamLLM.drop_conditions`.
    """

    def __init__(self, name: str, model: DreamLLM, recipe: Recipe):
        kinds = IMAGE_KINDS + TEXT_KINDS
        super().__init__(name, model, recipe, kinds, stage2_modules(model))

    def target_states(self, batch: list[Sample]) -> Tensor:
        """The targets, shape (batch, queries, dim), without gradient."""
        raise NotImplementedError

    @property
    def aligner(self) -> nn.Module:
        """Maps the language model's states to the space of the targets."""
        return self.model.decoder.projector

    def conditions_of(self, states: Tensor) -> Tensor:
        """Maps states like the targets to conditions of the U-Net; here they are conditions."""
        return states

    def conditions_loss(
        self, batch: list[Sample], targets: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss of `conditions_of`; 0 here, where it has nothing to learn."""
        return torch.zeros((), **FLOATS)

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
        targets = self.target_states(batch)
        regression = F.mse_loss(self.aligner(states), targets)
        diffusion = self.conditions_loss(batch, targets, generator)
        total = REGRESSION_WEIGHT * regression + self.model.config.loss_weight_vm * diffusion
        return {"total": total, "regression": regression, "diffusion": diffusion}

    @torch.no_grad()
    def extra_results(self, evaluation) -> dict:
        """{"teacher": {kind: scores of pictures painted from the targets}}, seen combinations."""
        scores = {}
        for kind in IMAGE_KINDS:
            samples = evaluation.samples(kind, held_out=False)
            # The last one, without an input, gives the null condition.
            targets = self.target_states([*samples, replace(samples[0], given=())])
            conditions = self.conditions_of(targets)
            images = paint_from_text_states(self.model.decoder, conditions[:-1], conditions[-1:])
            scores[kind] = evaluation.score(samples, to_pil(images))
        return {"teacher": scores}


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


class ImageAligned(Aligned):
    """Regressed onto CLIP's states of the picture.

    The first half of the projector is regressed; the second half decodes.
    """

    @property
    def aligner(self) -> nn.Module:
        """Maps the language model's states to states like CLIP's."""
        return self.model.decoder.projector[0]

    def conditions_of(self, states: Tensor) -> Tensor:
        """Decodes states like CLIP's to conditions of the U-Net."""
        return self.model.decoder.projector[1](states)

    @torch.no_grad()
    def target_states(self, batch: list[Sample]) -> Tensor:
        """Means of pairs of patch states, each normalized; zeros for a sample without an input."""
        vision = self.model.vision
        pixels = vision.pixels([sample.reply for sample in batch])
        outputs = vision.tower(pixel_values=pixels, output_hidden_states=True)
        states = reduce(
            outputs.hidden_states[vision.select_layer][:, 1:],
            "batch (queries pair) dim -> batch queries dim",
            "mean",
            queries=self.model.queries,
        )
        given = torch.tensor([bool(sample.given) for sample in batch], device=states.device)
        return F.layer_norm(states, states.shape[-1:]) * rearrange(given, "batch -> batch 1 1")

    def conditions_loss(
        self, batch: list[Sample], targets: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The denoising loss with the true states as conditions; it does not reach the queries."""
        decoder = self.model.decoder
        latents = decoder.latents_of([sample.reply for sample in batch])
        return decoder.loss(latents, self.conditions_of(targets), generator)


def full_caption(sample: Sample) -> str:
    """The caption with all facts."""
    return sample.caption


def caption_without_background(sample: Sample) -> str:
    """The caption of a story or an edit without its background; of a prompt, the prompt itself."""
    if sample.kind == "paint":
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
    """Trains the same parts, and the decoder of image states."""
    model = base_model()
    model.decoder.projector = nn.Sequential(
        nn.Linear(toy.LLM_SIZE, toy.VISION_SIZE), nn.Linear(toy.VISION_SIZE, toy.CONDITION_SIZE)
    )
    return ImageAligned("alignment-image", model, plan.recipe(1e-3))
