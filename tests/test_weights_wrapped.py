"""Models that libraries wrapped or changed: they are saved as they compute, or refused by name."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models_shared import same_weights, tiny_official, untrained_toy
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrize

import minidream


@pytest.fixture(scope="module")
def original() -> minidream.DreamLLM:
    """The tiny official checkpoint; never changed."""
    return tiny_official()


@pytest.fixture
def model(original) -> minidream.DreamLLM:
    """A copy of it, to be changed."""
    return copy.deepcopy(original)


def load(folder: Path) -> minidream.DreamLLM:
    return minidream.load(folder, device="cpu")


def refused(model, folder: Path, *words: str) -> None:
    """Checks that a model is refused with some words, before anything is written."""
    minidream.save(tiny_official(), folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    for target in (folder, folder.parent / "new"):
        with pytest.raises(ValueError, match="not written") as error:
            minidream.save(model, target)
        for word in words:
            assert word in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


# --------------------------------------------------------------------------------------------------
# Compiled


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")


def compile_the_unet(model):
    model.decoder.unet = compiled(model.decoder.unet)


def compile_the_llm(model):
    model.llm = compiled(model.llm)


def compile_the_tower_and_the_vae(model):
    model.vision.tower = compiled(model.vision.tower)
    model.decoder.vae = compiled(model.decoder.vae)


def compile_layers_inside_of_what_is_compiled(model):
    for index, layer in enumerate(model.llm.layers):
        layer.mlp = compiled(layer.mlp)
        model.llm.layers[index] = compiled(layer)
    model.llm = compiled(model.llm)
    model.decoder = compiled(model.decoder)


def compile_in_place(model):
    model.llm.compile(backend="eager")


@pytest.mark.parametrize(
    "change",
    [
        compile_the_unet,
        compile_the_llm,
        compile_the_tower_and_the_vae,
        compile_layers_inside_of_what_is_compiled,
        compile_in_place,
    ],
)
def test_a_compiled_module_is_saved_without_its_wrapper(original, model, tmp_path, change):
    change(model)
    minidream.save(model, tmp_path)
    assert same_weights(load(tmp_path), original)


def test_a_model_that_is_compiled_as_a_whole_is_saved(original, model, tmp_path):
    minidream.save(compiled(model), tmp_path)
    assert same_weights(load(tmp_path), original)


# --------------------------------------------------------------------------------------------------
# Fused


def test_fused_projections_are_refused_and_unfused_ones_are_saved(original, model, tmp_path):
    model.decoder.unet.fuse_qkv_projections()
    refused(model, tmp_path / "one", "attn1.to_qkv.weight", "`unfuse_qkv_projections()`")
    model.decoder.vae.fuse_qkv_projections()
    model.decoder.unet.unfuse_qkv_projections()
    refused(model, tmp_path / "one", "to_qkv.weight", "vae", "`unfuse_qkv_projections()`")
    model.decoder.vae.unfuse_qkv_projections()
    model.decoder.unet = compiled(model.decoder.unet)
    minidream.save(model, tmp_path / "one")
    assert same_weights(load(tmp_path / "one"), original)


# --------------------------------------------------------------------------------------------------
# LoRA


def test_a_lora_is_trained_merged_saved_and_loaded(tmp_path):
    """The recipe of the README."""
    model = untrained_toy()
    start = model.encode("a red circle")
    document = minidream.Document(["a red circle", model.dream("a star", num_inference_steps=1)])
    config = LoraConfig(target_modules=["q_proj", "v_proj"])
    model.llm = get_peft_model(model.llm, config)
    assert torch.equal(model.encode("a red circle"), start), "a new LoRA changes nothing"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert 0 < sum(map(torch.numel, trained)) < 0.02 * sum(map(torch.numel, model.parameters()))
    frozen = {
        name: tensor.clone() for name, tensor in model.state_dict().items() if "lora_" not in name
    }
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    for seed in range(2):
        loss = model.loss([document], torch.Generator().manual_seed(seed)).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(model.state_dict()[name], frozen[name]) for name in frozen)
    tuned = model.encode("a red circle")
    assert (tuned - start).abs().max() > 1e-3
    refused(model, tmp_path / "one", "layers.0.self_attn.q_proj.lora_A", "merge_and_unload()")
    model.llm = model.llm.merge_and_unload()
    torch.testing.assert_close(model.encode("a red circle"), tuned)
    minidream.save(model, tmp_path / "one")
    loaded = load(tmp_path / "one")
    assert same_weights(loaded, model)
    assert torch.equal(loaded.encode("a red circle"), model.encode("a red circle"))


def test_a_model_with_a_lora_reads_writes_paints_and_is_probed(model, original):
    model.llm = get_peft_model(model.llm, LoraConfig(target_modules=["q_proj"]))
    image = original.dream("ab", num_inference_steps=1)
    for ask in (
        lambda model: model.chat([image, "ab"], max_new_tokens=5),
        lambda model: model.write("ab", max_new_tokens=5, max_images=1).text,
        lambda model: model.dream("ab", num_inference_steps=2).tobytes(),
        lambda model: minidream.probe.dream_attention(model, "ab").weights.tolist(),
    ):
        assert ask(model) == ask(original)


def test_a_lora_that_was_merged_inside_its_wrapper_is_saved(model, tmp_path):
    model.llm = get_peft_model(
        model.llm, LoraConfig(target_modules=["down_proj"], init_lora_weights=False)
    )
    merged = model.llm.merge_and_unload()  # and not put in its place
    minidream.save(model, tmp_path)
    model.llm = merged
    assert same_weights(load(tmp_path), model)


@pytest.mark.parametrize("merged", [False, True])
def test_a_lora_that_is_still_there_is_refused(model, tmp_path, merged):
    model.llm = get_peft_model(model.llm, LoraConfig(target_modules=["q_proj", "lm_head"]))
    if merged:
        model.llm.merge_adapter()  # the LoRA can still be taken out again
    refused(model, tmp_path / "one", "q_proj.base_layer.weight", "model.llm.merge_and_unload()")


def test_a_lora_in_the_unet_is_refused_until_it_is_fused(model, tmp_path):
    unet = model.decoder.unet
    unet.add_adapter(LoraConfig(target_modules=["to_q"], init_lora_weights=False))
    refused(model, tmp_path / "one", "attn1.to_q.lora_A.default.weight", "`fuse_lora()`")
    unet.fuse_lora()
    unet.unload_lora()
    minidream.save(model, tmp_path / "one")
    assert same_weights(load(tmp_path / "one"), model)


# --------------------------------------------------------------------------------------------------
# Anything else that would not be loaded


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, value):
        return 2 * value


def parametrized(model):
    parametrize.register_parametrization(model.llm.norm, "weight", Doubled())


def normalized(model):
    torch.nn.utils.parametrizations.weight_norm(model.decoder.projector.projector)


def parametrized_queries(model):
    parametrize.register_parametrization(model, "dream_queries", Doubled())


def more_words(model):
    model.llm.embed_tokens = nn.Embedding(130, 64)


def without_a_layer(model):
    del model.llm.layers[3]


def another_layer(model):
    model.llm.layers.append(copy.deepcopy(model.llm.layers[0]))


def with_a_bias(model):
    model.llm.layers[1].self_attn.o_proj = nn.Linear(64, 64)


def with_a_part_of_its_own(model):
    model.classifier = nn.Linear(64, 3)


def without_values(model):
    model.llm.norm = model.llm.norm.to("meta")


def for_several_gpus(model):
    model.vision = nn.DataParallel(model.vision)


def between_two_samplers(model):
    model.decoder.config = replace(model.decoder.config, eta=0.5)


def with_an_option_of_another_type(model):
    model.decoder.config = replace(model.decoder.config, snr_gamma=np.int64(5))


@pytest.mark.parametrize(
    "change, words",
    [
        (parametrized, ("norm.parametrizations.weight.original", "remove_parametrizations")),
        (normalized, ("projector.parametrizations.weight", "remove_parametrizations")),
        (parametrized_queries, ("parametrizations.dream_queries.original",)),
        (more_words, ("model.embed_tokens.weight (130, 64) instead of (128, 64)",)),
        (without_a_layer, ("9 missing: model.layers.3.input_layernorm.weight",)),
        (another_layer, ("9 extra: model.layers.4.input_layernorm.weight",)),
        (with_a_bias, ("1 extra: model.layers.1.self_attn.o_proj.bias",)),
        (with_a_part_of_its_own, ("classifier.weight, classifier.bias",)),
        (without_values, ("model.norm.weight has no values",)),
        (for_several_gpus, ("vision is a DataParallel", ".module")),
        (between_two_samplers, ("eta is 0.5 and would become 1.0",)),
        (with_an_option_of_another_type, ("snr_gamma is '5'", "numbers between 0 and")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_load_would_refuse_or_change_is_refused_by_name(model, tmp_path, change, words):
    change(model)
    refused(model, tmp_path / "one", *words)


def test_something_else_than_a_model_is_named(model, tmp_path):
    with pytest.raises(TypeError, match="takes a DreamLLM, not a LLM"):
        minidream.save(model.llm, tmp_path / "new")
    with pytest.raises(TypeError, match="not a DataParallel; its `.module` may be one"):
        minidream.save(nn.DataParallel(model), tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_weights_that_share_memory_are_written_twice(model, tmp_path):
    model.llm.lm_head.weight = model.llm.embed_tokens.weight
    model.llm.layers[1].mlp.up_proj.weight = model.llm.layers[0].mlp.up_proj.weight
    minidream.save(model, tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    assert torch.equal(written["lm_head.weight"], written["model.embed_tokens.weight"])
    assert same_weights(load(tmp_path), model)
