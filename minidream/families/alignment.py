"""Embedding alignment: queries are told what to be. They are regressed onto CLIP's embeddings, and no gradient comes from the painter.

`text`: onto the text states that the U-Net was trained on. GILL (Koh et al. 2023). `short` is the same with a teacher who does
not mention the background of stories and edits: no caption says all that a picture shows.
`image`: onto CLIP's states of the picture itself. SEED (Ge et al. 2023), Emu (Sun et al. 2023). The frozen U-Net has never seen such
states, so that beside the queries a linear decoder learns, from the *true* states, to make conditions of them, by the
denoising loss. Emu trains a whole decoder so, SEED maps to text states; ours is small, so that every run also says what
it paints from the true states ("teacher"): no imitation can be better. SEED's codes for the states are left out.

All else (queries, language model, samples) is as in DreamLLM: only the teacher differs. Paper: section 2.1.
"""

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from ..dream_queries import gather
from ..images import to_pil
from ..train.lessons import description
from ..weights import toy
from ..weights.toy import clip_text_states, painted
from .family import Family, FamilyPlan, base_model, stage2_modules
from .samples import IMAGE_KINDS, TEXT_KINDS, Sample

WEIGHT = (
    4.0  # of the regression beside the language loss; text states have variance 1.6, image states 1
)


class Aligned(Family):
    """A family whose queries shall equal `wanted` states; a tenth of the samples is the empty prompt, as in `DreamLLM.drop_conditions`."""

    def target_states(self, batch: list[Sample]) -> Tensor:
        """What the projected queries shall be, shape (batch, queries, states); no gradient."""
        raise NotImplementedError

    def forward(self, batch, generator):
        """Mean squared error per number of a state, for pictures; the language loss as it is, for texts."""
        if isinstance(batch[0].reply, str):
            return super().forward(batch, generator)
        kept = torch.rand(len(batch), generator=generator) >= self.model.decoder.config.drop_prob
        batch = [
            sample if keep else replace(sample, kind="nothing", given=(), scenes=())
            for sample, keep in zip(batch, kept.tolist())
        ]
        layouts, documents = zip(*map(self.lay_out, batch))
        read, hidden = self.model.read(layouts, documents)
        states, wanted = gather(hidden, self.model.queries, read.queries), self.target_states(batch)
        regression, diffusion = (
            F.mse_loss(self.aligner(states), wanted),
            self.decoding(batch, wanted, generator),
        )
        return {
            "total": WEIGHT * regression + self.model.config.loss_weight_vm * diffusion,
            "regression": regression,
            "diffusion": diffusion,
        }

    @property
    def aligner(self) -> nn.Module:
        """From the language model's states to the wanted ones."""
        return self.model.decoder.projector

    @property
    def decode(self) -> nn.Module:
        """From the wanted states to conditions; here they are conditions."""
        return nn.Identity()

    def decoding(self, batch: list[Sample], wanted: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of what makes conditions of the wanted states; nothing here, where they are conditions."""
        return torch.zeros(())

    @torch.no_grad()
    def extra_results(self, evaluation) -> dict:
        """{"teacher": marks of what is painted from the wanted states themselves, of seen combinations}."""
        marks = {}
        for kind in IMAGE_KINDS:
            samples = evaluation.samples(kind, held_out=False)
            states = self.decode(
                self.target_states([*samples, replace(samples[0], given=())])
            )  # the last one is the null condition
            marks[kind] = evaluation.score(
                samples, to_pil(painted(self.model.decoder, states[:-1], states[-1:]))
            )
        return {"teacher": marks}


class TextAligned(Aligned):
    """Regressed onto the text states of a caption of the picture.

    Args:
        caption: what to make a caption from a sample with.
        others: as for `Family`.
    """

    def __init__(self, caption: Callable[[Sample], str], *others):
        super().__init__(*others)
        self.caption, self.text_tower = caption, toy.pretrained_text_tower()

    @torch.no_grad()
    def target_states(self, batch):
        """CLIP's text states of captions, of the empty one where nothing is given."""
        return clip_text_states(
            self.text_tower,
            self.model.tokenizer,
            [self.caption(sample) if sample.given else "" for sample in batch],
        )


class ImageAligned(Aligned):
    """Regressed onto CLIP's states of the picture; zeros where nothing is given."""

    @property
    def aligner(self):
        """The first half of the projector; the second decodes."""
        return self.model.decoder.projector[0]

    @property
    def decode(self):
        """The second half of the projector."""
        return self.model.decoder.projector[1]

    @torch.no_grad()
    def target_states(self, batch):
        """Patch states in pairs, each normed: shape (batch, queries, vision dim)."""
        vision = self.model.vision
        states = vision.tower(
            pixel_values=vision.pixels([sample.reply for sample in batch]),
            output_hidden_states=True,
        ).hidden_states[vision.select_layer]
        states = reduce(
            states[:, 1:],
            "batch (queries pair) dim -> batch queries dim",
            "mean",
            queries=self.model.queries,
        )
        given = torch.tensor([bool(sample.given) for sample in batch], device=states.device)
        return F.layer_norm(states, states.shape[-1:]) * rearrange(given, "batch -> batch 1 1")

    def decoding(self, batch, wanted, generator):
        """The denoising loss from the true states; nothing of it reaches the queries."""
        decoder = self.model.decoder
        return decoder.loss(
            decoder.latents_of([sample.reply for sample in batch]), self.decode(wanted), generator
        )


def text(
    plan: FamilyPlan,
    name: str = "alignment-text",
    caption: Callable[[Sample], str] = attrgetter("caption"),
) -> TextAligned:
    """Language model, queries and both projectors learn; the U-Net is not even asked."""
    model = base_model()
    return TextAligned(
        caption, name, model, plan.recipe(1e-3), IMAGE_KINDS + TEXT_KINDS, stage2_modules(model)
    )


def short(plan: FamilyPlan) -> TextAligned:
    """The same, taught stories and edits by captions without the background; prompts are what they are."""
    return text(
        plan,
        "alignment-short",
        lambda sample: (
            sample.caption
            if sample.kind == "paint"
            else description(sample.scenes[-1], background=False)
        ),
    )


def image(plan: FamilyPlan) -> ImageAligned:
    """The same, and the decoder of image states."""
    model = base_model()
    model.decoder.projector = nn.Sequential(
        nn.Linear(toy.LLM_SIZE, toy.VISION_SIZE), nn.Linear(toy.VISION_SIZE, toy.CONDITION_SIZE)
    )
    return ImageAligned(
        "alignment-image", model, plan.recipe(1e-3), IMAGE_KINDS + TEXT_KINDS, stage2_modules(model)
    )
