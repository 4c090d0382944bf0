"""What the language model learns from words alone: tasks as in `batches.py`, without pictures.

In half of the texts colours, shapes and backgrounds have invented names. A model that meets only
the words of the toy world recalls looks that it knows, and fails on combinations that it has never
met. With names that mean nothing it can only copy, which works for any combination.
"""

import random

from ..documents import Document
from ..trainer.lessons import completed, laid_out, questioned, renamed, replied, told, unzipped
from ..world import lists
from ..world.language import description
from ..world.questions import DESCRIBE, NOW, ask, ask_side
from ..world.scenes import Scene, sample_scene
from ..world.stories import sample_edit_of, sample_named_edit_of, sample_story
from ..world.wordings import varied_caption


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


def restated(rng: random.Random, batch_size: int, model):
    """A scene described in words, with or without a change; then its plain description."""
    return replied([described(rng, edited=0.7) for _ in range(batch_size)], rng, model)


def named_edits(rng: random.Random, batch_size: int, model):
    """Two objects, a change that names one of them, and the plain description of the result."""
    return replied([named_edit(rng) for _ in range(batch_size)], rng, model)


def answered(rng: random.Random, batch_size: int, model):
    """A scene described in words, then its plain description and four answers, in any order.

    A language model that can say from words which object is on the left has bound the attributes of
    each object together and knows its position. Dream queries can then gather what belongs
    together."""
    pairs = []
    for _ in range(batch_size):
        text, scene = described(rng, edited=0.3)
        turns = [(rng.choice((DESCRIBE, NOW)), description(scene))]
        turns += [ask_side(scene, index) for index in range(2)] if scene.relation else []
        turns += [ask(scene, rng) for _ in range(5 - len(turns))]
        pairs.append(questioned(text, turns, rng, model))
    return unzipped(pairs)


def listed(rng: random.Random, batch_size: int, model):
    """Three to six objects, in half of the texts with a change; what there is, and questions."""
    pairs = []
    for _ in range(batch_size):
        looks, sized = lists.sample_looks(rng), rng.random() < 0.5
        text = lists.listed(looks, sized)
        if rng.random() < 0.5:
            looks, change = lists.change_of(looks, rng, sized)
            text = f"{text}. {change}"
        turns = [(NOW, lists.listed(looks, sized)), *lists.questions_of(looks, rng, sized)]
        pairs.append(questioned(text, turns, rng, model))
    return unzipped(pairs)


def noted(rng: random.Random, batch_size: int, model):
    """Three to six objects, then short notes on each, of which only the ends are learned."""
    pairs = []
    for _ in range(batch_size):
        looks, sized = lists.sample_looks(rng), rng.random() < 0.5
        notes = lists.notes_of(looks, rng, sized)
        pairs.append(completed(lists.listed(looks, sized), notes, rng, model))
    return unzipped(pairs)


def stories_told(rng: random.Random, batch_size: int, model):
    """Stories of up to four scenes in words, each change followed by a thought."""
    documents = []
    for _ in range(batch_size):
        lines = told(sample_story(rng, pictures=rng.choice((2, 3, 4))))
        documents.append(Document([" ".join(renamed(lines, rng))]))
    return laid_out(documents, model)
