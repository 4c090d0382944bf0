"""Training of the judge, the VAE and the U-Net of the toy.

VAE, CLIP (see `clip_stages.py`) and U-Net replace the pretrained parts that the paper starts from
and keeps frozen. Every stage is a module: `batch` is a pure function of (seed, step, process),
`forward` returns the losses, and the parameters that require a gradient are trained.
"""

import random
from functools import partial

import torch
from einops import reduce
from torch.nn import functional as F

from ..diffusion import normal
from ..images import draw
from ..trainer.loop import Recipe
from ..trainer.processes import SharedStage, joined_weights
from ..weights import toy
from ..weights.toy import clip_text_states
from ..world.judge import HEADS, Judge, judge_batch
from ..world.language import describe
from ..world.render import render
from ..world.scenes import sample_scene


class JudgeStage(SharedStage):
    """The judge, a small CNN, learns to read scenes from rough renders."""

    name = "judge"
    recipe = Recipe(steps=2500, batch=64, learning_rate=1e-3)

    def __init__(self):
        super().__init__()
        self.judge = Judge()

    def batch(self, seed: int, step: int, process: int):
        """Rough renders and the labels of their scenes."""
        return judge_batch(f"{seed} {process}", step, self.recipe.batch, toy.IMAGE_SIZE)

    def forward(self, batch, generator):
        """Cross entropy, summed over all heads."""
        device = next(self.parameters()).device
        images, labels = batch
        weights = dict(zip(HEADS, joined_weights(*(labels >= 0).sum(dim=0))))
        losses = self.judge.losses(images.to(device), labels.to(device))
        return {"total": sum(loss * weights[name] for name, loss in losses.items())}

    def parts(self):
        """The trained parts by name."""
        return {"judge": self.judge}


class VaeStage(SharedStage):
    """The VAE learns to compress pictures into latents, and to draw clean shapes from noisy ones.

    The loss is the mean absolute error, of the pixels and of the mean colour of each latent cell:
    with pixels alone, colours are learned late. Objects, a tenth of the picture, count five-fold. A
    little KL makes the encoder a distribution, and the last term keeps the latents at unit scale.
    The decoder learns from latents with noise, since those that a U-Net makes are slightly wrong.
    """

    name = "vae"
    recipe = Recipe(steps=4500, batch=32, learning_rate=2e-3)
    max_noise = 0.2  # standard deviation; each picture draws its own from 0 to this

    def __init__(self):
        super().__init__()
        self.vae = toy.new_vae()

    def batch(self, seed: int, step: int, process: int):
        """Images in [0, 1], shape (batch, 3, height, width), and a weight per pixel."""
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        scenes = [sample_scene(rng) for _ in range(self.recipe.batch)]
        images, masks = render(scenes, toy.IMAGE_SIZE)
        near = F.max_pool2d(masks.amax(dim=1, keepdim=True), 9, stride=1, padding=4)
        return images, 1 + 4 * near

    def forward(self, batch, generator):
        """Weighted absolute errors, KL in nats per latent value, and the distance to unit scale."""
        images, weights = (tensor.to(next(self.parameters()).device) for tensor in batch)
        images = images * 2 - 1
        posterior = self.vae.encode(images).latent_dist
        noise = normal(posterior.mean.shape, generator).to(images.device)
        uniform = partial(torch.rand, dtype=torch.float32)
        extra = self.max_noise * draw(uniform, (len(images), 1, 1, 1), generator)
        decoded = self.vae.decode(posterior.mean + (posterior.std + extra.to(noise)) * noise).sample
        difference = decoded - images
        error = (difference.abs() * weights).mean() / weights.mean()
        pattern = "batch channels (rows height) (columns width) -> batch channels rows columns"
        cells = {"rows": toy.LATENT_SIZE, "columns": toy.LATENT_SIZE}
        of_cells = reduce(difference, pattern, "mean", **cells)
        weights_of_cells = reduce(weights, pattern, "mean", **cells)
        colour = (of_cells.abs() * weights_of_cells).mean() / weights_of_cells.mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        scale = (posterior.mean.std() - 1) ** 2
        of_error, of_kl = joined_weights(weights.sum(), len(images))
        error, colour, kl, scale = error * of_error, colour * of_error, kl * of_kl, scale * of_kl
        total = error + colour + 1e-4 * kl + 0.1 * scale
        return {"total": total, "error": error, "colour": colour, "kl": kl, "scale": scale}

    def parts(self):
        """The trained parts by name."""
        return {"vae": self.vae}


class UnetStage(SharedStage):
    """The U-Net learns to denoise latents on frozen CLIP text states: the toy's "Stable Diffusion".

    Args:
        vae: trained and frozen.
        text: the text tower, trained and frozen.
        tokenizer: of the captions.
        pool_size: number of scenes. Their latents are computed once, since the VAE is frozen.
    """

    name = "unet"
    recipe = Recipe(steps=7000, batch=64, learning_rate=1.5e-3)
    share_of_two = 3 / 4  # scenes with two objects, which are harder

    def __init__(self, vae, text, tokenizer, pool_size: int = 60_000):
        super().__init__()
        self.decoder = toy.new_decoder(vae, toy.new_unet())
        self.decoder.projector.requires_grad_(False)  # it belongs to the dream queries; unused here
        self.text, self.tokenizer, self.pool_size = text, tokenizer, pool_size
        self.scenes = self.latents = None

    def fill_pool(self, seed: int) -> None:
        """Samples the scenes and encodes them, a thousand at a time."""
        rng = random.Random(f"{self.name} pool {seed}")
        self.scenes = [
            sample_scene(rng, count=2 if rng.random() < self.share_of_two else 1)
            for _ in range(self.pool_size)
        ]
        chunks = []
        for first in range(0, self.pool_size, 1000):
            images, _ = render(self.scenes[first : first + 1000], toy.IMAGE_SIZE)
            with torch.no_grad():
                chunks.append(self.decoder.encode_images(images.to(self.decoder.device) * 2 - 1))
        self.latents = torch.cat(chunks)

    def batch(self, seed: int, step: int, process: int):
        """Latents with a new caption for each. A tenth of the captions is empty, for guidance."""
        if self.scenes is None:
            self.fill_pool(seed)
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        chosen = [rng.randrange(self.pool_size) for _ in range(self.recipe.batch)]
        captions = [
            "" if rng.random() < 0.1 else describe(self.scenes[index], rng).text for index in chosen
        ]
        return self.latents[chosen], captions

    def forward(self, batch, generator):
        """The denoising loss."""
        latents, captions = batch
        with torch.no_grad():
            states = clip_text_states(self.text, self.tokenizer, captions)
        (weight,) = joined_weights(len(latents))
        return {"total": self.decoder.loss(latents, states, generator) * weight}

    def parts(self):
        """The trained parts by name."""
        return {"unet": self.decoder.unet}
