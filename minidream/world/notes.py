"""Notes on scenes: what a question asks, in forms that are learned sooner than questions.

To answer "what color is the star?" about a text, a model has to find the word *before* an earlier
occurrence of "star". It learns this soon if nothing stands between, "star red", and after that with
words between. A language model that had read 30,000 questions, but no such notes, still guessed.
"""

import random

from .questions import ask
from .scenes import Scene

FORMS = ("brief", "long", "question")


def note_of(scene: Scene, rng: random.Random, form: str) -> tuple[str, str]:
    """A note in two parts: ("star", "red"), or ("the color of the star is", "red").

    Two of five ask whether something exists: ("red star?", "no"). These are learned last.

    Args:
        scene: two objects.
        rng: draws the object, and what is to be found.
        form: one of `FORMS`; the second part of a question is its answer.
    """
    if rng.random() < 0.4:
        question, answer = ask(scene, rng, "existence")
        return question.removeprefix("is there a ") if form == "brief" else question, answer
    thing, colour_word = rng.choice(("thing", "object")), rng.choice(("color", "colour"))
    notes, items = [], scene.objects
    for item in items:
        if sum(other.shape == item.shape for other in items) == 1:
            words = (
                item.shape,
                f"the {colour_word} of the {item.shape} is",
                f"what {colour_word} is the {item.shape}?",
            )
            notes.append((words, item.colour))
        if sum(other.colour == item.colour for other in items) == 1:
            name = f"{item.colour} {thing}"
            words = (item.colour, f"the {name} is a", f"what shape is the {name}?")
            notes.append((words, item.shape))
        name = f"{item.colour} {item.shape}"
        notes.append(((name, f"the {name} is", f"what size is the {name}?"), item.size))
    words, end = rng.choice(notes)
    return words[FORMS.index(form)], end
