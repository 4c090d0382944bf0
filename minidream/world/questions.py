"""Questions about scenes, with short answers."""

import random

from .language import noun_phrase, referring_expression
from .scenes import (
    COLOURS,
    HELD_OUT_ARRANGEMENTS,
    HELD_OUT_COMBINATIONS,
    RELATIONS,
    SHAPES,
    Scene,
    SceneObject,
    is_held_out,
    ordered_facts,
)

DESCRIBE = "describe the picture."
NOW = "what is there now?"

SIDES = {"left of": "on the left", "right of": "on the right", "above": "above", "below": "below"}

QUESTION_KINDS = ("colour", "shape", "size", "count", "existence", "relation", "background")

# Two objects that swap an attribute have the same words and other answers to these, so they are
# learned last, and asked most often where they are to be learned.
BINDING_KINDS = ("colour", "existence", "relation")


def ask_often(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """As `ask`, with `BINDING_KINDS` twice as often as the others."""
    return ask(scene, rng, rng.choice(QUESTION_KINDS + BINDING_KINDS))


def ask_simply(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A question with one condition, and its answer in one word.

    "is there a red star?" and "is the star left of the ring?" have two conditions, and one alone
    says little about the answer. A model that had answered 18,000 questions of the first kind about
    pictures still guessed. It learns them once it has learned simple ones.
    """
    index = rng.randrange(len(scene.objects))
    item = scene.objects[index]
    if len(scene.objects) == 2 and rng.random() < 0.5:
        side = SIDES[scene.relation_of(index)]
        if rng.random() < 0.5:
            return f"what is {side}?", item.shape
        asked = rng.choice((side, rng.choice(list(SIDES.values()))))
        answer = "yes" if asked == side else "no"
        return f"is the {referring_expression(scene, index)} {asked}?", answer
    by_colour = rng.random() < 0.5
    existing = [other.colour if by_colour else other.shape for other in scene.objects]
    missing = [word for word in (COLOURS if by_colour else SHAPES) if word not in existing]
    exists = rng.random() < 0.5
    word = rng.choice(existing if exists else missing)
    noun = f"{word} {rng.choice(('thing', 'object'))}" if by_colour else word
    return f"is there a {noun}?", "yes" if exists else "no"


def ask_yes_or_no(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A question, simple or not, whose answer is yes or no."""
    answer = ""
    while answer not in ("yes", "no"):
        simple, kind = rng.random() < 0.5, rng.choice(("existence", "relation"))
        question, answer = ask_simply(scene, rng) if simple else ask(scene, rng, kind)
    return question, answer


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
