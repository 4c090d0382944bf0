"""Lists of objects in words, longer than any picture: "a red star and a blue ring and ...".

They teach a language model whose an attribute is. With two objects, a model that knows which
colours occur, but not whose they are, is right half of the time; it stayed there for 6,000 steps.
With up to six objects, guessing is worse and every text asks more often.
"""

import random

from .language import article_for
from .scenes import COLOURS, HELD_OUT_COMBINATIONS, SHAPES, SIZES

Look = tuple[str, str, str]  # size, colour, shape

FEWEST, MOST = 3, 6  # objects


def sample_looks(rng: random.Random) -> list[Look]:
    """Objects of different colours and different shapes; none is held out."""
    while True:
        count = rng.randint(FEWEST, MOST)
        pairs = list(zip(rng.sample(SHAPES, count), rng.sample(list(COLOURS), count)))
        if not HELD_OUT_COMBINATIONS.intersection(pairs):
            return [(rng.choice(list(SIZES)), colour, shape) for shape, colour in pairs]


def listed(looks: list[Look], sized: bool) -> str:
    """The objects in words, with their sizes or without them."""
    named = [look if sized else look[1:] for look in looks]
    return " and ".join(" ".join([article_for(words[0]), *words]) for words in named)


def sample_list(rng: random.Random) -> tuple[str, list[Look], bool]:
    """Objects in words, what they look like, and whether sizes are named."""
    looks, sized = sample_looks(rng), rng.random() < 0.5
    return listed(looks, sized), looks, sized


FORMS = ("brief", "long", "question")  # of notes


def note_of(looks: list[Look], rng: random.Random, sized: bool, form: str) -> tuple[str, str]:
    """A note on one of the objects, in two parts: ("star", "red"), or ("the color of the star
    is", "red").

    To find the word *before* an earlier occurrence of a word is learned soon if nothing stands
    between, and after that with words between. Without these, a language model that had read 30,000
    questions such as "what color is the star?" still guessed; and one that knew the answers in such
    notes did not know them as answers to questions.

    Args:
        looks: of all objects.
        rng: draws the object, and what is to be found.
        sized: whether sizes are named.
        form: one of `FORMS`; the second part of a question is its answer.
    """
    thing, colour_word = rng.choice(("thing", "object")), rng.choice(("color", "colour"))
    notes = []
    for size, colour, shape in looks:
        if sum(look[2] == shape for look in looks) == 1:
            words = (
                shape,
                f"the {colour_word} of the {shape} is",
                f"what {colour_word} is the {shape}?",
            )
            notes.append((words, colour))
        if sum(look[1] == colour for look in looks) == 1:
            name = f"{colour} {thing}"
            words = (colour, f"the {name} is a", f"what shape is the {name}?")
            notes.append((words, shape))
        if sized:
            name = f"{colour} {shape}"
            words = (name, f"the {name} is", f"what size is the {name}?")
            notes.append((words, size))
    words, end = rng.choice(notes)
    return words[FORMS.index(form)], end
