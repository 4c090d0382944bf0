"""Tasks with pictures: a function per task draws one batch of toy documents.

Every function takes a random generator, the number of documents and the model, and returns layouts
with their labels, and documents, as `DreamLLM.loss_of_layouts` takes them. A batch holds documents
of one task only, since short documents beside long ones would be mostly padding.
"""

import random

from ..documents import Document
from ..images import to_pil
from ..trainer import lessons
from ..world.language import description, with_invented_names
from ..world.questions import DESCRIBE, ask_often, ask_simply, ask_yes_or_no
from ..world.recolouring import recoloured
from ..world.render import render
from ..world.scenes import Scene, sample_scene
from ..world.stories import (
    sample_copy,
    sample_edit,
    sample_named_edit,
    sample_story,
    sample_subject,
)
from ..world.texts import deciding_edit
from ..world.wordings import prompt_for, varied_caption


def captions(rng: random.Random, batch_size: int, model):
    """A picture, then its caption, which is learned.

    Half of the pictures have random colours, and their captions name none. With named colours
    alone, a model learns not to write *circle* after *purple*, whatever it sees.
    """
    scenes = [sample_scene(rng) for _ in range(batch_size)]
    drawn, masks = render(scenes, model.decoder.image_size)
    drawn[::2] = recoloured(masks[::2], scenes[::2], rng)
    texts = []
    for index, scene in enumerate(scenes):
        named = index % 2 == 1
        caption = varied_caption(scene, rng, leading=0.75, background=None if named else False)
        texts.append((caption if named else caption.without("colour")).text)
    documents = [Document([*pair], targets=[]) for pair in zip(to_pil(drawn), texts)]
    return lessons.laid_out(documents, model)


def to_be_painted(prompts: list[str], scenes: list[Scene], model):
    """Prompts, each with the picture to paint. Only painting is learned."""
    documents = [
        Document([prompt, picture], targets=[0])
        for prompt, picture in zip(prompts, lessons.pictures(scenes, model.decoder.image_size))
    ]
    return lessons.laid_out(documents, model, learn_text=False, read_last=False)


def text_to_image(rng: random.Random, batch_size: int, model):
    """A prompt, which may leave things out, then the picture to paint."""
    scenes = [sample_scene(rng) for _ in range(batch_size)]
    prompts = [prompt_for(scene, rng, leading=0.75, between=0.5) for scene in scenes]
    return to_be_painted(prompts, scenes, model)


def simple_text_to_image(rng: random.Random, batch_size: int, model):
    """The same in the simplest wording: the leading object, the relation, the other object.

    A model that does not know which object goes where paints both faintly in both positions, at
    hardly any loss. One that paints them in the order of their names learns where it is wrong.
    """
    scenes = [sample_scene(rng) for _ in range(batch_size)]
    prompts = [varied_caption(scene, rng, leading=1.0, between=1.0).text for scene in scenes]
    return to_be_painted(prompts, scenes, model)


def stories(rng: random.Random, batch_size: int, model):
    """Interleaved documents: all text is learned, and every picture is both painted and read.

    In half of them, thoughts come before the later pictures.
    """
    drawn = [
        lessons.thinking(sample_story(rng), rng, rng.choice((0, 1))) for _ in range(batch_size)
    ]
    return lessons.in_pictures(drawn, model)


def edits(rng: random.Random, batch_size: int, model):
    """A given picture, a change in words, and the picture to paint; in half, after a thought.

    Half of them name one of two objects, which is the hardest kind. A fifth are of two other kinds:
    the same shape in another colour (subjects), and copies.
    """
    samplers = (sample_edit, sample_named_edit, sample_subject, sample_copy)
    drawn = [sample(rng) for sample in rng.choices(samplers, (3, 5, 1, 1), k=batch_size)]
    told = [lessons.thinking(story, rng, 0.5) for story in drawn]
    return lessons.in_pictures(told, model, learn_text=False, read_last=False)


def decided_edits(rng: random.Random, batch_size: int, model):
    """Edits that name one of two objects, and the thought up to a word that depends on which.

    Only this word is learned, and nothing is painted: see `words.decided`. In half of them what the
    change brings in has an invented name, which goes with any shape and with any colour.
    """
    drawn = [deciding_edit(rng) for _ in range(batch_size)]
    given = lessons.pictures([edit.before for edit in drawn], model.decoder.image_size)
    pairs = []
    for picture, edit in zip(given, drawn):
        known = edit.new if rng.random() < 0.5 else ()
        instruction, word = with_invented_names([edit.instruction, edit.word], rng, known)
        pairs.append(lessons.decided(picture, instruction, edit.beginning, word, model))
    return lessons.unzipped(pairs)


def questions(rng: random.Random, batch_size: int, model):
    """A picture and five questions in the chat template, with their answers; two are simple ones.

    In one of three, the first question asks for a description.
    """
    # A sequence consists mostly of the picture's patches, so each picture gets several questions.
    scenes, turns = [sample_scene(rng) for _ in range(batch_size)], []
    for scene in scenes:
        asked = [ask(scene, rng) for ask in 3 * [ask_often] + 2 * [ask_simply]]
        rng.shuffle(asked)
        if rng.random() < 1 / 3:
            asked[0] = DESCRIBE, description(scene, background=False)
        turns.append(asked)
    return lessons.questioned_pictures(scenes, turns, model)


def yes_or_no(rng: random.Random, batch_size: int, model):
    """A picture and five questions to be answered by yes or no; half of them are simple ones."""
    scenes = [sample_scene(rng, count=2) for _ in range(batch_size)]
    turns = [[ask_yes_or_no(scene, rng) for _ in range(5)] for scene in scenes]
    return lessons.questioned_pictures(scenes, turns, model)
