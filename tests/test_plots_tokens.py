"""Tokens in figures: their kinds, their shares of attention, and the pieces of a sequence."""

import pytest
import torch
from figures import GRID, STORY, read

from minidream.plots.tokens import (
    TOKEN_COLOURS,
    WORDS_PER_STRIP,
    count_of,
    kind_of,
    pieces_of,
    shares,
    strips_of,
)


def test_kinds():
    labels = ["<s>", "star", "<0x0A>", "<dream_start>", "<im_end>", (0, 1, 2), 7, "▁"]
    assert [kind_of(label) for label in labels] == [
        "<s>",
        "words",
        "words",
        "markers",
        "markers",
        "patches",
        "queries",
        "words",
    ]
    assert set(TOKEN_COLOURS) == {"<s>", "words", "markers", "patches", "queries"}


def test_shares_are_sums_by_kind():
    rows = torch.tensor([[0.5, 0.25, 0.0, 0.25], [0.25, 0.25, 0.5, 0.0]])
    assert shares(["<s>", "star", "<dream_start>", 0], rows) == {
        "<s>": 0.375,
        "words": 0.25,
        "patches": 0.0,
        "markers": 0.25,
        "queries": 0.125,
    }


def test_strips_break_at_images_and_lose_no_word():
    assert strips_of(STORY) == [[1, 2, 14, 15, 16]]  # both runs fit into one strip
    long = ["<s>", *["w"] * (WORDS_PER_STRIP - 1), *read(0), "it", "turns", "red"]
    assert [len(strip) for strip in strips_of(long)] == [WORDS_PER_STRIP - 1, 3]
    endless = ["<s>", *["w"] * (2 * WORDS_PER_STRIP + 5)]
    assert sum(strips_of(endless), []) == list(range(1, len(endless)))
    assert max(map(len, strips_of(endless))) == WORDS_PER_STRIP
    assert strips_of(["<s>", "<dream_start>", 0]) == []


def test_pieces_keep_every_position():
    inputs = [*STORY, "<dream_start>", *range(5)]
    pieces = pieces_of(inputs)
    assert sum((piece.labels for piece in pieces), []) == inputs
    for piece in pieces:
        assert inputs[piece.first : piece.last + 1] == piece.labels
    blocks = [(piece.kind, len(piece.labels)) for piece in pieces if len(piece.labels) > 1]
    assert blocks == [("patches", GRID**2), ("patches", GRID**2), ("queries", 5)]
    assert len(pieces_of([(0, 0, 0), (1, 0, 0)])) == 2


def test_pieces_break_at_other_images_blocks_and_given_positions():
    inputs = [(0, 0, 0), (1, 0, 0), (1, 0, 1), 0, 1, 0, 1, "[PAD]", "[PAD]", "a", "a"]
    lengths = [len(piece.labels) for piece in pieces_of(inputs)]
    assert lengths == [1, 2, 2, 2, 2, 1, 1]  # words are never joined
    broken = pieces_of(inputs, breaks={2, 8})
    assert [piece.first for piece in broken] == [0, 1, 2, 3, 5, 7, 8, 9, 10]
    assert [piece.text for piece in pieces_of(inputs)][1:2] == ["2 patches"]
    assert pieces_of(inputs)[4].text == "[PAD] x 2"
    assert pieces_of([]) == []


@pytest.mark.parametrize(
    "kind, count, text",
    [
        ("<s>", 3, "<s>"),
        ("words", 1, "1 word"),
        ("words", 2, "2 words"),
        ("patches", 1, "1 patch"),
        ("queries", 1, "1 query"),
        ("markers", 0, "0 markers"),
        ("[PAD]", 4, "4 padding"),
    ],
)
def test_kinds_are_counted_in_plain_english(kind, count, text):
    assert count_of(kind, count) == text
