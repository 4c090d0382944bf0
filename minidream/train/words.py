"""What the language model learns from words alone: tasks as in `batches.py`, without pictures.

In half of the texts colours, shapes and backgrounds have invented names. A model that knows only
the words of the toy world recalls looks, and fails on combinations that it has never met. With
names that mean nothing it can only copy, which works for any combination.
"""

import random

from ..documents import Document
from ..trainer.lessons import (
    OPENING,
    completed,
    laid_out,
    questioned,
    renamed,
    replied,
    told,
    unzipped,
)
from ..world import lists
from ..world.language import description
from ..world.questions import DESCRIBE, NOW, ask, ask_often, ask_side
from ..world.stories import sample_story
from ..world.texts import (
    caption_before,
    deciding_edit,
    described,
    named_edit,
    placing_note,
    retold,
    with_looks,
)


def restated(rng: random.Random, batch_size: int, model):
    """A scene described in words, with or without a change; then its plain description."""
    return replied([described(rng, edited=0.7) for _ in range(batch_size)], rng, model)


def named_edits(rng: random.Random, batch_size: int, model):
    """Two objects, a change that names one of them, and the plain description of the result."""
    return replied([named_edit(rng) for _ in range(batch_size)], rng, model)


def decided(rng: random.Random, batch_size: int, model):
    """As `named_edits`, but a reply breaks off after a word that depends on which object is meant.

    Only this word is learned. In whole replies it is one or two words of fifteen, too few for the
    model to find out what they depend on: after 200,000 of them it still guessed.
    """
    pairs = []
    for _ in range(batch_size):
        edit, question = deciding_edit(rng), rng.choice((NOW, ""))
        change = rng.choice((edit.sentence, edit.instruction))
        beginning = edit.beginning if question else f"{OPENING} {edit.beginning}"
        text, note = f"{caption_before(edit.before, rng)}. {change}", (beginning, edit.word)
        pairs.append(completed(text, note, rng, model, question))
    return unzipped(pairs)


def answered(rng: random.Random, batch_size: int, model):
    """A scene described in words, then its plain description and four answers, in any order.

    A model that can say from words which object is on the left has bound its attributes together
    and knows its position, so that dream queries can gather what belongs together.
    """
    pairs = []
    for _ in range(batch_size):
        text, scene = described(rng, edited=0.3)
        turns = [(rng.choice((DESCRIBE, NOW)), description(scene))]
        turns += [ask_side(scene, index) for index in range(2)] if scene.relation else []
        turns += [ask(scene, rng) for _ in range(5 - len(turns))]
        pairs.append(questioned(text, turns, rng, model))
    return unzipped(pairs)


def asked(rng: random.Random, batch_size: int, model):
    """A scene described in words, with or without a change, and five questions."""
    pairs = []
    for _ in range(batch_size):
        text, scene = described(rng, edited=0.3)
        pairs.append(questioned(text, [ask_often(scene, rng) for _ in range(5)], rng, model))
    return unzipped(pairs)


def noted_in_lists(rng: random.Random, batch_size: int, model):
    """Lists of objects, then a note on one of them, of which only the end is learned."""
    pairs = []
    for _ in range(batch_size):
        looks, sized = lists.sample_looks(rng), rng.random() < 0.5
        note = lists.note_of(looks, rng, sized, rng.choice(("brief", "long")))
        pairs.append(completed(lists.listed(looks, sized), note, rng, model))
    return unzipped(pairs)


def placed(rng: random.Random, batch_size: int, model):
    """Two objects, then a note that says where one of them is; only the note's end is learned."""
    return unzipped([completed(*placing_note(rng), rng, model) for _ in range(batch_size)])


def noted(rng: random.Random, batch_size: int, model):
    """Objects, then a note on one of them, or a question; only the note's end is learned."""
    pairs = []
    for _ in range(batch_size):
        (text, looks, sized), form = with_looks(rng), rng.choice(lists.FORMS)
        note = lists.note_of(looks, rng, sized, form)
        laid = questioned(text, [note], rng, model) if form == "question" else None
        pairs.append(laid or completed(text, note, rng, model))
    return unzipped(pairs)


def paraphrases(rng: random.Random, batch_size: int, model):
    """One scene in three wordings: whose an attribute is helps to predict the second and third."""
    texts = [". ".join(renamed(retold(rng, times=3), rng)) for _ in range(batch_size)]
    return laid_out([Document([text]) for text in texts], model)


def stories_told(rng: random.Random, batch_size: int, model):
    """Stories of up to four scenes in words, each change followed by a thought."""
    documents = []
    for _ in range(batch_size):
        lines = told(sample_story(rng, pictures=rng.choice((2, 3, 4))))
        documents.append(Document([" ".join(renamed(lines, rng))]))
    return laid_out(documents, model)
