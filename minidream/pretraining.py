"""The toy's own pretrained parts, which stand for the frozen ones that the paper starts from: judge, VAE, CLIP, U-Net.

Every stage is a module: `batch` is a pure function of (seed, step, process), `forward` gives the losses, and what
requires a gradient is trained. `stages.py` says in which order they run.
"""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import toy
from .train import Recipe
from .vision import clip_pixels, clip_text_states
from .world.judge import Judge, Reading, judge_batch
from .world.language import describe, describe_places, parse_caption
from .world.render import render
from .world.scenes import Scene, is_held_out, sample_scene
from .world.stories import edit_of


class JudgeStage(nn.Module):
    """The judge CNN learns to read scenes from rough renders."""
    name = "judge"
    recipe = Recipe(steps=2500, batch=64, learning_rate=1e-3)

    def __init__(self):
        super().__init__()
        self.judge = Judge()

    def batch(self, seed: int, step: int, process: int):
        """Rough renders and what is to be read in them."""
        return judge_batch(f"{seed} {process}", step, self.recipe.batch, toy.IMAGE_SIZE)

    def forward(self, batch, generator):
        """Cross entropy of all heads."""
        device = next(self.parameters()).device
        images, answers = batch
        return {"total": self.judge.loss(images.to(device), answers.to(device))}

    def parts(self):
        """What this stage leaves behind."""
        return {"judge": self.judge}


class VaeStage(nn.Module):
    """The VAE learns to pack pictures into latents.

    The loss is the mean absolute error, with five-fold weight on and around the things, which cover a tenth of the
    picture; and a little KL, which keeps the latents near unit scale and the decoder used to noisy ones.
    """
    name = "vae"
    recipe = Recipe(steps=2400, batch=32, learning_rate=2e-3)

    def __init__(self):
        super().__init__()
        self.vae = toy.new_vae()

    def batch(self, seed: int, step: int, process: int):
        """Images in [0, 1] and the weight of every pixel."""
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        images, masks = render([sample_scene(rng) for _ in range(self.recipe.batch)], toy.IMAGE_SIZE)
        near = F.max_pool2d(masks.amax(dim=1, keepdim=True), 5, stride=1, padding=2)
        return images, 1 + 4 * near

    def encode(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sampled latents and the KL to the unit Gaussian, in nats per latent number."""
        posterior = self.vae.encode(images * 2 - 1).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(images.device)
        return posterior.mean + posterior.std * noise, posterior.kl().mean() / posterior.mean[0].numel()

    def forward(self, batch, generator):
        """Weighted absolute error and KL."""
        images, weights = (tensor.to(next(self.parameters()).device) for tensor in batch)
        latents, kl = self.encode(images, generator)
        decoded = self.vae.decode(latents).sample
        error = ((decoded - (images * 2 - 1)).abs() * weights).mean() / weights.mean()
        return {"total": error + 1e-4 * kl, "error": error, "kl": kl}

    def parts(self):
        """What this stage leaves behind."""
        return {"vae": self.vae}


class DecoderStage(VaeStage):
    """The VAE's decoder learns on while the encoder is frozen, so that latents made before stay valid.

    It learns on latents with noise, as a U-Net leaves them: of shapes that are a little off it makes clean ones.
    Stability trained Stable Diffusion's later decoders on a frozen encoder, too.
    """
    name = "decoder"
    recipe = Recipe(steps=2400, batch=32, learning_rate=1e-3)
    greatest_noise = 0.25       # deviation, at unit scale; every picture draws its own, from 0 on

    def __init__(self, vae):
        super().__init__()
        self.vae = vae
        for part in (vae.encoder, vae.quant_conv):
            part.requires_grad_(False)

    def encode(self, images, generator):
        """Latents with noise, without gradients."""
        with torch.no_grad():
            latents, kl = super().encode(images, generator)
            amount = self.greatest_noise / self.vae.config.scaling_factor * torch.rand(len(images), 1, 1, 1, generator=generator)
            return latents + (amount * torch.randn(latents.shape, generator=generator)).to(latents), kl


class ClipStage(nn.Module):
    """A vision and a text tower learn to tell which caption belongs to which picture (CLIP, Radford et al. 2021).

    Plain contrastive learning leaves the text tower a bag of words. So every scene stands in the batch beside a near
    twin, one edit away: colours that moved, places exchanged, one word changed.
    """
    name = "clip"
    recipe = Recipe(steps=2400, batch=64, learning_rate=1e-3, weight_decay=0.02)

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.vision, self.text = toy.new_clip(len(tokenizer))
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def batch(self, seed: int, step: int, process: int):
        """Images, captions, and which other captions are true of which picture."""
        rng = random.Random(f"clip {seed} {step} {process}")
        scenes, captions = [], []
        while len(scenes) < self.recipe.batch:
            scene = sample_scene(rng)
            change = None
            while change is None or is_held_out(change[0]):
                change = edit_of(scene, rng.choice(("recolour", "resize", "reshape", "swap", "background", "exchange")), rng)
            for twin in (scene, change[0]):
                scenes.append(twin)
                captions.append(describe(twin, rng).text)
        images, _ = render(scenes, toy.IMAGE_SIZE)
        said = [parse_caption(caption) for caption in captions]
        also_true = torch.tensor([[Reading(scene.facts).agrees(facts) for facts in said] for scene in scenes])
        return images, captions, also_true & ~torch.eye(len(scenes), dtype=torch.bool)

    def forward(self, batch, generator):
        """Cross entropy of picture to caption and caption to picture."""
        images, captions, also_true = batch
        device = self.log_scale.device
        seen = F.normalize(self.vision(clip_pixels(images).to(device)).image_embeds, dim=-1)
        states, mask = clip_text_states(self.text, self.tokenizer, captions)
        last = states[torch.arange(len(states)), mask.sum(dim=1) - 1]      # at </s>
        read = F.normalize(self.text.text_projection(last), dim=-1)
        scores = (self.log_scale.clamp(max=4.6).exp() * seen @ read.T).masked_fill(also_true.to(device), -1e4)
        answers = torch.arange(len(scores), device=device)
        loss = (F.cross_entropy(scores, answers) + F.cross_entropy(scores.T, answers)) / 2
        return {"total": loss, "wrong": (scores.argmax(dim=1) != answers).float().mean()}

    def parts(self):
        """What this stage leaves behind."""
        return {"clip_vision": self.vision.vision_model, "clip_text": self.text,
                "clip_visual_projection": self.vision.visual_projection}


class UnetStage(nn.Module):
    """The toy's "Stable Diffusion": the U-Net learns to denoise latents, conditioned on frozen CLIP *text* states."""
    name = "unet"
    recipe = Recipe(steps=3740, horizon=4400, batch=64, learning_rate=1.5e-3)
    two = 2 / 3             # share of scenes with two things
    pool = 40_000           # scenes whose latents are made once, since the VAE is frozen

    def __init__(self, vae, text, tokenizer):
        super().__init__()
        self.decoder = toy.new_decoder(vae, toy.new_unet())
        self.decoder.projector.requires_grad_(False)        # the dream queries' own; not in use yet
        self.text, self.tokenizer = text, tokenizer
        self.scenes = self.latents = None

    def fill_pool(self, seed: int) -> None:
        """Draws the scenes and encodes them, a thousand at a time."""
        rng = random.Random(f"{self.name} pool {seed}")
        self.scenes = [sample_scene(rng, count=2 if rng.random() < self.two else 1) for _ in range(self.pool)]
        chunks = range(0, self.pool, 1000)
        with torch.no_grad():
            self.latents = torch.cat([self.decoder.encode(
                render(self.scenes[first:first + 1000], toy.IMAGE_SIZE)[0].to(self.decoder.device) * 2 - 1) for first in chunks])

    def batch(self, seed: int, step: int, process: int):
        """Latents, and a new caption for each; a tenth of the captions is empty, for guidance."""
        if self.scenes is None:
            self.fill_pool(seed)
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        chosen = [rng.randrange(self.pool) for _ in range(self.recipe.batch)]
        captions = ["" if rng.random() < 0.1 else self.caption(self.scenes[index], rng) for index in chosen]
        return self.latents[chosen], captions

    def caption(self, scene: Scene, rng: random.Random) -> str:
        """What is said of a scene."""
        return describe(scene, rng).text

    def forward(self, batch, generator):
        """The denoising loss."""
        latents, captions = batch
        states, mask = clip_text_states(self.text, self.tokenizer, captions)
        return {"total": self.decoder.loss(latents, states, generator, mask)}

    def parts(self):
        """What this stage leaves behind."""
        return {"unet": self.decoder.unet}


class BindingStage(UnetStage):
    """The U-Net learns on, now together with the text tower, mostly on scenes of two things.

    On frozen CLIP states it paints the right colours and shapes, but gives them to the two things at random: what
    contrastive learning left in the states is close to a bag of words. Latent diffusion's own first text encoder was
    trained together with its U-Net, too (Rombach et al. 2022); Stable Diffusion's is frozen.
    """
    name = "binding"
    recipe = Recipe(steps=1840, horizon=2600, batch=64, learning_rate=1.2e-3)
    two = 0.85

    def __init__(self, vae, unet, text, tokenizer):
        super().__init__(vae, text, tokenizer)
        self.decoder.unet = unet.requires_grad_(True)
        text.text_model.requires_grad_(True)

    def parts(self):
        """What this stage leaves behind."""
        return {"unet": self.decoder.unet, "clip_text": self.text}


class PlacingStage(BindingStage):
    """The same, until it matters who is named first: "a left of b" and "b left of a" are still painted alike.

    Half of the captions say each thing's place right beside it, and a third of the scenes have a single thing: "a small
    red circle left" teaches where left is, "a red circle left and a blue square right" what goes there. The captions
    that state a relation, as always, then only have to be understood as what is known already.
    """
    name = "placing"
    recipe = Recipe(steps=1500, batch=64, learning_rate=1.2e-3)
    two = 2 / 3

    def caption(self, scene: Scene, rng: random.Random) -> str:
        """What is said of a scene, in half of the cases place by place."""
        return describe_places(scene, rng).text if rng.random() < 0.5 else describe(scene, rng).text
