"""Scores worked by hand, chance, and the running example."""

import random
from types import SimpleNamespace

from families_shared import RING

from minidream.families import evaluation, family, samples
from minidream.trainer.lessons import pictures
from minidream.weights import toy
from minidream.world import is_held_out
from minidream.world.scenes import Scene


def test_facts_of_two_objects_by_hand():
    def facts(relation, first, second, background=None):
        return background, relation, (first, second)

    ring, star = ("large", "green", "ring"), ("small", "red", "star")
    asked = facts("left of", ring, star)
    share = evaluation.fact_accuracy
    assert share(asked, asked) == share(facts("left of", ring, star, "gray"), asked) == 1
    assert share(facts("above", ring, star), asked) == 6 / 7
    assert share(facts("left of", star, ring), asked) == 1 / 7  # whose is whose counts
    assert share(facts("left of", ring, ("small", "green", "star")), asked) == 6 / 7
    assert share((None, None, (ring,)), asked) == share(None, asked) == 0
    assert share(asked, (None, None, (ring,))) == 0
    on_gray = facts("left of", ring, star, "gray")
    assert share(facts("left of", ring, star, "white"), on_gray) == 7 / 8


def test_text_replies_are_scored_by_their_facts():
    def score(kind, expected, reply):
        return evaluation.text_score(samples.Sample(kind, (), expected, (RING,), RING.facts), reply)

    assert (
        score("caption", "", "on a gray background, a big green ring") == 1
        and score("caption", "", "a large green ring") == 3 / 4
    )  # the background is missing
    assert score("caption", "", "a small green star on a gray background") == 1 / 2
    assert (
        score("caption", "", "a large green ring above a small red star on a gray background")
        == score("caption", "", "a ring")
        == 0
    )
    assert (
        score("question", "green", "green") == 1 and score("question", "green", "green green") == 0
    )
    assert [score("locate", "4 4 12 12", box) for box in ("4 5 12 13", "9 4 17 12", "4 4")] == [
        1,
        0,
        0,
    ]


def test_an_evaluation_asks_both_combinations_and_chance_is_as_expected():
    asked = evaluation.FamilyEvaluation(family.FamilyPlan(prompts=30), seed=0)
    assert [
        is_held_out(sample.scenes[-1])
        for name, held_out in evaluation.COMBINATIONS.items()
        for sample in asked.samples("caption", held_out)
    ] == [False] * 30 + [True] * 30
    assert list(evaluation.COMBINATIONS) == ["seen", "held out"]
    assert (
        evaluation.FamilyEvaluation(family.FamilyPlan(prompts=3), seed=1)
        .samples("paint", False)[0]
        .given
        != asked.samples("paint", False)[0].given
    )
    chance = asked.chance()
    assert set(chance) == set(samples.SAMPLE_KINDS) and chance["paint"]["seen"]["right"] <= 2
    assert all(
        0.15 < chance[kind]["seen"]["facts"] < 0.4
        for kind in ("paint", "pair", "caption", "story", "edit")
    )  # (1/2 + 1/8 + 1/6 + 1/3) / 4 is 0.28
    assert (
        chance["question"]["seen"]["facts"] > 0.2 and 0.2 < chance["verify"]["seen"]["facts"] < 0.8
    )
    truth = [asked.samples(kind, False) for kind in samples.SAMPLE_KINDS]
    located = asked.samples("locate", False)[:2]
    assert (
        asked.score(located, [located[0].reply, "no box"])
        == {"right": 1, "facts": 0.5, "overlap": 0.5}
        and chance["locate"]["seen"]["overlap"] < 0.3
    )
    assert all(
        asked.score(true, [sample.reply for sample in true])["right"] >= 29 for true in truth
    )


def test_pictures_are_scored_by_the_judge():
    judge, sample = toy.pretrained_judge(), samples.Sample("paint", (), "", (RING,), RING.facts)
    anywhere = samples.Sample("paint", (), "", (RING,), (None, *RING.facts[1:]))
    right, on_black = pictures([RING, Scene(RING.objects, "black")], toy.IMAGE_SIZE)
    assert evaluation.image_scores(
        judge, [sample, sample, anywhere, sample], [right, on_black, on_black, None]
    ) == [1, 3 / 4, 1, 0]
    assert evaluation.image_scores(judge, [sample], [None]) == [0]


def test_whether_an_object_kept_its_position_is_read_from_pixels():
    edits = [samples.draw_sample("edit", random.Random(number)) for number in range(40)]
    stay = [sample for sample in edits if evaluation.keeps_position(sample)]
    assert 10 < len(stay) < 40 and all(
        sample.given[-1].endswith(("er",))
        for sample in edits
        if not evaluation.keeps_position(sample)
    )  # larger, smaller
    assert all(evaluation.painted_in_place(stay, [sample.reply for sample in stay]))
    elsewhere = evaluation.painted_in_place(stay, [sample.reply for sample in stay[1:] + stay[:1]])
    assert sum(elsewhere) < len(stay) / 4
    assert evaluation.painted_in_place(stay[:2], [None, stay[1].reply]) == [False, True]


def test_a_family_that_is_always_right_gets_full_scores():
    asked = evaluation.FamilyEvaluation(family.FamilyPlan(prompts=3), seed=0)
    right = SimpleNamespace(
        kinds=("question", "locate"),
        replies=lambda samples: [sample.reply for sample in samples],
    )
    scores = asked.evaluate(right)
    assert list(scores) == ["question", "locate"]
    assert scores["question"] == dict.fromkeys(["seen", "held out"], {"right": 3, "facts": 1.0})
    full = {"right": 3, "facts": 1.0, "overlap": 1.0}
    assert scores["locate"] == dict.fromkeys(["seen", "held out"], full)
