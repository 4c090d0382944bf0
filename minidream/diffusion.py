"""Pictures out: latent diffusion, conditioned on the states of the dream queries.

VAE, U-Net and scheduler are diffusers' classes. In training, the U-Net predicts the noise that was
added to latents, or the velocity if the scheduler says so (the denoising, or score, loss). Sampling
starts from noise and removes it step by step, with classifier-free guidance. Latents *at unit
scale* are multiplied by the VAE's scaling factor: their standard deviation is about 1.

Paper: sections 2.1 and 2.2; losses as in the official code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from einops import reduce, repeat
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from .images import as_integer, as_number, cast_inputs, draw, dtype_of, fit_square, to_tensor

if TYPE_CHECKING:  # importing diffusers takes two seconds, so it waits until weights are built
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

MOST_GUIDANCE = 10_000  # far beyond any use; much larger ones lead to infinite numbers
# Which rows of the U-Net's batch are conditional, for probes: in a guided `sample`, not all.
conditional_rows: ContextVar[slice] = ContextVar("conditional_rows", default=slice(0, None))


@dataclass(frozen=True)
class DiffusionConfig:
    """How the decoder trains and samples, beyond what diffusers' own configs say."""

    eta: float = 1.0  # share of fresh noise in each step: 1 is ancestral DDPM sampling, 0 is DDIM
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    snr_gamma: float | None = None  # min-SNR weighting (Hang et al. 2023); None: equal weights
    drop_prob: float = 0.0  # share of conditions replaced in training by those of an empty prompt
    noise_offset: float = 0.0  # extra noise per channel, for very dark and very bright pictures
    input_perturbation: float = 0.0  # extra input noise that is not predicted (Ning et al. 2023)


def coordinates(latents: Tensor) -> Tensor:
    """The position of every latent cell, as two more channels.

    Only the toy's U-Net has these input channels: on an 8x8 grid, convolutions alone tell it too
    little about where a cell is.

    Args:
        latents: shape (batch, channels, height, width).

    Returns:
        Shape (batch, 2, height, width): x and y, each in [-1, 1].
    """
    batch, _, height, width = latents.shape
    y, x = (
        torch.linspace(-1, 1, cells, device=latents.device, dtype=latents.dtype)
        for cells in (height, width)
    )
    x = repeat(x, "width -> batch height width", batch=batch, height=height)
    y = repeat(y, "height -> batch height width", batch=batch, width=width)
    return torch.stack([x, y], dim=1)


class DenoisingStep(nn.Module):
    """One step of a scheduler, as a module so that a probe can watch it."""

    def forward(self, scheduler, noise_pred: Tensor, timestep, latents: Tensor, eta: float, noise):
        """What `scheduler.step` returns: less noisy latents, and an estimate of the clean ones."""
        return scheduler.step(noise_pred, timestep, latents, eta=eta, variance_noise=noise)


class Decoder(nn.Module):
    """VAE, U-Net and scheduler, and the projector through which dream queries condition the U-Net.

    Args:
        vae, unet, scheduler: diffusers' classes.
        projector: from LLM states to conditions, such as `dream_queries.ConditionProjector`.
        config: sampling defaults and training options.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        projector: nn.Module,
        config: DiffusionConfig = DiffusionConfig(),
    ):
        super().__init__()
        self.vae, self.unet, self.scheduler = vae, unet, scheduler
        self.projector, self.config = projector, config
        projector.register_forward_pre_hook(cast_inputs)
        self.denoising_step = DenoisingStep()
        self.has_coordinates = unet.config.in_channels == vae.config.latent_channels + 2

    @property
    def device(self) -> torch.device:
        """The device of the U-Net."""
        return next(self.unet.parameters()).device

    @property
    def noise_dtype(self) -> torch.dtype:
        """The dtype in which noise is added and removed: at least float32, whatever the U-Net's."""
        return torch.promote_types(dtype_of(self.unet), torch.float32)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of one picture, in latent cells."""
        size = self.unet.config.sample_size
        return self.vae.config.latent_channels, size, size

    @property
    def image_size(self) -> int:
        """Width and height of a picture, in image pixels."""
        return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    def sampling_options(
        self, num_inference_steps: int | None, guidance_scale: float | None
    ) -> tuple[int, float]:
        """Steps and guidance scale, with the checkpoint's defaults in place of None.

        Raises:
            TypeError: for what is not a number.
            ValueError: for steps as in `own_scheduler`; for a scale not between 0 and 10000.
        """
        steps, scale, config = num_inference_steps, guidance_scale, self.config
        steps = config.num_inference_steps if steps is None else steps
        scale = config.guidance_scale if scale is None else scale
        scale = as_number("guidance_scale", scale, 0, MOST_GUIDANCE)
        return own_scheduler(self.scheduler, steps).num_inference_steps, scale

    def predict(self, latents: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The U-Net's prediction: of the noise, or of the velocity if the scheduler says so.

        What comes in is cast to the dtype of the U-Net, and what comes out to that of `latents`.

        Args:
            latents: noisy, shape (batch, channels, height, width), at unit scale.
            timesteps: shape (batch,), integers in [0, 1000).
            condition: projected states, shape (batch, queries, condition_dim).

        Returns:
            The shape of `latents`.
        """
        dtype, inputs = dtype_of(self.unet), latents
        if self.has_coordinates:
            inputs = torch.cat([latents, coordinates(latents)], dim=1)
        noise_pred = self.unet(inputs.to(dtype), timesteps, condition.to(dtype)).sample
        return noise_pred.to(latents.dtype)

    def encode_images(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures to latents at unit scale.

        Args:
            images: shape (batch, 3, height, width), RGB in [-1, 1].
            generator: draws a sample from the VAE's posterior; None takes the mean.

        Returns:
            Shape (batch, channels, height, width), in latent cells.
        """
        posterior = self.vae.encode(images.to(dtype_of(self.vae))).latent_dist
        latents = posterior.mean
        if generator is not None:
            latents = latents + posterior.std * normal(latents.shape, generator).to(latents)
        return latents * self.vae.config.scaling_factor

    @torch.no_grad()
    def latents_of(self, images: list[Image.Image]) -> Tensor:
        """Latents of PIL images of any size, resized (bilinear) and cropped to a central square."""
        size = self.image_size
        cropped = [fit_square(image, size, Image.Resampling.BILINEAR) for image in images]
        return self.encode_images(to_tensor(cropped).to(self.device) * 2 - 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents at unit scale to pictures: (batch, 3, height, width), RGB in [0, 1], float32."""
        decoded = self.vae.decode(latents.to(dtype_of(self.vae)) / self.vae.config.scaling_factor)
        return (decoded.sample.float() / 2 + 0.5).clamp(0, 1)

    def loss(self, latents: Tensor, condition: Tensor, generator: torch.Generator) -> Tensor:
        """The denoising loss: mean squared error between the added and the predicted noise.

        Args:
            latents: clean, at unit scale, shape (batch, channels, height, width).
            condition: projected states, shape (batch, queries, condition_dim). Gradients flow
                through it to the queries and the language model.
            generator: draws noise and timesteps.

        Returns:
            A scalar, float32: the mean over all elements, each picture weighted by min-SNR if the
            config says so.
        """
        latents = latents.to(self.noise_dtype)
        noise = normal(latents.shape, generator).to(latents)
        if self.config.noise_offset:
            offset = normal((*latents.shape[:2], 1, 1), generator).to(latents)
            noise = noise + self.config.noise_offset * offset
        perturbed_noise = noise
        if self.config.input_perturbation:
            perturbation = normal(latents.shape, generator).to(latents)
            perturbed_noise = noise + self.config.input_perturbation * perturbation
        integers = partial(torch.randint, self.scheduler.config.num_train_timesteps)
        timesteps = draw(integers, latents.shape[:1], generator).to(latents.device)
        noisy = self.scheduler.add_noise(latents, perturbed_noise, timesteps)
        target = noise
        predicts_velocity = self.scheduler.config.prediction_type == "v_prediction"
        if predicts_velocity:
            target = self.scheduler.get_velocity(latents, noise, timesteps)
        error = self.predict(noisy, timesteps, condition).float() - target.float()
        error = reduce(error.square(), "batch channels height width -> batch", "mean")
        if self.config.snr_gamma is not None:
            alphas_cumprod = self.scheduler.alphas_cumprod.to(latents.device)[timesteps]
            snr = alphas_cumprod / (1 - alphas_cumprod)
            # Without min-SNR weighting, nearly clean latents, which teach little, would dominate.
            scale = snr + 1 if predicts_velocity else snr
            error = error * scale.clamp(max=self.config.snr_gamma) / scale
        return error.mean()

    def sample_seeded(
        self,
        condition: Tensor,
        null_condition: Tensor | None,
        seeds: list[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        latents: Tensor | None = None,
        progress: bool = False,
    ) -> Tensor:
        """`sample`, with all noise drawn from seeds, one per picture.

        Args:
            condition, null_condition: projected states, shape (batch, queries, condition_dim); one
                null condition may serve the whole batch.
            seeds: as many as conditions.
            num_inference_steps, guidance_scale: None is the checkpoint's default.
            latents: initial noise to use instead, as in `sample`; `progress` shows a bar.

        Returns:
            Clean latents at unit scale, shape (batch, channels, height, width).
        """
        steps, scale = self.sampling_options(num_inference_steps, guidance_scale)
        initial_noise, step_noise = picture_noise(seeds, self.latent_shape)
        latents = (initial_noise if latents is None else latents).to(self.device)
        if null_condition is not None:
            null_condition = null_condition.expand_as(condition)
        return self.sample(condition, null_condition, latents, steps, scale, step_noise, progress)

    def sample(
        self,
        condition: Tensor,
        null_condition: Tensor | None,
        latents: Tensor,
        num_inference_steps: int,
        guidance_scale: float,
        step_noise: Callable[[int], Tensor] | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Removes the noise from latents, step by step, with classifier-free guidance.

        Args:
            condition, null_condition: projected states, shape (batch, queries, condition_dim).
            latents: initial noise, N(0, 1), shape (batch, channels, height, width).
            num_inference_steps: number of denoising steps.
            guidance_scale: s in null + s * (conditional - null) (Ho & Salimans 2022), if above 1;
                else the condition is used alone.
            step_noise: called with the index of the step, returns N(0, 1) noise of the shape of
                `latents`; needed if the config's eta is above 0. Recorded noise replays a run.
            progress: show a bar.

        Returns:
            Clean latents at unit scale, at least float32.
        """
        guided, eta = guidance_scale > 1, self.config.eta
        if guided:
            condition = torch.cat([null_condition, condition])
        scheduler = own_scheduler(self.scheduler, num_inference_steps)
        latents = latents.to(self.noise_dtype) * scheduler.init_noise_sigma
        timesteps = scheduler.timesteps.to(latents.device)
        steps = tqdm(timesteps, "painting", disable=not progress, leave=False)
        outer_rows = conditional_rows.set(slice(len(latents) if guided else 0, None))
        try:
            for index, timestep in enumerate(steps):
                inputs = torch.cat([latents, latents]) if guided else latents
                noise_pred = self.predict(inputs, timestep.expand(len(inputs)), condition)
                if guided:
                    null, conditional = noise_pred.chunk(2)
                    noise_pred = null + guidance_scale * (conditional - null)
                noise = step_noise(index).to(latents) if eta > 0 else None
                step = self.denoising_step(scheduler, noise_pred, timestep, latents, eta, noise)
                latents = step.prev_sample
        finally:
            conditional_rows.reset(outer_rows)
        return latents


def own_scheduler(scheduler: DDIMScheduler, num_inference_steps: int) -> DDIMScheduler:
    """A copy of a scheduler for one sampling call, since others may paint at the same time.

    Raises:
        TypeError: if the number of steps is not a number.
        ValueError: if it is below 1, or leads to a timestep beyond those of training.
    """
    own, trained = copy.copy(scheduler), scheduler.config.num_train_timesteps

    def first_timestep(steps: int) -> int:
        own.set_timesteps(steps)  # replaces whatever differs between calls
        # "trailing" spacing counts down to 0, by rounding sometimes to -1 (as with 61 steps).
        own.timesteps = own.timesteps[own.timesteps >= 0]
        return own.timesteps[0].item()

    steps = as_integer("num_inference_steps", num_inference_steps)
    if 1 <= steps <= trained and (first := first_timestep(steps)) < trained:
        return own
    most = next(most for most in range(trained, 0, -1) if first_timestep(most) < trained)
    as_integer("num_inference_steps", steps, 1, most)
    raise ValueError(f"{steps} steps begin at timestep {first}; training had {trained}, from 0")


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws from N(0, 1), float32 whatever torch's default dtype is, on the generator's device."""
    return draw(partial(torch.randn, dtype=torch.float32), shape, generator)


def picture_noise(
    seeds: list[int], shape: tuple[int, int, int]
) -> tuple[Tensor, Callable[[int], Tensor]]:
    """The noise of pictures, each drawn by a CPU generator of its own.

    So a picture depends neither on its neighbours in the batch nor on the device.

    Args:
        seeds: one per picture.
        shape: of the latents of one picture.

    Returns:
        The initial noise, shape (batch, channels, height, width), and a function that draws the
        noise of the next step.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def draw(step: int | None = None) -> Tensor:
        return torch.stack([normal(shape, generator) for generator in generators])

    return draw(), draw
