"""A probe belongs to the thread that opened its block: the passes of other threads are their own.

Other threads run at a fixed place: in the middle of the watched pass, started by a hook.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from models_shared import untrained_toy

from minidream import probe

PROMPTS = ["a red circle", "a large blue square on a black background"]
OTHERS = ["a small green star", "a yellow circle", "a red square"]
OPTIONS = dict(num_inference_steps=2, output_type="latent")


@pytest.fixture(scope="module")
def model():
    return untrained_toy()


def elsewhere(work):
    """What `work()` returns, from another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@contextmanager
def in_the_middle(module, work):
    """Runs `work` in another thread during the first pass of this thread through a module."""
    mine, results = threading.get_ident(), []

    def run(*_) -> None:
        if threading.get_ident() == mine and not results:
            results.append(None)
            results[0] = elsewhere(work)

    handle = module.register_forward_pre_hook(run)
    try:
        yield results
    finally:
        handle.remove()


def dream(model, prompts, seed=3):
    return torch.stack(model.dream(prompts, seed=seed, **OPTIONS))


RECORDERS = {
    "watch": lambda model: probe.watch(model, "llm.layers.*"),
    "watch the U-Net": lambda model: probe.watch(model, "decoder.unet.*_blocks.*"),
    "watch_input": lambda model: probe.watch_input(model, torch.arange(5, 9)),
    "watch_image": lambda model: probe.watch_image(model),
    "watch_image, all": lambda model: probe.watch_image(model, steps=True, heads=True),
    "watch_denoising": lambda model: probe.watch_denoising(model),
}


def tensors_of(seen) -> list[torch.Tensor]:
    """Everything that a recorder recorded, in order."""
    if isinstance(seen, dict):
        return [tensor for tensors in seen.values() for tensor in tensors]
    if isinstance(seen, probe.ImageMaps):
        return list(seen.layers.values())
    if isinstance(seen, probe.Denoising):
        return [torch.tensor(seen.timesteps), *seen.latents, *seen.guesses]
    return list(seen)


def interventions(model):
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(model.dream_queries.shape[1:], generator=generator)
    return {
        "ablate": lambda: probe.ablate(model, [2, 0]),
        "ablate in a layer": lambda: probe.ablate(model, [2, 0], layer=1),
        "patch": lambda: probe.patch(model, [1], direction, layer=2),
        "swap": lambda: probe.swap(model, [1], layer=0),
        "steer": lambda: probe.steer(model, direction, 0.5),
        "steer in a layer": lambda: probe.steer(model, direction, 0.5, layer=4),
    }


def all_equal(one, other) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("place", ["llm.layers.3", "decoder.unet.mid_block"])
@pytest.mark.parametrize("name", RECORDERS)
def test_a_recorder_records_its_own_thread_alone(model, name, place):
    with RECORDERS[name](model) as alone:
        dream(model, PROMPTS)
    other = dream(model, OTHERS, 7)
    with in_the_middle(model.get_submodule(place), lambda: dream(model, OTHERS, 7)) as painted:
        with RECORDERS[name](model) as seen:
            dream(model, PROMPTS)
    assert torch.equal(painted[0], other)
    assert tensors_of(alone) and all_equal(tensors_of(seen), tensors_of(alone))


@pytest.mark.parametrize("place", ["llm.layers.3", "decoder.unet.mid_block"])
@pytest.mark.parametrize("name", interventions(untrained_toy()))
def test_an_intervention_changes_its_own_thread_alone(model, name, place):
    """Three prompts are painted elsewhere, which `swap` would refuse."""
    block, other = interventions(model)[name], dream(model, OTHERS, 7)
    with block():
        alone = dream(model, PROMPTS)
    with in_the_middle(model.get_submodule(place), lambda: dream(model, OTHERS, 7)) as painted:
        with block():
            changed = dream(model, PROMPTS)
    assert torch.equal(painted[0], other)
    assert torch.equal(changed, alone) and not torch.equal(changed, dream(model, PROMPTS))


def test_what_runs_in_another_thread_alone_is_not_seen(model):
    for name, recorder in RECORDERS.items():
        with pytest.raises(RuntimeError, match="in the `with` block|inside the `with` block"):
            with recorder(model):
                elsewhere(lambda: dream(model, PROMPTS))
    with pytest.raises(RuntimeError, match="no prompt was encoded"), probe.ablate(model, [0]):
        elsewhere(lambda: dream(model, PROMPTS))


def test_two_threads_record_at_the_same_time(model):
    """Each enters its block, waits for the other, paints, and waits again before it leaves."""
    alone = {}
    for seed, prompts in enumerate((PROMPTS, OTHERS)):
        with probe.watch_image(model, steps=True) as maps, probe.watch(model, "llm.*") as outputs:
            dream(model, prompts, seed)
        alone[seed] = tensors_of(maps) + tensors_of(outputs)
    together = threading.Barrier(2, timeout=60)

    def record(seed: int, prompts: list[str]):
        with probe.watch_image(model, steps=True) as maps, probe.watch(model, "llm.*") as outputs:
            together.wait()
            dream(model, prompts, seed)
            together.wait()
        return tensors_of(maps) + tensors_of(outputs)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(record, (0, 1), (PROMPTS, OTHERS)))
    assert all_equal(both[0], alone[0]) and all_equal(both[1], alone[1])


def test_two_threads_intervene_at_the_same_time(model):
    blocks = [interventions(model)[name] for name in ("ablate in a layer", "steer in a layer")]
    alone = []
    for block in blocks:
        with block():
            alone.append(dream(model, PROMPTS))
    together = threading.Barrier(2, timeout=60)

    def intervene(block):
        with block():
            together.wait()
            changed = dream(model, PROMPTS)
            together.wait()
        return changed

    with ThreadPoolExecutor(2) as pool:
        assert all_equal(list(pool.map(intervene, blocks)), alone)


def hooks_of(model) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def test_a_block_lasts_while_others_are_opened_and_closed_elsewhere(model):
    """Also if the other block ends with an exception; hooks are gone when all blocks are."""
    before = hooks_of(model)
    with probe.watch_image(model) as alone, probe.ablate(model, [3], layer=2):
        plain = dream(model, PROMPTS)

    def elsewhere_too():
        with pytest.raises(ZeroDivisionError), probe.watch_image(model), probe.swap(model, [1]):
            dream(model, OTHERS[:2])
            raise ZeroDivisionError
        with probe.steer(model, torch.ones(model.dream_queries.shape[1:]), layer=2):
            return dream(model, OTHERS)

    with in_the_middle(model.llm.layers[3], elsewhere_too) as painted:
        with probe.watch_image(model) as seen, probe.ablate(model, [3], layer=2):
            assert torch.equal(dream(model, PROMPTS), plain)
    assert all_equal(tensors_of(seen), tensors_of(alone))
    with probe.steer(model, torch.ones(model.dream_queries.shape[1:]), layer=2):
        assert torch.equal(painted[0], dream(model, OTHERS))
    assert hooks_of(model) == before
