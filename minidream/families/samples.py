"""The samples that every family learns from and is evaluated on.

A sample is an input of words and pictures and the expected reply, a text or a picture. Scenes have
one object, so that a short training already tells families apart; only half of the prompts that
are painted name two, and these "pairs" are evaluated as a kind of their own. The kind of a sample
says whether the reply is a picture; no family has to decide when to paint, but `plugin` has to
write the call that does.
"""

import random
from dataclasses import dataclass, replace

from PIL import Image

from ..trainer.lessons import document_of, pictures
from ..weights import toy
from ..world.language import describe, description, parse_caption
from ..world.questions import DESCRIBE, ask
from ..world.render import render
from ..world.scenes import Scene, place_objects, sample_scene
from ..world.stories import Story, sample_edit, sample_story
from .boxes import box_around, box_iou, words_of_box

IMAGE_KINDS = ("paint", "story", "edit")  # the reply is a picture
PROMPT_KINDS = ("paint", "pair")  # to be painted from a prompt alone, with one object or two
PAINTED_KINDS = (*PROMPT_KINDS, "story", "edit")  # `IMAGE_KINDS`, with the pairs apart
TEXT_KINDS = ("caption", "question")  # the reply is a text
BOX_KINDS = ("locate", "verify")  # there is a box in the reply or in the question
SAMPLE_KINDS = PAINTED_KINDS + TEXT_KINDS + BOX_KINDS
# What can be asked about one object: neither its number nor its relation to another one.
QUESTION_TOPICS = ("colour", "shape", "size", "existence", "background")


@dataclass(frozen=True)
class Sample:
    """One input and the expected reply.

    kind: one of `SAMPLE_KINDS`.
    given: the input, str and PIL images in order.
    reply: str or PIL image.
    scenes: of all pictures in order, that of a reply last.
    expected: what the last picture must show, as `Scene.facts`. Its background is None where the
        input neither names nor shows it.
    follow_ups: questions and answers after a text reply. A picture's patches are most of a
        sequence, so several questions make better use of it.
    """

    kind: str
    given: tuple
    reply: str | Image.Image
    scenes: tuple[Scene, ...]
    expected: tuple
    follow_ups: tuple[tuple[str, str], ...] = ()

    @property
    def replies_in_text(self) -> bool:
        """Whether the reply is a text; otherwise it is a picture."""
        return isinstance(self.reply, str)

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures of the input."""
        return [item for item in self.given if isinstance(item, Image.Image)]

    @property
    def caption(self) -> str:
        """A caption of the last picture; of `PROMPT_KINDS` it is the prompt itself."""
        return self.given[0] if self.kind in PROMPT_KINDS else description(self.scenes[-1])


def draw_sample(kind: str, rng: random.Random, held_out: bool = False) -> Sample:
    """A random sample of one kind, a pure function of the rng's state.

    Args:
        kind: one of `SAMPLE_KINDS`.
        rng: the source of randomness.
        held_out: whether the last scene is one that training never sees.

    Raises:
        ValueError: for another kind.
    """
    if kind not in SAMPLE_KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(SAMPLE_KINDS)}")
    if kind == "story":
        return story_sample(kind, sample_story(rng, held_out, pictures=2, count=1))
    if kind == "edit":
        return story_sample(kind, sample_edit(rng, held_out, count=1))
    return scene_sample(kind, sample_scene(rng, held_out, count=2 if kind == "pair" else 1), rng)


def draw_batch(
    kinds: tuple[str, ...], size: int, seed: int, step: int, process: int = 0
) -> list[Sample]:
    """What is learned in one step: samples of one of the kinds, which take turns.

    Every family sees the same samples of a kind in the same order, though not equally many. Half of
    the prompts in the turns of "paint" are pairs.
    """
    turn, index = divmod(step, len(kinds))
    kind = kinds[index]
    rng = random.Random(f"families {seed} {kind} {turn} {process}")
    if kind == "paint":
        return [draw_sample(rng.choice(PROMPT_KINDS), rng) for _ in range(size)]
    return [draw_sample(kind, rng) for _ in range(size)]


def story_sample(kind: str, story: Story) -> Sample:
    """A sample made of a story or an edit: its last picture is the reply."""
    *given, reply = document_of(story, toy.IMAGE_SIZE).items
    return Sample(kind, tuple(given), reply, story.scenes, story.scenes[-1].facts)


def scene_sample(kind: str, scene: Scene, rng: random.Random) -> Sample:
    """A sample of any other kind, on a scene with one object, or with two for a "pair"."""
    (picture,) = pictures([scene], toy.IMAGE_SIZE)
    if kind in PROMPT_KINDS:
        caption = describe(scene, rng).text
        return Sample(kind, (caption,), picture, (scene,), parse_caption(caption))
    if kind == "caption":
        turns = [(DESCRIBE, description(scene))]
    elif kind == "question":
        turns = [ask(scene, rng, rng.choice(QUESTION_TOPICS)) for _ in range(4)]
    elif kind == "locate":
        turns = [where_question(scene, rng)]
    else:
        turns = [box_question(scene, rng) for _ in range(4)]
    (question, reply), *follow_ups = turns
    return Sample(kind, (picture, question), reply, (scene,), scene.facts, tuple(follow_ups))


def true_box(scene: Scene) -> tuple[float, ...]:
    """The box around the scene's first object."""
    return box_around(render([scene], toy.IMAGE_SIZE)[1][0, 0])


def where_question(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A question and its answer: "where is the red circle?", "3 5 17 19".

    In half of the cases the question leaves out the colour.
    """
    target = scene.objects[0]
    name = rng.choice((target.shape, f"{target.colour} {target.shape}"))
    return f"where is the {name}?", words_of_box(true_box(scene))


def box_question(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A question and its answer: "is the circle at 3 5 17 19?", "yes".

    In half of the cases the box is wrong, and the answer "no". A wrong box is the true box of the
    same object at another random position that hardly overlaps with this one. A box drawn at
    random could touch the edge of the picture, which no object does, and would be recognized by
    that alone.
    """
    box = true_box(scene)
    answer = "yes"
    if rng.random() < 0.5:
        here, answer = box, "no"
        while box_iou(box, here) > 0.1:
            box = true_box(replace(scene, objects=place_objects(scene.objects, rng)))
    return f"is the {scene.objects[0].shape} at {words_of_box(box)}?", answer
