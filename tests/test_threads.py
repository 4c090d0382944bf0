"""Threads on one model do not change each other's results: everything equals the calls in turn."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest
import torch
from models_shared import tiny_official, untrained_toy
from PIL import Image

from minidream import Document

PICTURE = Image.linear_gradient("L").resize((32, 32))
SCENE = "a red circle"


@pytest.fixture(scope="module", params=[untrained_toy, tiny_official], ids=["toy", "official"])
def model(request):
    return request.param()


@pytest.fixture(autouse=True)
def impatient():
    """Threads take turns after every 10 microseconds."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def together(calls):
    """The results of calls that all begin at once, each in a thread of its own."""
    start = Barrier(len(calls))

    def run(call):
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_threads_that_paint_with_other_numbers_of_steps_get_their_own_pictures(model):
    calls = [
        partial(model.dream, SCENE, seed=seed, num_inference_steps=steps, output_type="latent")
        for steps in (2, 4, 8)
        for seed in (0, 1)
    ]
    for alone, beside_others in zip([call() for call in calls], together(calls)):
        assert torch.equal(alone, beside_others)


def equal(one, other):
    """Whether two results are the same: tensors bit for bit, words, and pictures."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_reading_answering_writing_and_learning_beside_painting(model):
    document = Document([SCENE, PICTURE, "now"])

    def losses():
        found = model.loss([document], torch.Generator().manual_seed(3))
        return [found.total, found.language, found.diffusion]

    options = dict(num_inference_steps=3, temperature=2.0)
    calls = [
        partial(model.dream, [document, SCENE], num_inference_steps=5, output_type="latent"),
        partial(model.encode, [SCENE, document]),
        partial(model.chat, [PICTURE, "what"], max_new_tokens=5),
        losses,
        lambda: model.write(SCENE, seed=4, max_images=1, max_new_tokens=9, **options).items,
        lambda: model.write(SCENE, seed=5, max_images=1, max_new_tokens=9, **options).items,
    ]
    for alone, beside_others in zip([call() for call in calls], together(calls)):
        assert equal(alone, beside_others)


def test_a_picture_painted_within_the_painting_of_another_changes_neither(model):
    paint = partial(model.dream, SCENE, output_type="latent")
    outer, inner = paint(seed=1, num_inference_steps=6), paint(seed=2, num_inference_steps=2)
    found = []

    def paint_once(*_):
        handle.remove()
        found.append(paint(seed=2, num_inference_steps=2))

    handle = model.decoder.unet.register_forward_pre_hook(paint_once)
    assert torch.equal(paint(seed=1, num_inference_steps=6), outer)
    assert torch.equal(found[0], inner)


def test_painting_leaves_the_scheduler_of_the_model_as_it_was(model):
    scheduler = model.decoder.scheduler
    scheduler.set_timesteps(7)
    before = {name: repr(value) for name, value in vars(scheduler).items()}
    model.dream(SCENE, num_inference_steps=3)
    model.write(SCENE, max_new_tokens=2, num_inference_steps=2)
    assert {name: repr(value) for name, value in vars(scheduler).items()} == before
