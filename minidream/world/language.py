"""Text about scenes: captions with the role of every word, and a caption parser.

All text is lower case and consists of words and punctuation marks that `tokenizers.py` splits.
Captions come in many phrasings, so that the position of a word says nothing about its role.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Scene,
    SceneObject,
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
# Every word and punctuation mark of captions, questions, stories and edits, in the order of the
# token ids.
VOCABULARY = (
    ". , : ? a above an and answer appears are as background becomes below beneath big black blue "
    "but by circle color colors colour counting cross cyan day describe disappears for goes gray "
    "green grows happens how in is it its large larger left little many no nothing now object "
    "objects of on one orange over passes picture pink places purple question red right ring same "
    "shape shrinks size small smaller square star story swap swapped the there they thing things "
    "this time to triangle turns two under up what while white with without yellow yes"
).split()
# Names that mean nothing. Texts for the language model use them in the place of colours, shapes and
# backgrounds, so that it learns to copy a name that it has just read instead of recalling one.
INVENTED_NAMES = (
    "blick dax fep gorp jalo kiv lum mib nuk pim quib rall sib tam tulver vek wug yim zaz zorp"
).split()
VOCABULARY += INVENTED_NAMES


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

    def without(self, *kinds: str) -> "Phrase":
        """The same without the words of these kinds of roles: "a large circle", without colours."""
        kept = [
            pair for pair in zip(self.words, self.roles) if not pair[1] or pair[1][0] not in kinds
        ]
        following = [word for word, _ in kept[1:]] + [""]
        return Phrase(
            tuple(
                article_for(after) if word in ("a", "an") else word
                for (word, _), after in zip(kept, following)
            ),
            tuple(role for _, role in kept),
        )


def article_for(word: str) -> str:
    """ "an" before a vowel, else "a"."""
    return "an" if word[:1] in tuple("aeiou") else "a"


def phrase(text: str, role: tuple | None = None) -> Phrase:
    """Words that all have the same role, or none."""
    words = tuple(text.split())
    return Phrase(words, (role,) * len(words))


def with_invented_names(
    texts: list[str], rng: random.Random, known: Sequence[str] = (*COLOURS, *SHAPES, *BACKGROUNDS)
) -> list[str]:
    """The texts with every colour, shape and background under an invented name, the same in all.

    Args:
        texts: in lower case.
        rng: draws the names.
        known: the words to be replaced.
    """
    names = dict(zip(known, rng.sample(INVENTED_NAMES, len(known))))
    return [re.sub(r"[a-z]+", lambda word: names.get(word[0], word[0]), text) for text in texts]


def noun_phrase(item: SceneObject, index: int, rng: random.Random | None = None) -> Phrase:
    """An object with all its attributes, as in "a large red circle".

    Args:
        item: the object.
        index: its index in the scene, for the roles.
        rng: samples a synonym of the size; None takes the size word itself.
    """
    size = rng.choice(SIZE_SYNONYMS[item.size]) if rng else item.size
    words = phrase(article_for(size)) + phrase(size, ("size", index))
    return words + phrase(item.colour, ("colour", index)) + phrase(item.shape, ("shape", index))


def referring_expression(scene: Scene, index: int) -> str:
    """The shortest name of an object: "circle", or "red circle" if both objects are circles."""
    item = scene.objects[index]
    alike = [other for other in scene.objects if other.shape == item.shape]
    return item.shape if len(alike) == 1 else f"{item.colour} {item.shape}"


def describe(
    scene: Scene,
    rng: random.Random | None = None,
    background: bool | None = None,
    relation: bool = True,
) -> Phrase:
    """A caption that states the appearance of every object, and how they are arranged.

    Args:
        scene: what to describe.
        rng: samples the phrasing and which object comes first; None gives the plainest caption.
        background: whether to name the background; None samples it (without rng: not named).
        relation: whether to say where the objects are; if not, they are joined by "and".
    """
    name_background = background if background is not None else bool(rng and rng.random() < 0.5)
    order = [0, 1][: len(scene.objects)]
    if rng and len(order) == 2 and rng.random() < 0.5:
        order = order[::-1]
    body, *more = (noun_phrase(scene.objects[index], index, rng) for index in order)
    if more and relation:
        body = _join(body, *more, scene.relation_of(order[0]), rng)
    elif more:
        body += phrase("and") + more[0]
    opening = rng.choice(("", "", "there is", "a picture of")) if rng else ""
    if body.words[0] in ("a", "an"):
        body = phrase(opening) + body
    if not name_background:
        return body
    ending = phrase("on a") + phrase(scene.background, ("background", None)) + phrase("background")
    if rng and rng.random() < 0.25:
        return ending + phrase(",") + body
    return body + ending


def description(scene: Scene, background: bool = True) -> str:
    """The plainest caption of a scene, always in the same words, with the leading object first.

    If either object could be named first, the first word of an answer would be random, and no word
    of it would show whether the model knows the positions.

    Args:
        scene: what to describe.
        background: whether to name the background.
    """
    return describe(scene.leading_first, background=background).text


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


def parse_prompt(text: str) -> tuple | None:
    """The facts that a text asks for, as `Scene.facts`; whatever it does not say is None.

    "a red star and a blue ring" names neither sizes nor a relation nor the background.

    Returns None if the text does not name one or two objects, or contradicts itself.
    """
    words = re.findall(r"[a-z]+", text.lower())
    appearances, relation, objects_before, background = [], None, None, None
    for position, word in enumerate(words):
        if word in SHAPES:
            before = ["", "", *words[:position]]
            colour = before.pop() if before[-1] in COLOURS else None
            appearances.append((_SIZE.get(before[-1]), colour, word))
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
    if len(appearances) != 2:
        return None
    # Between the two objects, the relation is that of the first to the second. Before both, or
    # after both ("with ... to its left"), it is that of the second to the first.
    if relation and objects_before != 1:
        appearances.reverse()
    return ordered_facts(background, relation, *appearances)


def parse_caption(text: str) -> tuple | None:
    """As `parse_prompt`, for texts that say everything, except perhaps the background.

    Returns None if anything else is missing.
    """
    facts = parse_prompt(text)
    if facts is None or None in sum(facts[2], ()) or (len(facts[2]) == 2 and not facts[1]):
        return None
    return facts
