"""Scenes: what is in a toy picture, how scenes are drawn at random, and which ones training never sees.

A scene is a background and one or two things. A thing has a shape, a colour, a size word with an exact radius, and a
continuous position. Lengths are fractions of the picture's width; x grows to the right and y grows *down*, as in
images.
"""

import random
from dataclasses import dataclass, replace

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {  # RGB in [0, 1], far enough from one another and from every background to be told apart by distance
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
SIZES = {"small": (0.135, 0.15), "large": (0.19, 0.21)}  # (least, greatest) radius
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# Never in any training data, of any part: looks (which colour a shape has) and arrangements (which shape stands where
# beside which). An arrangement is stated as left-of or above; "a star right of a circle" is the same one as "a circle
# left of a star". Each shape, colour and relation is still seen often, only not together.
HELD_OUT_LOOKS = frozenset(
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
    """One thing in a scene: `shape` and `colour` words, `size` "small" or "large", centre `x`, `y` and `radius`.

    Lengths are fractions of the picture's width in [0, 1]. Unknown words raise ValueError.
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
    def look(self) -> tuple[str, str, str]:
        """(size, colour, shape): what a caption says of a thing."""
        return self.size, self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """One or two things on a background. With two, `relation` says where the first stands, seen from the second."""

    objects: tuple[SceneObject, ...]
    background: str = "white"

    def __post_init__(self):
        if len(self.objects) not in (1, 2):
            raise ValueError(f"a scene has 1 or 2 things, not {len(self.objects)}")
        if self.background not in BACKGROUNDS:
            raise ValueError(f"{self.background!r} is none of {', '.join(BACKGROUNDS)}")

    @property
    def relation(self) -> str | None:
        """Where the first thing stands, seen from the second; None with one thing."""
        return relation_between(*self.objects) if len(self.objects) == 2 else None

    def relation_of(self, number: int) -> str | None:
        """Where thing `number` stands, seen from the other; None with one thing."""
        return self.relation if number == 0 or self.relation is None else OPPOSITE[self.relation]

    @property
    def facts(self) -> tuple:
        """(background, relation, looks), the things ordered from left to right or from top to bottom.

        Two scenes with equal facts are the same scene as far as words can say.
        """
        looks = tuple(thing.look for thing in self.objects)
        return ordered_facts(self.background, self.relation, *looks)


def ordered_facts(
    background: str | None, relation: str | None, first: tuple, second: tuple | None = None
) -> tuple:
    """Facts in the order of `Scene.facts`: the relation becomes "left of" or "above" by naming the things so."""
    if second is None:
        return background, None, (first,)
    if relation in ("right of", "below"):
        return background, OPPOSITE[relation], (second, first)
    return background, relation, (first, second)


def relation_between(first: SceneObject, second: SceneObject) -> str:
    """Where `first` stands, seen from `second`, along the axis on which they are farther apart."""
    across, down = first.x - second.x, first.y - second.y
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def is_held_out(scene: Scene) -> bool:
    """Whether the scene has a look or an arrangement that training never sees."""
    if any((thing.shape, thing.colour) in HELD_OUT_LOOKS for thing in scene.objects):
        return True
    _, relation, looks = scene.facts
    return relation is not None and (looks[0][2], relation, looks[1][2]) in HELD_OUT_ARRANGEMENTS


def sample_look(rng: random.Random) -> SceneObject:
    """A thing of random shape, colour, size and radius, at the centre."""
    size = rng.choice(list(SIZES))
    return SceneObject(
        rng.choice(SHAPES), rng.choice(list(COLOURS)), size, radius=rng.uniform(*SIZES[size])
    )


def place(
    things: tuple[SceneObject, ...], rng: random.Random, relation: str | None = None
) -> tuple[SceneObject, ...]:
    """The same things at random places: inside the picture, apart, and in a relation that nobody could dispute.

    Args:
        objects: one or two.
        relation: where the first shall stand, seen from the second; None draws one.
    """
    edge = 0.025
    if len(things) == 1:
        reach = things[0].radius + edge
        return (
            replace(things[0], x=rng.uniform(reach, 1 - reach), y=rng.uniform(reach, 1 - reach)),
        )
    relation = relation or rng.choice(RELATIONS)
    first, second = things if relation in ("left of", "above") else things[::-1]
    reach_first, reach_second = first.radius + edge, second.radius + edge
    apart = rng.uniform(reach_first + reach_second, 1 - reach_first - reach_second)
    along = rng.uniform(reach_first, 1 - reach_second - apart)
    # The offset across stays under 0.6 of the distance along, so that the axis of the relation is beyond doubt.
    side = rng.uniform(reach_first, 1 - reach_first)
    low, high = max(reach_second, side - 0.6 * apart), min(1 - reach_second, side + 0.6 * apart)
    other = rng.uniform(low, high)
    if relation in ("left of", "right of"):
        first, second = replace(first, x=along, y=side), replace(second, x=along + apart, y=other)
    else:
        first, second = replace(first, x=side, y=along), replace(second, x=other, y=along + apart)
    return (first, second) if relation in ("left of", "above") else (second, first)


def sample_scene(rng: random.Random, held_out: bool = False, count: int | None = None) -> Scene:
    """A random scene.

    Args:
        rng: the source of randomness; equal states give equal scenes.
        held_out: False draws only scenes that training may see, True only those that it may not.
        count: how many things, 1 or 2; None draws two in two cases out of three, since two are harder.
    """
    count = count or rng.choice((1, 2, 2))
    while True:
        things = tuple(sample_look(rng) for _ in range(count))
        if (
            count == 2
            and things[0].shape == things[1].shape
            and things[0].colour == things[1].colour
        ):
            continue  # nothing that could be said would tell them apart
        scene = Scene(place(things, rng), rng.choice(list(BACKGROUNDS)))
        if is_held_out(scene) == held_out:
            return scene
