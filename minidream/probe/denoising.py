"""What a picture looks like at every step of its denoising."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..images import as_index, to_pil
from .watch import hooked

# Pictures in one batch: more are hardly faster on a CPU, and this many of full size fit in memory.
AT_ONCE = 8


@dataclass
class Denoising:
    """What `watch_denoising` recorded.

    timesteps: of each step, descending.
    latents: before each step, and the final ones: one more than there are steps, each of shape
        (pictures, channels, height, width).
    guesses: at each step, the model's estimate of the clean latents. The last one is close to the
        final latents, but not equal where a schedule, like the toy's, ends with a little noise.
    """

    timesteps: list[int] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    guesses: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def pictures(self, model, picture: int = 0) -> tuple[list, list]:
        """One picture of the batch, decoded: before each step, and as estimated at each step.

        Args:
            model: that painted it.
            picture: its index in the batch; -1 is the last.

        Returns:
            Two lists of PIL images.

        Raises:
            TypeError, ValueError: for a picture that was not recorded (both numbers).
        """
        count = len(self.guesses[0])
        picture = as_index("picture", picture, count, f"{count} were painted")

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
    """Records the latents at every step while one batch of pictures is painted in the `with` block.

    Everything it records is what the scheduler reports anyway.

    Args:
        model: a DreamLLM.

    Yields:
        A `Denoising`, which grows by one step at a time.

    Raises:
        RuntimeError: at the end, if nothing was painted; at once, if a second batch is.
    """
    seen = Denoising()

    def record(module: nn.Module, inputs: tuple, output) -> None:
        timestep, latents = inputs[2:4]
        if seen.timesteps and timestep >= seen.timesteps[-1]:
            raise RuntimeError(
                "one block watches one batch of pictures, and a second one was begun in it"
            )
        seen.timesteps.append(int(timestep))
        # The result of one step is the input of the next.
        seen.latents[-1:] = [latents, output.prev_sample]
        seen.guesses.append(output.pred_original_sample)

    with hooked([(model.decoder.denoising_step.register_forward_hook, record)]):
        yield seen
    if not seen.timesteps:
        raise RuntimeError("no picture was painted inside the `with` block")
