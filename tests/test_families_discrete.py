"""Discrete tokens: sequences of words and codes, and how they are continued."""

import random

import pytest
from families_shared import RING, build

from minidream.documents import IGNORED
from minidream.families import samples
from minidream.weights import toy


@pytest.fixture(scope="module")
def words_and_codes():
    """The family without its training: codes of random numbers."""
    return build("discrete")


def test_pictures_are_codes_in_the_sequence_and_only_the_reply_is_learned(words_and_codes):
    special, tokenizer = words_and_codes.model.tokenizer.special, words_and_codes.model.tokenizer
    first, second = list(range(1000, 1064)), list(range(2000, 2064))
    edit = samples.Sample(
        "edit", (RING, "the same but red"), RING, (RING, RING), RING.facts
    )  # any picture
    layout = words_and_codes.token_layout(edit, [first, second])
    words = tokenizer.encode("the same but red")
    assert layout.ids == [
        special.bos,
        special.im_start,
        *first,
        special.im_end,
        *words,
        special.im_start,
        *second,
        special.eos,
    ]
    assert [label for label in layout.labels if label != IGNORED] == [*second, special.eos]
    question = samples.Sample(
        "question", (RING, "how large?"), "large", (RING,), RING.facts, (("what color?", "green"),)
    )
    layout = words_and_codes.token_layout(question, [first])
    assert layout.ids == [
        special.bos,
        *tokenizer.encode("question:"),
        special.im_start,
        *first,
        special.im_end,
        *tokenizer.encode("how large? answer: large"),
        special.eos,
        *tokenizer.encode("question: what color? answer: green"),
        special.eos,
    ]
    assert [label for label in layout.labels if label != IGNORED] == tokenizer.encode("large") + [
        special.eos
    ] + tokenizer.encode("green") + [special.eos]


def test_each_sample_gets_the_codes_of_its_own_pictures(words_and_codes):
    edit, paint, question = (
        samples.draw_sample(kind, random.Random(3)) for kind in ("edit", "paint", "question")
    )
    with_replies = words_and_codes.picture_tokens([edit, paint, question], replies=True)
    assert [len(codes) for codes in with_replies] == [2, 1, 1] and all(
        len(codes) == 64 for some in with_replies for codes in some
    )
    assert [
        len(codes)
        for codes in words_and_codes.picture_tokens([edit, paint, question], replies=False)
    ] == [1, 0, 1]
    alone = words_and_codes.codebook.encode_latents(
        words_and_codes.model.decoder.latents_of([paint.reply])
    )[0]
    assert with_replies[1] == [(words_and_codes.first_code + alone).tolist()]
    assert words_and_codes.picture_tokens([paint], replies=False) == [[]]


def test_a_reply_does_not_depend_on_the_rest_of_the_batch(words_and_codes):
    one, other = (
        samples.draw_sample("question", random.Random(1)),
        samples.draw_sample("caption", random.Random(2)),
    )
    assert words_and_codes.replies([other, one])[1] == words_and_codes.replies([one])[0]
    (picture,) = words_and_codes.replies([samples.draw_sample("paint", random.Random(1))])
    assert picture.size == (toy.IMAGE_SIZE, toy.IMAGE_SIZE)
