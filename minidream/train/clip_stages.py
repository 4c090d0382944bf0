"""Training of the toy CLIP: the text tower, then the vision tower.

The stages are modules like those in `pretraining.py`.
"""

import random

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..documents import IGNORED
from ..trainer.loop import Recipe
from ..trainer.processes import SharedStage, joined_rows, joined_weights, own_rows
from ..vision import clip_pixels
from ..weights import toy
from ..weights.toy import clip_text_states
from ..world.cells import OBJECT_CLASSES, looks_of_caption, looks_of_cells
from ..world.judge import Reading
from ..world.language import describe, description, parse_caption
from ..world.recolouring import recoloured
from ..world.render import render
from ..world.scenes import BACKGROUNDS, sample_scene
from ..world.stories import near_twin


class TextStage(SharedStage):
    """The toy CLIP's text tower learns from captions alone which object is in which position.

    The real one has read 400 million captions. A few minutes of contrastive learning leave a bag of
    words, and a U-Net trained on that gives colours and positions to the wrong objects. So a
    learned vector for each position that an object can have, and one for the background, asks what
    is there, and finds the state that answers by attention, as the U-Net's cells will do. What no
    question asks for is lost. Only the tower is kept.
    """

    name = "text"
    recipe = Recipe(steps=1400, batch=128, learning_rate=1e-3)
    # Asked from the first step on, this easy question delays the hard ones several times over.
    background_from_step = 900
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
        labels = torch.tensor([looks_of_caption(caption) for caption in captions], device="cpu")
        return captions, labels, facts

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
    """The toy CLIP's vision tower learns from pictures, captions, and what its patches show.

    A captioner, a small language model that is thrown away afterwards, reads the patches and writes
    what the picture shows, as in CoCa (Yu et al. 2022): patches learn to say where things are. The
    class token is to match the picture's caption better than the other captions of the batch; each
    scene has a near twin in it. The text tower learns its projection alone, as in locked-image
    tuning (Zhai et al. 2022) with the roles exchanged.

    Captions alone were not enough: after 8,000 steps, a fourth of the captions of two objects were
    wrong, nearly always in a shape. So a linear reader also predicts the size, the colour and the
    shape of the object that a patch lies on.

    In half of the batches the scenes have random colours, which their captions do not name. With
    named colours alone, the tower would learn that circles are never purple: training holds that
    combination back.
    """

    name = "clip"
    recipe = Recipe(steps=8000, batch=64, learning_rate=1e-3, weight_decay=0.02)

    def __init__(self, text, tokenizer):
        super().__init__()
        self.tokenizer, self.text = tokenizer, text
        self.vision = toy.new_clip(len(tokenizer))[0]
        text.text_projection.requires_grad_(True)
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.captioner = toy.new_captioner(len(tokenizer))
        self.reader = nn.Linear(toy.VISION_SIZE, sum(OBJECT_CLASSES))

    def batch(self, seed: int, step: int, process: int):
        """Images, descriptions, looks of patches, captions, and which others are true of each.

        In every other batch the pictures have random colours, and the captions none.
        """
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        scenes = []
        while len(scenes) < self.recipe.batch:
            scene = sample_scene(rng)
            scenes += [scene, near_twin(scene, rng)]
        images, masks = render(scenes, toy.IMAGE_SIZE)
        looks = looks_of_cells(scenes, masks, toy.LATENT_SIZE)
        if step % 2 == 1:
            plain = [describe(scene.leading_first, background=False) for scene in scenes]
            texts = [caption.without("colour").text for caption in plain]
            return recoloured(masks, scenes, rng), texts, looks, None, None
        captions = [describe(scene, rng).text for scene in scenes]
        facts = [parse_caption(caption) for caption in captions]
        readings = [Reading(scene.facts) for scene in scenes]
        is_true = torch.tensor([[reading.agrees(one) for one in facts] for reading in readings])
        also_true = is_true & ~torch.eye(len(scenes), dtype=torch.bool)
        return images, [description(scene) for scene in scenes], looks, captions, also_true

    def share(self, batch, rows):
        """As `SharedStage.share`; which captions are true is kept for all pictures."""
        (*own_batch, _), own = super().share(batch, rows)
        return (*own_batch, batch[-1]), own

    def forward(self, batch, generator):
        """Cross entropy of the captioner's words, of looks, and of pictures and captions."""
        images, texts, looks, captions, also_true = batch
        seen = self.vision(clip_pixels(images).to(self.log_scale.device), output_hidden_states=True)
        patches = seen.hidden_states[-2][:, 1:]  # the layer that the language model will read
        words = self.words_loss(patches, texts)
        details, misread = self.looks_losses(patches, looks, with_colour=captions is not None)
        if captions is None:
            total = words + details
            return {"total": total, "recoloured words": words, "recoloured misread": misread}
        with torch.no_grad():
            states = clip_text_states(self.text, self.tokenizer, captions)
        ends = [len(self.tokenizer.encode(caption)) + 1 for caption in captions]  # index of </s>
        text = self.text.text_projection(states[torch.arange(len(states)), ends])
        # A picture is compared with the captions of all processes, and a caption with the pictures.
        image = joined_rows(F.normalize(seen.image_embeds, dim=-1), len(also_true))
        text = joined_rows(F.normalize(text, dim=-1), len(also_true))
        scores = self.log_scale.clamp(max=4.6).exp() * image @ text.T
        scores = scores.masked_fill(also_true.to(scores.device), -1e4)
        own = own_rows(len(scores)).to(scores.device)
        match = (F.cross_entropy(scores[own], own) + F.cross_entropy(scores.T[own], own)) / 2
        wrong = (scores[own].argmax(dim=1) != own).float().mean()
        (weight,) = joined_weights(len(own))
        match, wrong = match * weight, wrong * weight
        losses = {"total": words + details + match / 4, "words": words, "details": details}
        return losses | {"misread": misread, "match": match, "wrong": wrong}

    def looks_losses(self, patches: Tensor, looks: Tensor, with_colour: bool):
        """The reader's cross entropy, and the share of patches on objects that it misreads.

        Args:
            patches: states of the vision tower, shape (batch, patches, dim).
            looks: as `looks_of_cells` returns them.
            with_colour: whether the colour is asked for.
        """
        logits = self.reader(patches).split(OBJECT_CLASSES, dim=-1)
        looks = looks.to(patches.device)
        asked = [0, 1, 2] if with_colour else [0, 2]
        # A tenth of the patches shows an object; their mean counts as much as that of the others.
        on_objects, empty = looks[..., 0] > 0, looks[..., 0] == 0
        of_objects, of_empty = joined_weights(on_objects.sum(), empty.sum())
        details = sum(
            F.cross_entropy(logits[fact][where], looks[where][:, fact]) * weight
            for fact in asked
            for where, weight in ((on_objects, of_objects), (empty, of_empty))
        )
        right = [logits[fact].argmax(dim=-1) == looks[..., fact] for fact in asked]
        misread = 1 - torch.stack(right).all(dim=0)[on_objects].float().mean()
        return details, misread * of_objects

    def words_loss(self, patches: Tensor, texts: list[str]) -> Tensor:
        """The mean cross entropy of the words of captions, written after the patches are read.

        Args:
            patches: states of the vision tower, shape (batch, patches, dim).
            texts: one caption for each picture.
        """
        bos, eos = self.tokenizer.bos, self.tokenizer.eos
        rows = [torch.tensor([bos, *self.tokenizer.encode(text), eos]) for text in texts]
        ids = pad_sequence(rows, batch_first=True, padding_value=IGNORED).to(patches.device)
        embedded, ends = self.captioner.embed_tokens(ids[:, :-1].clamp(min=0)), ids[:, 1:]
        states = self.captioner(torch.cat([patches, embedded], dim=1))[:, patches.shape[1] :]
        logits = self.captioner.logits(states)
        logits = rearrange(logits, "batch words vocabulary -> batch vocabulary words")
        (weight,) = joined_weights((ends != IGNORED).sum())
        return F.cross_entropy(logits, ends, ignore_index=IGNORED) * weight

    def parts(self):
        """The trained parts by name."""
        return {
            "clip_vision": self.vision.vision_model,
            "clip_text": self.text,
            "clip_visual_projection": self.vision.visual_projection,
        }
