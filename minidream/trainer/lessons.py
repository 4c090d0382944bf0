"""From scenes and stories to what a DreamLLM learns: documents, layouts, and their labels."""

import random

from ..documents import TEMPLATES, THOUGHTS, Document, Layout, lay_out, turn_layout
from ..images import to_pil
from ..world.language import description, with_invented_names
from ..world.questions import DESCRIBE, NOW
from ..world.render import render
from ..world.scenes import Scene
from ..world.stories import Story

# How a thought of the toy begins: after a sentence, and after text without an end.
OPENING = THOUGHTS["toy"]
OPENINGS = (OPENING, f". {OPENING}")


def pictures(scenes: list[Scene], size: int) -> list:
    """Scenes as PIL images, `size` pixels wide."""
    return to_pil(render(scenes, size)[0])


def document_of(story: Story, size: int) -> Document:
    """A story with scenes rendered, `size` pixels wide. Those that are not given are targets."""
    rendered = iter(pictures(list(story.scenes), size))
    items = [next(rendered) if isinstance(item, Scene) else item for item in story.items]
    positions = [position for position, item in enumerate(story.items) if isinstance(item, Scene)]
    targets = [index for index, position in enumerate(positions) if position not in story.given]
    return Document(items, targets=targets)


def thinking(story: Story, rng: random.Random, share: float = 1.0) -> Story:
    """A story in which thoughts say what pictures will show, right before they are painted.

    A thought is two items: its opening, and the plain description of the scene.

    Args:
        story: what is to be told.
        rng: decides which pictures.
        share: of the painted pictures that follow a thought. The first picture of a story has none,
            since the text before it describes it already.
    """
    items, given = [], []
    for index, item in enumerate(story.items):
        if isinstance(item, Scene) and index in story.given:
            given.append(len(items))
        elif isinstance(item, Scene) and index > 1 and rng.random() < share:
            items += [OPENING if items[-1].endswith(".") else OPENINGS[1], description(item)]
        items.append(item)
    return Story(tuple(items), tuple(given))


def told(story: Story) -> list[str]:
    """A story in words alone: after every change a thought says what there is now.

    It says the background as soon as the story has named it.
    """
    lines, named = [], False
    for index, item in enumerate(story.items):
        if isinstance(item, str):
            named = named or "background" in item
            lines.append(item)
        elif index > 1:
            lines.append(f"{OPENING} {description(item, background=named)}.")
    return lines


def learned_items(document: Document, learn_text: bool) -> list[bool]:
    """Which items of a document are targets of the language loss.

    A thought always is, and so is the `<dream_start>` after it; its opening never is, because
    `think` forces it.
    """
    learned = []
    for place, item in enumerate(document.items):
        is_thought = any(before in OPENINGS for before in document.items[max(0, place - 2) : place])
        learned.append(item not in OPENINGS and (learn_text or is_thought))
    return learned


def laid_out(documents: list[Document], model, learn_text: bool = True, read_last: bool = True):
    """Layouts and documents; `learn_text` as in `learned_items`, `read_last` as in `lay_out`."""
    tokenizer, queries, patches = model.tokenizer, model.queries, model.vision.patches
    layouts = [
        lay_out(
            document, tokenizer, queries, patches, learned_items(document, learn_text), read_last
        )
        for document in documents
    ]
    return layouts, documents


def in_pictures(stories: list[Story], model, **learned: bool):
    """Stories with their scenes rendered, laid out; `learned` as of `laid_out`."""
    size = model.decoder.image_size
    return laid_out([document_of(story, size) for story in stories], model, **learned)


def dialogue(model, turn: list, reply: str, more: list[tuple[str, str]] = ()):
    """The layout and the document of a dialogue. Only the replies and their `</s>` are learned.

    Args:
        model: its tokenizer and its chat template are used.
        turn: the first user turn, str and images.
        reply: the answer to it.
        more: further questions with their answers.
    """
    layout, images = turn_layout(model, turn)
    encode, eos = model.tokenizer.encode, model.tokenizer.special.eos
    layout.add(encode(reply) + [eos], learned=True)
    before, after = TEMPLATES[model.config.template]
    for question, answer in more:
        layout.add(encode(f"{before} {question} {after}"), learned=False)
        layout.add(encode(answer) + [eos], learned=True)
    return layout, Document(images, targets=[])


def questioned_pictures(scenes: list[Scene], turns: list[list[tuple[str, str]]], model):
    """Layouts and documents: pictures of the scenes, each with its questions and answers."""
    pairs = []
    drawn = pictures(scenes, model.decoder.image_size)
    for picture, ((question, reply), *more) in zip(drawn, turns):
        pairs.append(dialogue(model, [picture, question], reply, more))
    return unzipped(pairs)


def unzipped(pairs: list[tuple]):
    """Layouts and documents from a list of (layout, document)."""
    return [layout for layout, _ in pairs], [document for _, document in pairs]


# --------------------------------------------------------------------------------------------------
# Words alone


def renamed(texts: list[str], rng: random.Random) -> list[str]:
    """The texts, in half of all cases with invented names."""
    return with_invented_names(texts, rng) if rng.random() < 0.5 else texts


def replied(drawn: list[tuple[str, Scene]], rng: random.Random, model):
    """Texts, each with the plain description of the scene that it results in.

    The description is an answer in the chat template, or a thought (`documents.THOUGHTS`).
    """
    pairs = []
    for text, scene in drawn:
        text, reply = renamed([text, description(scene)], rng)
        if rng.random() < 0.5:
            pairs.append(dialogue(model, [f"{text}. {rng.choice((DESCRIBE, NOW))}"], reply))
        else:
            items = [text, OPENINGS[1], reply]
            layouts, documents = laid_out([Document(items)], model, learn_text=False)
            pairs.append((layouts[0], documents[0]))
    return unzipped(pairs)


def questioned(text: str, turns: list[tuple[str, str]], rng: random.Random, model):
    """The layout and the document of a text and questions about it, in any order."""
    rng.shuffle(turns)
    text, *words = renamed([text, *(words for turn in turns for words in turn)], rng)
    (question, reply), *more = zip(words[::2], words[1::2])
    return dialogue(model, [f"{text}. {question}"], reply, more)


def completed(text: str, note: tuple[str, str], rng: random.Random, model, question: str = ""):
    """The layout and the document of a text and a note on it. Only the note's end is learned.

    Args:
        text: without a full stop.
        note: its beginning, and its end.
        rng: decides about invented names.
        model: its tokenizer and its chat template are used.
        question: what the note answers in the chat template; "" is for a note in running text.
    """
    text, beginning, end = renamed([text, *note], rng)
    encode = model.tokenizer.encode
    if question:
        layout, _ = turn_layout(model, [f"{text}. {question}"])
        layout.add(encode(beginning), learned=False)
    else:
        layout = Layout()
        read = [model.tokenizer.special.bos, *encode(f"{text}. {beginning}")]
        layout.add(read, learned=False)
    layout.add(encode(end), learned=True)
    return layout, Document([])


def decided(picture, instruction: str, beginning: str, word: str, model):
    """The layout and the document of an edit and how the thought begins that it calls for.

    Args:
        picture: a PIL image.
        instruction: without a full stop.
        beginning: of the thought.
        word: its next word, which alone is learned.
        model: its tokenizer is used.
    """
    items = [picture, f"{instruction}{OPENINGS[1]} {beginning}", word]
    document, learned = Document(items, targets=[]), (False, False, True)
    tokenizer, patches = model.tokenizer, model.vision.patches
    return lay_out(document, tokenizer, model.queries, patches, learned, end=False), document
