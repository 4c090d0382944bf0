"""What is measured of a toy: one method for each row of the tables, on fresh scenes."""

import random
from dataclasses import dataclass, replace

import torch
from tqdm.auto import tqdm

from ..documents import Document, collate, lay_out
from ..generate import thought_after
from ..images import to_pil
from ..trainer.lessons import OPENING, document_of, told
from ..weights import toy
from ..weights.toy import clip_text_states
from ..world.judge import Reading, read_by_colour
from ..world.language import describe, description, parse_caption, parse_prompt
from ..world.questions import DESCRIBE, NOW, QUESTION_KINDS, ask
from ..world.render import render
from ..world.scenes import Scene, is_held_out, sample_scene
from ..world.stories import Story, edit_of, sample_story
from .toy_categories import (
    EDIT_CATEGORIES,
    HELD_OUT_PROMPTS,
    KEEPING,
    PROMPT_CATEGORIES,
)


@dataclass(frozen=True)
class Trial:
    """One thing that was tried.

    objects: of the scene that is asked for; of edits, of the one before.
    category: within its row.
    right: whether it was.
    """

    objects: int
    category: str
    right: bool


class ToyEvaluation:
    """Everything that is measured, on one set of weights; one method for each row of the tables.

    Args:
        model: the toy DreamLLM.
        n: trials per row, kind of combination and mode.
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

    def measure(self, row: str, held_out: bool, mode: str = "direct") -> list[Trial]:
        """Every trial of a row; the modes of a row have the same prompts and noise."""
        self.readers_agree.clear()
        rng = random.Random(f"metrics {row} {held_out} {self.seed}")
        return getattr(self, row)(rng, held_out, *([mode] if row in PAINTED_ROWS else []))

    def picture(self, scene: Scene):
        """A scene as a PIL image."""
        return to_pil(render([scene], self.size)[0])[0]

    def scenes(self, rng: random.Random, held_out: bool) -> list[Scene]:
        """Fresh scenes."""
        return [sample_scene(rng, held_out=held_out) for _ in range(self.n)]

    def judged(self, images: torch.Tensor, wanted: list[tuple]) -> list[Trial]:
        """Whether the judge finds what was wanted in each picture.

        Args:
            images: shape (batch, 3, height, width), in [0, 1].
            wanted: the facts of each.
        """
        readings, by_colour = self.reader.read(images), read_by_colour(images)
        self.readers_agree += [one == other for one, other in zip(readings, by_colour, strict=True)]
        return [
            Trial(len(facts[2]), "", reading.agrees(facts))
            for reading, facts in zip(readings, wanted, strict=True)
        ]

    def in_batches(self, items: list, work) -> list:
        """`work(items, first)` on a batch at a time, results joined."""
        return [
            result
            for first in tqdm(range(0, len(items), self.batch), leave=False)
            for result in work(items[first : first + self.batch], first)
        ]

    # ----------------------------------------------------------------------------------------------
    # The frozen parts

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
            Trial(len(scene.objects), "", reading.agrees(scene.facts))
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

    # ----------------------------------------------------------------------------------------------
    # Words and seeing

    def states(self, words: str, scene: Scene, background: bool) -> bool:
        """Whether words state the whole scene, with its background if asked for, and nothing false.

        Captions always say size, colour and shape of each object and how two of them lie, else they
        cannot be parsed.
        """
        stated = parse_caption(words)
        whole = stated is not None and (stated[0] is not None or not background)
        return whole and Reading(scene.facts).agrees(stated)

    def restating(self, rng, held_out):
        """A caption in words, to be said again in the plainest ones."""
        trials = []
        for scene in tqdm(self.scenes(rng, held_out), leave=False):
            reply = self.model.chat([f"{describe(scene, rng, background=True).text}. {NOW}"])
            trials.append(Trial(len(scene.objects), "", self.states(reply, scene, True)))
        return trials

    def rewriting(self, rng, held_out):
        """An edit in words alone: a caption, a change, and what is there then."""
        trials = []
        for before, after, change, category in tqdm(self.changes(rng, held_out), leave=False):
            caption = describe(before, rng, background=True).text
            reply = self.model.chat([f"{caption}. {change}. {NOW}"])
            trials.append(Trial(len(before.objects), category, self.states(reply, after, True)))
        return trials

    def telling(self, rng, held_out):
        """A story in words alone: what there is after its last change.

        What is said after that is not counted: where no picture follows, nothing tells where to
        stop, nor which background there is if the story has named none.
        """
        trials = []
        for _ in tqdm(range(self.n), leave=False):
            story = sample_story(rng, held_out)
            lines = told(story)
            opened = Document([" ".join(lines[:-1])]).with_thought(OPENING)
            thought = thought_after(self.model, opened, self.model.open_layout(opened))
            scene, wanted = story.scenes[-1], lines[-1].removeprefix(OPENING).strip(" .")
            right = f"{thought} ".startswith((f"{wanted} ", f"{wanted}.", f"{wanted},"))
            trials.append(Trial(len(scene.objects), "", right))
        return trials

    def captions(self, rng, held_out):
        """Descriptions of renders, which are not asked to say the background."""
        trials = []
        for scene in tqdm(self.scenes(rng, held_out), leave=False):
            reply = self.model.chat([self.picture(scene), DESCRIBE])
            trials.append(Trial(len(scene.objects), "", self.states(reply, scene, False)))
        return trials

    def questions(self, rng, held_out):
        """Questions about renders, of all kinds; the answer must be the one word."""
        trials = []
        for index in tqdm(range(self.n), leave=False):
            kind = QUESTION_KINDS[index % len(QUESTION_KINDS)]
            while True:
                scene = sample_scene(rng, held_out)
                question, reply = ask(scene, rng, kind)
                if kind == "count" or not question.startswith("how many"):
                    break  # else this scene does not allow the kind
            given = self.model.chat([self.picture(scene), question])
            trials.append(Trial(len(scene.objects), kind, given == reply))
        return trials

    @torch.no_grad()
    def placement(self, rng, held_out):
        """Is `<dream_start>` the most likely next token exactly where it comes in a true story?"""
        special, trials = self.model.tokenizer.special, []
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
            trials.append(Trial(len(story.scenes[-1].objects), "", torch.equal(says, should)))
        return trials

    # ----------------------------------------------------------------------------------------------
    # Painting

    def painted(
        self, prompts: list, wanted: list[tuple], scenes: list[Scene], mode: str
    ) -> list[Trial]:
        """Whether what the DreamLLM paints is what was wanted.

        Args:
            prompts: str or Document.
            wanted: the facts that they ask for.
            scenes: that the right pictures show, for the oracle.
            mode: one of `MODES`.
        """
        if mode == "oracle":
            prompts = [description(scene) for scene in scenes]

        def work(pairs, first):
            some, facts = zip(*pairs)
            seed = self.seed + first
            think = mode == "thinking"
            images = self.model.dream(list(some), think=think, seed=seed, output_type="pt")
            return self.judged(torch.stack(images), list(facts))

        return self.in_batches(list(zip(prompts, wanted)), work)

    def dream(self, rng, held_out, mode):
        """Text to image, from captions that say everything but perhaps the background."""
        scenes = self.scenes(rng, held_out)
        captions = [describe(scene, rng).text for scene in scenes]
        return self.painted(captions, list(map(parse_caption, captions)), scenes, mode)

    def prompts(self, rng, held_out, mode):
        """Text to image in GenEval's categories: prompts that leave out much."""
        categories, texts, scenes = [], [], []
        possible = HELD_OUT_PROMPTS if held_out else tuple(PROMPT_CATEGORIES)
        for index in range(self.n):
            category = possible[index % len(possible)]
            count, left_out = PROMPT_CATEGORIES[category]
            relation = "relation" not in left_out
            scene = sample_scene(rng, held_out, count)
            # Either shapes and colours are held out, or the arrangement of shapes: what is said.
            while count == 2 and (
                len({item.shape for item in scene.objects}) == 1
                or (
                    held_out
                    and relation == any(is_held_out(Scene((item,))) for item in scene.objects)
                )
            ):
                scene = sample_scene(rng, held_out, count)
            words = describe(scene, rng, background=False, relation=relation)
            categories.append(category)
            texts.append(words.without(*left_out).text)
            scenes.append(scene)
        trials = self.painted(texts, list(map(parse_prompt, texts)), scenes, mode)
        return [replace(trial, category=name) for trial, name in zip(trials, categories)]

    def stories(self, rng, held_out, mode):
        """The last picture of stories of two and of three, after the true earlier ones.

        What only the earlier pictures show must be right as well.
        """
        drawn = [sample_story(rng, held_out, pictures=2 + index % 2) for index in range(self.n)]
        whole = [document_of(story, self.size) for story in drawn]
        prompts = [
            Document(document.items[:-1], targets=document.targets[:-1]) for document in whole
        ]
        scenes = [story.scenes[-1] for story in drawn]
        trials = self.painted(prompts, [scene.facts for scene in scenes], scenes, mode)
        names = [("second", "third")[len(story.scenes) - 2] for story in drawn]
        return [replace(trial, category=name) for trial, name in zip(trials, names)]

    def edits(self, rng, held_out, mode):
        """A given picture and "the same but …"."""
        changes = self.changes(rng, held_out, instructions=True)
        prompts, scenes = [], []
        for before, after, instruction, _ in changes:
            story = Story((before, instruction, after), given=(0,))
            prompts.append(Document(document_of(story, self.size).items[:-1], targets=[]))
            scenes.append(after)
        trials = self.painted(prompts, [scene.facts for scene in scenes], scenes, mode)
        return [
            Trial(len(before.objects), category, trial.right)
            for trial, (before, _, _, category) in zip(trials, changes)
        ]

    def changes(self, rng, held_out, instructions: bool = False) -> list[tuple]:
        """(before, after, the change in words, its category) for each trial.

        Held out is what there is afterwards; before, only where the change cannot make it so. The
        words are instructions ("the same but …"), or either these or sentences of a story.
        """
        found, names = [], list(EDIT_CATEGORIES)
        while len(found) < self.n:
            category = names[len(found) % len(names)]
            scene = sample_scene(rng, held_out=held_out and category in KEEPING)
            edit = edit_of(scene, rng.choice(EDIT_CATEGORIES[category]), rng)
            if edit is None or is_held_out(edit[0]) != held_out:
                continue
            after, sentence, instruction = edit
            words = instruction if instructions else rng.choice((sentence, instruction))
            found.append((scene, after, words.rstrip("."), category))
        return found


PAINTED_ROWS = ("dream", "prompts", "stories", "edits")
