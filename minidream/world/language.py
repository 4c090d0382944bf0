"""What is said of scenes: captions with the role of every word, questions with their answers, and a parser.

All text is lower case, words and punctuation set apart by what `tokenizers.py` splits off. Captions come in many
phrasings, so that the position of a word gives nothing away.
"""

import random
import re
from dataclasses import dataclass

from .scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_ARRANGEMENTS,
    HELD_OUT_LOOKS,
    OPPOSITE,
    RELATIONS,
    SHAPES,
    Scene,
    SceneObject,
    is_held_out,
    ordered_facts,
)

SIZE_SYNONYMS = {"small": ("small", "little"), "large": ("large", "big")}
RELATION_SYNONYMS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}
AFTER_WITH = {
    "left of": "to its left",
    "right of": "to its right",
    "above": "above it",
    "below": "below it",
}
DESCRIBE = "describe the picture."
# Every word and mark that captions, questions, stories and edits are made of (a test holds them to one another).
VOCABULARY = (
    ". , : ? a above an answer appears are as background becomes below beneath big black blue but by circle color "
    "colors colour counting cross cyan day describe disappears for goes gray green grows happens how in is it its large larger "
    "left little many no nothing now object objects of on one orange over passes picture pink places purple question red "
    "right ring same shape shrinks size small smaller square star story swap swapped the there they thing things this "
    "time to triangle turns two under up what while white with without yellow yes"
).split()


@dataclass(frozen=True)
class Phrase:
    """Words and what each of them says.

    `roles` has one entry per word: None, or (kind, thing) with kind "size", "colour", "shape", "relation" or
    "background" and thing 0 or 1 as in the scene (None for relation and background).
    """

    words: tuple[str, ...]
    roles: tuple

    def __add__(self, other: "Phrase") -> "Phrase":
        return Phrase(self.words + other.words, self.roles + other.roles)

    @property
    def text(self) -> str:
        """The words as a sentence, punctuation joined to the word before it."""
        return re.sub(r" ([.,:?])", r"\1", " ".join(self.words))


def plain(text: str, role: tuple | None = None) -> Phrase:
    """Words that all play the same role, or none."""
    words = tuple(text.split())
    return Phrase(words, (role,) * len(words))


def name_of(thing: SceneObject, number: int, rng: random.Random | None = None) -> Phrase:
    """ "a large red circle": the thing with all that can be said of it."""
    size = rng.choice(SIZE_SYNONYMS[thing.size]) if rng else thing.size
    article = "an" if size[0] in "aeiou" else "a"
    return (
        plain(article)
        + plain(size, ("size", number))
        + plain(thing.colour, ("colour", number))
        + plain(thing.shape, ("shape", number))
    )


def describe(
    scene: Scene, rng: random.Random | None = None, background: bool | None = None
) -> Phrase:
    """A caption that states every look and the relation.

    Args:
        scene: what to describe.
        rng: draws the phrasing, and which thing comes first; None gives the plainest one.
        background: whether the background is named; None draws it (without rng: no).
    """
    say_background = background if background is not None else bool(rng and rng.random() < 0.5)
    order = [0, 1][: len(scene.objects)]
    relation = scene.relation
    if rng and len(order) == 2 and rng.random() < 0.5:
        order, relation = order[::-1], OPPOSITE[relation]
    names = [name_of(scene.objects[number], number, rng) for number in order]
    if relation is None:
        body = names[0]
    else:
        words = rng.choice(RELATION_SYNONYMS[relation]) if rng else relation
        way = rng.randrange(4) if rng else 0
        if way <= 1:  # a red circle left of a blue square
            body = names[0] + plain(words, ("relation", None)) + names[1]
        elif way == 2:  # a blue square with a red circle to its left
            body = (
                names[1]
                + plain("with")
                + names[0]
                + plain(AFTER_WITH[relation], ("relation", None))
            )
        else:  # left of a blue square is a red circle
            body = plain(words, ("relation", None)) + names[1] + plain("is") + names[0]
    opening = rng.choice(("", "", "there is", "a picture of")) if rng else ""
    if body.words[0] not in ("a", "an"):
        opening = ""
    body = plain(opening) + body
    if not say_background:
        return body
    named = plain("on a") + plain(scene.background, ("background", None)) + plain("background")
    if rng and rng.random() < 0.25:
        return named + plain(",") + body
    return body + named


_SIZE = {word: size for size, words in SIZE_SYNONYMS.items() for word in words}
_RELATION = {
    "left": "left of",
    "right": "right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
    "beneath": "below",
}


def parse_caption(text: str) -> tuple | None:
    """The facts that a caption states, as `Scene.facts` (background None where it is not named).

    Returns None where the text is not a caption of one or two things: half a look, no relation, or too many things.
    """
    words = re.findall(r"[a-z]+", text.lower())
    looks, relation, place, background = [], None, None, None
    for number, word in enumerate(words):
        if word in SHAPES:
            size, colour = words[number - 2 : number] if number >= 2 else ("", "")
            if size not in _SIZE or colour not in COLOURS:
                return None
            looks.append((_SIZE[size], colour, word))
        elif word in _RELATION:
            if relation:
                return None
            relation, place = _RELATION[word], len(looks)
        elif word == "background":
            if words[number - 1] not in BACKGROUNDS:
                return None
            background = words[number - 1]
    if len(looks) == 1 and relation is None:
        return ordered_facts(background, None, looks[0])
    if len(looks) != 2 or relation is None:
        return None
    # Between the two things the relation is the first one's; before or after both ("with … to its left") the second's.
    if place != 1:
        looks.reverse()
    return ordered_facts(background, relation, *looks)


# --------------------------------------------------------------------------------------------------
# Questions

QUESTION_KINDS = ("colour", "shape", "size", "count", "existence", "relation", "background")


def reference(scene: Scene, number: int) -> str:
    """The shortest words that single out a thing: "circle", or "red circle" where both are circles."""
    thing = scene.objects[number]
    alike = [other for other in scene.objects if other.shape == thing.shape]
    return thing.shape if len(alike) == 1 else f"{thing.colour} {thing.shape}"


def ask(scene: Scene, rng: random.Random, kind: str | None = None) -> tuple[str, str]:
    """A question about a scene, and its answer in one word.

    Args:
        scene: what is asked about.
        rng: draws the thing, the phrasing and the kind.
        kind: one of `QUESTION_KINDS`; where the scene cannot be asked that (a relation with one thing), another.
    """
    kind = kind or rng.choice(QUESTION_KINDS)
    number = rng.randrange(len(scene.objects))
    thing = scene.objects[number]
    unique_shape = sum(other.shape == thing.shape for other in scene.objects) == 1
    unique_colour = sum(other.colour == thing.colour for other in scene.objects) == 1
    spelling = rng.choice(("color", "colour"))
    noun = rng.choice(("thing", "object"))
    if kind == "colour" and unique_shape:
        return f"what {spelling} is the {thing.shape}?", thing.colour
    if kind == "shape" and unique_colour:
        return rng.choice(
            (
                f"what shape is the {thing.colour} {noun}?",
                f"what is the shape of the {thing.colour} {noun}?",
            )
        ), thing.shape
    if kind == "size":
        name = f"{thing.colour} {thing.shape}"
        return rng.choice((f"what size is the {name}?", f"how large is the {name}?")), thing.size
    if kind == "existence":
        return _ask_existence(scene, thing, rng)
    if kind == "relation" and len(scene.objects) == 2:
        return _ask_relation(scene, number, rng)
    if kind == "background":
        return f"what {spelling} is the background?", scene.background
    return f"how many {noun}s are there?", ("one", "two")[len(scene.objects) - 1]


SIDES = {"left of": "on the left", "right of": "on the right", "above": "above", "below": "below"}


def ask_side(scene: Scene, number: int) -> tuple[str, str]:
    """Which of two things stands on a side, and its name: "what thing is on the left?", "a small red circle"."""
    return f"what thing is {SIDES[scene.relation_of(number)]}?", name_of(
        scene.objects[number], number
    ).text


def _ask_existence(scene: Scene, thing: SceneObject, rng: random.Random) -> tuple[str, str]:
    shape, colour = thing.shape, thing.colour
    if rng.random() < 0.5:
        looks = {(other.shape, other.colour) for other in scene.objects}
        while (shape, colour) in looks or (
            (shape, colour) in HELD_OUT_LOOKS and not is_held_out(scene)
        ):
            # Often a near miss, with only one word wrong: the shape of one thing in the colour of the other.
            shape = rng.choice([other.shape for other in scene.objects] + [rng.choice(SHAPES)])
            colour = rng.choice(
                [other.colour for other in scene.objects] + [rng.choice(list(COLOURS))]
            )
        return f"is there a {colour} {shape}?", "no"
    return f"is there a {colour} {shape}?", "yes"


def _ask_relation(scene: Scene, number: int, rng: random.Random) -> tuple[str, str]:
    relation = scene.relation_of(number)
    name, other = reference(scene, number), reference(scene, 1 - number)
    if rng.random() < 0.4:
        return f"what is {relation} the {other}?", scene.objects[number].shape
    said = (
        relation
        if rng.random() < 0.5
        else rng.choice([word for word in RELATIONS if word != relation])
    )
    _, stated, looks = ordered_facts(
        None, said, scene.objects[number].look, scene.objects[1 - number].look
    )
    if not is_held_out(scene) and (looks[0][2], stated, looks[1][2]) in HELD_OUT_ARRANGEMENTS:
        said = relation  # not even as something false do training texts name a held-out arrangement
    return f"is the {name} {said} the {other}?", "yes" if said == relation else "no"
