"""What one picture looks like at every step of its denoising, with the queries that its cells attend to."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..images import to_pil

AT_ONCE = (
    8  # pictures in one batch: with more it is hardly faster on a CPU, and full-size ones still fit
)


@dataclass
class Denoising:
    """What `watch_denoising` saw.

    timesteps: of each step, falling.
    latents: what stood before each step, and at last what came out: one more than steps, shape (pictures, channels, height, width).
    guesses: at each step, the clean latents that the model took the noisy ones to be. The last is nearly what came out: some
        schedules, the toy's among them, stop a little short of no noise at all.
    """

    timesteps: list[int] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    guesses: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def pictures(self, model, picture: int = 0) -> tuple[list, list]:
        """What stood before each step, and what it was taken to be, of one picture of the batch, through the VAE: two lists of PIL images."""

        def decode(latents: list[Tensor]) -> list:
            chosen = torch.stack([each[picture] for each in latents])
            return [
                image
                for part in chosen.split(AT_ONCE)
                for image in to_pil(model.decoder.decode(part))
            ]

        return decode(self.latents[:-1]), decode(self.guesses)


@contextmanager
def watch_denoising(model):
    """Records what sampling does to latents, step by step, while one batch of pictures is painted inside the `with` block.

    It stands here and not among the probes, as it is no attention and no state, and only shows what the scheduler reports anyway.

    Args:
        model: a DreamLLM.

    Yields:
        A `Denoising`, which grows by one step at a time.

    Raises:
        RuntimeError: at the end, if nothing was painted; at once, if a second batch is.
    """
    scheduler, seen = model.decoder.scheduler, Denoising()
    step, watched = scheduler.step, "step" in vars(scheduler)  # by an outer block

    def record(noise_pred: Tensor, timestep, latents: Tensor, **options):
        if seen.timesteps and timestep >= seen.timesteps[-1]:
            raise RuntimeError(
                "one block watches one batch of pictures, and a second one was begun in it"
            )
        output = step(noise_pred, timestep, latents, **options)
        seen.timesteps.append(int(timestep))
        seen.latents[-1:] = [
            latents,
            output.prev_sample,
        ]  # what came out of one step stands before the next
        seen.guesses.append(output.pred_original_sample)
        return output

    scheduler.step = record
    try:
        yield seen
    finally:
        if watched:
            scheduler.step = step
        else:
            del scheduler.step
    if not seen.timesteps:
        raise RuntimeError("no picture was painted inside the `with` block")
