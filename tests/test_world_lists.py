"""Lists of objects in words: what they hold, and what is noted about them."""

import random

import pytest

from minidream.tokenizers import ToyTokenizer
from minidream.world import lists
from minidream.world.language import VOCABULARY
from minidream.world.scenes import COLOURS, HELD_OUT_COMBINATIONS, SHAPES, SIZES

RED, BLUE, PINK = ("large", "red", "star"), ("small", "blue", "ring"), ("small", "pink", "cross")


def test_a_list_in_words():
    orange = ("large", "orange", "star")
    assert lists.listed([RED, BLUE], sized=True) == "a large red star and a small blue ring"
    assert lists.listed([orange, BLUE], sized=False) == "an orange star and a blue ring"


def test_looks_differ_and_are_not_held_out():
    rng, counts = random.Random(0), set()
    for _ in range(300):
        looks = lists.sample_looks(rng)
        counts.add(len(looks))
        _, colours, shapes = map(set, zip(*looks))
        assert len(colours) == len(shapes) == len(looks)
        assert not HELD_OUT_COMBINATIONS & {(shape, colour) for _, colour, shape in looks}
    assert counts == set(range(lists.FEWEST, lists.MOST + 1))


def found(words: str, answer: str, looks) -> bool:
    """Whether exactly one object has all the attributes in the words, and the answer among its."""
    attributes = {word for look in looks for word in look}
    named = attributes.intersection(words.replace("?", "").split())
    meant = [look for look in looks if named <= set(look)]
    return len(meant) == 1 and answer in meant[0] and answer not in named


@pytest.mark.parametrize("form", lists.FORMS)
def test_notes_are_true(form):
    rng, ends = random.Random(3), set()
    for _ in range(300):
        looks = lists.sample_looks(rng)
        beginning, end = lists.note_of(looks, rng, True, form)
        assert found(beginning, end, looks)
        assert (len(beginning.split()) <= 2) == (form == "brief")
        assert beginning.endswith("?") == (form == "question")
        ends.add(end)
    assert ends >= {*SIZES, *SHAPES, *COLOURS}


def test_no_note_asks_for_what_two_objects_share():
    rng = random.Random(4)
    looks = [("large", "red", "star"), ("small", "red", "ring")]
    for _ in range(60):
        beginning, end = lists.note_of(looks, rng, True, "brief")
        assert beginning != "red" and found(beginning, end, looks)


def test_all_words_are_in_the_vocabulary():
    tokenizer, rng = ToyTokenizer(VOCABULARY), random.Random(2)
    for _ in range(40):
        looks = lists.sample_looks(rng)
        notes = [lists.note_of(looks, rng, True, form) for form in lists.FORMS]
        texts = [lists.listed(looks, True), *(words for note in notes for words in note)]
        for text in texts:
            assert tokenizer.decode(tokenizer.encode(text)) == text
