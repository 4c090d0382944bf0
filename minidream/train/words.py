"""What the language model learns from words alone: tasks as in `batches.py`, without pictures.

In half of the texts colours, shapes and backgrounds have invented names. A model that knows only
the words of the toy world recalls looks, and fails on combinations that it has never met. With
names that mean nothing it can only copy, which works for any combination.
"""

import random

from ..documents import Document
from ..trainer import lessons
from ..world import notes, texts
from ..world.language import description
from ..world.questions import DESCRIBE, NOW, ask, ask_often, ask_side
from ..world.scenes import sample_scene
from ..world.stories import sample_story


def restated(rng: random.Random, batch_size: int, model):
    """A scene described in words, with or without a change; then its plain description."""
    described = [texts.described(rng, edited=0.7) for _ in range(batch_size)]
    return lessons.replied(described, rng, model)


def named_edits(rng: random.Random, batch_size: int, model):
    """Two objects, a change that names one of them, and the plain description of the result."""
    return lessons.replied([texts.named_edit(rng) for _ in range(batch_size)], rng, model)


def decided(rng: random.Random, batch_size: int, model, plain=0.5):
    """As `named_edits`, but a reply breaks off after a word that depends on which object is meant.

    Only this word is learned. In whole replies it is one or two words of fifteen, too few for the
    model to find out what they depend on: after 200,000 of them it still guessed.
    """
    pairs = []
    for _ in range(batch_size):
        edit, question = texts.deciding_edit(rng), rng.choice((NOW, ""))
        change = rng.choice((edit.sentence, edit.instruction))
        beginning = edit.beginning if question else f"{lessons.OPENING} {edit.beginning}"
        text = f"{texts.caption_before(edit.before, rng, plain)}. {change}"
        pairs.append(lessons.completed(text, (beginning, edit.word), rng, model, question))
    return lessons.unzipped(pairs)


def decided_in_any_words(rng: random.Random, batch_size: int, model):
    """As `decided`, but no text describes the scene in the words of the reply."""
    return decided(rng, batch_size, model, plain=0.0)


def answered(rng: random.Random, batch_size: int, model):
    """A scene described in words, then its plain description and four answers, in any order.

    To say which object is on the left, a model has to bind its attributes to its position.
    """
    pairs = []
    for _ in range(batch_size):
        text, scene = texts.described(rng, edited=0.3)
        turns = [(rng.choice((DESCRIBE, NOW)), description(scene))]
        turns += [ask_side(scene, index) for index in range(2)] if scene.relation else []
        turns += [ask(scene, rng) for _ in range(5 - len(turns))]
        pairs.append(lessons.questioned(text, turns, rng, model))
    return lessons.unzipped(pairs)


def asked(rng: random.Random, batch_size: int, model):
    """A scene described in words, with or without a change, and five questions."""
    pairs = []
    for _ in range(batch_size):
        text, scene = texts.described(rng, edited=0.3)
        turns = [ask_often(scene, rng) for _ in range(5)]
        pairs.append(lessons.questioned(text, turns, rng, model))
    return lessons.unzipped(pairs)


def placed(rng: random.Random, batch_size: int, model):
    """Two objects, then a note that says where one of them is; only the note's end is learned."""
    return lessons.unzipped(
        [lessons.completed(*texts.placing_note(rng), rng, model) for _ in range(batch_size)]
    )


def noted(rng: random.Random, batch_size: int, model, forms=notes.FORMS):
    """Two objects, then a note on one of them, or a question; only the note's end is learned."""
    pairs = []
    for _ in range(batch_size):
        scene, form = sample_scene(rng, count=2), rng.choice(forms)
        text, note = texts.caption_before(scene, rng), notes.note_of(scene, rng, form)
        if form == "question":
            pairs.append(lessons.questioned(text, [note], rng, model))
        else:
            pairs.append(lessons.completed(text, note, rng, model))
    return lessons.unzipped(pairs)


def noted_briefly(rng: random.Random, batch_size: int, model):
    """The notes that are learned first."""
    return noted(rng, batch_size, model, notes.FORMS[:1])


def paraphrases(rng: random.Random, batch_size: int, model):
    """One scene in three wordings: whose an attribute is helps to predict the second and third."""
    drawn = [lessons.renamed(texts.retold(rng, times=3), rng) for _ in range(batch_size)]
    return lessons.laid_out([Document([". ".join(each)]) for each in drawn], model)


def stories_told(rng: random.Random, batch_size: int, model):
    """Stories of up to four scenes in words, each change followed by a thought."""
    documents = []
    for _ in range(batch_size):
        lines = lessons.told(sample_story(rng, pictures=rng.choice((2, 3, 4))))
        documents.append(Document([" ".join(lessons.renamed(lines, rng))]))
    return lessons.laid_out(documents, model)
