"""Probes of compiled models: inside a block they see and change what plain code computes.

The backends "eager" and "aot_eager" run what Dynamo captured without writing C++. What a probe
misses with another backend, it misses with these, too.
"""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from models_shared import tiny_official
from torch import nn
from torch.testing import assert_close

from minidream import probe
from minidream.probe.watch import matching_modules

PROMPTS = ["a red circle", "a large blue square on a black background"]
OPTIONS = dict(seed=3, num_inference_steps=2, output_type="latent")


@pytest.fixture(scope="module")
def plain():
    """Two layers only, since Dynamo takes seconds for each."""
    model = tiny_official()
    model.llm.layers = model.llm.layers[:2]
    return model


def in_place(model):
    model.compile(backend="eager")
    model.llm.compile(backend="eager")
    model.decoder.unet.compile(backend="eager")


def replaced(model):
    model.llm = torch.compile(model.llm, backend="aot_eager")
    model.decoder.unet = torch.compile(model.decoder.unet, backend="eager")


def parts_in_place(model):
    model.llm.layers[1].compile(backend="eager")
    model.decoder.unet.up_blocks[1].compile(backend="eager")


def parts_replaced(model):
    for blocks in (model.llm.layers, model.decoder.unet.up_blocks):
        blocks[1] = torch.compile(blocks[1], backend="eager")


def method(model):
    model.encode = torch.compile(model.encode, backend="eager")


def paint(model):
    return torch.stack(model.dream(PROMPTS, **OPTIONS))


@pytest.fixture(scope="module", params=[in_place, replaced, parts_in_place, parts_replaced, method])
def compiled(request, plain):
    """A model with compiled parts that were used already, except for a replaced U-Net."""
    torch._dynamo.reset()
    model = copy.deepcopy(plain)
    request.param(model)
    assert_close(model.encode(PROMPTS), plain.encode(PROMPTS), atol=1e-5, rtol=0)
    if request.param is not replaced:
        model.dream(PROMPTS, num_inference_steps=1, guidance_scale=1.0)
    return model


def test_interventions_have_their_effect(plain, compiled):
    before, direction = plain.encode(PROMPTS), torch.ones(plain.dream_queries.shape[1:])
    blocks = [
        lambda model: probe.ablate(model, [2, 0]),
        lambda model: probe.ablate(model, [2, 0], layer=0),
        lambda model: probe.patch(model, [1], direction, layer=1),
        lambda model: probe.swap(model, [3], layer=0),
        lambda model: probe.steer(model, direction, 0.5, layer=1),
    ]
    for block in blocks:
        with block(plain):
            states = plain.encode(PROMPTS)
        with block(compiled):
            assert_close(compiled.encode(PROMPTS), states, atol=1e-5, rtol=0)
        assert (states - before).abs().max() > 1e-4
    with probe.ablate(plain, [2], layer=0):
        pictures = paint(plain)
    with probe.ablate(compiled, [2], layer=0):
        assert_close(paint(compiled), pictures, atol=1e-5, rtol=0)
    assert_close(compiled.encode(PROMPTS), before, atol=1e-5, rtol=0)  # nothing stays


def records(model) -> dict[str, list[torch.Tensor]]:
    """What every recorder says about one painting, by name."""
    with (
        probe.watch(model, "llm.layers.*") as layers,
        probe.watch(model, "decoder.unet.*_blocks.*.attentions.*") as blocks,
        probe.watch(model, "decoder.unet") as unet,
        probe.watch_input(model, torch.arange(4, 7)) as rows,
        probe.watch_image(model, steps=True, heads=True) as maps,
        probe.watch_denoising(model) as steps,
    ):
        paint(model)
    images = {name: [map_] for name, map_ in maps.layers.items()}
    stream, trace = probe.query_stream(model, PROMPTS), probe.dream_attention(model, PROMPTS[1])
    others = {"rows": rows, "latents": steps.latents, "stream": [stream], "trace": [trace.weights]}
    return layers | blocks | unet | images | others


def test_recorders_record_what_they_would_record_of_plain_code(plain, compiled):
    expected, found = records(plain), records(compiled)
    assert list(found) == list(expected)  # the names, too, are those of the plain model
    for name, tensors in expected.items():
        assert tensors
        assert_close(found[name], tensors, atol=1e-5, rtol=1e-5)


class Counting:
    """A backend that counts how often the code it compiled runs."""

    def __init__(self):
        self.runs = 0

    def __call__(self, graph, inputs):
        def run(*arguments):
            self.runs += 1
            return graph(*arguments)

        return run


@pytest.fixture
def backend():
    torch._dynamo.reset()
    return Counting()


@pytest.fixture
def model(plain, backend):
    """A model of which a small part is compiled: seconds less than for the whole."""
    model = copy.deepcopy(plain)
    model.llm.layers[0].mlp.compile(backend=backend)
    return model


def test_a_part_of_a_compiled_part_is_seen_as_by_a_hook_of_one_s_own(plain, model):
    """In the plain model, without a probe."""
    model.encode(PROMPTS)
    seen = []
    part = plain.llm.layers[0].mlp.up_proj
    own = part.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    plain.encode(PROMPTS)
    own.remove()
    with probe.watch(model, "llm.layers.0.mlp.up_proj") as outputs:
        model.encode(PROMPTS)
    assert_close(outputs["llm.layers.0.mlp.up_proj"], seen, atol=1e-5, rtol=0)


def test_a_part_that_is_used_for_the_first_time_in_a_block_keeps_nothing_of_it(model, backend):
    with probe.watch(model, "llm.layers.0.mlp.*_proj") as outputs:
        first = model.encode(PROMPTS)
    assert backend.runs == 0 and [len(each) for each in outputs.values()] == [1, 1, 1]
    for _ in range(3):
        assert_close(model.encode(PROMPTS), first, atol=1e-5, rtol=0)
    assert backend.runs == 3 and [len(each) for each in outputs.values()] == [1, 1, 1]


def test_outside_of_the_block_compiled_code_runs_again(model, backend):
    """Also when blocks of two threads overlap, and the first to be opened is the first to close."""
    opened, closed = threading.Event(), threading.Event()

    def compiled_runs() -> int:
        before = backend.runs
        model.encode(PROMPTS)
        return backend.runs - before

    def other_thread() -> list[int]:
        counts = []
        with probe.watch(model, "llm.norm"):
            opened.set()
            counts.append(compiled_runs())
            assert closed.wait(60)
            counts.append(compiled_runs())
        return [*counts, compiled_runs()]

    assert compiled_runs() == 1
    with ThreadPoolExecutor(1) as pool:
        with probe.watch(model, "llm.norm"):
            assert compiled_runs() == 0
            counts = pool.submit(other_thread)
            assert opened.wait(60)
        closed.set()
        assert counts.result(60) == [0, 0, 1]
    assert compiled_runs() == 1


def test_the_stance_that_a_user_chose_is_back_after_the_block(model, backend):
    with torch.compiler.set_stance("fail_on_recompile"):
        with probe.watch(model, "llm.norm"):
            model.encode(PROMPTS)
        with pytest.raises(RuntimeError, match="fail_on_recompile"):
            model.encode(PROMPTS)
    with pytest.raises(ZeroDivisionError), probe.ablate(model, [0]):
        raise ZeroDivisionError
    model.encode(PROMPTS)
    assert backend.runs == 1


def test_a_block_inside_a_compiled_function_is_refused(plain, backend):
    @torch.compile(backend=backend)
    def ablated(prompt):
        with probe.ablate(plain, [0], 0):
            return plain.encode(prompt)

    with pytest.raises(RuntimeError, match="cannot be opened inside a compiled function"):
        ablated(PROMPTS[0])
    before = plain.encode(PROMPTS[0])
    with probe.ablate(plain, [0], 0):
        after = plain.encode(PROMPTS[0])
    assert not after[:, 0].any() and before[:, 0].any()


def run_without_hooks(module, monkeypatch):
    """Calls of a module go to `forward` at once: no hook of it runs."""
    kind = type(f"Bare{type(module).__name__}", (type(module),), {"__call__": type(module).forward})
    monkeypatch.setattr(module, "__class__", kind)


def test_hooks_that_never_run_are_an_error_that_names_the_layer(model, monkeypatch):
    run_without_hooks(model.llm.layers[1], monkeypatch)
    with pytest.raises(RuntimeError, match="reached queries.1"):
        with probe.steer(model, torch.ones(model.dream_queries.shape[1:]), layer=1):
            model.encode(PROMPTS)
    with pytest.raises(RuntimeError, match=r"llm\.layers\.1 did not run"):
        probe.query_stream(model, PROMPTS)
    with pytest.raises(RuntimeError, match="'llm.layers.1' .* none of them ran"):
        with probe.watch(model, "llm.layers.1"):
            model.encode(PROMPTS)
    run_without_hooks(model.llm.layers[1].self_attn.attend, monkeypatch)
    for refused in (
        lambda: probe.dream_attention(model, PROMPTS[0]),
        lambda: probe.dream_attention(model, PROMPTS[0], rollout=True),
    ):
        with pytest.raises(RuntimeError, match="layers 1 .*did not run"):
            refused()
    up = model.decoder.unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2
    run_without_hooks(up.to_q, monkeypatch)
    with pytest.raises(RuntimeError, match=r"up_blocks\.1\.attentions\.0.* did not run"):
        with probe.watch_image(model):
            paint(model)


def test_names_are_those_of_the_model_before_it_was_compiled(plain):
    model = copy.deepcopy(plain)
    llm = model.llm
    llm.layers[1] = torch.compile(llm.layers[1], backend="eager")
    model.llm = torch.compile(llm, backend="eager")
    for pattern in ("llm", "llm.layers.*", "*.layers.1.mlp", "llm.norm"):
        found, expected = (matching_modules(each, pattern) for each in (model, plain))
        assert list(found) == list(expected)
    assert matching_modules(model, "llm")["llm"] is llm
    wrapped = torch.compile(plain, backend="eager")
    assert list(matching_modules(wrapped, "llm.layers.*")) == [f"llm.layers.{n}" for n in range(2)]
    with pytest.raises(ValueError, match="nearest names are 0"):
        matching_modules(torch.compile(nn.Sequential(nn.Identity())), "nothing.like.it")
    with probe.ablate(wrapped, [1], layer=0), probe.ablate(plain, [3], 0):
        assert not wrapped.encode(PROMPTS)[:, 3].any()
