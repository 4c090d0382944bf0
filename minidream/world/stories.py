"""Stories (a scene, its picture, a change in words, the next picture, ...) and single edits.

The second picture cannot be painted from its sentence alone: "the circle turns green" says neither
how large the circle is nor what else is in the picture. A model has to look back at the earlier
words and at the earlier picture.
"""

import random
from dataclasses import dataclass, replace

from .language import describe, noun_phrase, referring_expression
from .scenes import (
    BACKGROUNDS,
    COLOURS,
    OPPOSITE,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    is_held_out,
    place_objects,
    sample_object,
    sample_scene,
)

EDITS = ("recolour", "resize", "reshape", "appear", "vanish", "swap", "exchange", "background")
NAMING = ("recolour", "resize", "reshape", "vanish")  # those that name one of two objects
FILLERS = ("time passes.", "nothing happens for a while.", "the day goes by.")


@dataclass(frozen=True)
class Story:
    """Words and scenes in the order of the story: `items` holds str and Scene.

    The scenes are to be painted, except for those whose index in `items` is in `given`.
    """

    items: tuple
    given: tuple[int, ...] = ()

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in order."""
        return tuple(item for item in self.items if isinstance(item, Scene))

    @property
    def text(self) -> str:
        """The words alone, joined by spaces."""
        return " ".join(item for item in self.items if isinstance(item, str))


def _with_object(scene: Scene, index: int, new: SceneObject) -> Scene:
    """The scene with the object at this index replaced."""
    objects = list(scene.objects)
    objects[index] = new
    return replace(scene, objects=tuple(objects))


def edit_of(
    scene: Scene, kind: str, rng: random.Random, by_colour: float = 0.0
) -> tuple[Scene, str, str] | None:
    """One change of a scene.

    Args:
        scene: the scene before the change.
        kind: one of `EDITS`.
        rng: samples the object that changes and its new attribute.
        by_colour: the share of objects that are called by colour and shape where the shape alone
            would do, "the red circle".

    Returns:
        The scene after the change, a sentence that tells the change ("the circle turns green."),
        and an instruction that asks for it ("the same but green"). None if this kind of change is
        not possible in the scene.
    """
    index = rng.randrange(len(scene.objects))
    item, name = scene.objects[index], referring_expression(scene, index)
    if rng.random() < by_colour:
        name = f"{item.colour} {item.shape}"
    alone = len(scene.objects) == 1
    subject = "" if alone else f"the {name} is "
    if kind == "recolour":
        colour = rng.choice([word for word in COLOURS if word != item.colour])
        after = _with_object(scene, index, replace(item, colour=colour))
        sentence = f"the {name} {rng.choice(('turns', 'becomes'))} {colour}."
        instruction = f"the same but {subject}{colour}"
    elif kind == "resize":
        size = "large" if item.size == "small" else "small"
        resized = replace(item, size=size, radius=rng.uniform(*SIZES[size]))
        objects = _with_object(scene, index, resized).objects
        # A larger object may not fit where it was, so positions are sampled again; the relation
        # stays.
        after = replace(scene, objects=place_objects(objects, rng, scene.relation))
        sentence = f"the {name} {'grows' if size == 'large' else 'shrinks'}."
        instruction = f"the same but {subject}{'larger' if size == 'large' else 'smaller'}"
    elif kind == "reshape":
        shape = rng.choice([word for word in SHAPES if word != item.shape])
        after = _with_object(scene, index, replace(item, shape=shape))
        sentence = f"the {name} becomes a {shape}."
        instruction = f"the same but {subject or 'as '}a {shape}"
    elif kind == "appear" and alone:
        new, relation = sample_object(rng), rng.choice(RELATIONS)
        after = replace(scene, objects=place_objects((item, new), rng, OPPOSITE[relation]))
        words = noun_phrase(new, 1).text
        sentence = f"{words} appears {relation} it."
        instruction = f"the same but with {words} {relation} it"
    elif kind == "vanish" and not alone:
        after = replace(scene, objects=place_objects((scene.objects[1 - index],), rng))
        sentence, instruction = f"the {name} disappears.", f"the same but without the {name}"
    elif kind == "swap" and not alone:
        objects = place_objects(scene.objects, rng, OPPOSITE[scene.relation])
        after = replace(scene, objects=objects)
        sentence = rng.choice(("they swap places.", "the two swap places."))
        instruction = "the same but swapped"
    elif kind == "exchange" and not alone and item.colour != scene.objects[1 - index].colour:
        first, second = scene.objects
        objects = replace(first, colour=second.colour), replace(second, colour=first.colour)
        after = replace(scene, objects=objects)
        sentence, instruction = "they swap colors.", "the same but with the colors swapped"
    elif kind == "background":
        background = rng.choice([word for word in BACKGROUNDS if word != scene.background])
        after = replace(scene, background=background)
        sentence = f"the background turns {background}."
        instruction = f"the same but on a {background} background"
    else:
        return None
    if len({(item.shape, item.colour) for item in after.objects}) < len(after.objects):
        return None  # the two objects could no longer be told apart in words
    return after, sentence, instruction


def sample_edit_of(
    scene: Scene, rng: random.Random, held_out: bool = False, count: int | None = None
) -> tuple[Scene, str, str]:
    """A random edit whose result is held out or not, and has `count` objects (None: any number)."""
    while True:
        edit = edit_of(scene, rng.choice(EDITS), rng, by_colour=0.25)
        if edit is None:
            continue
        after, _, _ = edit
        if is_held_out(after) == held_out and count in (None, len(after.objects)):
            return edit


def sample_named_edit_of(
    scene: Scene, rng: random.Random, by_colour: float = 0.5
) -> tuple[Scene, str, str]:
    """A random edit, as `edit_of`, that names one of two objects and whose result is not held out.

    To replace a colour where it is written is easy; from there, a model learns to find the colour
    of an object that is called by its shape.

    Args:
        scene: of two objects.
        rng: the source of randomness.
        by_colour: as in `edit_of`.
    """
    while True:
        edit = edit_of(scene, rng.choice(NAMING), rng, by_colour)
        if edit and not is_held_out(edit[0]):
            return edit


def near_twin(scene: Scene, rng: random.Random) -> Scene:
    """A scene that is one edit away, has as many objects, and is not held out."""
    kinds = ("recolour", "resize", "reshape", "swap", "background", "exchange")
    while True:
        edit = edit_of(scene, rng.choice(kinds), rng)
        if edit and not is_held_out(edit[0]):
            return edit[0]


def sample_story(
    rng: random.Random,
    held_out: bool = False,
    pictures: int | None = None,
    count: int | None = None,
) -> Story:
    """A story of two or three pictures.

    Args:
        rng: the source of randomness.
        held_out: True makes the last scene a held-out one; the scenes before it are never held out.
        pictures: the number of pictures, 2 or 3; None samples it.
        count: the number of objects in every picture; None samples it, and lets objects appear and
            vanish.
    """
    # Sampled first, although a story that counts up always has two pictures.
    number = pictures or rng.choice((2, 3))
    if count is None and rng.random() < 0.15 and pictures != 3:
        return _count_up(rng, held_out)
    scene = sample_scene(rng, count=count or rng.choice((1, 2)))
    items = [f"a story: {describe(scene, rng).text}.", scene]
    for index in range(1, number):
        is_last = index == number - 1
        scene, sentence, _ = sample_edit_of(scene, rng, held_out and is_last, count)
        # A filler calls for no picture, so a model cannot simply paint after every sentence.
        filler = f"{rng.choice(FILLERS)} " if rng.random() < 0.2 else ""
        items += [filler + sentence, scene]
    return Story(tuple(items))


def _count_up(rng: random.Random, held_out: bool) -> Story:
    while True:
        scene = sample_scene(rng, count=1)
        edit = edit_of(scene, "appear", rng)
        if edit and is_held_out(edit[0]) == held_out:
            after, sentence, _ = edit
            opening = f"counting up: one, {describe(scene, rng).text}."
            return Story((opening, scene, f"two, {sentence}", after))


def sample_edit(rng: random.Random, held_out: bool = False, count: int | None = None) -> Story:
    """A given picture, an instruction, and the picture to paint: "<picture> the same but larger".

    The arguments are those of `sample_story`.
    """
    scene = sample_scene(rng, count=count or rng.choice((1, 2)))
    after, _, instruction = sample_edit_of(scene, rng, held_out, count)
    return Story((scene, instruction, after), given=(0,))


def sample_named_edit(rng: random.Random) -> Story:
    """As `sample_edit`, of two objects, of which the instruction names one."""
    scene = sample_scene(rng, count=2)
    after, _, instruction = sample_named_edit_of(scene, rng)
    return Story((scene, instruction, after), given=(0,))


def sample_subject(rng: random.Random, held_out: bool = False) -> Story:
    """The object of a given picture in another colour, anywhere: "<picture> this shape in red"."""
    scene = sample_scene(rng, count=1)
    while True:
        (item,) = scene.objects
        item = replace(item, colour=rng.choice([word for word in COLOURS if word != item.colour]))
        after = Scene(place_objects((item,), rng), scene.background)
        if is_held_out(after) == held_out:
            return Story((scene, f"this shape in {item.colour}", after), given=(0,))
        scene = sample_scene(rng, count=1)


def sample_copy(rng: random.Random) -> Story:
    """A given picture to be painted again, with every detail carried over: "<picture> the same"."""
    scene = sample_scene(rng)
    return Story((scene, "the same", scene), given=(0,))
