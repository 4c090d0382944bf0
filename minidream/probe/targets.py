"""What an attribution explains: a number that depends on the dream queries' states.

A target is any differentiable function of the states, shape (batch, queries, hidden), that returns
one number for each of the batch. These two ask about the denoising loss and about the judge's
answer; `integrated_gradients` and `feature_ablation` take either of them, or your own.
"""

import torch
from einops import rearrange, repeat
from PIL import Image
from torch import Tensor, nn

from ..diffusion import normal
from ..images import as_integer
from ..world.judge import BACKGROUND_WORDS, COLOUR_WORDS, HEADS, SIZE_WORDS
from ..world.scenes import SHAPES
from .indices import several
from .watch import recording_mode

# The words that each head of the judge chooses from, by the last word of the head's name.
CHOICES = {
    "background": BACKGROUND_WORDS,
    "size": SIZE_WORDS,
    "colour": COLOUR_WORDS,
    "shape": SHAPES,
}


class DenoisingTarget:
    """The denoising loss of one picture under a condition, with fixed noise.

    Args:
        model: a DreamLLM.
        image: the picture to be painted, a PIL image.
        timesteps: at which noise is added, one or several integers in [0, 1000). The loss is their
            mean.
        seed: of the noise.

    Raises:
        TypeError: for a timestep that is not a number.
        ValueError: for a timestep out of range, or none.
    """

    def __init__(
        self,
        model,
        image: Image.Image,
        timesteps=(300, 500, 700, 900),
        seed: int = 0,
    ):
        self.decoder = model.decoder
        last = self.decoder.scheduler.config.num_train_timesteps - 1
        timesteps = [as_integer("a timestep", each, 0, last) for each in several(timesteps)]
        if not timesteps:
            raise ValueError("no timestep was given, and the loss is the mean over them")
        self.timesteps = torch.tensor(timesteps, device=model.device)
        latents = self.decoder.latents_of([image])
        generator = torch.Generator().manual_seed(seed)
        noise = normal((len(timesteps), *latents.shape[1:]), generator).to(latents)
        scheduler, latents = self.decoder.scheduler, latents.expand_as(noise)
        self.noisy = scheduler.add_noise(latents, noise, self.timesteps)
        self.prediction_target = noise
        if scheduler.config.prediction_type == "v_prediction":
            self.prediction_target = scheduler.get_velocity(latents, noise, self.timesteps)

    def __call__(self, states: Tensor) -> Tensor:
        """States (batch, queries, hidden) to mean squared errors (batch,)."""
        with torch.autocast(states.device.type, enabled=False):
            return self.errors(states)

    def errors(self, states: Tensor) -> Tensor:
        """As the call, in the precision of the decoder."""
        batch, times = len(states), len(self.timesteps)
        condition = repeat(
            self.decoder.projector(states),
            "batch queries dim -> (batch times) queries dim",
            times=times,
        )
        noisy = self.noisy.repeat(batch, 1, 1, 1)
        predicted = self.decoder.predict(noisy, self.timesteps.repeat(batch), condition)
        error = (predicted - self.prediction_target.repeat(batch, 1, 1, 1)).square()
        error = error.flatten(1).mean(dim=1)
        return rearrange(error, "(batch times) -> batch times", times=times).mean(dim=1)


class VerdictTarget:
    """The judge's log-probability of an answer about the painted picture.

    Gradients flow through all of sampling.

    Args:
        model: the toy DreamLLM.
        judge: `toy.pretrained_judge()`.
        head: the question to the judge, one of `world.judge.HEADS` that chooses from words, such as
            "first colour" (of the left or upper object).
        word: the answer, such as "red".
        seed: of all noise.
        num_inference_steps, guidance_scale: as in `dream`; None is the checkpoint's default.

    Raises:
        ValueError: for an unknown head or word (the message lists what there is).
    """

    def __init__(
        self,
        model,
        judge: nn.Module,
        head: str,
        word: str,
        seed: int = 0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ):
        heads = [name for name in HEADS if name.split()[-1] in CHOICES]
        if head not in heads:
            raise ValueError(f"{head!r} is none of {', '.join(heads)}")
        choices = CHOICES[head.split()[-1]]
        if word not in choices:
            raise ValueError(f"{word!r} is none of {', '.join(choices)}")
        self.decoder, self.judge, self.seed = model.decoder, judge, seed
        self.head, self.answer = head, choices.index(word)
        self.steps, self.scale = self.decoder.sampling_options(num_inference_steps, guidance_scale)
        self.null = None
        if self.scale > 1:
            # Without the graph of the projector, which only one backward pass could use.
            with recording_mode(model.device):
                self.null = self.decoder.projector(model.null_states())

    def __call__(self, states: Tensor) -> Tensor:
        """States (batch, queries, hidden) to log-probabilities (batch,), in nats."""
        with torch.autocast(states.device.type, enabled=False):
            return self.log_probabilities(states)

    def log_probabilities(self, states: Tensor) -> Tensor:
        """As the call, in the precision of decoder and judge."""
        condition, seeds = self.decoder.projector(states), [self.seed] * len(states)
        latents = self.decoder.sample_seeded(condition, self.null, seeds, self.steps, self.scale)
        scores = self.judge(self.decoder.decode(latents))[self.head]
        return scores.log_softmax(dim=-1)[:, self.answer]
