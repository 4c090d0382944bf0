"""Samples are true to their scenes, repeat with their rng, and their boxes give nothing away."""

import random

import pytest
from families_shared import RING

from minidream.families import boxes, samples
from minidream.images import to_tensor
from minidream.world import is_held_out
from minidream.world.judge import read_by_colour
from minidream.world.language import parse_caption
from minidream.world.scenes import sample_scene


@pytest.mark.parametrize("kind", samples.SAMPLE_KINDS)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_sample_is_true_and_has_one_object(kind, held_out):
    rng, again = random.Random(kind), random.Random(kind)
    for _ in range(8):
        sample, other = (
            samples.draw_sample(kind, rng, held_out),
            samples.draw_sample(kind, again, held_out),
        )
        assert (sample.scenes, sample.follow_ups, sample.expected) == (
            other.scenes,
            other.follow_ups,
            other.expected,
        )
        assert sample.kind == kind and {len(scene.objects) for scene in sample.scenes} == {
            2 if kind == "pair" else 1
        }
        assert is_held_out(sample.scenes[-1]) == held_out and not any(
            map(is_held_out, sample.scenes[:-1])
        )
        shown = sample.pictures + ([sample.reply] if kind in samples.PAINTED_KINDS else [])
        assert [reading.facts for reading in read_by_colour(to_tensor(shown))] == [
            scene.facts for scene in sample.scenes
        ]
        background, *looks = sample.expected
        assert tuple(looks) == sample.scenes[-1].facts[1:] and background in (
            None,
            sample.scenes[-1].background,
        )
        assert parse_caption(sample.caption)[1:] == sample.scenes[-1].facts[1:]
        assert (kind in samples.PAINTED_KINDS) != isinstance(sample.reply, str) and len(
            sample.follow_ups
        ) == (3 if kind in ("question", "verify") else 0)


def test_half_of_the_prompts_that_are_learned_name_two_objects():
    kinds = [
        one.kind for step in (0, 2, 4) for one in samples.draw_batch(("paint", "edit"), 40, 1, step)
    ]
    assert set(kinds) == {"paint", "pair"} and 45 < kinds.count("pair") < 75
    edits = samples.draw_batch(("paint", "edit"), 5, 1, 1)
    assert {one.kind for one in edits} == {"edit"}
    again, other = (samples.draw_batch(("edit",), 5, 1, step) for step in (0, 1))
    assert [one.given[1:] for one in again] == [one.given[1:] for one in edits]
    assert [one.scenes for one in other] != [one.scenes for one in edits]


def test_half_of_the_boxes_asked_about_are_true_ones():
    rng, said = random.Random(0), []
    for _ in range(60):
        question, reply = samples.box_question(RING, rng)
        found = boxes.box_iou(boxes.box_of_words(question), samples.true_box(RING))
        # A true box is rounded; a wrong one overlaps by a tenth at most, before it is rounded.
        true = question == f"is the ring at {boxes.words_of_box(samples.true_box(RING))}?"
        assert true if reply == "yes" else found < 0.2
        said.append(reply)
    assert 20 < said.count("yes") < 40
    # The position of a box says nothing: the distance to the edges is the same in both halves.
    near = {"yes": [], "no": []}
    for _ in range(400):
        question, reply = samples.box_question(sample_scene(rng, count=1), rng)
        left, top, right, bottom = boxes.box_of_words(question)
        near[reply].append(min(left, top, 1 - right, 1 - bottom))
    assert (
        min(near["no"]) > 0
        and abs(sum(near["yes"]) / len(near["yes"]) - sum(near["no"]) / len(near["no"])) < 0.02
    )
    assert samples.where_question(RING, rng)[1] == boxes.words_of_box(samples.true_box(RING))
    with pytest.raises(ValueError, match="'sing' is none of paint, "):
        samples.draw_sample("sing", rng)
