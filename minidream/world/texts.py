"""Texts that describe scenes and changes of them, each with the scene that there is in the end."""

import random
from dataclasses import dataclass, replace

from .language import description, referring_expression
from .scenes import COLOURS, SHAPES, Scene, sample_scene
from .stories import sample_edit_of, sample_named_edit_of
from .wordings import varied_caption


def described(rng: random.Random, edited: float) -> tuple[str, Scene]:
    """A text that describes a scene, or a scene and a change to it; and the resulting scene.

    In three of five changes the scene has two objects and the change names one of them.

    Args:
        rng: the source of randomness.
        edited: the share of texts with a change.
    """
    named = rng.random() < 0.6
    scene = sample_scene(rng, count=2 if named else None)
    caption = varied_caption(scene, rng, background=True).text
    if rng.random() >= edited:
        return caption, scene
    after, *wordings = (sample_named_edit_of if named else sample_edit_of)(scene, rng)
    return f"{caption}. {rng.choice(wordings)}".rstrip("."), after


def named_edit(rng: random.Random) -> tuple[str, Scene]:
    """A text that describes two objects and a change that names one of them; the resulting scene.

    Which of the two is meant is what a language model learns last: it has to find the object that
    has this name, where it will stand in the reply, and what of it to replace. So half of the texts
    describe the scene in the words of the reply, and only what was named differs.
    """
    before = sample_scene(rng, count=2)
    after, *wordings = sample_named_edit_of(before, rng)
    return f"{caption_before(before, rng)}. {rng.choice(wordings)}".rstrip("."), after


def caption_before(scene: Scene, rng: random.Random, plain: float = 0.5) -> str:
    """A caption that a change or a note follows.

    Args:
        scene: what it describes.
        rng: the source of randomness.
        plain: the share of captions in the words of the plain description.
    """
    as_in_replies = rng.random() < plain
    return description(scene) if as_in_replies else varied_caption(scene, rng, background=True).text


@dataclass(frozen=True)
class DecidingEdit:
    """A change that names one of two objects, and a word of the result that depends on which.

    before: the scene with two objects.
    sentence, instruction: the change, told and asked for, both without a full stop.
    new: the colour or the shape that the change brings in, if any.
    beginning: how the plain description of the result begins.
    word: its next word, the first that would be another if the change meant the other object.
        Later ones can be told from this one.
    """

    before: Scene
    sentence: str
    instruction: str
    new: tuple[str, ...]
    beginning: str
    word: str


def deciding_edit(rng: random.Random) -> DecidingEdit:
    """A random one that could mean either object, and whose result is not held out.

    Of a large and a small object, only one can become larger, whatever it is called.
    """
    old = mistaken = ""
    while mistaken == old:
        before = sample_scene(rng, count=2)
        after, *wordings = sample_named_edit_of(before, rng, by_colour=0.25)
        old, meant, mistaken = (
            description(scene).split() for scene in (before, after, misread(before, after))
        )
    new = tuple(word for word in meant if word in (*COLOURS, *SHAPES) and word not in old)
    place = [one == other for one, other in zip(meant, mistaken)].index(False)
    sentence, instruction = (words.rstrip(".") for words in wordings)
    return DecidingEdit(before, sentence, instruction, new, " ".join(meant[:place]), meant[place])


def placing_note(rng: random.Random) -> tuple[str, tuple[str, str]]:
    """A text on two objects, and a note that says where one of them is: ("the star is", "left").

    Half of the texts say first, in the words of the plain description, what is on the left or
    above; a third tells of a change.
    """
    while True:
        scene = sample_scene(rng, count=2)
        text = caption_before(scene, rng)
        if rng.random() < 1 / 3:
            scene, *wordings = sample_edit_of(scene, rng)
            text = f"{text}. {rng.choice(wordings)}".rstrip(".")
        if len(scene.objects) == 2:
            index = rng.randrange(2)
            side, *_ = scene.relation_of(index).split()
            return text, (f"the {referring_expression(scene, index)} is", side)


def misread(before: Scene, after: Scene) -> Scene:
    """What there would be if a change had meant the other of two objects.

    Args:
        before: a scene of two objects.
        after: the same, but one of them is gone or looks different.
    """
    looks = [item.appearance for item in after.objects]
    (index,) = [index for index, item in enumerate(before.objects) if item.appearance not in looks]
    other = before.objects[1 - index]
    if len(looks) == 1:
        return replace(before, objects=(before.objects[index],))
    old, new = before.objects[index], after.objects[index]
    attributes = {name: getattr(new, name) for name in ("size", "colour", "shape")}
    changed = {name: word for name, word in attributes.items() if word != getattr(old, name)}
    pair = [old, replace(other, **changed)]
    return replace(before, objects=tuple(pair if index == 0 else pair[::-1]))


def retold(rng: random.Random, times: int) -> list[str]:
    """Captions of one scene in different words."""
    scene, background = sample_scene(rng), rng.random() < 0.5
    return [varied_caption(scene, rng, background=background).text for _ in range(times)]
