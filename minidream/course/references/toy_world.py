"""The exercises of notebook 01: relations, and the layout of a document."""

from PIL import Image

from ...documents import IGNORED, Document
from ...tokenizers import ToyTokenizer
from ...world import SceneObject, relation_between
from ...world.language import VOCABULARY
from ..exercises import Exercise

TOKENIZER = ToyTokenizer(VOCABULARY)

# --------------------------------------------------------------------------------------------------
# 01.1: where the first object is, relative to the second


def pairs_of_objects() -> list[tuple]:
    """Pairs of objects; two of them are as far apart in one direction as in the other."""
    places = [(0.2, 0.5), (0.8, 0.6), (0.5, 0.1), (0.6, 0.9)]
    objects = [SceneObject("circle", "red", "small", x, y) for x, y in places]
    tie = [SceneObject("star", "blue", "small", x, x) for x in (0.25, 0.75)]
    cases = [(one, other) for one in objects for other in objects if one != other]
    return [*cases, tuple(tie), tuple(reversed(tie))]


def upside_down(first: SceneObject, second: SceneObject) -> str:
    """The relation if y grew upwards."""
    relation = relation_between(first, second)
    return {"above": "below", "below": "above"}.get(relation, relation)


# --------------------------------------------------------------------------------------------------
# 01.2: the length of a story


def sequence_length(words: int, pictures: int, queries: int, patches: int) -> int:
    """The positions of a document whose pictures are all painted and read.

    `minidream.documents.lay_out` makes the sequence itself.
    """
    painted = queries + 2  # between <dream_start> and <dream_end>
    read = patches + 2  # between <im_start> and <im_end>
    return 2 + words + pictures * (painted + read)


# --------------------------------------------------------------------------------------------------
# 01.3: ids and labels


def ids_and_labels(
    document: Document, tokenizer, queries: int, patches: int
) -> tuple[list[int], list[int]]:
    """The token ids of a document, and the label of each: the id itself, or IGNORED.

    `minidream.documents.lay_out` does the same.
    """
    special = tokenizer.special
    ids, labels, picture = [special.bos], [IGNORED], 0
    for item in document.items:
        if isinstance(item, str):
            words = tokenizer.encode(item)
            ids, labels = ids + words, labels + words
            continue
        if picture in document.targets:
            ids = ids + [special.dream_start] + [special.im_patch] * queries + [special.dream_end]
            labels = labels + [special.dream_start] + [IGNORED] * (queries + 1)
        ids = ids + [special.im_start] + [special.im_patch] * patches + [special.im_end]
        labels = labels + [IGNORED] * (patches + 2)
        picture += 1
    return ids + [special.eos], labels + [special.eos]


def documents() -> list[tuple]:
    """A story, an edit whose first picture is only read, and two pictures in a row."""
    red, green = (Image.new("RGB", (8, 8), colour) for colour in ("red", "green"))
    short = Document(["a red star.", red, "time passes."])
    edit = Document([red, "the same but green", green])
    two = Document(["a star.", red, green], targets=[0, 1])
    return [(short, TOKENIZER, 3, 4), (edit, TOKENIZER, 2, 9), (two, TOKENIZER, 1, 4)]


def all_learned(*case) -> tuple[list[int], list[int]]:
    """Every position has its own id as label."""
    ids, _ = ids_and_labels(*case)
    return ids, ids


def without_label(token: int):
    """A function that gives one token no label."""

    def unlearned(*case):
        ids, labels = ids_and_labels(*case)
        return ids, [IGNORED if label == token else label for label in labels]

    return unlearned


def shifted(*case) -> tuple[list[int], list[int]]:
    """The labels are moved to the position that predicts them."""
    ids, labels = ids_and_labels(*case)
    return ids, labels[1:] + [IGNORED]


def every_picture_painted(document: Document, *sizes) -> tuple[list[int], list[int]]:
    """Pictures that are only read get queries, too."""
    targets = range(len(document.images))
    return ids_and_labels(Document(document.items, targets), *sizes)


def painted_only(document: Document, tokenizer, queries: int, patches: int):
    """A picture that is painted is not read."""
    special = tokenizer.special
    ids, labels = [special.bos], [IGNORED]
    for index, item in enumerate(document.items):
        if isinstance(item, str):
            more = tokenizer.encode(item)
            ids, labels = ids + more, labels + more
            continue
        picture = sum(not isinstance(before, str) for before in document.items[:index])
        painted = picture in document.targets
        first, last = (
            (special.dream_start, special.dream_end)
            if painted
            else (special.im_start, special.im_end)
        )
        inner = queries if painted else patches
        ids = ids + [first] + [special.im_patch] * inner + [last]
        labels = labels + [first if painted else IGNORED] + [IGNORED] * (inner + 1)
    return ids + [special.eos], labels + [special.eos]


EXERCISES = {
    "01.1": Exercise(
        relation_between,
        pairs_of_objects,
        {
            "y grows down: the upper object has the smaller y.": upside_down,
            "say where the first is, relative to the second, not the other way round.": (
                lambda first, second: relation_between(second, first)
            ),
            "look at both axes: the one on which they are farther apart decides.": (
                lambda first, second: "left of" if first.x < second.x else "right of"
            ),
        },
        "Take the two differences of first minus second, and compare their absolute values.",
    ),
    "01.2": Exercise(
        sequence_length,
        lambda: [(23, 3, 16, 64), (8, 1, 3, 4), (5, 2, 2, 9)],
        {
            "each picture needs four markers.": (
                lambda words, pictures, *sizes: 2 + words + pictures * sum(sizes)
            ),
            "a picture is in the sequence twice, as queries and as patches.": (
                lambda words, pictures, _, patches: 2 + words + pictures * (patches + 2)
            ),
            "<s> and </s> take a position each.": (
                lambda words, pictures, *sizes: words + pictures * (sum(sizes) + 4)
            ),
        },
        "Count along the picture at the top of the notebook: 277 positions for 23 words and 3 "
        "pictures.",
    ),
    "01.3": Exercise(
        ids_and_labels,
        documents,
        {
            "the queries have no word to learn: only text, <dream_start> and </s> have labels.": (
                all_learned
            ),
            "<dream_start> is learned: it is how the model says where a picture belongs.": (
                without_label(TOKENIZER.special.dream_start)
            ),
            "</s> is learned, too: else the model would never stop.": (
                without_label(TOKENIZER.special.eos)
            ),
            "do not shift the labels: the loss does that itself.": shifted,
            "a picture that is no target is only read: it has no dream queries.": (
                every_picture_painted
            ),
            "a picture that is painted is read, too: its patches follow its queries.": painted_only,
        },
        "Keep two lists and a counter of pictures. Per item, append to `ids`, and append just as "
        "many entries to `labels`.",
        tokenizer=TOKENIZER,
    ),
}
