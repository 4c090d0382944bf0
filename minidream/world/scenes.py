"""Scenes: what a toy picture contains, how scenes are sampled, and which ones are held out.

A scene is a background and one or two objects. An object has a shape, a colour, a size word with an
exact radius, and a continuous position. Lengths are fractions of the picture's width; x grows to
the right and y grows *down*, as in images.
"""

import random
from dataclasses import dataclass, replace

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
# RGB in [0, 1]. The colours are far enough from one another and from every background to be told
# apart by distance.
COLOURS = {
    "red": (0.86, 0.12, 0.12),
    "orange": (1.0, 0.55, 0.05),
    "yellow": (0.97, 0.88, 0.10),
    "green": (0.10, 0.62, 0.20),
    "cyan": (0.10, 0.80, 0.88),
    "blue": (0.12, 0.25, 0.88),
    "purple": (0.52, 0.12, 0.70),
    "pink": (1.0, 0.55, 0.75),
}
BACKGROUNDS = {"white": (0.97, 0.97, 0.97), "gray": (0.60, 0.60, 0.60), "black": (0.04, 0.04, 0.04)}
SIZES = {"small": (0.135, 0.15), "large": (0.19, 0.21)}  # (minimum, maximum) radius
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# Held out of the training data of every part: combinations (which colour a shape has) and
# arrangements (which shape is where, next to which other shape). An arrangement is stated as "left
# of" or "above": "a star right of a circle" is the same as "a circle left of a star". Each shape,
# colour and relation still occurs often, only not together.
HELD_OUT_COMBINATIONS = frozenset(
    {
        ("circle", "purple"),
        ("square", "green"),
        ("triangle", "cyan"),
        ("star", "blue"),
        ("cross", "yellow"),
        ("ring", "red"),
    }
)
HELD_OUT_ARRANGEMENTS = frozenset(
    {
        ("circle", "left of", "star"),
        ("square", "left of", "ring"),
        ("triangle", "left of", "square"),
        ("star", "above", "cross"),
        ("ring", "above", "triangle"),
        ("cross", "above", "circle"),
    }
)


@dataclass(frozen=True)
class SceneObject:
    """One object in a scene.

    `shape`, `colour` and `size` are words from `SHAPES`, `COLOURS` and `SIZES`; an unknown word
    raises ValueError. `x`, `y` (the centre) and `radius` are fractions of the picture's width, in
    [0, 1]; a radius of None becomes the middle of the range of `size`.
    """

    shape: str
    colour: str
    size: str
    x: float = 0.5
    y: float = 0.5
    radius: float | None = None

    def __post_init__(self):
        for word, known in ((self.shape, SHAPES), (self.colour, COLOURS), (self.size, SIZES)):
            if word not in known:
                raise ValueError(f"{word!r} is none of {', '.join(known)}")
        if self.radius is None:
            object.__setattr__(self, "radius", sum(SIZES[self.size]) / 2)

    @property
    def appearance(self) -> tuple[str, str, str]:
        """(size, colour, shape): what a caption says about an object."""
        return self.size, self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """One or two objects on a background.

    Another number of objects or an unknown background raises ValueError.
    """

    objects: tuple[SceneObject, ...]
    background: str = "white"

    def __post_init__(self):
        if len(self.objects) not in (1, 2):
            raise ValueError(f"a scene has 1 or 2 objects, not {len(self.objects)}")
        if self.background not in BACKGROUNDS:
            raise ValueError(f"{self.background!r} is none of {', '.join(BACKGROUNDS)}")

    @property
    def relation(self) -> str | None:
        """Where the first object is, relative to the second; None if there is only one."""
        return relation_between(*self.objects) if len(self.objects) == 2 else None

    def relation_of(self, index: int) -> str | None:
        """Where the object with this index is, relative to the other; None if there is only one."""
        return self.relation if index == 0 or self.relation is None else OPPOSITE[self.relation]

    @property
    def leading_first(self) -> "Scene":
        """The same scene with the left or the upper object as its first."""
        turned = self.relation in ("right of", "below")
        return replace(self, objects=self.objects[::-1]) if turned else self

    @property
    def facts(self) -> tuple:
        """(background, relation, appearances).

        The objects are ordered from left to right or from top to bottom. Two scenes with equal
        facts cannot be told apart in words.
        """
        appearances = tuple(item.appearance for item in self.objects)
        return ordered_facts(self.background, self.relation, *appearances)


def ordered_facts(
    background: str | None, relation: str | None, first: tuple, second: tuple | None = None
) -> tuple:
    """Facts as `Scene.facts`: "right of" and "below" are turned round by swapping the objects."""
    if second is None:
        return background, None, (first,)
    if relation in ("right of", "below"):
        return background, OPPOSITE[relation], (second, first)
    return background, relation, (first, second)


def relation_between(first: SceneObject, second: SceneObject) -> str:
    """Where `first` is, relative to `second`, along the axis on which they are farther apart."""
    across, down = first.x - second.x, first.y - second.y
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def is_held_out(scene: Scene) -> bool:
    """Whether the scene has a combination or an arrangement that is held out of training."""
    if any((item.shape, item.colour) in HELD_OUT_COMBINATIONS for item in scene.objects):
        return True
    _, relation, appearances = scene.facts
    if relation is None:
        return False
    (_, _, first), (_, _, second) = appearances
    return (first, relation, second) in HELD_OUT_ARRANGEMENTS


def sample_object(rng: random.Random) -> SceneObject:
    """An object of random shape, colour, size and radius, at the centre."""
    size = rng.choice(list(SIZES))
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    return SceneObject(shape, colour, size, radius=rng.uniform(*SIZES[size]))


def place_objects(
    objects: tuple[SceneObject, ...], rng: random.Random, relation: str | None = None
) -> tuple[SceneObject, ...]:
    """The same objects at random positions, apart, inside the picture, in an unambiguous relation.

    Args:
        objects: one or two.
        rng: the source of randomness.
        relation: where the first object is to be, relative to the second; None samples a relation.
    """
    margin = 0.025
    if len(objects) == 1:
        reach = objects[0].radius + margin
        x, y = rng.uniform(reach, 1 - reach), rng.uniform(reach, 1 - reach)
        return (replace(objects[0], x=x, y=y),)
    relation = relation or rng.choice(RELATIONS)
    in_order = relation in ("left of", "above")
    first, second = objects if in_order else objects[::-1]
    reach_first, reach_second = first.radius + margin, second.radius + margin
    distance = rng.uniform(reach_first + reach_second, 1 - reach_first - reach_second)
    along = rng.uniform(reach_first, 1 - reach_second - distance)
    # On the other axis the objects differ by less than 0.6 of the distance, so that the relation is
    # unambiguous.
    across_first = rng.uniform(reach_first, 1 - reach_first)
    low = max(reach_second, across_first - 0.6 * distance)
    high = min(1 - reach_second, across_first + 0.6 * distance)
    across_second = rng.uniform(low, high)
    if relation in ("left of", "right of"):
        first = replace(first, x=along, y=across_first)
        second = replace(second, x=along + distance, y=across_second)
    else:
        first = replace(first, x=across_first, y=along)
        second = replace(second, x=across_second, y=along + distance)
    return (first, second) if in_order else (second, first)


def sample_scene(rng: random.Random, held_out: bool = False, count: int | None = None) -> Scene:
    """A random scene.

    Args:
        rng: the source of randomness; equal states give equal scenes.
        held_out: False samples only scenes that training may use, True only held-out ones.
        count: the number of objects, 1 or 2; None chooses 2 with a probability of 2/3, since two
            are harder.
    """
    count = count or rng.choice((1, 2, 2))
    while True:
        objects = tuple(sample_object(rng) for _ in range(count))
        if len({(item.shape, item.colour) for item in objects}) < count:
            continue  # two objects of one shape and colour could not be told apart in words
        scene = Scene(place_objects(objects, rng), rng.choice(list(BACKGROUNDS)))
        if is_held_out(scene) == held_out:
            return scene
