"""What every family learns and is asked: the same samples, whatever a family then makes of them.

A sample is what is given, words and pictures, and the reply: a text, or a picture. All scenes have one thing, so that a
small budget tells something. When to paint is not asked: a sample says it (only `plugin` has to write its call).
"""

import random
from dataclasses import dataclass, replace

from PIL import Image

from ..train.lessons import description, document_of, pictures
from ..weights import toy
from ..world.language import DESCRIBE, ask, describe, parse_caption
from ..world.render import render
from ..world.scenes import Scene, place_objects, sample_scene
from ..world.stories import Story, sample_edit, sample_story
from .boxes import box_around, box_iou, words_of_box

IMAGE_KINDS = ("paint", "story", "edit")  # the reply is a picture
TEXT_KINDS = ("caption", "question")  # the reply is a text
BOX_KINDS = ("locate", "verify")  # the reply, or the question, has a box in it
SAMPLE_KINDS = IMAGE_KINDS + TEXT_KINDS + BOX_KINDS
ASKED = (
    "colour",
    "shape",
    "size",
    "existence",
    "background",
)  # what is asked of one thing: never how many


@dataclass(frozen=True)
class Sample:
    """One thing to learn, or to be asked.

    kind: of `SAMPLE_KINDS`.
    given: str and PIL images in order.
    reply: str or PIL image.
    scenes: of all its pictures, in order, the reply's last.
    expected: what the last picture must show, as `Scene.facts`; the background is None where nobody named or showed it.
    follow_ups: questions and answers that follow a text reply: a picture's patches are most of a sequence, so more is made of it.
    """

    kind: str
    given: tuple
    reply: str | Image.Image
    scenes: tuple[Scene, ...]
    expected: tuple
    follow_ups: tuple[tuple[str, str], ...] = ()

    @property
    def pictures(self) -> list[Image.Image]:
        """The given pictures."""
        return [item for item in self.given if isinstance(item, Image.Image)]

    @property
    def caption(self) -> str:
        """What the last picture shall show, in words: the prompt itself where the words say it all."""
        return self.given[0] if self.kind == "paint" else description(self.scenes[-1])


def draw_sample(kind: str, rng: random.Random, held_out: bool = False) -> Sample:
    """One sample of a kind, a pure function of the rng's state.

    Args:
        kind: of `SAMPLE_KINDS`.
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
    return scene_sample(kind, sample_scene(rng, held_out, count=1), rng)


def story_sample(kind: str, story: Story) -> Sample:
    """A story or an edit whose last picture is the reply."""
    *given, reply = document_of(story, toy.IMAGE_SIZE).items
    return Sample(kind, tuple(given), reply, story.scenes, story.scenes[-1].facts)


def scene_sample(kind: str, scene: Scene, rng: random.Random) -> Sample:
    """One of the other kinds, on a scene of one thing."""
    (picture,) = pictures([scene], toy.IMAGE_SIZE)
    if kind == "paint":
        caption = describe(scene, rng).text
        return Sample(kind, (caption,), picture, (scene,), parse_caption(caption))
    if kind == "caption":
        return Sample(kind, (picture, DESCRIBE), description(scene), (scene,), scene.facts)
    if kind == "question":
        turns = [ask(scene, rng, rng.choice(ASKED)) for _ in range(4)]
    else:
        turns = [
            (place_asked if kind == "locate" else box_asked)(scene, rng)
            for _ in range(1 if kind == "locate" else 4)
        ]
    (question, reply), *more = turns
    return Sample(kind, (picture, question), reply, (scene,), scene.facts, tuple(more))


def true_box(scene: Scene) -> tuple[float, ...]:
    """The box around the scene's first thing."""
    return box_around(render([scene], toy.IMAGE_SIZE)[1][0, 0])


def place_asked(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """ "where is the red circle?", "3 5 17 19"; or the same without the colour."""
    thing = scene.objects[0]
    name = rng.choice((thing.shape, f"{thing.colour} {thing.shape}"))
    return f"where is the {name}?", words_of_box(true_box(scene))


def box_asked(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """ "is the circle at 3 5 17 19?", "yes": in half of the cases the box is where the same thing stands in another picture, far from here.

    Drawn anywhere else, boxes that touch an edge would give themselves away: things never do.
    """
    box, said = true_box(scene), "yes"
    if rng.random() < 0.5:
        here, said = box, "no"
        while box_iou(box, here) > 0.1:
            box = true_box(replace(scene, objects=place_objects(scene.objects, rng)))
    return f"is the {scene.objects[0].shape} at {words_of_box(box)}?", said
