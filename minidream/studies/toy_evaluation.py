"""What is measured of the shipped toy: one method for each row of the README's table."""

import random

import torch
from tqdm.auto import tqdm

from ..documents import Document, collate, lay_out
from ..images import to_pil
from ..trainer.lessons import document_of
from ..weights import toy
from ..weights.toy import clip_text_states
from ..world.judge import Reading, read_by_colour
from ..world.language import describe, parse_caption
from ..world.questions import DESCRIBE, ask
from ..world.render import render
from ..world.scenes import Scene, sample_scene
from ..world.stories import sample_edit, sample_story


class ToyEvaluation:
    """Everything that is measured, on one set of weights; one method for each row of the table.

    Args:
        model: the toy DreamLLM.
        n: scenes per row and kind of combination.
        batch: pictures painted at once.
        seed: of scenes, phrasings and noise.
    """

    def __init__(self, model, n: int, batch: int = 50, seed: int = 0):
        self.model, self.n, self.batch, self.seed = model, n, batch, seed
        # Of every picture judged in this row: did the analytic reader find the same scene?
        self.readers_agree: list[bool] = []
        self.size = model.decoder.image_size
        self.reader = toy.pretrained_judge().to(model.device)
        self.text_tower = toy.pretrained_text_tower().to(model.device)

    def measure(self, row: str, held_out: bool) -> list[tuple[int, bool]]:
        """(objects in the scene, right or not) of every trial of a row."""
        self.readers_agree.clear()
        rng = random.Random(f"metrics {row} {held_out} {self.seed}")
        return getattr(self, row)(rng, held_out)

    def picture(self, scene: Scene):
        """A scene as a PIL image."""
        return to_pil(render([scene], self.size)[0])[0]

    def scenes(self, rng: random.Random, held_out: bool) -> list[Scene]:
        """Fresh scenes."""
        return [sample_scene(rng, held_out=held_out) for _ in range(self.n)]

    def judged(self, images: torch.Tensor, wanted: list[tuple]) -> list[tuple[int, bool]]:
        """Whether the judge finds what was wanted in each picture.

        Args:
            images: shape (batch, 3, height, width), in [0, 1].
            wanted: the facts of each.
        """
        readings, by_colour = self.reader.read(images), read_by_colour(images)
        self.readers_agree += [one == other for one, other in zip(readings, by_colour, strict=True)]
        return [
            (len(facts[2]), reading.agrees(facts))
            for reading, facts in zip(readings, wanted, strict=True)
        ]

    def in_batches(self, items: list, work) -> list:
        """`work(items, first)` on a batch at a time, results joined."""
        return [
            result
            for first in tqdm(range(0, len(items), self.batch), leave=False)
            for result in work(items[first : first + self.batch], first)
        ]

    def judge(self, rng, held_out):
        """The judge itself, on renders."""
        scenes = self.scenes(rng, held_out)
        images = render(scenes, self.size)[0].to(self.model.device)
        return self.judged(images, [scene.facts for scene in scenes])

    def analytic(self, rng, held_out):
        """The analytic reader, on renders."""
        scenes = self.scenes(rng, held_out)
        readings = read_by_colour(render(scenes, self.size)[0])
        return [
            (len(scene.objects), reading.agrees(scene.facts))
            for scene, reading in zip(scenes, readings)
        ]

    def vae(self, rng, held_out):
        """Renders through the VAE and back."""

        def work(scenes, first):
            decoder = self.model.decoder
            images = render(scenes, self.size)[0].to(decoder.device)
            decoded = decoder.decode(decoder.encode_images(images * 2 - 1))
            return self.judged(decoded, [scene.facts for scene in scenes])

        return self.in_batches(self.scenes(rng, held_out), torch.no_grad()(work))

    def unet(self, rng, held_out):
        """Pictures from toy CLIP text states: the toy's Stable Diffusion."""
        captions = [describe(scene, rng).text for scene in self.scenes(rng, held_out)]

        @torch.no_grad()
        def work(texts, first):
            decoder, count = self.model.decoder, len(texts)
            captions = [*texts, *[""] * count]
            states = clip_text_states(self.text_tower, self.model.tokenizer, captions)
            seeds = [self.seed + first + index for index in range(count)]
            latents = decoder.sample_seeded(states[:count], states[count:], seeds)
            return self.judged(decoder.decode(latents), [parse_caption(text) for text in texts])

        return self.in_batches(captions, work)

    def painted(self, prompts: list, wanted: list[tuple]) -> list[tuple[int, bool]]:
        """Whether what the DreamLLM paints from prompts is what was wanted."""

        def work(pairs, first):
            some, facts = zip(*pairs)
            images = self.model.dream(list(some), seed=self.seed + first, output_type="pt")
            return self.judged(torch.stack(images), list(facts))

        return self.in_batches(list(zip(prompts, wanted)), work)

    def dream(self, rng, held_out):
        """Text to image."""
        captions = [describe(scene, rng).text for scene in self.scenes(rng, held_out)]
        return self.painted(captions, [parse_caption(text) for text in captions])

    def captions(self, rng, held_out):
        """Descriptions of renders: parsed, they must state the whole scene and nothing false."""
        results = []
        for scene in tqdm(self.scenes(rng, held_out), leave=False):
            stated = parse_caption(self.model.chat([self.picture(scene), DESCRIBE]))
            right = stated is not None and Reading(scene.facts).agrees(stated)
            results.append((len(scene.objects), right))
        return results

    def questions(self, rng, held_out):
        """Questions about renders; the answer must be the one word."""
        results = []
        for scene in tqdm(self.scenes(rng, held_out), leave=False):
            question, reply = ask(scene, rng)
            given = self.model.chat([self.picture(scene), question])
            results.append((len(scene.objects), given == reply))
        return results

    @torch.no_grad()
    def placement(self, rng, held_out):
        """Is `<dream_start>` the most likely next token exactly where it comes in a true story?"""
        special, results = self.model.tokenizer.special, []
        for _ in tqdm(range(self.n), leave=False):
            story = sample_story(rng, held_out)
            document = document_of(story, self.size)
            layout = lay_out(
                document, self.model.tokenizer, self.model.queries, self.model.vision.patches
            )
            batch = collate([layout], special.pad, device=self.model.device)
            hidden = self.model.llm(self.model.embed(batch, document.images))
            predicted = self.model.llm.logits(hidden[0, :-1]).argmax(dim=-1)
            labels = batch.labels[0, 1:]
            learned = labels >= 0
            says = predicted[learned] == special.dream_start
            should = labels[learned] == special.dream_start
            results.append((len(story.scenes[-1].objects), torch.equal(says, should)))
        return results

    def stories(self, rng, held_out):
        """The last picture of stories, after the true earlier ones.

        What only the earlier pictures show must be right as well.
        """
        drawn = [sample_story(rng, held_out) for _ in range(self.n)]
        whole = [document_of(story, self.size) for story in drawn]
        prompts = [
            Document(document.items[:-1], targets=document.targets[:-1]) for document in whole
        ]
        return self.painted(prompts, [story.scenes[-1].facts for story in drawn])

    def edits(self, rng, held_out):
        """A given picture and "the same but …"."""
        drawn = [sample_edit(rng, held_out) for _ in range(self.n)]
        prompts = [
            Document(document_of(story, self.size).items[:-1], targets=[]) for story in drawn
        ]
        return self.painted(prompts, [story.scenes[-1].facts for story in drawn])
