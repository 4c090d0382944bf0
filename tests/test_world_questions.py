"""Simple questions, and those with yes or no: answers are true."""

import random

from minidream.world.questions import ask_simply, ask_yes_or_no
from minidream.world.scenes import Scene, SceneObject, sample_scene

PAIR = Scene(
    (SceneObject("star", "red", "large", 0.3, 0.3), SceneObject("ring", "blue", "small", 0.7, 0.3))
)


def test_simple_questions_by_hand():
    rng = random.Random(0)
    asked = {ask_simply(PAIR, rng) for _ in range(1000)}
    assert {
        ("is there a star?", "yes"),
        ("is there a blue thing?", "yes"),
        ("is there a red object?", "yes"),
        ("is there a circle?", "no"),
        ("is there a green object?", "no"),
        ("what is on the left?", "star"),
        ("what is on the right?", "ring"),
        ("is the star on the left?", "yes"),
        ("is the ring on the right?", "yes"),
        ("is the star on the right?", "no"),
        ("is the ring above?", "no"),
    } <= asked
    questions = [question for question, _ in asked]
    assert len(set(questions)) == len(questions), "one question, one answer"


def test_a_single_object_is_on_no_side():
    rng = random.Random(1)
    for _ in range(200):
        question, _ = ask_simply(sample_scene(rng, count=1), rng)
        assert question.startswith("is there a ")


def test_half_of_the_questions_with_yes_or_no_are_simple():
    rng, simple = random.Random(2), {ask_simply(PAIR, random.Random(seed)) for seed in range(2000)}
    asked = [ask_yes_or_no(PAIR, rng) for _ in range(400)]
    assert {answer for _, answer in asked} == {"yes", "no"}
    assert 0.4 < sum(question in simple for question in asked) / len(asked) < 0.6
