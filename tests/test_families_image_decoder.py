"""The painter of image states: its states, its loss, and its teacher."""

import random

import pytest
import torch
from families_shared import PLAN, build, pretrained

from minidream.families import evaluation, image_decoder, samples
from minidream.families.family import FamilyPlan
from minidream.trainer.loop import Recipe
from minidream.weights.toy import VISION_SIZE


def painter(states=32):
    return image_decoder.ImageDecoder(pretrained(), PLAN.recipe(1e-3), states)


@pytest.mark.parametrize("states", [32, 64])
def test_states_are_means_of_neighbouring_patches_in_a_row_each_normalized(states):
    pictures = [samples.draw_sample("paint", random.Random(seed)).reply for seed in (0, 1)]
    vision = pretrained().vision
    patches = vision.features(vision.pixels(pictures))
    found = painter(states).encoder.states_of(pictures)
    assert found.shape == (2, states, VISION_SIZE) and not found.requires_grad
    together = 64 // states
    # Patches 10 and 11 are the third and fourth of the second row.
    mean = patches[:, 10 : 10 + together].mean(dim=1)
    wanted = (mean - mean.mean(dim=-1, keepdim=True)) / mean.std(dim=-1, keepdim=True, correction=0)
    torch.testing.assert_close(found[:, 10 // together], wanted, rtol=1e-3, atol=1e-3)


def test_only_a_copy_of_the_unet_learns_and_nothing_of_it_is_shared():
    system = build("alignment-image")
    stage, model = system.painter, system.model
    learned = {name for name, value in stage.named_parameters() if value.requires_grad}
    assert learned == {name for name, _ in stage.named_parameters() if ".unet." in f".{name}"}
    assert not any(value.requires_grad for value in model.decoder.unet.parameters())
    shared = set(map(id, stage.decoder.parameters())) & set(map(id, model.parameters()))
    assert not shared
    assert stage.recipe.steps == system.recipe.steps  # as many samples as the rest learns from


def test_the_loss_is_that_of_denoising_from_true_states_or_from_zeros():
    stage, seen = painter(), []
    batch = stage.batch(0, 0, 0)
    states = stage.true_states(batch)
    inner = stage.decoder.loss
    stage.decoder.loss = lambda *inputs: seen.append(inputs) or inner(*inputs)
    for prob, wanted in ((0.0, states), (1.0, torch.zeros_like(states))):
        stage.decoder.config = type(stage.decoder.config)(drop_prob=prob)
        loss = stage(batch, torch.Generator().manual_seed(0))["total"]
        latents, conditions, _ = seen.pop()
        torch.testing.assert_close(conditions, wanted)
        assert torch.equal(latents, stage.decoder.latents_of([one.reply for one in batch]))
    (slope,) = torch.autograd.grad(loss, stage.decoder.unet.conv_in.weight)
    assert slope.abs().max() > 0


def test_it_paints_with_zeros_as_the_null_condition():
    stage = painter()
    states = torch.randn(2, 32, VISION_SIZE, generator=torch.Generator().manual_seed(0))
    together = stage.paint(states)
    sampled = stage.decoder.sample_seeded(states[:1], torch.zeros_like(states[:1]), [0])
    wanted = (255 * stage.decoder.decode(sampled)[0]).round()
    painted = torch.tensor(list(together[0].tobytes())).reshape(64, 64, 3).permute(2, 0, 1)
    assert (painted - wanted).abs().max() <= 1


def test_its_teacher_is_the_score_of_what_it_paints_from_true_states():
    asked = evaluation.FamilyEvaluation(FamilyPlan(prompts=2), seed=0)
    stage = painter()
    replies = {kind: asked.samples(kind, False) for kind in samples.PAINTED_KINDS}
    stage.paint = lambda states: [sample.reply for sample in replies[states]]
    # A painter that is always right has full scores, and one that paints other pictures has not.
    stage.true_states = lambda asked_for: asked_for[0].kind
    assert all(scores["right"] == 2 for scores in stage.teacher(asked).values())
    other = stage.teacher(
        asked, lambda asked_for: "edit" if asked_for[0].kind != "edit" else "pair"
    )
    assert list(other) == list(samples.PAINTED_KINDS) and other["pair"]["right"] == 0


def test_a_recipe_of_a_family_trains_it():
    assert painter().recipe == Recipe(4, 3, 1e-3, weight_decay=0.0, warmup=1)
