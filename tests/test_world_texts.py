"""Texts of a scene and a change, and the scene that there is in the end."""

import random

from minidream.world.judge import Reading
from minidream.world.language import parse_caption
from minidream.world.scenes import is_held_out
from minidream.world.texts import described, named_edit, retold, with_looks


def test_without_a_change_the_text_describes_the_scene():
    rng = random.Random(0)
    for _ in range(100):
        text, scene = described(rng, edited=0.0)
        assert Reading(scene.facts).agrees(parse_caption(text)), text


def test_with_a_change_the_scene_is_another_one_than_described():
    rng = random.Random(1)
    for sample in [lambda: described(rng, edited=1.0)] * 100 + [lambda: named_edit(rng)] * 100:
        text, scene = sample()
        caption, *change = text.split(". ")
        assert len(change) == 1, text
        assert not Reading(scene.facts).agrees(parse_caption(caption)), text
        assert not is_held_out(scene)


def test_a_named_change_names_one_of_two_objects():
    rng = random.Random(2)
    for _ in range(100):
        caption, change = named_edit(rng)[0].split(". ")
        _, _, looks = parse_caption(caption)
        named = [look for look in looks if look[2] in change.split() or look[1] in change.split()]
        assert len(looks) == 2 and named, change


def test_what_is_retold_is_the_same_scene():
    rng = random.Random(3)
    for _ in range(50):
        one, *others = map(parse_caption, retold(rng, times=3))
        assert len(others) == 2 and others == [one, one]


def test_looks_are_those_that_there_are_in_the_end():
    rng, counts = random.Random(4), set()
    for _ in range(100):
        text, looks, sized = with_looks(rng)
        counts.add(len(looks))
        if ". " not in text:  # nothing has changed
            assert all(colour in text and shape in text for _, colour, shape in looks)
            assert sized or not {"small", "large"} & set(text.split())
    assert counts == {1, 2, 3, 4, 5, 6}
