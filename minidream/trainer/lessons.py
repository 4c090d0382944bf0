"""From scenes and stories to what a DreamLLM learns: documents, layouts, and their labels."""

import random

from ..documents import TEMPLATES, THOUGHTS, Document, lay_out, turn_layout
from ..images import to_pil
from ..world.language import description
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


def unzipped(pairs: list[tuple]):
    """Layouts and documents from a list of (layout, document)."""
    return [layout for layout, _ in pairs], [document for _, document in pairs]
