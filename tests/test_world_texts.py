"""Texts of a scene and a change, and the scene that there is in the end."""

import random
from dataclasses import replace

import pytest

from minidream.world.judge import Reading
from minidream.world.language import describe, description, parse_caption
from minidream.world.scenes import COLOURS, SHAPES, Scene, SceneObject, is_held_out, sample_scene
from minidream.world.stories import NAMING, edit_of
from minidream.world.texts import (
    deciding_edit,
    described,
    misread,
    named_edit,
    placing_note,
    retold,
)


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


STAR, RING = SceneObject("star", "red", "large"), SceneObject("ring", "blue", "small")


@pytest.mark.parametrize("index", (0, 1))
def test_a_misread_change_is_made_to_the_other_object(index):
    before = Scene((replace(STAR, x=0.2), replace(RING, x=0.8)), "white")
    changed, kept = before.objects[index], before.objects[1 - index]
    pink = replace(before, objects=_pair(replace(changed, colour="pink"), kept, index))
    other = replace(before, objects=_pair(changed, replace(kept, colour="pink"), index))
    assert misread(before, pink) == other
    assert misread(before, replace(before, objects=(kept,))).objects == (changed,)


def _pair(first, second, index):
    return (first, second) if index == 0 else (second, first)


def test_a_misread_change_is_never_the_change_itself():
    rng, kinds = random.Random(5), dict.fromkeys(NAMING, 0)
    while min(kinds.values()) < 50:
        before, kind = sample_scene(rng, count=2), rng.choice(NAMING)
        edit = edit_of(before, kind, rng)
        if edit:
            kinds[kind] += 1
            assert misread(before, edit[0]).facts != edit[0].facts


def results_of(edit):
    """The scenes if the instruction means the object that it names, and if it means the other."""
    words, objects = set(edit.instruction.split()), edit.before.objects
    marks = [{item.shape, item.colour} & words for item in objects]
    (named,) = [index for index in (0, 1) if marks[index] - marks[1 - index]]
    for index in (named, 1 - named):
        item, other = objects[index], objects[1 - index]
        if edit.new:
            (word,) = edit.new
            changed = replace(item, **{"colour" if word in COLOURS else "shape": word})
        elif words & {"larger", "smaller"}:
            changed = replace(item, size="large" if "larger" in words else "small")
        else:
            yield replace(edit.before, objects=(other,))
            continue
        yield replace(edit.before, objects=_pair(changed, other, index))


def test_a_deciding_word_is_where_the_two_readings_part():
    rng, words, new = random.Random(6), set(), set()
    for _ in range(300):
        edit = deciding_edit(rng)
        meant, mistaken = (description(scene) for scene in results_of(edit))
        assert f"{meant} ".startswith(f"{edit.beginning} {edit.word} "), edit.instruction
        assert mistaken.startswith(edit.beginning)
        assert not f"{mistaken} ".startswith(f"{edit.beginning} {edit.word} ")
        caption = describe(edit.before, background=True).text
        assert len(edit.before.objects) == 2 and edit.beginning.startswith("a")
        assert not set(edit.new) & set(caption.split())
        assert set(edit.new) <= {*edit.sentence.split()} & {*edit.instruction.split()}
        sizes = {item.size for item in edit.before.objects}
        if edit.instruction.endswith(("larger", "smaller")):  # either could be meant
            assert sizes == {"small" if edit.instruction.endswith("larger") else "large"}
        words.add(edit.word)
        new |= set(edit.new)
    assert words >= {"small", "large", *COLOURS, *SHAPES} and new == {*COLOURS, *SHAPES}


def test_a_placing_note_is_true():
    rng, sides = random.Random(7), set()
    for _ in range(200):
        text, (name, side) = placing_note(rng)
        if ". " in text:  # something has changed
            continue
        sides.add(side)
        _, relation, looks = parse_caption(text)
        first = side == relation.split()[0]
        assert side in ({"left", "right"} if relation == "left of" else {"above", "below"})
        assert looks[0 if first else 1][2] in name.split()
    assert sides == {"left", "right", "above", "below"}
