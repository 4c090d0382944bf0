"""A painter of image states: the toy's U-Net, fine-tuned on what CLIP sees of pictures.

The U-Net that all families start from was trained on text states, and it has no use for any others.
A system whose language model says what CLIP would see needs a painter of its own, and gets one
here: a copy of the U-Net, all of which learns from the true states of pictures by the denoising
loss, from as many samples as the rest of a family learns from. The pictures are those of the kinds
of samples that are painted, so that their combinations are only seen ones.

How well it paints from the true states of the evaluation's pictures is stored in the record of a
run ("teacher"): no imitation of the states can be expected to be better. Emu (`emu.py`), Emu2,
SEED (`seed.py`) and `alignment.image` have such a painter.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from einops import rearrange, reduce
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..images import to_pil
from ..model import DreamLLM
from ..trainer.loop import Recipe
from ..vision import VisionEncoder
from ..weights import toy
from ..weights.toy import paint_from_text_states
from ..world.render import FLOATS
from .samples import IMAGE_KINDS, PAINTED_KINDS, Sample, draw_batch


class StateEncoder(VisionEncoder):
    """A vision encoder whose features can be said and painted as well as read: image states.

    A state is the mean of neighbouring patches in a row, normalized, so that an error weighs the
    same in every state. The projector, from states to inputs of the language model, is new.

    Args:
        vision: its tower is used.
        states: how many for each picture, row by row; the number of patches or half of it.
    """

    def __init__(self, vision: VisionEncoder, states: int):
        super().__init__(vision.tower, toy.LLM_SIZE, vision.select_layer, vision.mean, vision.std)
        self.states = states

    @property
    def patches(self) -> int:
        """Number of positions that a picture takes in the sequence."""
        return self.states

    def features(self, pixels: Tensor) -> Tensor:
        """(batch, 3, height, width) to image states, (batch, states, dim)."""
        states = reduce(
            super().features(pixels),
            "batch (states together) dim -> batch states dim",
            "mean",
            states=self.states,
        )
        return F.layer_norm(states, states.shape[-1:])

    @torch.no_grad()
    def states_of(self, pictures: list[Image.Image]) -> Tensor:
        """The image states of PIL images, shape (batch, states, dim), without gradient."""
        return self.features(self.pixels(pictures))


class ImageDecoder(nn.Module):
    """The painter, and the phase that trains it.

    Args:
        model: its decoder is copied; its vision tower makes the states.
        recipe: how long and how fast it learns.
        states: how many for each picture.
    """

    name, training_kinds = "image-decoder", IMAGE_KINDS

    def __init__(self, model: DreamLLM, recipe: Recipe, states: int):
        super().__init__()
        self.recipe, self.encoder = recipe, StateEncoder(model.vision, states)
        # A copy, since phases must not share what only one of them trains.
        self.decoder = deepcopy(model.decoder)
        self.requires_grad_(False)
        self.decoder.unet.requires_grad_(True)

    def batch(self, seed: int, step: int, process: int) -> list[Sample]:
        """Samples of one kind, of which the last picture counts."""
        return draw_batch(self.training_kinds, self.recipe.batch, seed, step, process)

    def true_states(self, batch: list[Sample]) -> Tensor:
        """The states of the replies, which are pictures; shape (batch, states, dim)."""
        return self.encoder.states_of([sample.reply for sample in batch])

    def conditions_of(self, batch: list[Sample]) -> Tensor:
        """What it learns to paint the replies from; here, their true states."""
        return self.true_states(batch)

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """The denoising loss. A tenth of the conditions is zero, which guidance needs."""
        draw = torch.rand(len(batch), generator=generator, **FLOATS)
        kept = rearrange(draw >= self.decoder.config.drop_prob, "batch -> batch 1 1")
        conditions = self.conditions_of(batch).to(self.decoder.device)
        latents = self.decoder.latents_of([sample.reply for sample in batch])
        loss = self.decoder.loss(latents, conditions * kept.to(conditions), generator)
        return {"total": loss}

    @torch.no_grad()
    def paint(self, states: Tensor) -> list[Image.Image]:
        """Paints states, shape (batch, states, dim); picture i has seed i."""
        states = states.to(self.decoder.device)
        null = torch.zeros_like(states[:1])
        return to_pil(paint_from_text_states(self.decoder, states, null))

    def teacher(
        self, evaluation, states_of: Callable[[list[Sample]], Tensor] | None = None
    ) -> dict:
        """How right the pictures of an evaluation are when they are painted again.

        Args:
            evaluation: a `FamilyEvaluation`.
            states_of: what they are painted from; None is their true states.

        Returns:
            {kind: scores}, of seen combinations.
        """
        states_of, scores = states_of or self.true_states, {}
        for kind in PAINTED_KINDS:
            samples = evaluation.samples(kind, held_out=False)
            scores[kind] = evaluation.score(samples, self.paint(states_of(samples)))
        return scores
