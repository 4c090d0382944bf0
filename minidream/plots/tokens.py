"""Tokens in figures: their kinds and colours, and the pieces in which a sequence is drawn."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..tokenizers import SPECIAL_TOKENS

# The kinds of tokens and their colours, which colour-blind readers can tell apart (Okabe and Ito).
TOKEN_COLOURS = {
    "<s>": "#999999",
    "words": "#56B4E9",
    "patches": "#009E73",
    "markers": "#D0D0D0",
    "queries": "#E69F00",
}
PADDING = "[PAD]"
LONGEST = 14  # characters of a token that are written out
WORDS_PER_STRIP = 24  # more words continue in a second strip, so that they stay readable


def kind_of(label) -> str:
    """The kind of a token, as a key of `TOKEN_COLOURS`.

    Args:
        label: as in `probe.Trace.inputs`: a token's text, (image, patch row, patch column), or the
            index of a query.
    """
    if isinstance(label, tuple):
        return "patches"
    if isinstance(label, int):
        return "queries"
    # A kind of its own: attention that has nothing to look for rests there (an "attention sink").
    return "<s>" if label == "<s>" else "markers" if label in SPECIAL_TOKENS else "words"


def count_of(kind: str, count: int) -> str:
    """A kind with its count, for legends: "3 words", "1 query"; `<s>` is not counted."""
    if kind in ("<s>", PADDING):
        return kind if kind == "<s>" else f"{count} padding"
    singular = {"patches": "patch", "queries": "query"}.get(kind, kind.removesuffix("s"))
    return f"{count} {singular if count == 1 else kind}"


def shares(inputs: list, rows) -> dict[str, float]:
    """How much attention each kind of input gets: {kind: share in [0, 1]}, averaged over rows.

    Args:
        inputs: labels, as `probe.Trace.inputs`.
        rows: attention after softmax, shape (queries, inputs).
    """
    kinds = np.array([kind_of(label) for label in inputs])
    return {kind: float(rows[:, kinds == kind].sum() / len(rows)) for kind in TOKEN_COLOURS}


def short(text: str) -> str:
    """A token as it is written in a figure: a long one is cut."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


@dataclass
class Piece:
    """Positions of a sequence that are drawn as one.

    kind: a key of `TOKEN_COLOURS`.
    first: the first of the positions.
    labels: one for each position, as in `probe.Trace.inputs`.
    """

    kind: str
    first: int
    labels: list

    @property
    def last(self) -> int:
        """The last of the positions."""
        return self.first + len(self.labels) - 1

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return 1 + max(label[1] for label in self.labels)

    @property
    def text(self) -> str:
        """What is written into a box: the token, or the number of patches or padding tokens."""
        count = len(self.labels)
        if self.kind == "patches":
            return f"{count} patches"
        return short(str(self.labels[0])) + (f" x {count}" if count > 1 else "")


def pieces_of(inputs: list, breaks: Collection[int] = ()) -> list[Piece]:
    """A sequence in the pieces that are drawn as one.

    The patches of an image, the queries of a block and neighbouring padding tokens are one piece
    each; every other token is a piece of its own.

    Args:
        inputs: labels, as `probe.Trace.inputs`.
        breaks: positions at which a new piece begins in any case.
    """
    pieces: list[Piece] = []
    for position, label in enumerate(inputs):
        kind = kind_of(label)
        if pieces and position not in breaks and _continues(pieces[-1], kind, label):
            pieces[-1].labels.append(label)
        else:
            pieces.append(Piece(kind, position, [label]))
    return pieces


def _continues(piece: Piece, kind: str, label) -> bool:
    """Whether the next label belongs to the same image, block of queries or run of padding."""
    if piece.kind != kind:
        return False
    if kind == "patches":
        return piece.labels[0][0] == label[0]
    return label > 0 if kind == "queries" else piece.labels[0] == label == PADDING


def strips_of(inputs: list) -> list[list[int]]:
    """Positions of the words, in strips of at most `WORDS_PER_STRIP`, broken at images."""
    runs: list[list[int]] = []
    after_image = True
    for position, label in enumerate(inputs):
        word = kind_of(label) == "words"
        if word:
            if after_image or len(runs[-1]) == WORDS_PER_STRIP:
                runs.append([])
            runs[-1].append(position)
        after_image = isinstance(label, tuple) or (after_image and not word)
    strips: list[list[int]] = []
    for run in runs:
        if strips and len(strips[-1]) + len(run) <= WORDS_PER_STRIP:
            strips[-1] += run
        else:
            strips.append(run)
    return strips
