"""Text to ids as in the official slow tokenizer, above all the treatment of spaces.

The expected ids are those that transformers 4.35.2 gives.

Before, 5,000 random texts (letters, spaces, line ends, accents, Chinese, emoji, zero-width marks)
were compared with it, with this tokenizer's pieces and with 32,000 pieces, alone and around special
tokens: all ids were equal.
"""

import json
from pathlib import Path

import pytest

from minidream.tokenizers import LlamaTokenizer

TINY = Path(__file__).parent / "fixtures" / "tiny-a" / "checkpoint"


@pytest.fixture(scope="module")
def llama():
    return LlamaTokenizer(
        TINY / "tokenizer.model",
        json.loads((TINY / "added_tokens.json").read_bytes()),
    )


@pytest.mark.parametrize(
    "text, ids",
    [
        ("", []),  # no space in front of nothing
        (" ", [81, 81]),
        ("  ", [81, 81, 81]),  # a space in front, and those that are there
        ("a", [3]),
        ("a ", [3, 81]),
        (" a", [81, 3]),
        (" a ", [81, 3, 81]),
        ("a  b", [3, 81, 7]),
        ("\n", [81, 0]),
        ("\n\n", [81, 0]),
        ("a\n", [3, 0]),
        ("\na", [81, 0, 85]),  # no piece holds a line end: unknown, once
        ("the  grass\t\n and\r\n snow", [11, 81, 32, 42, 29, 0, 58, 0, 4, 88, 41]),
        ("\u2581", [81, 81]),
        ("a\u2581b", [3, 7]),  # sentencepiece's own mark is a space
        ("a\u00a0b", [3, 0, 94]),
        ("two\u3000words", [6, 99, 87, 0, 99, 87, 89, 79]),  # other spaces are none
        ("\u00e9", [81, 0]),
        ("\U0001f642", [81, 0]),
        ("A small cat\u200b sits", [20, 4, 40, 18, 31, 15, 0, 4, 25, 83]),
        ("\ufb01ne\u2460", [81, 0, 88, 82, 0]),  # nothing is normalized: a ligature stays one sign
        ("Hello<0x0A>", [81, 0, 82, 18, 87, 0, 101, 0]),
        ("'s ' s", [81, 110, 83, 81, 110, 4]),
    ],
)
def test_ids_of_a_piece_of_text(llama, text, ids):
    assert llama.encode(text) == ids


@pytest.mark.parametrize(
    "pieces, ids",
    [
        (["a cat ", "<im_start>", " a cat"], [3, 31, 15, 81, 121, 81, 3, 31, 15]),
        (
            ["a cat", "<im_start>", "a cat", "<dream_end>", " "],
            [3, 31, 15, 121, 3, 31, 15, 122, 81, 81],
        ),
        (["<im_start>", "<im_end>", "\n", "<dream_start>", "the"], [121, 125, 81, 0, 123, 11]),
    ],
)
def test_every_piece_between_special_tokens_gets_its_own_space(llama, pieces, ids):
    """Each piece is encoded alone; the expected ids are the official ones of the joined string."""
    assert [
        number
        for piece in pieces
        for number in ([llama.added[piece]] if piece in llama.added else llama.encode(piece))
    ] == ids


def test_text_comes_back(llama):
    for text in ("a cat on the grass", " a  cat ", "the snow, the sea.", ""):
        assert llama.decode(llama.encode(text)) == text
    assert llama.decode([llama.bos, llama.unk, *llama.encode("a cat"), llama.eos]) == "a cat"


def test_a_saved_tokenizer_is_the_same(llama, tmp_path):
    """And says the same about special tokens as the official files do."""
    llama.save(tmp_path)
    again = LlamaTokenizer(
        tmp_path / "tokenizer.model",
        json.loads((tmp_path / "added_tokens.json").read_bytes()),
    )
    assert (
        again.encode("a cat on the grass") == llama.encode("a cat on the grass")
        and again.special == llama.special
    )
    theirs, ours = (
        json.loads((folder / "tokenizer_config.json").read_bytes()) for folder in (TINY, tmp_path)
    )
    assert ours.items() <= theirs.items()
    theirs, ours = (
        json.loads((folder / "special_tokens_map.json").read_bytes()) for folder in (TINY, tmp_path)
    )
    assert {
        role: token["content"]
        for role, token in theirs.items()
        if role != "additional_special_tokens"
    } | {
        "additional_special_tokens": [
            token["content"] for token in theirs["additional_special_tokens"]
        ]
    } == ours
