"""What all readers share: the share of a process, its order, and the account of what is skipped."""

import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import torch

from ..documents import Document
from ..images import LEAST_SEED, MOST_SEED, as_integer

NAMED = 3  # so many skipped records of a kind are named; the others are only counted
# A record: how a reader calls it, and what makes a document of it, or raises `Unusable`.
Record = tuple[str, Callable[[], Document]]


class Unusable(ValueError):
    """A record that cannot become a document.

    Args:
        reason: what kind of fault it is; records are counted by it, so it names nothing.
        found: what was found, such as the path of a picture.
    """

    def __init__(self, reason: str, found=""):
        super().__init__(reason)
        self.reason, self.found = reason, found


class Skipped:
    """How many records were skipped for which reason, and the first ones of each.

    `len` is the number of records, and `str` the summary. It holds no more than `NAMED` names for
    each reason, however many records there are.
    """

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[str]] = {}

    def add(self, record: str, fault: Unusable) -> None:
        """Counts a record, and names it if it is one of the first."""
        self.counts[fault.reason] += 1
        named = self.first.setdefault(fault.reason, [])
        if len(named) < NAMED:
            named.append(record + f": {str(fault.found)!r:.100}" * (fault.found != ""))

    def __len__(self) -> int:
        return self.counts.total()

    def __str__(self) -> str:
        lines = [f"{len(self)} record{'s were' if len(self) > 1 else ' was'} skipped:"]
        for reason, count in self.counts.most_common():
            more = f"; and {count - NAMED} more" * (count > NAMED)
            lines.append(f"{count} because {reason} ({'; '.join(self.first[reason])}{more})")
        return "\n- ".join(lines)


def say(skipped: Skipped) -> None:
    """Warns of what was skipped, if anything was."""
    if skipped:
        warnings.warn(str(skipped), stacklevel=3)  # where the documents are used


class Reading:
    """One pass over the records of a process: an iterator of Documents.

    When it ends, or is given up before, a warning says what was skipped.

    position: how many records of the process are behind it, used or skipped, counted from the
        beginning of the pass. A reading with this `start` goes on where this one is.
    skipped: the account of it, a `Skipped`.
    """

    def __init__(self, records: Iterable[Record], start: int):
        self.position = start
        self.skipped = Skipped()
        self._records = iter(records)
        self._say = weakref.finalize(self, say, self.skipped)  # also if it is given up; only once

    def silent(self) -> "Reading":
        """The same reading, without the warning: for later passes over data that are known."""
        self._say.detach()
        return self

    def __iter__(self) -> "Reading":
        return self

    def __next__(self) -> Document:
        for name, make in self._records:
            document = None
            try:
                document = make()
            except Unusable as fault:
                self.skipped.add(name, fault)
            self.position += 1  # not before: if this is interrupted, the record is still to come
            if document is not None:
                return document
        if self._say.detach():
            say(self.skipped)
        raise StopIteration


@dataclass(frozen=True)
class Share:
    """Which records of a pass a process reads, and in which order.

    seed: of the order; each pass over the data should have its own.
    start: how many records of this process are passed over, with their pictures unread.
    process, processes: process i of n reads every n-th record.

    Raises:
        TypeError, ValueError: for what is not a whole number, or out of range (both numbers).
    """

    seed: int = 0
    start: int = 0
    process: int = 0
    processes: int = 1

    def __post_init__(self):
        ranges = {"seed": (LEAST_SEED, MOST_SEED), "start": (0, None), "processes": (1, None)}
        ranges["process"] = (0, as_integer("processes", self.processes, least=1) - 1)
        for field in fields(self):
            value = as_integer(field.name, getattr(self, field.name), *ranges[field.name])
            object.__setattr__(self, field.name, value)

    def generator(self) -> torch.Generator:
        """What draws the order: the same for all processes, and for every start."""
        return torch.Generator().manual_seed(self.seed)

    def check_start(self, records: int) -> None:
        """ValueError if the process has fewer records than it is to pass over (both numbers)."""
        if self.start > records:
            raise ValueError(
                f"start is {self.start}, and process {self.process} of {self.processes} has "
                f"{records} records"
            )

    def order(self, records: int) -> torch.Tensor:
        """The numbers of the records to be read, of `records` in all that can be read in any order.

        All of them are shuffled; it takes 8 bytes a record.
        """
        shuffled = torch.randperm(records, generator=self.generator(), device="cpu")
        mine = shuffled[self.process :: self.processes]
        self.check_start(len(mine))
        return mine[self.start :]


# --------------------------------------------------------------------------------------------------
# From the fields of a record to the items of a document


def field_of(record: dict, key: str, kind: type):
    """A field of a record; Unusable if it is missing or of another type."""
    if record.get(key) is None:
        raise Unusable("a field is missing", key)
    if not isinstance(record[key], kind):
        raise Unusable(f"a field is no {kind.__name__}", f"{key}: {record[key]!r}")
    return record[key]


def text_of(record: dict, key: str) -> str:
    """A field that holds text, without the blanks around it; Unusable also if nothing is left."""
    text = field_of(record, key, str).strip()
    if not text:
        raise Unusable("a field is blank", key)
    return text


def check_texts(texts: list[str]) -> None:
    """Unusable for text that a document refuses, or that is no Unicode text."""
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unusable("text holds half a character (a lone surrogate)", error) from error
    try:
        Document(texts)
    except ValueError as error:
        raise Unusable("text holds a special token", error) from error


def opened(items: list) -> list:
    """The items of a document: text as it is, and the pictures, which are opened.

    All text is checked before the first picture is opened.

    Args:
        items: str, and functions without arguments that open a picture or raise Unusable.
    """
    check_texts([item for item in items if isinstance(item, str)])
    return [item if isinstance(item, str) else item() for item in items]
