"""Prompts of two objects that differ in one word, and which of their words says what."""

import random
from dataclasses import dataclass

from ..world.language import SIZE_SYNONYMS, Phrase, describe, parse_caption
from ..world.scenes import COLOURS, SHAPES, Scene, SceneObject, is_held_out, sample_scene

# The words that may differ: of which kind, and of which object in the order of the prompt.
WORDS = (
    ("colour", 0),
    ("colour", 1),
    ("shape", 0),
    ("shape", 1),
    ("size", 0),
    ("size", 1),
    ("relation", None),
)
OPPOSITES = {
    "left": ("right",),
    "right": ("left",),
    **dict.fromkeys(("above", "over"), ("below", "under", "beneath")),
    **dict.fromkeys(("below", "under", "beneath"), ("above", "over")),
}


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in one word alone.

    own, donor: the prompts.
    kind, mention: which word: see `WORDS`.
    word: its index among the words of both prompts.
    """

    own: Phrase
    donor: Phrase
    kind: str
    mention: int | None
    word: int

    @property
    def facts(self) -> tuple[tuple, tuple]:
        """Of both prompts, as `Scene.facts`."""
        return parse_caption(self.own.text), parse_caption(self.donor.text)


def scene_of(facts: tuple) -> Scene:
    """Some scene with these facts."""
    _, relation, looks = facts
    places = [(0.25, 0.5), (0.75, 0.5)] if relation == "left of" else [(0.5, 0.25), (0.5, 0.75)]
    objects = [
        SceneObject(shape, colour, size, *place)
        for (size, colour, shape), place in zip(looks, places)
    ]
    return Scene(tuple(objects))


def possible(phrase: Phrase) -> bool:
    """Whether a caption of two objects is one that training could have had."""
    facts = parse_caption(phrase.text)
    if facts is None or facts[2][0][1:] == facts[2][1][1:]:
        return False
    return not is_held_out(scene_of(facts))


def mentions(phrase: Phrase) -> list[int]:
    """The indices of the objects in the order in which a caption mentions them."""
    found = dict.fromkeys(role[1] for role in phrase.roles if role and role[1] is not None)
    return list(found)


def words_of(phrase: Phrase, mention: int) -> list[int]:
    """Which words say how an object looks.

    Args:
        phrase: a caption.
        mention: the object, in the order of the caption.
    """
    index = mentions(phrase)[mention]
    return [word for word, role in enumerate(phrase.roles) if role and role[1] == index]


def word_of(phrase: Phrase, kind: str, mention: int | None) -> int:
    """The index of a word of `WORDS` in a caption."""
    if kind == "relation":
        return next(
            word
            for word, role in enumerate(phrase.roles)
            if role == ("relation", None) and phrase.words[word] in OPPOSITES
        )
    role = (kind, mentions(phrase)[mention])
    return phrase.roles.index(role)


def alternatives(kind: str, word: str) -> list[str]:
    """The words that say something else of the same kind."""
    if kind == "relation":
        return list(OPPOSITES[word])
    if kind == "size":
        return [each for words in SIZE_SYNONYMS.values() if word not in words for each in words]
    return [each for each in (COLOURS if kind == "colour" else SHAPES) if each != word]


def with_word(phrase: Phrase, index: int, word: str) -> Phrase:
    """A caption in which one word is replaced."""
    words = (*phrase.words[:index], word, *phrase.words[index + 1 :])
    return Phrase(words, phrase.roles)


def sample_pair(rng: random.Random, kind: str, mention: int | None) -> Pair:
    """Two random captions that differ in one word, both with nothing that is held out."""
    while True:
        own = describe(sample_scene(rng, count=2), rng, background=False)
        word = word_of(own, kind, mention)
        others = [with_word(own, word, each) for each in alternatives(kind, own.words[word])]
        if others := [other for other in others if possible(other)]:
            return Pair(own, rng.choice(others), kind, mention, word)


def counterpart(pair: Pair) -> int:
    """The word that says of the other object what the differing word says of its own.

    Of a relation, it is the colour of the object that is mentioned first.
    """
    if pair.kind == "relation":
        return word_of(pair.own, "colour", 0)
    return word_of(pair.own, pair.kind, 1 - pair.mention)


def slot_of(phrase: Phrase, mention: int) -> int:
    """Where the object that is mentioned first (0) or second is: 0 is the left or upper one."""
    words = {phrase.roles[word][0]: phrase.words[word] for word in words_of(phrase, mention)}
    looks = parse_caption(phrase.text)[2]
    return [look[1:] for look in looks].index((words["colour"], words["shape"]))


def phrasing_of(phrase: Phrase) -> str:
    """Where a caption of two objects says the relation: "between" them, "before" or "after" both.

    "A star left of a ring", "left of a ring is a star" and "a ring with a star to its left".
    """
    kinds = [role[0] for role in phrase.roles if role and role[0] in ("shape", "relation")]
    return ("before", "between", "after")[kinds[: kinds.index("relation")].count("shape")]
