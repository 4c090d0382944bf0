"""torch's default dtype and device do not change what is loaded, painted or trained."""

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from models_shared import TINY, untrained_toy
from PIL import Image
from torch import nn

import minidream
from minidream import Document
from minidream.families import dreamllm, flamingo, qformer
from minidream.families.family import FamilyPlan
from minidream.studies.family_runs import build
from minidream.train import stages
from minidream.weights import toy
from minidream.world.judge import judge_batch, scenes_by_colour
from minidream.world.render import render
from minidream.world.scenes import sample_scene

PICTURE = Image.linear_gradient("L").resize((32, 32))
DOCUMENT = Document(["a red circle", PICTURE, "now", PICTURE], targets=[1])


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = {
    str(dtype): lambda dtype=dtype: default_dtype(dtype)
    for dtype in (torch.float64, torch.bfloat16, torch.float16)
} | {device: lambda device=device: torch.device(device) for device in ("meta",)}


@pytest.fixture(params=DEFAULTS)
def defaults(request):
    """A function whose result is a context with other defaults than torch's own."""
    return DEFAULTS[request.param]


def load(name: str):
    if name == "toy":
        return minidream.load("toy", device="cpu")
    configs = TINY / "component_configs"
    return minidream.load(TINY / "checkpoint", device="cpu", component_configs=configs)


def results(model) -> dict:
    """What a model does, in tensors and words."""
    losses = model.loss([DOCUMENT], torch.Generator().manual_seed(1))
    options = dict(max_images=1, max_new_tokens=5, num_inference_steps=1)
    return {
        "encode": model.encode([DOCUMENT, "a star"]),
        "dream": model.dream([DOCUMENT, "a star"], num_inference_steps=2, output_type="latent"),
        "pictures": model.dream("a star", num_inference_steps=2, output_type="pt"),
        "chat": model.chat([PICTURE, "what"], max_new_tokens=3),
        "write": model.write("a star", seed=2, temperature=2.0, **options).items,
        "loss": [losses.total, losses.language, losses.diffusion],
    }


def same(one, other) -> bool:
    """Whether two results are equal: tensors bit for bit and in dtype and device, too."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        kinds = {(each.dtype, each.device) for each in (one, other)}
        return len(kinds) == 1 and torch.equal(one, other)
    return one == other


@pytest.fixture(scope="module", params=["toy", "official"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return load(name)


@pytest.fixture(scope="module")
def usual(model):
    return results(model)


def test_a_loaded_model_does_the_same_under_other_defaults(model, usual, defaults):
    with defaults():
        found = results(model)
    assert same(found, usual)


def test_a_model_loads_the_same_under_other_defaults(name, model, usual, defaults):
    with defaults():
        again = load(name)
    assert same(again.state_dict(), model.state_dict())
    assert same(dict(again.named_buffers()), dict(model.named_buffers()))
    assert same(results(again), usual)


def test_scenes_and_their_judge_are_the_same_under_other_defaults(defaults):
    def everything():
        scenes = [sample_scene(random.Random(seed)) for seed in range(9)]
        images, masks = render(scenes, 32)
        blurred, answers = judge_batch(0, 0, 6, 32)
        scores = toy.pretrained_judge()(images)
        return [images, masks, blurred, answers, scores, scenes_by_colour(images)]

    wanted = everything()
    with defaults():
        found = everything()
    assert same(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("stage", ["judge", "vae", "text"])
def test_a_stage_begins_and_learns_the_same_under_another_dtype(stage, dtype, tmp_path):
    def first_step():
        built = stages.build(stage, tmp_path, seed=3)
        built.recipe = replace(built.recipe, batch=4)
        weights = {name: value.clone() for name, value in built.state_dict().items()}
        loss = built(built.batch(3, 0, 0), torch.Generator().manual_seed(5))["total"]
        loss.backward()
        grads = {name: value.grad for name, value in built.named_parameters()}
        return [weights, loss, {name: grad for name, grad in grads.items() if grad is not None}]

    wanted = first_step()
    with default_dtype(dtype):
        found = first_step()
    assert same(found, wanted)


def test_a_family_begins_the_same_under_another_dtype():
    plan = FamilyPlan(steps=1, batch=2, prompts=2)
    families = (flamingo.flamingo, qformer.qformer, dreamllm.dreamllm)
    wanted = [build(family, plan, 3).model.state_dict() for family in families]
    with default_dtype(torch.float64):
        found = [build(family, plan, 3).model.state_dict() for family in families]
    assert same(found, wanted)


def test_an_untrained_model_is_the_same_under_other_defaults(defaults):
    wanted = untrained_toy().state_dict()
    with defaults():
        assert same(untrained_toy().state_dict(), wanted)
        assert torch.get_default_dtype() == torch.zeros(1).dtype, "as it was before"


def test_models_are_built_in_several_threads_at_once():
    """Building on the meta device patches torch for the whole process."""
    with default_dtype(torch.float64), ThreadPoolExecutor(4) as threads:
        models = list(threads.map(load, ["toy", "official"] * 4))
        assert torch.get_default_dtype() == torch.float64
    assert nn.Linear(2, 3).weight.device.type == "cpu"
    for one, other in zip(models, models[2:]):
        assert same(one.state_dict(), other.state_dict())
