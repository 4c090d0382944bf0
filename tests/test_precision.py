"""Parts of any precision fit together: each casts what comes in, unless all are equal."""

import random

import pytest
import torch
from models_shared import TINY, tiny_official, untrained_toy
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import nn

import minidream
from minidream import Document
from minidream.llm import RMSNorm
from minidream.vision import VisionEncoder

PICTURE = Image.linear_gradient("L").resize((32, 32))
DOCUMENT = Document(["a red circle", PICTURE, "now", PICTURE], targets=[1])
PARTS = ["llm", "llm.lm_head", "vision", "vision.tower", "vision.projector", "decoder"]
PARTS += ["decoder.unet", "decoder.vae", "decoder.projector", "dream_queries", ""]
# How far results may be from those in single precision, as a share of their size.
CLOSE = {torch.bfloat16: 0.05, torch.float16: 0.01, torch.float64: 1e-3}


def cast(model, part: str, dtype: torch.dtype):
    if part == "dream_queries":
        model.dream_queries = nn.Parameter(model.dream_queries.to(dtype))
    else:
        model.get_submodule(part).to(dtype)
    return model


def results(model) -> list[torch.Tensor]:
    """States, latents and losses; beside them, words and gradients are checked."""
    latents = model.dream([DOCUMENT, "a star"], num_inference_steps=3, output_type="latent")
    assert isinstance(model.chat([PICTURE, "what"], max_new_tokens=2), str)
    options = dict(max_images=1, max_new_tokens=3, num_inference_steps=1)
    assert model.write("a star", temperature=2.0, **options).items
    model.requires_grad_(False)
    queries = model.dream_queries.requires_grad_(True)
    losses = model.loss([DOCUMENT, Document(["a star"])], torch.Generator().manual_seed(0))
    losses.total.backward()
    assert queries.grad.isfinite().all() and queries.grad.abs().sum(dim=-1).min() > 0
    scalars = [losses.total, losses.language, losses.diffusion]
    assert {loss.dtype for loss in scalars} == {torch.float32}
    return [model.encode(["a star", DOCUMENT]), torch.stack(latents), *scalars]


@pytest.fixture(scope="module")
def single():
    return results(untrained_toy())


def assert_near(found, wanted, share: float):
    for one, other in zip(found, wanted, strict=True):
        far = (one.double() - other.double()).square().mean().sqrt()
        assert far <= share * other.double().square().mean().sqrt()


@pytest.mark.parametrize(
    "part, dtype",
    [(part, dtype) for part in PARTS for dtype in (torch.bfloat16, torch.float64)]
    + [("llm", torch.float16), ("decoder", torch.float16)],
)
def test_one_part_in_another_precision_changes_results_by_its_rounding_only(part, dtype, single):
    assert_near(results(cast(untrained_toy(), part, dtype)), single, CLOSE[dtype])


@pytest.mark.parametrize("seed", range(2))
def test_every_part_in_a_precision_of_its_own(seed, single):
    model, draw = untrained_toy(), random.Random(seed)
    for part in PARTS[:-1]:
        cast(model, part, draw.choice([*CLOSE, torch.float32]))
    assert_near(results(model), single, CLOSE[torch.bfloat16])


def test_a_checkpoint_of_two_precisions_loads_and_works(tmp_path):
    """What the official trainer leaves: a language model in bfloat16, all else in float32."""
    model = tiny_official()
    wanted = results(model)
    model.llm.bfloat16()
    minidream.save(model, tmp_path / "mixed")
    configs = TINY / "component_configs"
    again = minidream.load(tmp_path / "mixed", device="cpu", component_configs=configs)
    dtypes = {
        name: next(part.parameters()).dtype
        for name, part in again.named_children()
        if list(part.parameters())  # named points have none
    }
    assert dtypes == dict(llm=torch.bfloat16, vision=torch.float32, decoder=torch.float32)
    assert_near(results(again), wanted, CLOSE[torch.bfloat16])


def test_a_norm_in_single_precision_keeps_the_dtype_of_the_stream():
    """As peft prepares a half-precision model for training."""
    norm, hidden = RMSNorm(6, eps=1e-6), torch.randn(2, 6, dtype=torch.bfloat16)
    assert norm(hidden).dtype == torch.bfloat16
    model = untrained_toy()
    model.llm.bfloat16()
    for module in model.llm.modules():
        if isinstance(module, RMSNorm):
            module.float()
    assert results(model)[0].dtype == torch.bfloat16


def test_a_lora_in_single_precision_on_a_half_precision_model():
    model = untrained_toy()
    model.llm = get_peft_model(
        model.llm.bfloat16(), LoraConfig(r=2, target_modules=["q_proj", "lm_head"])
    )
    assert {weight.dtype for weight in model.llm.parameters()} == {torch.bfloat16, torch.float32}
    results(model)


def test_a_norm_after_the_projector_has_a_border_of_its_own():
    toy = untrained_toy()
    vision = VisionEncoder(toy.vision.tower, 7, normed=True)
    vision.projector.half()
    pixels = vision.pixels([PICTURE])
    embeddings = vision(pixels)
    assert embeddings.dtype == torch.float32 and embeddings.isfinite().all()


def test_states_of_double_precision_paint_the_same_picture():
    model = untrained_toy()
    states = model.encode("a star")
    options = dict(num_inference_steps=2, output_type="latent")
    (single,), (double,) = (model.paint(given, **options) for given in (states, states.double()))
    assert torch.equal(single, double)


def casts_behind(tensor: torch.Tensor) -> int:
    """The number of casts in the graph of a tensor."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return sum("ToCopy" in node.name() for node in seen)


def test_equal_precisions_add_nothing_to_the_graph():
    model = untrained_toy()
    model.dream_queries.requires_grad_(True)
    assert casts_behind(model.loss([DOCUMENT]).total) == 0
    model.llm.double()
    assert casts_behind(model.loss([DOCUMENT]).total) > 0


def test_training_in_automatic_mixed_precision():
    model = untrained_toy().requires_grad_(True)
    wanted = model.loss([DOCUMENT], torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = model.loss([DOCUMENT], torch.Generator().manual_seed(0))
    found.total.backward()
    torch.testing.assert_close(found.total, wanted.total, atol=0, rtol=0.02)
    assert all(weight.grad.isfinite().all() for weight in model.llm.parameters())
