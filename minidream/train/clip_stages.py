"""Training of the toy CLIP: the text tower, then the vision tower in two stages.

The stages are modules like those in `pretraining.py`.
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
from ..world.judge import BACKGROUND_WORDS, Reading, attribute_indices
from ..world.language import describe, parse_caption
from ..world.render import FLOATS, render
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
from .processes import SharedStage, joined_rows, joined_weights, own_rows

OBJECT_CLASSES = (1 + len(SIZES), 1 + len(COLOURS), 1 + len(SHAPES))  # class 0 means "no object"


class TextStage(SharedStage):
    """The toy CLIP's text tower learns from captions alone which object is in which position.

    The real text tower has read 400 million captions. A few minutes of contrastive learning leave
    no more than a bag of words, and a U-Net trained on that gives the right colours and positions
    to the wrong objects, however long it is trained. So the tower is trained on questions here. A
    learned vector, one for each position that an object can have and one for the background, finds
    the state that answers it by attention, as the U-Net's cells will do. Only the tower is kept
    afterwards. What no question asks for is lost: without the question about the background, the
    states tell the U-Net nothing about it.
    """

    name = "text"
    recipe = Recipe(steps=1400, batch=128, learning_rate=1e-3)
    # Asked from the first step on, this easy question delays the hard ones several times over.
    background_from_step = 900
    # The indices of the questions that the first and the second object of a relation answer.
    questions_of = {None: (0,), "left of": (1, 2), "above": (3, 4)}
    background_question = 5
    classes = (*OBJECT_CLASSES, 1 + len(BACKGROUNDS))

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer, self.text = tokenizer, toy.new_clip(len(tokenizer))[1].requires_grad_(False)
        self.text.text_model.requires_grad_(True)
        self.questions = nn.Parameter(torch.randn(6, toy.CONDITION_SIZE))
        self.keys = nn.Linear(toy.CONDITION_SIZE, toy.CONDITION_SIZE, bias=False)
        self.reader = nn.Linear(toy.CONDITION_SIZE, sum(self.classes))

    def batch(self, seed: int, step: int, process: int):
        """Captions, labels of shape (batch, questions, facts), and how many facts are asked for."""
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        captions = [describe(sample_scene(rng), rng).text for _ in range(self.recipe.batch)]
        facts = 3 if step < self.background_from_step else 4
        labels = torch.tensor([self.labels_of(caption) for caption in captions], device="cpu")
        return captions, labels, facts

    def labels_of(self, caption: str) -> list[list[int]]:
        """The facts that answer each question: classes of size, colour, shape and background."""
        background, relation, looks = parse_caption(caption)
        rows = [[0, 0, 0, 0] for _ in range(6)]
        for question, look in zip(self.questions_of[relation], looks):
            rows[question][:3] = (1 + index for index in attribute_indices(look))
        if background:
            rows[self.background_question][3] = 1 + BACKGROUND_WORDS.index(background)
        return rows

    def forward(self, batch, generator):
        """Cross entropy of the answers, and the share of captions with any wrong answer."""
        captions, labels, facts = batch
        labels = labels[..., :facts].to(self.questions.device)
        states = clip_text_states(self.text, self.tokenizer, captions)
        questions = self.questions.expand(len(states), -1, -1)
        found = F.scaled_dot_product_attention(questions, self.keys(states), states)
        logits = [
            rearrange(fact, "batch questions classes -> batch classes questions")
            for fact in self.reader(found).split(self.classes, dim=-1)[:facts]
        ]
        answers = torch.stack([fact.argmax(dim=1) for fact in logits], dim=-1)
        loss = sum(F.cross_entropy(fact, labels[..., index]) for index, fact in enumerate(logits))
        wrong = (answers != labels).flatten(1).any(dim=1).float().mean()
        (weight,) = joined_weights(len(captions))
        return {"total": loss * weight, "wrong": wrong * weight}

    def parts(self):
        """The trained parts by name."""
        return {"clip_text": self.text}


class ClipStage(SharedStage):
    """The toy CLIP's vision tower learns to match pictures to captions, and to see details.

    The text tower stays as it is, except for its projection. (Locked-image tuning, Zhai et al.
    2022, does the same with the roles of image and text exchanged.) Every scene of a batch has a
    near twin in it that is one edit away: swapped colours or positions, or one changed word.

    The contrastive loss trains the class token. In a few minutes it teaches too little to the
    patches, which are what a language model reads. So a linear reader also predicts, from each
    patch, the size, colour and shape of the object there, or the background, and the patch's row
    and column. Without the row and the column, the patches lose their position, and left cannot be
    told from right.

    In half of the batches the pictures are gray, and the reader predicts neither colour nor
    background: with colours always visible, the tower would learn that circles are never purple,
    since training holds that combination back.

    Paper: CLIP, Radford et al. 2021.
    """

    name = "clip"
    recipe = Recipe(steps=4000, batch=64, learning_rate=1e-3, weight_decay=0.02)
    # What is predicted from a patch: size, colour, shape, background, row and column.
    classes = (*OBJECT_CLASSES, len(BACKGROUNDS), toy.LATENT_SIZE, toy.LATENT_SIZE)
    without_colours = (0, 2, 4, 5)  # what is still predicted from recoloured pictures

    def __init__(self, text, tokenizer):
        super().__init__()
        self.tokenizer, self.text = tokenizer, text
        self.vision = toy.new_clip(len(tokenizer))[0]
        text.text_projection.requires_grad_(True)
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.reader = nn.Linear(toy.VISION_SIZE, sum(self.classes))

    def batch(self, seed: int, step: int, process: int):
        """Images, captions, which other captions are true of each image, and labels of patches.

        The last item says whether the pictures are recoloured.
        """
        rng = random.Random(f"clip {seed} {step} {process}")
        scenes = []
        while len(scenes) < self.recipe.batch:
            scene = sample_scene(rng)
            scenes += [scene, self.near_twin(scene, rng)]
        captions = [describe(scene, rng).text for scene in scenes]
        images, masks = render(scenes, toy.IMAGE_SIZE)
        facts_of_captions = [parse_caption(caption) for caption in captions]
        readings = [Reading(scene.facts) for scene in scenes]
        is_true = torch.tensor(
            [[reading.agrees(facts) for facts in facts_of_captions] for reading in readings]
        )
        also_true = is_true & ~torch.eye(len(scenes), dtype=torch.bool)
        recoloured = step % 2 == 1
        if recoloured:
            images = self.recolour(images, masks, scenes, rng)
        return images, captions, also_true, self.patch_labels(scenes, masks), recoloured

    def near_twin(self, scene: Scene, rng: random.Random) -> Scene:
        """A scene that is one edit away and shows no held-out combination."""
        edits = ("recolour", "resize", "reshape", "swap", "background", "exchange")
        change = None
        while change is None or is_held_out(change[0]):
            change = edit_of(scene, rng.choice(edits), rng)
        return change[0]

    def recolour(
        self, images: Tensor, masks: Tensor, scenes: list[Scene], rng: random.Random
    ) -> Tensor:
        """The same pictures in gray."""
        gray = reduce(images, "batch rgb height width -> batch 1 height width", "mean")
        return gray.expand(-1, 3, -1, -1)

    def patch_labels(self, scenes: list[Scene], masks: Tensor) -> Tensor:
        """The classes that each patch shows, shape (batch, patches, 6).

        Size, colour and shape of the object there, 0 if there is none and -1 if an object covers
        less than three tenths of the patch; background; row; column.
        """
        cover = reduce(
            masks,
            "batch objects (rows height) (columns width) -> batch (rows columns) objects",
            "mean",
            rows=toy.LATENT_SIZE,
            columns=toy.LATENT_SIZE,
        )
        most, covering = cover.max(dim=-1)
        looks = 1 + torch.tensor(
            [
                [attribute_indices(item.appearance) for item in (scene.objects * 2)[:2]]
                for scene in scenes
            ]
        )
        looks_of_patches = looks[torch.arange(len(scenes))[:, None], covering]
        clear = torch.where((most < 0.3)[..., None], -1, looks_of_patches)
        objects = torch.where((most > 0)[..., None], clear, 0)
        grounds = torch.tensor([BACKGROUND_WORDS.index(scene.background) for scene in scenes])
        patches = torch.arange(objects.shape[1])
        cells = torch.stack([patches // toy.LATENT_SIZE, patches % toy.LATENT_SIZE], dim=-1)
        background = repeat(grounds, "batch -> batch patches 1", patches=len(patches))
        positions = repeat(cells, "patches sides -> batch patches sides", batch=len(scenes))
        return torch.cat([objects, background, positions], dim=-1)

    def share(self, batch, rows):
        """As `SharedStage.share`; which captions are true is kept for all pictures."""
        (images, captions, _, labels, recoloured), own = super().share(batch, rows)
        return (images, captions, batch[2], labels, recoloured), own

    def forward(self, batch, generator):
        """Cross entropy of pictures and captions, both ways, and of what is read from patches."""
        images, captions, also_true, labels, recoloured = batch
        device = self.log_scale.device
        seen = self.vision(clip_pixels(images).to(device), output_hidden_states=True)
        patches = seen.hidden_states[-2][:, 1:]  # the layer that the language model will read
        losses = self.patch_losses(patches, labels.to(device), recoloured)
        if recoloured:
            return losses
        with torch.no_grad():
            states = clip_text_states(self.text, self.tokenizer, captions)
        ends = [len(self.tokenizer.encode(caption)) + 1 for caption in captions]  # index of </s>
        text = self.text.text_projection(states[torch.arange(len(states)), ends])
        # A picture is compared with the captions of all processes, and a caption with the pictures.
        image = joined_rows(F.normalize(seen.image_embeds, dim=-1), len(also_true))
        text = joined_rows(F.normalize(text, dim=-1), len(also_true))
        scores = self.log_scale.clamp(max=4.6).exp() * image @ text.T
        scores = scores.masked_fill(also_true.to(device), -1e4)
        own = own_rows(len(scores)).to(device)
        match = (F.cross_entropy(scores[own], own) + F.cross_entropy(scores.T[own], own)) / 2
        wrong = (scores[own].argmax(dim=1) != own).float().mean()
        (weight,) = joined_weights(len(own))
        match, wrong = match * weight, wrong * weight
        return losses | {"total": losses["details"] + match, "match": match, "wrong": wrong}

    def patch_losses(self, patches: Tensor, labels: Tensor, recoloured: bool) -> dict[str, Tensor]:
        """The reader's cross entropy, and the share of patches with an object that it misreads."""
        logits = self.reader(patches).split(self.classes, dim=-1)
        asked = self.without_colours if recoloured else range(len(self.classes))
        # A tenth of the patches shows an object; their mean counts as much as that of the others.
        on_objects, empty = labels[..., 0] > 0, labels[..., 0] == 0
        of_objects, of_empty = joined_weights(on_objects.sum(), empty.sum())
        details = sum(
            F.cross_entropy(logits[fact][where], labels[where][:, fact]) * weight
            for fact in asked
            for where, weight in ((on_objects, of_objects), (empty, of_empty))
        )
        correct = [
            logits[fact].argmax(dim=-1)[on_objects] == labels[on_objects][:, fact] for fact in asked
        ]
        misread = (1 - torch.stack(correct, dim=-1).all(dim=-1).float().mean()) * of_objects
        return {"total": details, "details": details, "misread": misread}

    def parts(self):
        """The trained parts by name."""
        return {
            "clip_vision": self.vision.vision_model,
            "clip_text": self.text,
            "clip_visual_projection": self.vision.visual_projection,
        }


class SightStage(ClipStage):
    """The vision tower is trained further, until it reads shapes whatever their colour.

    With gray pictures alone it still misread one in nine of the shapes in colours that training
    holds back. So the pictures of every other batch get random colours here. Colours that come near
    a held-out combination are drawn again.
    """

    name = "sight"
    recipe = Recipe(steps=7000, batch=64, learning_rate=1e-3, weight_decay=0.02)

    def __init__(self, vision, projection, text, tokenizer):
        super().__init__(text, tokenizer)
        self.vision.vision_model = vision.requires_grad_(True)
        self.vision.visual_projection = projection.requires_grad_(True)

    def recolour(self, images, masks, scenes, rng):
        """The same scenes in random colours."""
        colours = [self.random_colours(scene, rng) for scene in scenes]
        colours = torch.tensor(colours, **FLOATS)
        cover = torch.cat([1 - masks.sum(dim=1, keepdim=True), masks], dim=1)
        return einsum(
            cover, colours, "batch layers height width, batch layers rgb -> batch rgb height width"
        )

    def random_colours(self, scene: Scene, rng: random.Random) -> list[list[float]]:
        """RGB in [0, 1] of the background and of two objects.

        The objects differ clearly from the background, and no object's colour is nearest to one
        that its shape must not have.
        """
        shapes = [item.shape for item in scene.objects * 2][:2]
        while True:
            ground, *objects = ([rng.random() for _ in range(3)] for _ in range(3))
            names = [
                min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour))
                for colour in objects
            ]
            contrast = min(math.dist(ground, colour) for colour in objects)
            if contrast > 0.35 and not HELD_OUT_COMBINATIONS & set(zip(shapes, names)):
                return [ground, *objects]
