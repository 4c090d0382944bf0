"""Which positions of a prompt hold which word, patch or dream query."""

from dataclasses import dataclass, field

from ..documents import Layout, as_document
from ..images import as_index, as_integer


@dataclass
class Positions:
    """What is at each position of a prompt, as `encode` and `dream` read it.

    inputs: a label for each position: the token's text, (image, patch row, patch column), or the
        index of a dream query.
    layout: of the prompt, with the dream queries that paint at its end.
    """

    inputs: list
    layout: Layout = field(repr=False)
    tokenizer: object = field(repr=False)

    @property
    def queries(self) -> list[int]:
        """Of the dream queries that paint: the last positions."""
        return list(range(self.layout.queries[-1][1], len(self.inputs)))

    def words(self, text: str, occurrence: int = 0) -> list[int]:
        """Of the tokens of a text, such as "red" or "left of".

        Args:
            text: one or several words that follow one another in the prompt.
            occurrence: which one, if it occurs several times; -1 is the last.

        Raises:
            TypeError: for an occurrence that is not a number.
            ValueError: if the prompt does not hold the text, or not so often (both numbers).
        """
        ids, wanted = self.layout.ids, self.tokenizer.encode(text)
        starts = [
            start
            for start in range(len(ids) - len(wanted) + 1)
            if wanted and ids[start : start + len(wanted)] == wanted
        ]
        if not starts:
            words = " ".join(label for label in self.inputs if isinstance(label, str))
            raise ValueError(f"{text!r} is not among the words of the prompt: {words}")
        there = f"the prompt has {text!r} {len(starts)} times"
        first = starts[as_index("occurrence", occurrence, len(starts), there)]
        return list(range(first, first + len(wanted)))

    def patches(self, image: int = 0) -> list[int]:
        """Of the patches of an image, row by row; -1 is the last image.

        Raises:
            TypeError, ValueError: if the prompt reads no such image.
        """
        blocks = dict(self.layout.patches)
        image = as_integer("image", image)
        image = sorted(blocks)[-1] if image == -1 and blocks else image
        found = [
            position
            for position, label in enumerate(self.inputs)
            if isinstance(label, tuple) and label[0] == image
        ]
        if not found:
            raise ValueError(f"image {image} is not among those that the prompt reads: {[*blocks]}")
        return found


def positions(model, prompt) -> Positions:
    """Which positions of a prompt hold what.

        where = probe.positions(model, "a red star left of a blue ring")
        where.words("blue"), where.queries

    Args:
        model: a DreamLLM.
        prompt: str or Document.

    Raises:
        TypeError, ValueError: as `dream`.
    """
    layout = model.prompt_layout(as_document(prompt))
    return Positions(labels_of(layout, model), layout, model.tokenizer)


def labels_of(layout: Layout, model) -> list:
    """A label for each position of a layout, as in `Positions.inputs`."""
    labels: list = [model.tokenizer.label(token) for token in layout.ids]
    for image, first in layout.patches:
        for patch in range(model.vision.patches):
            labels[first + patch] = (image, *divmod(patch, model.vision.grid))
    for _, first in layout.queries:
        labels[first : first + model.queries] = range(model.queries)
    return labels
