"""Alignment: the regression against its definition, and what its targets are."""

import random
from dataclasses import replace

import pytest
import torch
from families_shared import RING, build

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
    projector = model.decoder.projector if name == "alignment-text" else model.decoder.projector[0]
    error = (projector(states) - system.target_states(batch)).square().mean()
    torch.testing.assert_close(losses["regression"], error, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        losses["total"],
        alignment.REGRESSION_WEIGHT * error + toy.PAINTING_WEIGHT * losses["diffusion"],
        rtol=1e-4,
        atol=1e-4,
    )
    if name == "alignment-text":
        assert losses["diffusion"] == 0
    else:  # the decoder of image states learns from the true ones; no gradient reaches the queries
        assert losses["diffusion"] > 0
        assert torch.autograd.grad(
            losses["diffusion"], model.dream_queries, retain_graph=True, allow_unused=True
        ) == (None,)
        (slope,) = torch.autograd.grad(losses["diffusion"], model.decoder.projector[1].weight)
        assert slope.abs().max() > 0


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
    torch.testing.assert_close(
        image.target_states(batch).mean(dim=-1), torch.zeros(2, family.QUERIES), atol=1e-5, rtol=0
    )


def test_the_teacher_paints_from_the_targets_themselves():
    asked = evaluation.FamilyEvaluation(family.FamilyPlan(prompts=1), seed=0)
    system = build("alignment-text")
    teacher = system.extra_results(asked)["teacher"]
    assert list(teacher) == list(samples.IMAGE_KINDS)
    for kind, scores in teacher.items():
        expected = asked.samples(kind, held_out=False)
        painted = toy.paint_from_captions(system.model, [sample.caption for sample in expected])
        assert scores == asked.score(expected, painted)
    # Image states are decoded by the second half of the projector; zeros become its bias.
    images = build("alignment-image")
    second = images.model.decoder.projector[1]
    nothing = torch.zeros(1, family.QUERIES, toy.VISION_SIZE)
    assert torch.equal(images.conditions_of(nothing)[0, 0], second.bias)
    assert set(images.extra_results(asked)["teacher"]) == set(samples.IMAGE_KINDS)
