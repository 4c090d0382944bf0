"""Probes around passes with gradients and without, in any order and in every mode of torch."""

import copy
from contextlib import contextmanager, nullcontext

import pytest
import torch
from models_shared import tiny_official
from PIL import Image
from torch import nn
from torch.testing import assert_close

from minidream import Document, probe

PROMPT = "a red circle"
OPTIONS = dict(num_inference_steps=2, output_type="latent")


@pytest.fixture
def model():
    return tiny_official().train().requires_grad_(True)


def paint(model) -> None:
    model.dream(PROMPT, **OPTIONS)


def train(model) -> None:
    model.zero_grad()
    picture = Image.new("RGB", (32, 32), "red")
    generator = torch.Generator().manual_seed(1)
    model.loss([Document([PROMPT, picture])], generator).total.backward()


def paint_in_inference_mode(model) -> None:
    with torch.inference_mode():
        paint(model)


def train_in_autocast(model) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        train(model)


def train_with_checkpointing(model) -> None:
    model.decoder.unet.enable_gradient_checkpointing()
    train(model)
    model.decoder.unet.disable_gradient_checkpointing()


STEPS = [paint, train, paint_in_inference_mode, train_in_autocast, train_with_checkpointing]


def gradients(model) -> dict[str, torch.Tensor]:
    return {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


@pytest.mark.parametrize("together", [0, 2**20])
def test_one_block_records_painting_and_training_in_every_order(model, together, monkeypatch):
    """The maps of two steps are those of each alone, one after the other."""
    monkeypatch.setattr(probe.unet_attention, "TOGETHER", together)
    alone = {}
    for step in STEPS:
        with probe.watch_image(model, steps=True, heads=True) as maps:
            step(model)
        alone[step] = maps.layers
        assert maps.steps == (2 if "paint" in step.__name__ else 1)  # not twice by checkpointing
    for first in STEPS:
        for second in STEPS:
            with probe.watch_image(model, steps=True, heads=True) as both:
                first(model)
                second(model)
            with probe.watch_image(model) as mean:
                first(model)
                second(model)
            for name, maps in both.layers.items():
                expected = torch.cat([alone[first][name], alone[second][name]])
                assert_close(maps, expected, atol=1e-6, rtol=0)
                average = expected.mean(dim=(0, 2), keepdim=True)
                assert_close(mean.layers[name], average, atol=1e-6, rtol=0)


@pytest.mark.parametrize("step", [train, train_in_autocast, train_with_checkpointing])
def test_recorders_and_interventions_leave_the_gradients_as_they_are(model, step):
    """Interventions act on painting alone, and a training step in their block is untouched."""
    step(model)
    expected = gradients(model)
    with (
        probe.watch_image(model),
        probe.watch(model, "llm.layers.*"),
        probe.watch(model, "decoder.unet.*_blocks.*"),
        probe.watch_input(model, [3, 5]),
        probe.ablate(model, [1], layer=0),
        probe.steer(model, torch.ones(model.dream_queries.shape[1:])),
    ):
        paint(model)
        step(model)
        paint_in_inference_mode(model)
    found = gradients(model)
    assert expected and found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient)


def test_what_is_computed_again_for_the_backward_pass_is_recorded_once(model):
    pattern = "decoder.unet.up_blocks.*.resnets.*"
    with probe.watch(model, pattern) as outputs:
        train_with_checkpointing(model)
    assert all(len(each) == 1 for each in outputs.values())
    with probe.watch(model, pattern) as plain:
        train(model)
    for name, (output,) in outputs.items():
        assert torch.equal(output, plain[name][0])


def test_rows_of_attention_are_float32_in_every_mode(model):
    """By hand from the queries and keys of the pass, which autocast rounds to bfloat16."""
    seen, positions = [], [3, 7]
    part = model.llm.layers[1].self_attn.attend
    own = part.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    for mode in (nullcontext(), torch.autocast("cpu", torch.bfloat16), torch.inference_mode()):
        seen.clear()
        with mode, probe.watch_input(model, positions) as rows:
            model.encode(PROMPT)
        query, key, _, _ = seen[0]
        scores = query[0, :, positions].double() @ key[0].double().transpose(1, 2)
        for row, position in enumerate(positions):
            shares = (scores[:, row, : position + 1] / query.shape[-1] ** 0.5).softmax(dim=-1)
            assert_close(
                rows[1][0, :, row, : position + 1].double(), shares.detach(), atol=1e-6, rtol=0
            )
        assert rows[1].dtype == torch.float32 and not rows[1].is_inference()
    own.remove()


@contextmanager
def recorded(model, kind: str):
    """The tensors that one probe gives: a list, complete at the end of the block."""
    found = []
    if kind == "maps":
        with probe.watch_image(model) as maps:
            yield found
        found += maps.layers.values()
    elif kind == "maps of steps":
        with probe.watch_image(model, steps=True) as maps:
            yield found
        found += maps.layers.values()
    elif kind == "rows":
        with probe.watch_input(model, [2]) as rows:
            yield found
        found += rows


RESULTS = {
    "trace": lambda model: probe.dream_attention(model, PROMPT).weights,
    "rollout": lambda model: probe.dream_attention(model, PROMPT, rollout=True).weights,
    "stream": lambda model: probe.query_stream(model, PROMPT),
    "lens": lambda model: probe.lens_states(model, PROMPT),
}


def assert_usable_in_training(tensor: torch.Tensor) -> None:
    """It can be multiplied by a weight, and a weight can be added in place."""
    weight = torch.ones((), requires_grad=True)
    (tensor * weight).sum().backward()
    assert_close(weight.grad, tensor.sum(), atol=1e-4, rtol=1e-4)
    tensor[0] += weight
    tensor.sum().backward()


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["maps", "maps of steps", "rows", *RESULTS])
def test_what_a_probe_returns_can_be_used_in_training(model, name, mode):
    """Whichever mode it ran in: no inference tensors, and no views made without gradients."""
    with mode():
        if name in RESULTS:
            tensors = [RESULTS[name](model)]
        else:
            with recorded(model, name) as tensors:
                paint(model)
    assert tensors
    for tensor in tensors:
        assert_usable_in_training(tensor)


def test_states_and_pictures_can_be_changed_in_training(model):
    pictures = model.dream([PROMPT, PROMPT], num_inference_steps=1, output_type="pt")
    latents = model.dream([PROMPT, PROMPT], **OPTIONS)
    for tensor in (model.encode(PROMPT), model.null_states(), *pictures, *latents):
        assert_usable_in_training(tensor)


class Judge(nn.Module):
    """Scores of colours: the mean of a picture in each channel, twice over and then some."""

    def forward(self, images):
        means = images.mean(dim=(2, 3))
        return {"first colour": torch.cat([means] * 3, dim=1)[:, :7]}


TARGETS = {
    "denoising": lambda model: probe.DenoisingTarget(model, Image.new("RGB", (32, 32), "red")),
    "verdict": lambda model: probe.VerdictTarget(
        model, Judge(), "first colour", "red", num_inference_steps=2, guidance_scale=3.0
    ),
}


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_serves_many_backward_passes_wherever_it_was_made(model, name, mode):
    with mode():
        target = TARGETS[name](model)
    states = model.encode(PROMPT).clone().requires_grad_(True)
    found = []
    for _ in range(2):
        states.grad = None
        target(states).sum().backward()
        found.append(states.grad)
    assert found[0].abs().max() > 0 and torch.equal(*found)
    twin = copy.deepcopy(model).requires_grad_(False)
    (expected,) = torch.autograd.grad(TARGETS[name](twin)(states).sum(), states)
    assert_close(found[0], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_integrated_gradients_need_no_mode(model, mode):
    def ask(method):
        def target(states):
            return states.square().sum(dim=(1, 2))

        return method(model, "a b", target, neutral="c").values

    for method in (probe.integrated_gradients, probe.feature_ablation):
        with mode():
            found = ask(method)
        assert_close(found, ask(method))
        assert_usable_in_training(found)


def test_gradients_flow_through_interventions(model):
    """Through `encode_layouts`, which keeps them; against a change made by hand."""
    document, direction = Document([PROMPT]), torch.randn(model.dream_queries.shape[1:])
    layouts = [model.prompt_layout(document)]
    direction.requires_grad_(True)
    before = model.encode_layouts([document], layouts)
    with probe.steer(model, direction, 2.0), probe.ablate(model, [3]):
        model.encode_layouts([document], layouts).square().sum().backward()
    kept = torch.ones(len(direction), 1).index_fill(0, torch.tensor([3]), 0)
    expected = 4 * (before[0] + 2 * direction) * kept
    assert_close(direction.grad, expected.detach(), atol=1e-4, rtol=1e-4)
