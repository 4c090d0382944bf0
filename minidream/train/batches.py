"""What the DreamLLM is trained on: a function per task draws one batch of toy documents.

Every function takes a random generator, the number of documents and the model, and returns layouts
with the labels of the reference code, and documents, as `DreamLLM.loss_of_layouts` takes them. A
batch is a pure function of the generator's state, and holds documents of one task only, since short
documents beside long ones would be mostly padding.
"""

import random

from ..documents import TEMPLATES, THOUGHTS, Document, lay_out, turn_layout
from ..images import to_pil
from ..world.language import Phrase, describe, description
from ..world.questions import DESCRIBE, ask
from ..world.render import render
from ..world.scenes import Scene, sample_scene
from ..world.stories import (
    Story,
    sample_copy,
    sample_edit,
    sample_named_edit,
    sample_story,
    sample_subject,
)

# ---------------------------------------------------------------------------------------------
# Captions


def is_leading(scene: Scene, index: int) -> bool:
    """Whether an object is the left or the upper one of its scene, or the only one."""
    return scene.relation_of(index) in (None, "left of", "above")


def varied_caption(
    scene: Scene,
    rng: random.Random,
    leading: float = 0.5,
    between: float = 0.5,
    background: bool | None = None,
) -> Phrase:
    """A caption in randomly drawn words, where two kinds of wording can be made more frequent.

    If all wordings are equally frequent, neither the relation nor the order of the names alone says
    anything about positions; only both together do. Gradient descent learns such a parity late or
    never, because no single step towards it lowers the loss. If more than half of the captions are
    of one kind, each cue alone is informative, and the rest can be learned as exceptions.

    Args:
        scene: what to describe.
        rng: draws the words.
        leading: the share of captions that name the left or upper object first, in [0.5, 1].
        between: the share of captions with the relation between the names, "a star left of a
            ring", in [0.5, 1].
        background: whether the background is named; None: at random.
    """
    while True:
        caption = describe(scene, rng, background)
        if scene.relation is None:
            return caption
        named = [role for role in caption.roles if role and role[0] in ("shape", "relation")]
        first_object = next(index for kind, index in named if kind == "shape")
        relation_between = [kind for kind, _ in named[:2]] == ["shape", "relation"]
        if accept(is_leading(scene, first_object), leading, rng) and accept(
            relation_between, between, rng
        ):
            return caption


def accept(preferred: bool, share: float, rng: random.Random) -> bool:
    """Whether rejection sampling keeps a sample, so that a share of the kept ones is preferred.

    Args:
        preferred: whether this sample is a preferred one. Half of all samples are.
        share: of the preferred samples among those kept, in [0.5, 1].
        rng: decides about the others.
    """
    return preferred or rng.random() < (1 - share) / share


def prompt_for(scene: Scene, rng: random.Random, leading: float, between: float) -> str:
    """A `varied_caption`. One in eight has no sizes: "an orange ring above a red square".

    One in eight does not say where the objects are: "a large orange ring and a small red square".
    """
    kind = rng.random()
    if kind < 1 / 8:
        return describe(scene, rng, relation=False).text
    caption = varied_caption(scene, rng, leading, between)
    return caption.without("size").text if kind > 7 / 8 else caption.text


# ---------------------------------------------------------------------------------------------
# Documents and layouts


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


OPENING = THOUGHTS["toy"]
OPENINGS = (OPENING, f". {OPENING}")


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


# ---------------------------------------------------------------------------------------------
# Tasks with pictures


def captions(rng: random.Random, batch_size: int, model):
    """A picture, then its caption, which is learned."""
    scenes = [sample_scene(rng) for _ in range(batch_size)]
    documents = [
        Document([picture, varied_caption(scene, rng, leading=0.75).text], targets=[])
        for picture, scene in zip(pictures(scenes, model.decoder.image_size), scenes)
    ]
    return laid_out(documents, model)


def text_to_image(
    rng: random.Random, batch_size: int, model, leading: float = 0.75, between: float = 0.5
):
    """A caption, with `leading` and `between` as in `varied_caption`, then the picture to paint."""
    scenes = [sample_scene(rng) for _ in range(batch_size)]
    documents = [
        Document([prompt_for(scene, rng, leading, between), picture], targets=[0])
        for picture, scene in zip(pictures(scenes, model.decoder.image_size), scenes)
    ]
    return laid_out(documents, model, learn_text=False, read_last=False)


def simple_text_to_image(rng: random.Random, batch_size: int, model):
    """The same in the simplest wording: the leading object, the relation, the other object.

    A model that cannot tell from the words which object goes where paints both faintly in both
    positions, and the denoising loss is hardly higher for it. A model that has learned to paint
    them clearly, in the order of their names, is clearly wrong where the wording differs, and
    learns from that.
    """
    return text_to_image(rng, batch_size, model, leading=1.0, between=1.0)


def stories(rng: random.Random, batch_size: int, model):
    """Interleaved documents: all text is learned, and every picture is both painted and read.

    In half of them, thoughts come before the later pictures.
    """
    size = model.decoder.image_size
    drawn = [thinking(sample_story(rng), rng, rng.choice((0, 1))) for _ in range(batch_size)]
    return laid_out([document_of(story, size) for story in drawn], model)


def edits(rng: random.Random, batch_size: int, model):
    """A given picture, a change in words, and the picture to paint; in half, after a thought.

    A quarter of them are of two other kinds: the same shape in another colour (subjects), and
    copies. A quarter names one of two objects, which is the hardest kind.
    """
    samplers = (sample_edit, sample_named_edit, sample_subject, sample_copy)
    drawn = [sample(rng) for sample in rng.choices(samplers, (4, 2, 1, 1), k=batch_size)]
    size = model.decoder.image_size
    documents = [document_of(thinking(story, rng, 0.5), size) for story in drawn]
    return laid_out(documents, model, learn_text=False, read_last=False)


def questions(rng: random.Random, batch_size: int, model):
    """A picture and five questions in the chat template, with their answers.

    In one of three, the first question asks for a description.
    """
    scenes = [sample_scene(rng) for _ in range(batch_size)]
    pairs = []
    for scene, picture in zip(scenes, pictures(scenes, model.decoder.image_size)):
        # A sequence consists mostly of the picture's patches, so each picture gets several
        # questions.
        (question, reply), *more = [ask(scene, rng) for _ in range(5)]
        if rng.random() < 1 / 3:
            question, reply = DESCRIBE, description(scene, background=False)
        pairs.append(dialogue(model, [picture, question], reply, more))
    return unzipped(pairs)
