"""Notes on scenes are true, in every form."""

import random
from dataclasses import replace

import pytest

from minidream.tokenizers import ToyTokenizer
from minidream.world import notes
from minidream.world.language import VOCABULARY
from minidream.world.scenes import COLOURS, SHAPES, SIZES, Scene, SceneObject, sample_scene

STAR, RING = SceneObject("star", "red", "large"), SceneObject("ring", "blue", "small")


def is_true(words: str, answer: str, looks) -> bool:
    """Whether exactly one object has all the attributes in the words, and the answer among its.

    If the answer is yes or no: whether it says that there is such an object.
    """
    named = {word for look in looks for word in look} | {*COLOURS, *SHAPES}
    named &= set(words.replace("?", "").split())
    meant = [look for look in looks if named <= set(look)]
    if answer in ("yes", "no"):
        return len(named) == 2 and bool(meant) == (answer == "yes")
    return len(meant) == 1 and answer in meant[0] and answer not in named


@pytest.mark.parametrize("form", notes.FORMS)
def test_notes_are_true(form):
    rng, ends = random.Random(3), set()
    for _ in range(400):
        scene = sample_scene(rng, count=2)
        beginning, end = notes.note_of(scene, rng, form)
        assert is_true(beginning, end, [item.appearance for item in scene.objects])
        if end in ("yes", "no"):
            assert beginning.endswith("?")
        else:
            assert beginning.endswith("?") == (form == "question")
        assert (len(beginning.split()) <= 2) == (form == "brief")
        ends.add(end)
    assert ends == {*SIZES, *SHAPES, *COLOURS, "yes", "no"}


def test_no_note_asks_for_what_two_objects_share():
    rng = random.Random(4)
    scene = Scene((replace(STAR, x=0.2), replace(RING, colour="red", x=0.8)), "white")
    for _ in range(60):
        beginning, end = notes.note_of(scene, rng, "brief")
        assert beginning != "red"
        assert is_true(beginning, end, [item.appearance for item in scene.objects])


def test_all_words_are_in_the_vocabulary():
    tokenizer, rng = ToyTokenizer(VOCABULARY), random.Random(2)
    for _ in range(40):
        scene = sample_scene(rng, count=2)
        for text in [words for form in notes.FORMS for words in notes.note_of(scene, rng, form)]:
            assert tokenizer.decode(tokenizer.encode(text)) == text
