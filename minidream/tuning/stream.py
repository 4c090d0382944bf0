"""The user's documents as an endless stream, and the batch of every step from it.

Passes over the data follow one another, each in an order of its own. The batch of a step is a pure
function of (seed, step): a run that goes on reads from the record where it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..data import documents
from ..documents import Document, Layout
from ..model import DreamLLM
from .words import unknown_words


@dataclass(frozen=True)
class Survey:
    """What one pass over all data found.

    records: all, used or not.
    usable: those that became documents which fit into the context.
    too_long: documents that do not fit.
    longest: positions of the longest usable document.
    painted: the most pictures to be painted in one document.
    """

    records: int
    usable: int
    too_long: int
    longest: int
    painted: int

    def __str__(self) -> str:
        words = f"{self.records:,} records, {self.usable:,} usable documents of up to "
        words += f"{self.longest:,} positions and {self.painted} pictures to paint"
        return words + f"; {self.too_long:,} are longer than the context" * (self.too_long > 0)


def turned(document: Document, number: int, both_ways: bool) -> Document:
    """With `both_ways`, every other caption of a picture to paint becomes one of a picture seen."""
    is_pair = len(document.items) == 2 and document.targets == (0,)
    if both_ways and is_pair and number % 2:
        return Document(document.items[::-1], targets=[])
    return document


def survey(model: DreamLLM, data: str | Path, both_ways: bool = False) -> Survey:
    """Reads all data once, so that what is wrong with them is known before work starts.

    Args:
        model: its tokenizer and its context are asked.
        data: as `data.documents` takes it.
        both_ways: as in `turned`.

    Raises:
        FileNotFoundError, ValueError: as `data.documents`; for words that a toy does not know (all
            of them), and if no document can be used.
    """
    reading, unknown, lengths, painted = documents(data), {}, [], [0]
    context, too_long = model.llm.config.max_position_embeddings, 0
    for document in reading:
        if new := unknown_words(model, document.text):
            unknown |= dict.fromkeys(sorted(new))
            continue
        ways = [document, turned(document, 1, both_ways)]
        length = max(len(each.layout(model).ids) for each in ways)
        if length > context:
            too_long += 1
            continue
        lengths.append(length)
        painted.append(len(document.targets))
    if unknown:
        raise ValueError(
            f"the model does not know these words of {data}: {' '.join(unknown)}. "
            "To teach them, name them after --words"
        )
    if not lengths:
        raise ValueError(
            f"no document of {data} can be used: {len(reading.skipped)} records were skipped, and "
            f"{too_long} documents are longer than the context of {context} positions"
        )
    return Survey(reading.position, len(lengths), too_long, max(lengths), max(painted))


class Stream:
    """The documents of all passes, and batches of them.

    Args:
        model: lays the documents out.
        data: as `data.documents` takes it.
        records: how many there are in one pass, from `survey`.
        seed: of the orders.
        both_ways: as in `turned`.
    """

    def __init__(
        self,
        model: DreamLLM,
        data: str | Path,
        records: int,
        seed: int = 0,
        both_ways: bool = False,
    ):
        self.model, self.data, self.records = model, data, records
        self.seed, self.both_ways = seed, both_ways
        self.next_step, self.ahead, self.coming = None, [], iter(())

    def documents_from(self, position: int) -> Iterator[tuple[int, Layout, Document]]:
        """All usable documents from a record on, for ever: (record in all passes, its layout, it).

        Raises:
            RuntimeError: if a whole pass has none, or another number of records than before.
        """
        context = self.model.llm.config.max_position_embeddings
        while True:
            passes, start = divmod(position, self.records)
            reading, found = documents(self.data, self.seed_of(passes), start).silent(), False
            for document in reading:
                number = passes * self.records + reading.position - 1
                document = turned(document, number, self.both_ways)
                layout = document.layout(self.model)
                if len(layout.ids) <= context:
                    found = True
                    yield number, layout, document
            if reading.position != self.records or not (found or start):
                raise RuntimeError(
                    f"{self.data} changed: there were {self.records} records, and now there are "
                    f"{reading.position}"
                )
            position = (passes + 1) * self.records

    def seed_of(self, passes: int) -> int:
        """The seed of the order of one pass."""
        return (self.seed * 1_000_003 + passes) % 2**62

    def batch(self, step: int, size: int) -> tuple[list[Layout], list[Document]]:
        """The first `size` usable documents from record `step * size` on.

        Where records cannot be used, the last documents of a batch begin the next one, too.
        """
        start = step * size
        if step != self.next_step:
            self.ahead, self.coming = [], self.documents_from(start)
        self.ahead = [each for each in self.ahead if each[0] >= start]
        while len(self.ahead) < size:
            self.ahead.append(next(self.coming))
        self.next_step = step + 1
        _, layouts, found = zip(*self.ahead[:size])
        return list(layouts), list(found)
