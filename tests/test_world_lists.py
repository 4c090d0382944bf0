"""Lists of objects in words: what they hold, what changes, and what is asked."""

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


def held_out(looks) -> bool:
    return any((shape, colour) in HELD_OUT_COMBINATIONS for _, colour, shape in looks)


@pytest.mark.parametrize("sized", (False, True))
def test_one_object_changes_and_it_is_the_one_that_is_called(sized):
    rng, kinds = random.Random(0), set()
    for _ in range(300):
        looks = lists.sample_looks(rng)
        assert lists.FEWEST <= len(looks) <= lists.MOST and not held_out(looks)
        after, words = lists.change_of(looks, rng, sized)
        assert not held_out(after)
        gone, new = [one for one in looks if one not in after], set(after) - set(looks)
        assert len(gone) == 1 and len(new) <= 1  # one is replaced, or missing
        size, colour, shape = gone[0]
        assert shape in words.split() and (
            f"the {shape}" in words or f"the {colour} {shape}" in words
        )
        others = [one for one in looks if one != gone[0]]
        assert [one for one in after if one in looks] == others
        for columns in zip(*after):
            assert set(columns) <= {*SIZES, *COLOURS, *SHAPES}
        assert len({shape for *_, shape in after}) == len({colour for _, colour, _ in after})
        assert len({shape for *_, shape in after}) == len(after)  # names stay unique
        if new:
            ((now_size, now_colour, now_shape),) = new
            changed = [now_size != size, now_colour != colour, now_shape != shape]
            assert sum(changed) == 1
            kinds.add(("size", "colour", "shape")[changed.index(True)])
            said = {"larger": "large", "smaller": "small"}.get(words.split()[-1], words.split()[-1])
            assert said in (now_size, now_colour, now_shape)
        else:
            kinds.add("none")
            assert "without" in words
    assert kinds == {"none", "colour", "shape", *(["size"] if sized else [])}


def found(words: str, answer: str, looks) -> bool:
    """Whether exactly one object has all the attributes in the words, and the answer among its."""
    attributes = {word for look in looks for word in look}
    named = attributes.intersection(words.replace("?", "").split())
    meant = [look for look in looks if named <= set(look)]
    return len(meant) == 1 and answer in meant[0] and answer not in named


def test_everything_is_asked_about_every_object_and_answers_are_true():
    rng = random.Random(1)
    for sized in (False, True):
        for _ in range(60):
            looks = lists.sample_looks(rng)
            turns = lists.questions_of(looks, rng, sized)
            assert len(turns) == (3 if sized else 2) * len(looks)
            assert all(found(question, answer, looks) for question, answer in turns)
            for question, answer in turns:
                kind = question.split()[1]
                assert answer in {"size": SIZES, "shape": SHAPES}.get(kind, COLOURS)


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
        texts = [lists.listed(looks, True), lists.change_of(looks, rng, True)[1]]
        asked = lists.questions_of(looks, rng, True)
        asked += [lists.note_of(looks, rng, True, form) for form in lists.FORMS]
        texts += [words for turn in asked for words in turn]
        for text in texts:
            assert tokenizer.decode(tokenizer.encode(text)) == text
