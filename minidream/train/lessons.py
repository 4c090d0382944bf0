"""What the DreamLLM is shown: batches of toy documents for each stage, laid out with the labels of the reference.

Each function draws one batch from an rng: a pure function of its state. A step holds documents of one kind, since short
ones beside long ones would be mostly padding.
"""

import random
import re

from ..documents import TEMPLATES, Document, lay_out, turn_layout
from ..images import to_pil
from ..world.language import DESCRIBE, Phrase, ask, ask_side, describe
from ..world.render import render
from ..world.scenes import Scene, sample_scene
from ..world.stories import Story, sample_copy, sample_edit, sample_story, sample_subject

NOW = "what is there now?"


def leads(scene: Scene, number: int) -> bool:
    """Whether a thing stands left of the other, or above it; a lone thing does."""
    return scene.relation_of(number) in (None, "left of", "above")


def description(scene: Scene, background: bool = True) -> str:
    """The plainest caption with all facts, or all but the background: always the same words for the same scene, the left or
    upper thing first.

    Were either thing named first, an answer would begin with a coin, and no word of it would show whether places were known.
    """
    things = scene.objects if leads(scene, 0) else scene.objects[::-1]
    return describe(Scene(things, scene.background), background=background).text


def worded(
    scene: Scene,
    rng: random.Random,
    leading: float = 0.5,
    between: float = 0.5,
    background: bool | None = None,
) -> Phrase:
    """A caption in free words, some of them more often than others.

    In evenly drawn words, neither the relation nor the order of names says anything about places, only both together do;
    and what shows in no single step towards it is learned late or never. (The parity problem.) With more than half of one
    kind, each alone tells something, and the rest can be learned as exceptions.

    Args:
        scene: what to describe.
        rng: draws the words.
        leading: the chance that the left or upper one of two things is named first, in [0.5, 1].
        between: the chance that the relation stands between the names, "a star left of a ring", in [0.5, 1].
        background: as in `describe`.
    """
    while True:
        caption = describe(scene, rng, background)
        if scene.relation is None:
            return caption
        kinds, numbers = zip(
            *[role for role in caption.roles if role and role[0] in ("shape", "relation")]
        )
        first = numbers[kinds.index("shape")]
        if drawn_for(leads(scene, first), leading, rng) and drawn_for(
            kinds[:2] == ("shape", "relation"), between, rng
        ):
            return caption


def drawn_for(wanted: bool, share: float, rng: random.Random) -> bool:
    """Whether to keep what is as often wanted as not, so that `share` (at least one half) of what is kept is wanted."""
    return wanted or rng.random() < (1 - share) / share


def pictures(scenes: list[Scene], size: int) -> list:
    """Scenes as PIL images, `size` pixels wide."""
    return to_pil(render(scenes, size)[0])


def document_of(story: Story, size: int) -> Document:
    """A story with its scenes rendered, `size` pixels wide; scenes that are not given are its targets."""
    painted = iter(pictures(list(story.scenes), size))
    items = [next(painted) if isinstance(item, Scene) else item for item in story.items]
    number_of = {
        place: number
        for number, place in enumerate(
            place for place, item in enumerate(story.items) if isinstance(item, Scene)
        )
    }
    given = {number_of[place] for place in story.given}
    return Document(items, targets=[number for number in number_of.values() if number not in given])


def laid_out(documents: list[Document], model, learn_text: bool = True, read_last: bool = True):
    """Layouts and documents, as `DreamLLM.loss_of_layouts` takes them."""
    return [
        lay_out(
            document, model.tokenizer, model.queries, model.vision.patches, learn_text, read_last
        )
        for document in documents
    ], documents


def dialogue(model, turn: list, reply: str, more: list[tuple[str, str]] = ()):
    """A turn and its answer, and `more` of both after it: only the answers and their `</s>` are learned."""
    layout, images = turn_layout(model, turn)
    encode, eos = model.tokenizer.encode, model.tokenizer.special.eos
    layout.add(encode(reply) + [eos], learned=True)
    before, after = TEMPLATES[model.config.template]
    for question, reply in more:
        layout.add(encode(f"{before} {question} {after}"), learned=False)
        layout.add(encode(reply) + [eos], learned=True)
    return layout, Document(images, targets=[])


def told(rng: random.Random, between: float) -> tuple[str, Scene]:
    """A scene in words, or one and what changes in it; and the scene as it is then. `between`: see `worded`."""
    scene = sample_scene(rng)
    if rng.random() < 0.7:
        return worded(scene, rng, between=between, background=True).text, scene
    story = sample_edit(rng)
    before, after = story.scenes
    return f"{worded(before, rng, between=between, background=True).text}. {story.text}", after


def text_only(rng: random.Random, batch: int, model):
    """What is told in words alone, then a description of it and four questions, in any order.

    Who can say from words what stands on the left has bound the words of a thing together and knows its place: queries
    can then gather what belongs together.
    """
    layouts, documents = [], []
    for _ in range(batch):
        text, scene = told(rng, between=0.5)
        asked = [(rng.choice((DESCRIBE, NOW)), description(scene))]
        asked += [ask_side(scene, number) for number in range(2)] if scene.relation else []
        asked += [ask(scene, rng) for _ in range(5 - len(asked))]
        rng.shuffle(asked)
        (question, reply), *more = asked
        layout, document = dialogue(model, [f"{text}. {question}"], reply, more)
        layouts.append(layout)
        documents.append(document)
    return layouts, documents


def retold(rng: random.Random, batch: int, model):
    """What is told in words alone, then its plainest description and nothing else: all facts in the fewest words."""
    pairs = [
        dialogue(model, [f"{text}. {rng.choice((DESCRIBE, NOW))}"], description(scene))
        for text, scene in (told(rng, between=0.75) for _ in range(batch))
    ]
    return [layout for layout, _ in pairs], [document for _, document in pairs]


def paraphrases(rng: random.Random, batch: int, model):
    """A scene in words alone, said three times, each time in other words: whoever goes on has to know what belongs together."""
    documents = []
    for _ in range(batch):
        scene = sample_scene(rng)
        background = rng.random() < 0.5
        documents.append(
            Document(
                [". ".join(describe(scene, rng, background=background).text for _ in range(3))]
            )
        )
    return laid_out(documents, model)


def text_stories(rng: random.Random, batch: int, model):
    """Captions, and stories in words alone that end by asking how things stand now, so that changes are followed."""
    documents = []
    for _ in range(batch):
        if rng.random() < 0.3:
            documents.append(Document([describe(sample_scene(rng), rng).text]))
        else:
            story = sample_story(rng)
            documents.append(
                Document(
                    [f"{story.text} question: {NOW} answer: {describe(story.scenes[-1]).text}"]
                )
            )
    return laid_out(documents, model)


def captions(rng: random.Random, batch: int, model):
    """A picture, then its caption, which is learned."""
    scenes = [sample_scene(rng) for _ in range(batch)]
    return laid_out(
        [
            Document([picture, worded(scene, rng, leading=0.75).text], targets=[])
            for picture, scene in zip(pictures(scenes, model.decoder.image_size), scenes)
        ],
        model,
    )


def prompt_for(scene: Scene, rng: random.Random, leading: float, between: float) -> str:
    """A caption, as `worded`; one in eight leaves the sizes open: "an orange ring above a red square"."""
    caption = worded(scene, rng, leading, between)
    if rng.random() < 7 / 8:
        return caption.text
    words = [
        word
        for word, role in zip(caption.words, caption.roles)
        if role is None or role[0] != "size"
    ]
    return re.sub(r"\ba (?=orange)", "an ", re.sub(r" ,", ",", " ".join(words)))


def text_to_image(
    rng: random.Random, batch: int, model, leading: float = 0.75, between: float = 0.5
):
    """A caption, as `worded`, then the picture to paint."""
    scenes = [sample_scene(rng) for _ in range(batch)]
    return laid_out(
        [
            Document([prompt_for(scene, rng, leading, between), picture], targets=[0])
            for picture, scene in zip(pictures(scenes, model.decoder.image_size), scenes)
        ],
        model,
        learn_text=False,
        read_last=False,
    )


def simple_text_to_image(rng: random.Random, batch: int, model):
    """The same in simple words: the left or upper thing, the relation, the other thing.

    Who cannot tell from the words which thing stands where paints both half-heartedly, and the denoising loss hardly
    minds. Who has learned to paint them firmly, in the order of their names, is firmly wrong where the words say otherwise,
    and learns from it.
    """
    return text_to_image(rng, batch, model, leading=1.0, between=1.0)


def stories(rng: random.Random, batch: int, model):
    """Interleaved documents: everything written is learned, and every picture is painted and read."""
    return laid_out(
        [document_of(sample_story(rng), model.decoder.image_size) for _ in range(batch)], model
    )


def edits(rng: random.Random, batch: int, model):
    """A given picture, what shall be different, the picture to paint; subjects: this shape in another colour; and copies."""
    kinds = rng.choices((sample_edit, sample_subject, sample_copy), weights=(4, 1, 1), k=batch)
    drawn = [kind(rng) for kind in kinds]
    return laid_out(
        [document_of(story, model.decoder.image_size) for story in drawn],
        model,
        learn_text=False,
        read_last=False,
    )


def questions(rng: random.Random, batch: int, model):
    """A picture and five questions in the chat template, with their answers; one in three begins with a description."""
    scenes = [sample_scene(rng) for _ in range(batch)]
    layouts, documents = [], []
    for scene, picture in zip(scenes, pictures(scenes, model.decoder.image_size)):
        # Most of a sequence is the picture's patches: several questions make more of each.
        (question, reply), *more = [ask(scene, rng) for _ in range(5)]
        if rng.random() < 1 / 3:
            question, reply = DESCRIBE, description(scene, background=False)
        layout, document = dialogue(model, [picture, question], reply, more)
        layouts.append(layout)
        documents.append(document)
    return layouts, documents
