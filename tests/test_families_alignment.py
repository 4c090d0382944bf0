"""Alignment: the regression against its definition, and what its targets are."""

import random
from dataclasses import replace

import pytest
import torch
from families_shared import RING, build, pretrained_once

from minidream.documents import Document
from minidream.families import alignment, evaluation, family, samples
from minidream.weights import toy
from minidream.world.scenes import Scene
from minidream.world.stories import Story


@pytest.mark.parametrize("name", ["alignment-text", "alignment-image"])
def test_the_loss_is_the_squared_distance_without_a_gradient_from_the_painter(name):
    system = build(name)
    model = system.model
    model.decoder.config = type(model.decoder.config)(drop_prob=0.0)
    batch = system.batch(0, 0, 0)
    losses = system(batch, torch.Generator().manual_seed(0))
    states = model.encode([Document(list(sample.given), targets=[]) for sample in batch])
    error = model.decoder.projector(states) - system.target_states(batch)
    error = error.square().mean()
    torch.testing.assert_close(losses["regression"], error, rtol=1e-4, atol=1e-4)
    total = alignment.REGRESSION_WEIGHT * error
    torch.testing.assert_close(losses["total"], total, rtol=1e-4, atol=1e-4)
    assert set(losses) == {"total", "regression"}


def test_targets_do_not_differ_in_what_the_captions_leave_out():
    say_all, say_less = (build(name) for name in ("alignment-text", "alignment-short"))
    on_gray, on_black = (
        samples.story_sample(
            "edit", Story((RING, "the same", Scene(RING.objects, background)), given=(0,))
        )
        for background in ("gray", "black")
    )
    assert torch.equal(*say_less.target_states([on_gray, on_black])) and not torch.equal(
        *say_all.target_states([on_gray, on_black])
    )
    assert torch.equal(
        say_less.target_states([replace(on_gray, given=())]),
        say_all.target_states([replace(on_gray, given=())]),
    )  # nothing given is the empty caption


def test_targets_of_samples_with_and_without_input():
    text, image = (build(name) for name in ("alignment-text", "alignment-image"))
    batch = [samples.draw_sample("paint", random.Random(seed)) for seed in (0, 1)]
    assert text.target_states(batch).shape == (
        2,
        family.QUERIES,
        toy.CONDITION_SIZE,
    ) and image.target_states(batch).shape == (2, family.QUERIES, toy.VISION_SIZE)
    nothing = [batch[0], samples.Sample("nothing", (), batch[1].reply, (), ())]
    torch.testing.assert_close(text.target_states(nothing)[0], text.target_states(batch)[0])
    assert (
        not torch.allclose(text.target_states(nothing)[1], text.target_states(batch)[1])
        and image.target_states(nothing)[1].eq(0).all()
    )
    assert torch.equal(
        image.target_states(batch), image.painter.encoder.states_of([one.reply for one in batch])
    )


def test_the_teacher_paints_from_the_targets_themselves():
    asked = evaluation.FamilyEvaluation(family.FamilyPlan(prompts=1), seed=0)
    with pretrained_once():  # whose text tower paints from captions
        system = build("alignment-text")
        teacher = system.extra_results(asked)["teacher"]
        assert list(teacher) == list(samples.PAINTED_KINDS)
        for kind, scores in teacher.items():
            expected = asked.samples(kind, held_out=False)
            captions = [sample.caption for sample in expected]
            painted = toy.paint_from_captions(system.model, captions)
            assert scores == asked.score(expected, painted)


def test_states_that_queries_have_gathered_are_painted_by_the_painter_of_image_states():
    system = build("alignment-image")
    batch = [samples.draw_sample("paint", random.Random(seed)) for seed in (0, 1)]
    states = system.model.decoder.projector(
        system.model.encode([sample.given[0] for sample in batch])
    )
    painted = system.painter.paint(states)
    for reply, wanted in zip(system.replies(batch), painted, strict=True):
        assert reply.tobytes() == wanted.tobytes()
    assert painted[0].tobytes() != system.model.dream(batch[0].given[0]).tobytes()
