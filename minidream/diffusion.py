"""Images out: a latent diffusion model (diffusers' VAE, U-Net and scheduler) painted from the states of dream queries.

Training asks the U-Net to tell the noise from the picture (the denoising, or score, loss); sampling starts from noise and
takes it away step by step, guided. Paper: sections 2.1 and 2.2; the losses as in the official code.
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from einops import reduce, repeat
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from .images import fit_square, to_tensor


@dataclass(frozen=True)
class DiffusionConfig:
    """How the decoder trains and samples, beside what diffusers' own configs say."""

    eta: float = 1.0  # share of fresh noise at each step: 1 is ancestral DDPM sampling, 0 is DDIM
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    snr_gamma: float | None = (
        None  # min-SNR weighting (Hang et al. 2023); None weighs all timesteps alike
    )
    drop_prob: float = 0.0  # share of training conditions replaced by the null condition
    noise_offset: float = 0.0  # more of the noise's mean per channel, so that very dark and bright pictures are learned
    input_perturbation: float = (
        0.0  # noise that is put in and not asked for: what sampling's own errors look like
    )


def coordinates(latents: Tensor) -> Tensor:
    """The place of every latent cell, shape (batch, 2, height, width): x and y in [-1, 1].

    Only the toy's U-Net has these two extra input channels: an 8x8 grid tells it too little about where a cell is.
    """
    batch, _, height, width = latents.shape
    y, x = (
        torch.linspace(-1, 1, cells, device=latents.device, dtype=latents.dtype)
        for cells in (height, width)
    )
    return torch.stack(
        [
            repeat(x, "width -> batch height width", batch=batch, height=height),
            repeat(y, "height -> batch height width", batch=batch, width=width),
        ],
        dim=1,
    )


class Decoder(nn.Module):
    """VAE, U-Net and scheduler, and the projector through which dream queries condition them.

    Args:
        vae, unet, scheduler: diffusers' classes.
        projector: (batch, queries, llm_dim) to (batch, queries, condition_dim); `dream.ConditionProjector`.
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
        self.vae, self.unet, self.scheduler, self.projector, self.config = (
            vae,
            unet,
            scheduler,
            projector,
            config,
        )
        # Which rows of the U-Net's batch are conditional, while sampling: what a probe wants to see.
        self.conditional = slice(None)
        self.has_coordinates = unet.config.in_channels == vae.config.latent_channels + 2

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        return next(self.unet.parameters()).device

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
        """Steps and guidance scale, the checkpoint's defaults in the place of None; ValueError for steps out of range."""
        steps = (
            self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        )
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        trained_steps = self.scheduler.config.num_train_timesteps
        if not 1 <= steps <= trained_steps:
            raise ValueError(
                f"num_inference_steps lies between 1 and {trained_steps}, the steps of training, and is not {steps}"
            )
        return steps, scale

    def predict(self, latents: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The U-Net's guess of the noise.

        Args:
            latents: noisy, shape (batch, channels, height, width), at unit scale.
            timesteps: shape (batch,), integers in [0, 1000).
            condition: what to attend to, shape (batch, queries, condition_dim), already projected.

        Returns:
            The shape of `latents`.
        """
        inputs = (
            torch.cat([latents, coordinates(latents)], dim=1) if self.has_coordinates else latents
        )
        return self.unet(inputs, timesteps, encoder_hidden_states=condition).sample

    def encode_images(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures to latents at unit scale.

        Args:
            images: shape (batch, 3, height, width), RGB in [-1, 1].
            generator: draws the VAE's sample (on its own device); None takes the mean.
        """
        posterior = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        latents = posterior.mean
        if generator is not None:
            latents = latents + posterior.std * torch.randn(
                latents.shape, generator=generator, device=generator.device
            ).to(latents)
        return latents * self.vae.config.scaling_factor

    def latents_of(self, images: list[Image.Image]) -> Tensor:
        """Clean latents of PIL images of any size: short edge resized (bilinear), centre cropped; no gradient."""
        cropped = [
            fit_square(image, self.image_size, Image.Resampling.BILINEAR) for image in images
        ]
        with torch.no_grad():
            return self.encode_images(to_tensor(cropped).to(self.device) * 2 - 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents at unit scale to pictures: shape (batch, 3, height, width), RGB in [0, 1], float32."""
        decoded = self.vae.decode(
            latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        ).sample
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    def loss(self, latents: Tensor, condition: Tensor, generator: torch.Generator) -> Tensor:
        """The denoising loss: mean squared error between the noise put in and the noise seen.

        Args:
            latents: clean, at unit scale, shape (batch, channels, height, width).
            condition: projected, shape (batch, queries, condition_dim). Gradients flow through it to queries and LLM.
            generator: draws noise and timesteps.

        Returns:
            A scalar, float32: the mean over all elements, weighted per picture by min-SNR if the config says so.
        """

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=generator.device).to(latents)

        noise = draw(*latents.shape)
        if self.config.noise_offset:
            noise = noise + self.config.noise_offset * draw(*latents.shape[:2], 1, 1)
        perturbed_noise = noise
        if self.config.input_perturbation:
            perturbed_noise = noise + self.config.input_perturbation * draw(*latents.shape)
        timesteps = torch.randint(
            self.scheduler.config.num_train_timesteps,
            (len(latents),),
            generator=generator,
            device=generator.device,
        ).to(latents.device)
        noisy = self.scheduler.add_noise(latents, perturbed_noise, timesteps)
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, timesteps)
        error = (self.predict(noisy, timesteps, condition).float() - target.float()).square()
        error = reduce(error, "batch channels height width -> batch", "mean")
        if self.config.snr_gamma is not None:
            alphas_cumprod = self.scheduler.alphas_cumprod.to(latents.device)[timesteps]
            snr = alphas_cumprod / (1 - alphas_cumprod)
            # Without it, nearly clean latents, where there is little left to learn, would outweigh all else.
            scale = snr + 1 if self.scheduler.config.prediction_type == "v_prediction" else snr
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
        """`sample`, with all noise from seeds, one per picture; None for steps and scale is the checkpoint's default.

        Args:
            condition, null_condition: projected, shape (batch, queries, condition_dim); the null condition may be one for all.
            seeds: as many as conditions.
            latents: the noise to start from instead, as in `sample`.

        Returns:
            Clean latents at unit scale, shape (batch, channels, height, width).
        """
        steps, scale = self.sampling_options(num_inference_steps, guidance_scale)
        start, step_noise = picture_noise(seeds, self.latent_shape)
        null = None if null_condition is None else null_condition.expand_as(condition)
        return self.sample(
            condition,
            null,
            (start if latents is None else latents).to(self.device),
            steps,
            scale,
            step_noise,
            progress,
        )

    def sample(
        self,
        condition: Tensor,
        null_condition: Tensor,
        latents: Tensor,
        num_inference_steps: int,
        guidance_scale: float,
        step_noise=None,
        progress: bool = False,
    ) -> Tensor:
        """Takes the noise out of latents, step by step, with classifier-free guidance (Ho & Salimans 2022).

        Args:
            condition, null_condition: projected, shape (batch, queries, condition_dim).
            latents: the noise to start from, N(0, 1), shape (batch, channels, height, width).
            num_inference_steps: how many steps.
            guidance_scale: s in null + s * (conditional - null); 1 or less uses the condition alone.
            step_noise: called with the step's number, gives N(0, 1) noise of the shape of `latents`; needed where the
                config's eta is above 0. A recorded run is replayed by giving its noise.
            progress: show a bar.

        Returns:
            Clean latents at unit scale.
        """
        guided = guidance_scale > 1
        if guided:
            condition = torch.cat([null_condition, condition])
        self.scheduler.set_timesteps(num_inference_steps, device=latents.device)
        latents = latents.to(condition.dtype) * self.scheduler.init_noise_sigma
        self.conditional = slice(len(latents), None) if guided else slice(None)
        try:
            for number, timestep in enumerate(
                tqdm(self.scheduler.timesteps, desc="painting", disable=not progress, leave=False)
            ):
                inputs = torch.cat([latents, latents]) if guided else latents
                noise_pred = self.predict(inputs, timestep.expand(len(inputs)), condition)
                if guided:
                    null, conditional = noise_pred.chunk(2)
                    noise_pred = null + guidance_scale * (conditional - null)
                eta = self.config.eta
                fresh = step_noise(number).to(latents) if eta > 0 else None
                latents = self.scheduler.step(
                    noise_pred, timestep, latents, eta=eta, variance_noise=fresh
                ).prev_sample
        finally:
            self.conditional = slice(None)  # a pass outside of sampling is conditional as a whole
        return latents


def picture_noise(seeds: list[int], shape: tuple[int, int, int]):
    """The noise of pictures, each from its own CPU generator: a picture does not depend on its neighbours or the device.

    Args:
        seeds: one per picture.
        shape: of one picture's latents.

    Returns:
        The noise to start from, shape (batch, channels, height, width), and a function for the noise of each next step.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(step: int | None = None) -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    return draw(), draw
