"""Probes under modes that a user may have set for the whole program, and on wrapped models."""

import random

import pytest
import torch
from models_shared import tiny_official, untrained_toy
from PIL import Image
from torch.testing import assert_close

import minidream
from minidream import probe
from minidream.probe.map_scores import correlations, overlap
from minidream.train import batches, clip_stages, stages
from minidream.weights import toy
from minidream.weights.toy import clip_text_states

PROMPT = "a large red circle left of a small blue square"


@pytest.fixture(scope="module")
def model():
    return untrained_toy()


@pytest.fixture
def meta_by_default():
    """Tensors without a named device have no values: whoever forgot one is found."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def recorded_maps(model):
    with probe.watch_image(model) as maps:
        model.dream(PROMPT, num_inference_steps=1)
    return maps


def traced(model, folder):
    trace = probe.dream_attention(model, PROMPT)
    return trace.weights.sum(), trace.uniform().sum(), trace.evenness().sum()


def rolled_out(model, folder):
    return probe.dream_attention(model, PROMPT, rollout=True).weights.sum()


def both_hops(model, folder):
    return probe.two_hop(probe.dream_attention(model, PROMPT), recorded_maps(model)).sum()


def explained(model, folder):
    return probe.answer_attribution(model, "what color is it?", "red").values


def attributed(model, folder):
    target = probe.DenoisingTarget(model, Image.new("RGB", (32, 32), "red"), timesteps=500)
    gradients = probe.integrated_gradients(model, "a red star", target, steps=2)
    return gradients.values, probe.feature_ablation(model, "a red star", target).values


def similar(model, folder):
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), device="cpu")
    return overlap(maps)


def read_linearly(model, folder):
    states = probe.query_stream(model, ["a red star", "a blue ring"] * 4)
    return probe.linear_probes(states, ["star", "ring"] * 4, held_out=2).accuracy


def recorded_points(model, folder):
    where = probe.positions(model, PROMPT).words("square")
    cache = probe.run_with_cache(model, PROMPT, ["llm.*.z", "llm.0.pattern"], where, heads=[1])
    with probe.record(model, "unet.0.cross.pattern") as steps:
        model.dream(PROMPT, num_inference_steps=1)
    return torch.cat([*cache.values()], dim=-1).sum(), steps["unet.0.cross.pattern"][0].sum()


def intervened(model, folder):
    where = probe.positions(model, PROMPT)
    with probe.cut(model, where.queries, where.words("red"), at="llm.1"):
        cut = model.encode(PROMPT)
    with probe.ablate(model, where.words("red"), at="llm.0.z", heads=0):
        ablated = model.encode(PROMPT)
    return cut.sum(), ablated.sum(), probe.logit_lens(model, PROMPT, -1).sum()


def patched_everywhere(model, folder):
    names = ["llm.0.z", "queries"]
    estimates = probe.attribution_patching(
        model, PROMPT, PROMPT.replace("red", "blue"), lambda states: states.sum(dim=(1, 2)), names
    )
    return estimates["llm.0.z"], estimates["queries"]


def saved(model, folder):
    minidream.save(model, folder)
    return minidream.load(folder, device="cpu").encode(PROMPT)


def text_states(model, folder):
    tower = toy.pretrained_text_tower()
    return clip_text_states(tower, model.tokenizer, ["a red star", "a ring"])


PROBES = [
    traced,
    rolled_out,
    both_hops,
    explained,
    attributed,
    similar,
    read_linearly,
    recorded_points,
    intervened,
    patched_everywhere,
    saved,
    text_states,
]


@pytest.mark.parametrize("compute", PROBES)
def test_a_default_device_changes_no_probe(compute, model, tmp_path, request):
    expected = compute(model, tmp_path / "before")
    request.getfixturevalue("meta_by_default")
    assert_close(compute(model, tmp_path / "after"), expected)


def test_batches_are_made_on_the_cpu_whatever_the_default_device(model, meta_by_default):
    stage = clip_stages.TextStage.__new__(clip_stages.TextStage)
    assert clip_stages.TextStage.batch(stage, 0, 0, 0)[1].device.type == "cpu"
    layouts, documents = batches.text_to_image(random.Random(0), 3, model)
    own = stages.DocumentStage.share(
        stages.DocumentStage.__new__(stages.DocumentStage), (layouts, documents), slice(0, None, 2)
    )[1]
    assert own.device.type == "cpu"


def test_autocast_rounds_nothing_that_a_probe_computes(model):
    trace, maps = probe.dream_attention(model, PROMPT), recorded_maps(model)
    states = model.encode(PROMPT)
    image = model.dream(PROMPT, num_inference_steps=1)
    denoising = probe.DenoisingTarget(model, image)
    verdict = probe.VerdictTarget(
        model, toy.pretrained_judge(), "first colour", "red", num_inference_steps=1
    )
    stream = torch.randn(2, 40, 3, 8, generator=torch.Generator().manual_seed(0))
    computed = [
        lambda: probe.two_hop(trace, maps),
        lambda: denoising(states),
        lambda: verdict(states),
        lambda: correlations(torch.eye(3, 7), torch.rand(4, 7, generator=torch.Generator())),
        lambda: probe.linear_probes(stream, list(range(4)) * 10, held_out=20).accuracy,
    ]
    for compute in computed:
        expected = compute()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = compute()
        assert found.dtype == torch.float32
        assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_the_stream_of_a_model_wrapped_by_peft_is_recorded():
    peft = pytest.importorskip("peft")
    model = tiny_official()
    expected = probe.query_stream(model, PROMPT)
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"])
    model.llm = peft.get_peft_model(model.llm, config)  # adds zero until it is trained
    assert_close(probe.query_stream(model, PROMPT), expected, atol=1e-5, rtol=0)
    assert len(probe.lens(model, PROMPT, num_inference_steps=1)) == len(expected)


@pytest.mark.parametrize("answer", ["a <", "日 a"])
def test_an_answer_with_unknown_pieces_is_explained(answer):
    found = probe.answer_attribution(tiny_official(), "a b c", answer)
    assert found.values.isfinite().all() and found.values.abs().sum() > 0
