"""Texts that describe scenes and changes of them, each with the scene that there is in the end."""

import random

from .language import description
from .lists import Look, listed, sample_looks
from .scenes import Scene, sample_scene
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
    plain = rng.random() < 0.5
    caption = description(before) if plain else varied_caption(before, rng, background=True).text
    return f"{caption}. {rng.choice(wordings)}".rstrip("."), after


def retold(rng: random.Random, times: int) -> list[str]:
    """Captions of one scene in different words."""
    scene, background = sample_scene(rng), rng.random() < 0.5
    return [varied_caption(scene, rng, background=background).text for _ in range(times)]


def with_looks(rng: random.Random) -> tuple[str, list[Look], bool]:
    """A text, what the objects look like that there are in the end, and whether sizes are named.

    Half of the texts are lists of three to six objects, the others scenes, in half of them changed.
    """
    if rng.random() < 0.5:
        looks, sized = sample_looks(rng), rng.random() < 0.5
        return listed(looks, sized), looks, sized
    text, scene = described(rng, edited=0.5)
    return text, [item.appearance for item in scene.objects], True
