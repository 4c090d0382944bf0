"""Stories: a scene, a picture of it, then a change in words only, a picture, and so on; and single edits.

The second picture cannot be drawn from its sentence alone: "the circle turns green" says neither how large the circle
is nor what stands beside it. Who paints it must look back, at the words before and at the picture before.
"""

import random
from dataclasses import dataclass, replace

from .language import describe, name_of, reference
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
    place,
    sample_look,
    sample_scene,
)

EDITS = ("recolour", "resize", "reshape", "appear", "vanish", "swap", "exchange", "background")
FILLERS = ("time passes.", "nothing happens for a while.", "the day goes by.")


@dataclass(frozen=True)
class Story:
    """Words and scenes in turn: `items` holds str and Scene. Scenes are to be painted, but for those at the places `given`."""

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


def _exchange(scene: Scene, number: int, thing: SceneObject) -> tuple[SceneObject, ...]:
    return tuple(thing if index == number else other for index, other in enumerate(scene.objects))


def edit_of(scene: Scene, kind: str, rng: random.Random) -> tuple[Scene, str, str] | None:
    """One change of a scene.

    Args:
        scene: before.
        kind: one of `EDITS`.
        rng: draws what changes, and into what.

    Returns:
        The scene after, the change as a story tells it ("the circle turns green."), and as one asks for it ("the same
        but green"). None where the scene does not allow this kind.
    """
    number = rng.randrange(len(scene.objects))
    thing, name = scene.objects[number], reference(scene, number)
    alone = len(scene.objects) == 1
    subject = "" if alone else f"the {name} is "
    if kind == "recolour":
        colour = rng.choice([word for word in COLOURS if word != thing.colour])
        after = replace(scene, objects=_exchange(scene, number, replace(thing, colour=colour)))
        told, asked = (
            f"the {name} {rng.choice(('turns', 'becomes'))} {colour}.",
            f"the same but {subject}{colour}",
        )
    elif kind == "resize":
        size = "large" if thing.size == "small" else "small"
        changed = _exchange(
            scene, number, replace(thing, size=size, radius=rng.uniform(*SIZES[size]))
        )
        # A grown thing may not fit where it was: the places are drawn anew, the relation stays.
        after = replace(scene, objects=place(changed, rng, scene.relation))
        told = f"the {name} {'grows' if size == 'large' else 'shrinks'}."
        asked = f"the same but {subject}{'larger' if size == 'large' else 'smaller'}"
    elif kind == "reshape":
        shape = rng.choice([word for word in SHAPES if word != thing.shape])
        after = replace(scene, objects=_exchange(scene, number, replace(thing, shape=shape)))
        told, asked = f"the {name} becomes a {shape}.", f"the same but {subject or 'as '}a {shape}"
    elif kind == "appear" and alone:
        new, relation = sample_look(rng), rng.choice(RELATIONS)
        after = replace(scene, objects=place((thing, new), rng, OPPOSITE[relation]))
        words = f"{name_of(new, 1).text}"
        told, asked = f"{words} appears {relation} it.", f"the same but with {words} {relation} it"
    elif kind == "vanish" and not alone:
        rest = (scene.objects[1 - number],)
        after = replace(scene, objects=place(rest, rng))
        told, asked = f"the {name} disappears.", f"the same but without the {name}"
    elif kind == "swap" and not alone:
        after = replace(scene, objects=place(scene.objects, rng, OPPOSITE[scene.relation]))
        told, asked = (
            rng.choice(("they swap places.", "the two swap places.")),
            "the same but swapped",
        )
    elif kind == "exchange" and not alone and thing.colour != scene.objects[1 - number].colour:
        first, second = scene.objects
        after = replace(
            scene,
            objects=(replace(first, colour=second.colour), replace(second, colour=first.colour)),
        )
        told, asked = "they swap colors.", "the same but with the colors swapped"
    elif kind == "background":
        background = rng.choice([word for word in BACKGROUNDS if word != scene.background])
        after = replace(scene, background=background)
        told, asked = (
            f"the background turns {background}.",
            f"the same but on a {background} background",
        )
    else:
        return None
    twins = len(after.objects) == 2 and after.objects[0].look[1:] == after.objects[1].look[1:]
    return None if twins else (after, told, asked)


def _allowed_edit(
    scene: Scene, rng: random.Random, held_out: bool, count: int | None = None
) -> tuple[Scene, str, str]:
    while True:
        change = edit_of(scene, rng.choice(EDITS), rng)
        if (
            change
            and is_held_out(change[0]) == held_out
            and count in (None, len(change[0].objects))
        ):
            return change


def sample_story(
    rng: random.Random,
    held_out: bool = False,
    pictures: int | None = None,
    count: int | None = None,
) -> Story:
    """A story of two or three pictures.

    Args:
        rng: the source of randomness.
        held_out: with True the last scene is one that training never sees (the ones before it may be seen).
        pictures: how many, 2 or 3; None draws.
        count: how many things are in every picture; None draws, and lets things come and go.
    """
    asked, pictures = pictures, pictures or rng.choice((2, 3))
    if count is None and rng.random() < 0.15 and asked != 3:  # counting up takes two
        return _count_up(rng, held_out)
    scene = sample_scene(rng, count=count or rng.choice((1, 2)))
    items = [f"a story: {describe(scene, rng).text}.", scene]
    for number in range(1, pictures):
        scene, told, _ = _allowed_edit(scene, rng, held_out and number == pictures - 1, count)
        filler = (
            f"{rng.choice(FILLERS)} " if rng.random() < 0.2 else ""
        )  # a sentence that calls for no picture
        items += [filler + told, scene]
    return Story(tuple(items))


def _count_up(rng: random.Random, held_out: bool) -> Story:
    while True:
        scene = sample_scene(rng, count=1)
        change = edit_of(scene, "appear", rng)
        if change and is_held_out(change[0]) == held_out:
            after, told, _ = change
            return Story(
                (f"counting up: one, {describe(scene, rng).text}.", scene, f"two, {told}", after)
            )


def sample_edit(rng: random.Random, held_out: bool = False, count: int | None = None) -> Story:
    """ "<picture> the same but larger": a given picture, an instruction, and the picture it asks for; `count` as in `sample_story`."""
    scene = sample_scene(rng, count=count or rng.choice((1, 2)))
    after, _, asked = _allowed_edit(scene, rng, held_out, count)
    return Story((scene, asked, after), given=(0,))


def sample_subject(rng: random.Random, held_out: bool = False) -> Story:
    """ "<picture> this shape in red": the thing of a given picture in another colour, wherever it may stand."""
    scene = sample_scene(rng, count=1)
    while True:
        thing = replace(
            scene.objects[0],
            colour=rng.choice([word for word in COLOURS if word != scene.objects[0].colour]),
        )
        after = Scene(place((thing,), rng), scene.background)
        if is_held_out(after) == held_out:
            return Story((scene, f"this shape in {thing.colour}", after), given=(0,))
        scene = sample_scene(rng, count=1)


def sample_copy(rng: random.Random) -> Story:
    """ "<picture> the same": a given picture that is to be painted as it is, so that all that was seen has to be carried over."""
    scene = sample_scene(rng)
    return Story((scene, "the same", scene), given=(0,))
