"""The toy's own pretrained parts, which stand for the frozen ones that the paper starts from: judge, VAE, CLIP, U-Net.

Every stage is a module: `batch` is a pure function of (seed, step, process), `forward` gives the losses, and what
requires a gradient is trained. `stages.py` says in which order they run.
"""

import math
import random

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from ..vision import clip_pixels
from ..weights import toy
from ..weights.toy import clip_text_states
from ..world.judge import BACKGROUND_WORDS, Judge, Reading, attribute_indices, judge_batch
from ..world.language import describe, parse_caption
from ..world.render import render
from ..world.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COMBINATIONS,
    SHAPES,
    SIZES,
    Scene,
    is_held_out,
    sample_scene,
)
from ..world.stories import edit_of
from .loop import Recipe


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
        images, masks = render(
            [sample_scene(rng) for _ in range(self.recipe.batch)], toy.IMAGE_SIZE
        )
        near = F.max_pool2d(masks.amax(dim=1, keepdim=True), 5, stride=1, padding=2)
        return images, 1 + 4 * near

    def encode(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sampled latents and the KL to the unit Gaussian, in nats per latent number."""
        posterior = self.vae.encode(images * 2 - 1).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(images.device)
        return posterior.mean + posterior.std * noise, posterior.kl().mean() / posterior.mean[
            0
        ].numel()

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


class VaeDecoderStage(VaeStage):
    """The VAE's decoder learns on while the encoder is frozen, so that latents made before stay valid.

    It learns on latents with noise, as a U-Net leaves them: of shapes that are a little off it makes clean ones.
    Stability trained Stable Diffusion's later decoders on a frozen encoder, too.
    """

    name = "decoder"
    recipe = Recipe(steps=2400, batch=32, learning_rate=1e-3)
    greatest_noise = 0.25  # deviation, at unit scale; every picture draws its own, from 0 on

    def __init__(self, vae):
        super().__init__()
        self.vae = vae
        for part in (vae.encoder, vae.quant_conv):
            part.requires_grad_(False)

    def encode(self, images, generator):
        """Latents with noise, without gradients."""
        with torch.no_grad():
            latents, kl = super().encode(images, generator)
            amount = (
                self.greatest_noise
                / self.vae.config.scaling_factor
                * torch.rand(len(images), 1, 1, 1, generator=generator)
            )
            return latents + (amount * torch.randn(latents.shape, generator=generator)).to(
                latents
            ), kl


class TextStage(nn.Module):
    """The toy CLIP's text tower learns to tell who stands where, from captions alone.

    The real text tower has read 400 million captions. What a few minutes of contrastive learning leave is a bag of words,
    on which a U-Net gives the right colours and places to the wrong things, however long it is trained. So here the
    tower is asked: `questions`, one for each place where a thing can stand and one for the background, look for the
    state that answers them, by attention, as the U-Net's cells will. Only the tower is kept. What is not asked is lost:
    without the last question, the U-Net never heard of a background.
    """

    name = "text"
    recipe = Recipe(steps=1400, batch=128, learning_rate=1e-3)
    background_from = 900  # asked from the first step on, this easy question delays the hard ones several times over
    places = {
        None: (0,),
        "left of": (1, 2),
        "above": (3, 4),
    }  # which questions the first and the second thing answer
    answers = (
        1 + len(SIZES),
        1 + len(COLOURS),
        1 + len(SHAPES),
        1 + len(BACKGROUNDS),
    )  # 0 is "nothing"

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer, self.text = tokenizer, toy.new_clip(len(tokenizer))[1].requires_grad_(False)
        self.text.text_model.requires_grad_(True)
        self.questions = nn.Parameter(torch.randn(6, toy.CONDITION_SIZE))
        self.keys = nn.Linear(toy.CONDITION_SIZE, toy.CONDITION_SIZE, bias=False)
        self.reader = nn.Linear(toy.CONDITION_SIZE, sum(self.answers))

    def batch(self, seed: int, step: int, process: int):
        """Captions; the right answers, shape (batch, questions, kinds of answers); how many kinds are asked for."""
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        captions = [describe(sample_scene(rng), rng).text for _ in range(self.recipe.batch)]
        kinds = 3 if step < self.background_from else 4
        return captions, torch.tensor([self.right_answers(caption) for caption in captions]), kinds

    def right_answers(self, caption: str) -> list[list[int]]:
        """What a caption says, per question: numbers of size, colour, shape and background."""
        background, relation, looks = parse_caption(caption)
        rows = [[0, 0, 0, 0] for _ in range(6)]
        for place, look in zip(self.places[relation], looks):
            rows[place][:3] = (1 + number for number in attribute_indices(look))
        if background:
            rows[5][3] = 1 + BACKGROUND_WORDS.index(background)
        return rows

    def forward(self, batch, generator):
        """Cross entropy of the answers, and the share of captions with any wrong one."""
        captions, right, kinds = batch
        right = right[..., :kinds].to(self.questions.device)
        states = clip_text_states(self.text, self.tokenizer, captions)
        found = F.scaled_dot_product_attention(
            self.questions.expand(len(states), -1, -1), self.keys(states), states
        )
        scores = [
            rearrange(kind, "batch questions answers -> batch answers questions")
            for kind in self.reader(found).split(self.answers, dim=-1)[:kinds]
        ]
        told = torch.stack([kind.argmax(dim=1) for kind in scores], dim=-1)
        loss = sum(F.cross_entropy(kind, right[..., number]) for number, kind in enumerate(scores))
        return {"total": loss, "wrong": (told != right).flatten(1).any(dim=1).float().mean()}

    def parts(self):
        """What this stage leaves behind."""
        return {"clip_text": self.text}


class UnetStage(nn.Module):
    """The toy's "Stable Diffusion": the U-Net learns to denoise latents, conditioned on frozen CLIP *text* states."""

    name = "unet"
    recipe = Recipe(steps=7000, batch=64, learning_rate=1.5e-3)
    two = 3 / 4  # share of scenes with two things, which are harder
    pool = 60_000  # scenes whose latents are made once, since the VAE is frozen

    def __init__(self, vae, text, tokenizer):
        super().__init__()
        self.decoder = toy.new_decoder(vae, toy.new_unet())
        self.decoder.projector.requires_grad_(False)  # the dream queries' own; not in use yet
        self.text, self.tokenizer = text, tokenizer
        self.scenes = self.latents = None

    def fill_pool(self, seed: int) -> None:
        """Draws the scenes and encodes them, a thousand at a time."""
        rng = random.Random(f"{self.name} pool {seed}")
        self.scenes = [
            sample_scene(rng, count=2 if rng.random() < self.two else 1) for _ in range(self.pool)
        ]
        chunks = range(0, self.pool, 1000)
        with torch.no_grad():
            self.latents = torch.cat(
                [
                    self.decoder.encode_images(
                        render(self.scenes[first : first + 1000], toy.IMAGE_SIZE)[0].to(
                            self.decoder.device
                        )
                        * 2
                        - 1
                    )
                    for first in chunks
                ]
            )

    def batch(self, seed: int, step: int, process: int):
        """Latents, and a new caption for each; a tenth of the captions is empty, for guidance."""
        if self.scenes is None:
            self.fill_pool(seed)
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        chosen = [rng.randrange(self.pool) for _ in range(self.recipe.batch)]
        captions = [
            "" if rng.random() < 0.1 else describe(self.scenes[index], rng).text for index in chosen
        ]
        return self.latents[chosen], captions

    def forward(self, batch, generator):
        """The denoising loss."""
        latents, captions = batch
        with torch.no_grad():
            states = clip_text_states(self.text, self.tokenizer, captions)
        return {"total": self.decoder.loss(latents, states, generator)}

    def parts(self):
        """What this stage leaves behind."""
        return {"unet": self.decoder.unet}


class ClipStage(nn.Module):
    """The toy CLIP's vision tower learns to match pictures to captions (CLIP, Radford et al. 2021), and to see details.

    The text tower stays as it is, but for its projection (as in locked-image tuning, Zhai et al. 2022, the other way
    round). Every scene stands in the batch beside a near twin, one edit away: colours that moved, places exchanged, one
    word changed. The contrastive loss teaches the class token, in minutes too little for the patches, which are what a
    language model reads. So each patch is also asked what it lies on (size, colour and shape, or the background) and where
    it lies: who is not asked for its row and column forgets them, and left is then told from right by a coin. In half of
    the batches the pictures are gray, and neither colour nor background is asked: who always sees both learns that
    circles are never purple, since training holds that back.
    """

    name = "clip"
    recipe = Recipe(steps=4000, batch=64, learning_rate=1e-3, weight_decay=0.02)
    # Size, colour, shape (0 is "nothing"), background, and where the patch lies: row and column.
    answers = (
        1 + len(SIZES),
        1 + len(COLOURS),
        1 + len(SHAPES),
        len(BACKGROUNDS),
        toy.LATENT_SIZE,
        toy.LATENT_SIZE,
    )

    def __init__(self, text, tokenizer):
        super().__init__()
        self.tokenizer, self.text = tokenizer, text
        self.vision = toy.new_clip(len(tokenizer))[0]
        text.text_projection.requires_grad_(True)
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.reader = nn.Linear(toy.VISION_SIZE, sum(self.answers))

    def batch(self, seed: int, step: int, process: int):
        """Images, captions, which other captions are true of which picture, and what each patch lies on."""
        rng = random.Random(f"clip {seed} {step} {process}")
        scenes = []
        while len(scenes) < self.recipe.batch:
            scene = sample_scene(rng)
            change = None
            while change is None or is_held_out(change[0]):
                change = edit_of(
                    scene,
                    rng.choice(("recolour", "resize", "reshape", "swap", "background", "exchange")),
                    rng,
                )
            scenes += [scene, change[0]]
        captions = [describe(scene, rng).text for scene in scenes]
        images, masks = render(scenes, toy.IMAGE_SIZE)
        said = [parse_caption(caption) for caption in captions]
        also_true = torch.tensor(
            [[Reading(scene.facts).agrees(facts) for facts in said] for scene in scenes]
        )
        disguised = step % 2 == 1
        if disguised:
            images = self.disguise(images, masks, scenes, rng)
        return (
            images,
            captions,
            also_true & ~torch.eye(len(scenes), dtype=torch.bool),
            self.right_answers(scenes, masks),
            disguised,
        )

    def disguise(
        self, images: Tensor, masks: Tensor, scenes: list[Scene], rng: random.Random
    ) -> Tensor:
        """The same pictures in gray."""
        return reduce(images, "batch rgb height width -> batch 1 height width", "mean").expand(
            -1, 3, -1, -1
        )

    def right_answers(self, scenes: list[Scene], masks: Tensor) -> Tensor:
        """What each patch lies on, shape (batch, patches, 6): size, colour, shape, background; -1 where it is unclear; row, column."""
        cover = reduce(
            masks,
            "batch things (rows height) (columns width) -> batch (rows columns) things",
            "mean",
            rows=toy.LATENT_SIZE,
            columns=toy.LATENT_SIZE,
        )
        most, thing = cover.max(dim=-1)
        looks = 1 + torch.tensor(
            [
                [attribute_indices(thing.appearance) for thing in (scene.objects * 2)[:2]]
                for scene in scenes
            ]
        )
        right = torch.where(
            (most > 0)[..., None],
            torch.where(
                (most < 0.3)[..., None], -1, looks[torch.arange(len(scenes))[:, None], thing]
            ),
            0,
        )
        grounds = torch.tensor([BACKGROUND_WORDS.index(scene.background) for scene in scenes])
        patches = torch.arange(right.shape[1])
        where = torch.stack([patches // toy.LATENT_SIZE, patches % toy.LATENT_SIZE], dim=-1)
        return torch.cat(
            [
                right,
                repeat(grounds, "batch -> batch patches 1", patches=len(patches)),
                repeat(where, "patches sides -> batch patches sides", batch=len(scenes)),
            ],
            dim=-1,
        )

    def forward(self, batch, generator):
        """Cross entropy of picture to caption and caption to picture, and of what the patches tell."""
        images, captions, also_true, right, disguised = batch
        device = self.log_scale.device
        seen = self.vision(clip_pixels(images).to(device), output_hidden_states=True)
        patches = self.reader(seen.hidden_states[-2][:, 1:]).split(
            self.answers, dim=-1
        )  # where the LLM will read them
        right = right.to(device)
        asked = (0, 2, 4, 5) if disguised else range(len(self.answers))
        # A tenth of the patches lies on things: the mean over those counts as much as the mean over the rest.
        things, empty = right[..., 0] > 0, right[..., 0] == 0
        details = sum(
            F.cross_entropy(patches[kind][where], right[where][:, kind])
            for kind in asked
            for where in (things, empty)
        )
        told = torch.stack(
            [patches[kind].argmax(dim=-1)[things] == right[things][:, kind] for kind in asked],
            dim=-1,
        )
        losses = {
            "total": details,
            "details": details,
            "misread": 1 - told.all(dim=-1).float().mean(),
        }
        if disguised:
            return losses
        with torch.no_grad():
            states = clip_text_states(self.text, self.tokenizer, captions)
        ends = [
            len(self.tokenizer.encode(caption)) + 1 for caption in captions
        ]  # where </s> stands
        read = F.normalize(
            self.text.text_projection(states[torch.arange(len(states)), ends]), dim=-1
        )
        scores = (
            self.log_scale.clamp(max=4.6).exp() * F.normalize(seen.image_embeds, dim=-1) @ read.T
        ).masked_fill(also_true.to(device), -1e4)
        answers = torch.arange(len(scores), device=device)
        match = (F.cross_entropy(scores, answers) + F.cross_entropy(scores.T, answers)) / 2
        return losses | {
            "total": details + match,
            "match": match,
            "wrong": (scores.argmax(dim=1) != answers).float().mean(),
        }

    def parts(self):
        """What this stage leaves behind."""
        return {
            "clip_vision": self.vision.vision_model,
            "clip_text": self.text,
            "clip_visual_projection": self.vision.visual_projection,
        }


class SightStage(ClipStage):
    """The vision tower learns on, until it reads shapes whatever their colour.

    After gray pictures it still misread one in nine of the shapes in colours that training holds back. So now every other
    batch wears colours without a name, drawn at random; one that comes near to a held-out look is drawn again.
    """

    name = "sight"
    recipe = Recipe(steps=7000, batch=64, learning_rate=1e-3, weight_decay=0.02)

    def __init__(self, vision, projection, text, tokenizer):
        super().__init__(text, tokenizer)
        self.vision.vision_model = vision.requires_grad_(True)
        self.vision.visual_projection = projection.requires_grad_(True)

    def disguise(self, images, masks, scenes, rng):
        """The same scenes in colours drawn at random."""
        colours = torch.tensor([self.strange_colours(scene, rng) for scene in scenes])
        cover = torch.cat([1 - masks.sum(dim=1, keepdim=True), masks], dim=1)
        return einsum(
            cover, colours, "batch layers height width, batch layers rgb -> batch rgb height width"
        )

    def strange_colours(self, scene: Scene, rng: random.Random) -> list[list[float]]:
        """RGB in [0, 1] of the background and two things, well apart, none near a colour that its shape must not have."""
        shapes = [thing.shape for thing in scene.objects * 2][:2]
        while True:
            ground, *things = ([rng.random() for _ in range(3)] for _ in range(3))
            nearest = [
                min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour)) for colour in things
            ]
            if min(
                math.dist(ground, colour) for colour in things
            ) > 0.35 and not HELD_OUT_COMBINATIONS & set(zip(shapes, nearest)):
                return [ground, *things]
