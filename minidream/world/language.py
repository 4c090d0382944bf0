"""Text about scenes: captions with the role of every word, a caption parser, and questions.

All text is lower case and consists of words and punctuation marks that `tokenizers.py` splits.
Captions come in many phrasings, so that the position of a word says nothing about its role.
"""

import random
import re
from dataclasses import dataclass

from .scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_ARRANGEMENTS,
    HELD_OUT_COMBINATIONS,
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
# "a blue square with a red circle to its left"
RELATIONS_AFTER_WITH = {
    "left of": "to its left",
    "right of": "to its right",
    "above": "above it",
    "below": "below it",
}
DESCRIBE = "describe the picture."
# Every word and punctuation mark of captions, questions, stories and edits, in the order of the
# token ids.
VOCABULARY = (
    ". , : ? a above an answer appears are as background becomes below beneath big black blue but "
    "by circle color colors colour counting cross cyan day describe disappears for goes gray "
    "green grows happens how in is it its large larger left little many no nothing now object "
    "objects of on one orange over passes picture pink places purple question red right ring same "
    "shape shrinks size small smaller square star story swap swapped the there they thing things "
    "this time to triangle turns two under up what while white with without yellow yes"
).split()


@dataclass(frozen=True)
class Phrase:
    """Words, and what each of them says.

    `roles` has one entry per word: None, or (kind, index). The kind is "size", "colour", "shape",
    "relation" or "background"; the index is that of the object in the scene, or None for a relation
    and a background.
    """

    words: tuple[str, ...]
    roles: tuple

    def __add__(self, other: "Phrase") -> "Phrase":
        return Phrase(self.words + other.words, self.roles + other.roles)

    @property
    def text(self) -> str:
        """The words as a sentence, with punctuation joined to the word before it."""
        return re.sub(r" ([.,:?])", r"\1", " ".join(self.words))


def phrase(text: str, role: tuple | None = None) -> Phrase:
    """Words that all have the same role, or none."""
    words = tuple(text.split())
    return Phrase(words, (role,) * len(words))


def noun_phrase(item: SceneObject, index: int, rng: random.Random | None = None) -> Phrase:
    """An object with all its attributes, as in "a large red circle".

    Args:
        item: the object.
        index: its index in the scene, for the roles.
        rng: samples a synonym of the size; None takes the size word itself.
    """
    size = rng.choice(SIZE_SYNONYMS[item.size]) if rng else item.size
    article = "an" if size[0] in "aeiou" else "a"
    words = phrase(article) + phrase(size, ("size", index))
    return words + phrase(item.colour, ("colour", index)) + phrase(item.shape, ("shape", index))


def describe(
    scene: Scene, rng: random.Random | None = None, background: bool | None = None
) -> Phrase:
    """A caption that states the appearance of every object and the relation.

    Args:
        scene: what to describe.
        rng: samples the phrasing and which object comes first; None gives the plainest caption.
        background: whether to name the background; None samples it (without rng: not named).
    """
    name_background = background if background is not None else bool(rng and rng.random() < 0.5)
    order = [0, 1][: len(scene.objects)]
    relation = scene.relation
    if rng and len(order) == 2 and rng.random() < 0.5:
        order, relation = order[::-1], OPPOSITE[relation]
    names = [noun_phrase(scene.objects[index], index, rng) for index in order]
    body = names[0] if relation is None else _join(*names, relation, rng)
    opening = rng.choice(("", "", "there is", "a picture of")) if rng else ""
    if body.words[0] in ("a", "an"):
        body = phrase(opening) + body
    if not name_background:
        return body
    ending = phrase("on a") + phrase(scene.background, ("background", None)) + phrase("background")
    if rng and rng.random() < 0.25:
        return ending + phrase(",") + body
    return body + ending


def _join(first: Phrase, second: Phrase, relation: str, rng: random.Random | None) -> Phrase:
    """Two noun phrases and the relation of the first to the second, in a random order of words."""
    words = rng.choice(RELATION_SYNONYMS[relation]) if rng else relation
    stated = phrase(words, ("relation", None))
    order = rng.randrange(4) if rng else 0
    if order <= 1:  # a red circle left of a blue square
        return first + stated + second
    if order == 2:  # a blue square with a red circle to its left
        stated = phrase(RELATIONS_AFTER_WITH[relation], ("relation", None))
        return second + phrase("with") + first + stated
    return stated + second + phrase("is") + first  # left of a blue square is a red circle


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
    """The facts that a caption states, as `Scene.facts`; a background that is not named is None.

    Returns None if the text is not a caption of one or two objects: an attribute or the relation is
    missing, or there are too many objects.
    """
    words = re.findall(r"[a-z]+", text.lower())
    appearances, relation, objects_before, background = [], None, None, None
    for position, word in enumerate(words):
        if word in SHAPES:
            size, colour = words[position - 2 : position] if position >= 2 else ("", "")
            if size not in _SIZE or colour not in COLOURS:
                return None
            appearances.append((_SIZE[size], colour, word))
        elif word in _RELATION:
            if relation:
                return None
            relation, objects_before = _RELATION[word], len(appearances)
        elif word == "background":
            if words[position - 1] not in BACKGROUNDS:
                return None
            background = words[position - 1]
    if len(appearances) == 1 and relation is None:
        return ordered_facts(background, None, appearances[0])
    if len(appearances) != 2 or relation is None:
        return None
    # Between the two objects, the relation is that of the first to the second. Before both, or
    # after both ("with ... to its left"), it is that of the second to the first.
    if objects_before != 1:
        appearances.reverse()
    return ordered_facts(background, relation, *appearances)


# --------------------------------------------------------------------------------------------------
# Questions

QUESTION_KINDS = ("colour", "shape", "size", "count", "existence", "relation", "background")


def referring_expression(scene: Scene, index: int) -> str:
    """The shortest name of an object: "circle", or "red circle" if both objects are circles."""
    item = scene.objects[index]
    alike = [other for other in scene.objects if other.shape == item.shape]
    return item.shape if len(alike) == 1 else f"{item.colour} {item.shape}"


def ask(scene: Scene, rng: random.Random, kind: str | None = None) -> tuple[str, str]:
    """A question about a scene, and its answer in one word.

    Args:
        scene: what the question is about.
        rng: samples the object, the phrasing and the kind.
        kind: one of `QUESTION_KINDS`. If the scene does not allow this kind (a relation with one
            object), the question asks for the number of objects.
    """
    kind = kind or rng.choice(QUESTION_KINDS)
    index = rng.randrange(len(scene.objects))
    item = scene.objects[index]
    unique_shape = sum(other.shape == item.shape for other in scene.objects) == 1
    unique_colour = sum(other.colour == item.colour for other in scene.objects) == 1
    spelling = rng.choice(("color", "colour"))
    noun = rng.choice(("thing", "object"))
    if kind == "colour" and unique_shape:
        return f"what {spelling} is the {item.shape}?", item.colour
    if kind == "shape" and unique_colour:
        name = f"{item.colour} {noun}"
        question = rng.choice((f"what shape is the {name}?", f"what is the shape of the {name}?"))
        return question, item.shape
    if kind == "size":
        name = f"{item.colour} {item.shape}"
        return rng.choice((f"what size is the {name}?", f"how large is the {name}?")), item.size
    if kind == "existence":
        return _ask_existence(scene, item, rng)
    if kind == "relation" and len(scene.objects) == 2:
        return _ask_relation(scene, index, rng)
    if kind == "background":
        return f"what {spelling} is the background?", scene.background
    return f"how many {noun}s are there?", ("one", "two")[len(scene.objects) - 1]


SIDES = {"left of": "on the left", "right of": "on the right", "above": "above", "below": "below"}


def ask_side(scene: Scene, index: int) -> tuple[str, str]:
    """A question about a side: "what thing is on the left?", and "a small red circle"."""
    question = f"what thing is {SIDES[scene.relation_of(index)]}?"
    return question, noun_phrase(scene.objects[index], index).text


def _ask_existence(scene: Scene, item: SceneObject, rng: random.Random) -> tuple[str, str]:
    shape, colour = item.shape, item.colour
    if rng.random() >= 0.5:
        return f"is there a {colour} {shape}?", "yes"
    existing = {(other.shape, other.colour) for other in scene.objects}
    forbidden = existing if is_held_out(scene) else existing | HELD_OUT_COMBINATIONS
    while (shape, colour) in forbidden:
        # Often a near miss: the shape of one object in the colour of the other.
        shape = rng.choice([other.shape for other in scene.objects] + [rng.choice(SHAPES)])
        any_colour = rng.choice(list(COLOURS))
        colour = rng.choice([other.colour for other in scene.objects] + [any_colour])
    return f"is there a {colour} {shape}?", "no"


def _ask_relation(scene: Scene, index: int, rng: random.Random) -> tuple[str, str]:
    item, other_item = scene.objects[index], scene.objects[1 - index]
    name, other = referring_expression(scene, index), referring_expression(scene, 1 - index)
    relation = scene.relation_of(index)
    if rng.random() < 0.4:
        return f"what is {relation} the {other}?", item.shape
    asked = relation
    if rng.random() >= 0.5:
        asked = rng.choice([word for word in RELATIONS if word != relation])
    _, stated, (first, second) = ordered_facts(None, asked, item.appearance, other_item.appearance)
    if not is_held_out(scene) and (first[2], stated, second[2]) in HELD_OUT_ARRANGEMENTS:
        asked = (
            relation  # training texts never name a held-out arrangement, not even as a false one
        )
    return f"is the {name} {asked} the {other}?", "yes" if asked == relation else "no"
