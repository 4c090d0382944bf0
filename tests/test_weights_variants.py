"""What configs may say: values with one meaning are read, all others are refused by file and field.

Each test copies the tiny official checkpoint and changes one field of one config.
"""

import itertools
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch.testing import assert_close
from transformers import CLIPConfig, LlamaConfig

import minidream
from minidream.images import as_integer
from minidream.weights import building, tokenizer_files, variants

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
CLIP = "component_configs/clip_vision/config.json"
PIXELS = "component_configs/clip_vision/preprocessor_config.json"
UNET = "component_configs/diffusion/unet/config.json"
VAE = "component_configs/diffusion/vae/config.json"
SCHEDULER = "component_configs/diffusion/scheduler/scheduler_config.json"


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the tiny official checkpoint, with its component configs."""
    folder = Path(shutil.copytree(TINY / "checkpoint", tmp_path / "copy"))
    shutil.copytree(TINY / "component_configs", folder / "component_configs")
    return folder


@pytest.fixture(scope="module")
def official():
    return load(TINY / "checkpoint", component_configs=TINY / "component_configs")


def load(folder: Path, **options):
    return minidream.load(folder, device="cpu", **options)


def change(path: Path, **fields) -> None:
    """Changes fields of a config; an ellipsis removes one."""
    config = json.loads(path.read_bytes()) | fields
    config = {name: value for name, value in config.items() if value is not ...}
    path.write_text(json.dumps(config), encoding="utf-8")


def assert_same(model, expected) -> None:
    """The same weights and configs."""
    assert model.llm.config == expected.llm.config and model.config == expected.config
    assert model.decoder.config == expected.decoder.config
    assert model.vision.mean == expected.vision.mean and model.vision.std == expected.vision.std
    for part in ("unet", "vae", "scheduler"):
        ours, theirs = (getattr(one.decoder, part).config for one in (model, expected))
        # Fields of other classes are kept, and have no effect.
        same = [name for name in theirs if name in ours and name[0] != "_"]
        assert [ours[name] for name in same] == [theirs[name] for name in same]
    assert model.tokenizer.special == expected.tokenizer.special
    ours, theirs = model.state_dict(), expected.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# --------------------------------------------------------------------------------------------------
# What has one meaning


class DreamLLMConfig(LlamaConfig):
    """How the official code declares its config."""

    model_type = "dreamllm"


def test_a_config_that_todays_transformers_saved_again(copy, official):
    DreamLLMConfig.from_pretrained(copy).save_pretrained(copy)
    config = json.loads((copy / "config.json").read_bytes())
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert "rope_theta" not in config and config["head_dim"] == 16 and config["dtype"] == "float32"
    assert_same(load(copy), official)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": ..., "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"rope_theta": 5e5, "rope_parameters": {"rope_type": "default", "rope_theta": 500000}},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 1.0}},
        {"rope_theta": ..., "rope_scaling": {"type": "default", "rope_theta": 5e5}},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "default", "factor": 1.0}},
        {"rope_theta": 5e5, "rope_parameters": None, "rope_scaling": None},
        {"rope_theta": 5e5, "rope_parameters": {"rope_type": "default", "rope_theta": None}},
    ],
)
def test_the_base_of_rotary_frequencies_is_found_wherever_it_is(copy, fields):
    change(copy / "config.json", **fields)
    assert load(copy).llm.config.rope_theta == 5e5


@pytest.mark.parametrize(
    "fields",
    [
        {"eos_token_id": [2], "bos_token_id": [1]},
        {"eos_token_id": None, "bos_token_id": ...},
        {"hidden_act": "swish"},
        {"head_dim": 16},
        {"head_dim": None},
        {"partial_rotary_factor": 1.0},
        {"sliding_window": 4096, "use_sliding_window": False},
        {"sliding_window": None},
        {"layer_types": ["full_attention"] * 4},
        {"attention_dropout": 0.1},
        {"attention_bias": None, "hidden_act": None, "tie_word_embeddings": None},
        {"num_key_value_heads": None, "rms_norm_eps": None, "rope_theta": None},
        {"loss_weight_lm": None, "loss_weight_vm": None, "loss_scale_schedule": None},
        {"minidream": None, "plugins_type": None, "torch_dtype": None, "quantization_config": None},
    ],
)
def test_fields_of_the_config_that_mean_the_same(copy, official, fields):
    change(copy / "config.json", **fields)
    assert_same(load(copy), official)


def test_null_in_the_arguments_of_plugins_means_the_default(copy, official):
    config = json.loads((copy / "config.json").read_bytes())
    plugins = config["plugins_init_kwargs"]
    plugins["clip_vision_embedding"] = dict.fromkeys(plugins["clip_vision_embedding"])
    kept = {"num_dream_queries": 8}
    plugins["dream_embedding"] = dict.fromkeys(plugins["dream_embedding"]) | kept
    plugins["stable_diffusion_head"] = None
    change(copy / "config.json", plugins_init_kwargs=plugins)
    assert_same(load(copy), official)


@pytest.mark.parametrize(
    "file, fields",
    [
        (CLIP, {"layer_norm_eps": None, "hidden_act": None, "attention_dropout": None}),
        (CLIP, {"model_type": ...}),
        (PIXELS, {"image_mean": None, "image_std": None, "resample": None}),
        (PIXELS, {"size": 32, "crop_size": 32}),  # as the first versions wrote them
        (PIXELS, {"image_processor_type": "CLIPImageProcessorFast", "device": None}),
        (UNET, {"sample_size": 8.0, "norm_num_groups": 8.0, "resnet_out_scale_factor": 1}),
        (UNET, {"norm_eps": None, "mid_block_type": None, "_class_name": ...}),
        (VAE, {"scaling_factor": None, "act_fn": None, "shift_factor": None}),
        (SCHEDULER, {"prediction_type": None, "num_train_timesteps": None, "thresholding": None}),
        (SCHEDULER, {"_class_name": "DDPMScheduler", "variance_type": "fixed_small"}),
        (SCHEDULER, {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}),
    ],
)
def test_fields_of_component_configs_that_mean_the_same(copy, official, file, fields):
    change(copy / file, **fields)
    assert_same(load(copy), official)


@pytest.mark.parametrize("writer", ["today", "first", "both"])
def test_a_hub_config_of_a_whole_clip(copy, official, writer):
    """The part about pictures is taken, not the one about texts."""
    tower = json.loads((copy / CLIP).read_bytes())
    if writer == "today":
        text = {"hidden_size": 48, "num_hidden_layers": 7}
        whole = CLIPConfig(vision_config=tower, text_config=text)
        whole.save_pretrained((copy / CLIP).parent)
    else:
        sizes = {name: tower[name] for name in tower if isinstance(tower[name], int)}
        parts = {"vision_config_dict": sizes}
        if writer == "both":
            parts["vision_config"] = tower
        text = {"text_config": {"hidden_size": 48}, "text_config_dict": None}
        content = {"model_type": "clip", "projection_dim": 16} | parts | text
        (copy / CLIP).write_text(json.dumps(content), encoding="utf-8")
    assert_same(load(copy), official)


@pytest.mark.parametrize("spacing, offset", [("leading", 0), ("leading", 1), ("trailing", 0)])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", variants.SCHEDULER["beta_schedule"])
def test_what_passes_as_ddpm_is_sampled_as_ddpm(tmp_path, spacing, offset, prediction, betas):
    """Against diffusers' own DDPM, to which the official code turns every scheduler."""
    config = json.loads((TINY / SCHEDULER).read_bytes()) | {
        "timestep_spacing": spacing,
        "steps_offset": offset,
        "prediction_type": prediction,
        "beta_schedule": betas,
    }
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    ours, ancestral = building.build_scheduler(path)
    theirs = DDPMScheduler.from_config(config)
    assert ancestral and isinstance(ours, DDIMScheduler)
    ours.set_timesteps(20)
    theirs.set_timesteps(20)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    latents = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(0)) / 2
    output = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)) / 2
    for step in ours.timesteps:
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
        found = ours.step(output, step, latents, eta=1.0, variance_noise=noise).prev_sample
        generator = torch.Generator().manual_seed(2)
        expected = theirs.step(output, step, latents, generator=generator).prev_sample
        assert_close(found, expected, atol=1e-4, rtol=1e-4)


# --------------------------------------------------------------------------------------------------
# What is refused


def assert_refused(folder: Path, file: str, fields: dict) -> str:
    """Loading fails with an error that names the file and the first field; returns the error."""
    change(folder / file, **fields)
    with pytest.raises(ValueError) as error:
        load(folder)
    said = str(error.value)
    assert said.startswith(f"{folder / file}: ") and next(iter(fields)) in said, said
    return said


@pytest.mark.parametrize(
    "fields",
    [
        {"partial_rotary_factor": 0.5},
        {"sliding_window": 4096},
        {"sliding_window": 4096, "use_sliding_window": True},
        {"layer_types": ["full_attention", "sliding_attention"] * 2},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"tie_word_embeddings": True},
        {"head_dim": 32},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"final_logit_softcapping": 30.0},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}},
        {"rope_scaling": "dynamic"},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
        {"rope_theta": "10000"},
        {"rope_theta": 0},
        {"eos_token_id": [2, 5]},
        {"bos_token_id": []},
        {"hidden_size": "64"},
        {"num_hidden_layers": 0},
        {"vocab_size": 128.5},
        {"plugins_init_kwargs": []},
        {"special_tokens2ids_dict": [1, 2]},
        {"minidream": {"template": "llama2"}},
        {"rms_norm_eps": -1e-6},
        {"rms_norm_eps": 1e6},
        {"rope_theta": 10**30},
        {"layer_types": 3},
        *({name: 10**30} for name in ("vocab_size", "hidden_size", "intermediate_size")),
        *({name: 10**30} for name in ("num_hidden_layers", "max_position_embeddings")),
        *({name: 10**30} for name in ("loss_weight_lm", "loss_weight_vm")),
        {"loss_weight_vm": -1},
        {"minidream": {"guidance_scale": 1e38}},
        {"minidream": {"num_inference_steps": True}},
    ],
    ids=lambda fields: " ".join(f"{name}={value}" for name, value in fields.items()),
)
def test_a_field_of_the_config_that_is_not_computed(copy, fields):
    assert_refused(copy, "config.json", fields)


def test_the_old_and_the_new_field_of_the_rotary_base_are_both_named(copy):
    said = assert_refused(copy, "config.json", {"rope_parameters": {"rope_theta": 5e5}})
    assert "rope_theta is 10000.0 and rope_parameters.rope_theta is 500000.0" in said


@pytest.mark.parametrize(
    "plugin, field, value",
    [
        ("clip_vision_embedding", "select_layer", 4),
        ("clip_vision_embedding", "select_layer", -5),
        ("clip_vision_embedding", "projector_depth", 0),
        ("clip_vision_embedding", "_target_", "omni.models.dreamllm.Dinov2Embedding"),
        ("stable_diffusion_head", "_target_", "omni.models.dreamllm.StableDiffusionXLHead"),
        ("dream_embedding", "num_dream_queries", 0),
        ("dream_embedding", "num_dream_queries", "8"),
        ("dream_embedding", "num_dream_queries", 10**30),
        ("clip_vision_embedding", "select_layer", True),
        ("clip_vision_embedding", "select_layer", "-2"),
        ("clip_vision_embedding", "projector_depth", 10**30),
        ("stable_diffusion_head", "drop_prob", 1.5),
    ],
)
def test_an_argument_of_a_plugin_that_is_not_known(copy, plugin, field, value):
    plugins = json.loads((copy / "config.json").read_bytes())["plugins_init_kwargs"]
    plugins[plugin][field] = value
    change(copy / "config.json", plugins_init_kwargs=plugins)
    said = assert_refused(copy, "config.json", {field: ...})
    assert repr(value) in said or str(value) in said


@pytest.mark.parametrize(
    "file, fields",
    [
        (CLIP, {"model_type": "siglip_vision_model"}),
        (CLIP, {"num_channels": 1}),
        (CLIP, {"hidden_size": "32"}),
        (CLIP, {"vision_config": {"hidden_size": 32}, "vision_config_dict": {"hidden_size": 64}}),
        (PIXELS, {"do_normalize": False}),
        (PIXELS, {"do_center_crop": False}),
        (PIXELS, {"rescale_factor": 1.0}),
        (PIXELS, {"resample": 2}),
        (PIXELS, {"size": {"shortest_edge": 40}}),
        (PIXELS, {"size": {"height": 32, "width": 32}}),
        (PIXELS, {"crop_size": {"height": 28, "width": 28}}),
        (PIXELS, {"image_mean": 0.5}),
        (UNET, {"_class_name": "UNet2DModel"}),
        (UNET, {"class_embed_type": "timestep"}),
        (UNET, {"addition_embed_type": "text_time"}),
        (UNET, {"time_cond_proj_dim": 256}),
        (UNET, {"sample_size": None}),
        (UNET, {"sample_size": [8, 8]}),
        (UNET, {"cross_attention_dim": [48, 48]}),
        (UNET, {"in_channels": 9}),  # for inpainting
        (UNET, {"out_channels": 8}),  # with a learned variance
        (UNET, {"norm_eps": -1}),
        (UNET, {"norm_eps": 1e6}),
        (UNET, {"norm_num_groups": -1}),
        (UNET, {"sample_size": 10**30}),
        (UNET, {"center_input_sample": "no"}),
        (UNET, {"flip_sin_to_cos": []}),
        (UNET, {"resnet_out_scale_factor": []}),
        (UNET, {"mid_block_scale_factor": 0}),
        (UNET, {"attention_head_dim": -1}),
        (UNET, {"attention_head_dim": [2, True]}),
        (UNET, {"transformer_layers_per_block": 10**30}),
        (UNET, {"layers_per_block": True}),
        (UNET, {"downsample_padding": -1}),
        (UNET, {"freq_shift": 10**30}),
        (UNET, {"block_out_channels": 16}),
        (CLIP, {"layer_norm_eps": -1e-5}),
        (CLIP, {"patch_size": 10**30}),
        (CLIP, {"num_hidden_layers": 10**30}),
        (PIXELS, {"image_std": [0.5, 0.5, 0]}),
        (VAE, {"norm_num_groups": -1}),
        (VAE, {"use_quant_conv": "no"}),
        (VAE, {"block_out_channels": 16}),
        (VAE, {"scaling_factor": 1e30}),
        (SCHEDULER, {"beta_end": 10}),
        (SCHEDULER, {"trained_betas": [0.5] * 999 + [2]}),
        (SCHEDULER, {"num_train_timesteps": 10**30}),
        (VAE, {"_class_name": "AutoencoderTiny"}),
        (VAE, {"shift_factor": 0.1159}),
        (VAE, {"latents_mean": [0.0] * 4}),
        (VAE, {"scaling_factor": "0.18215"}),
        (SCHEDULER, {"prediction_type": "sample"}),
        (SCHEDULER, {"prediction_type": "flow_prediction"}),
        (SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler"}),
        (SCHEDULER, {"beta_schedule": "sigmoid"}),
        (SCHEDULER, {"timestep_spacing": "karras"}),
        (SCHEDULER, {"clip_sample": True}),
        (SCHEDULER, {"clip_sample": None}),  # the default of the official class is to clip
        (SCHEDULER, {"thresholding": True}),
        (SCHEDULER, {"variance_type": "learned_range"}),
        (SCHEDULER, {"rescale_betas_zero_snr": True}),
        (SCHEDULER, {"trained_betas": [0.1, 0.2]}),
        (SCHEDULER, {"beta_start": "small"}),
    ],
    ids=lambda value: value.rsplit("/")[-2] if isinstance(value, str) else str(value),
)
def test_a_field_of_a_component_config_that_is_not_computed(copy, file, fields):
    assert_refused(copy, file, fields)


@pytest.mark.parametrize("prediction, allowed", [("epsilon", False), ("v_prediction", True)])
def test_a_schedule_that_ends_in_noise_alone_needs_velocities(copy, prediction, allowed):
    fields = {"rescale_betas_zero_snr": True, "prediction_type": prediction}
    fields |= {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}
    if not allowed:
        assert_refused(copy, SCHEDULER, fields)
        return
    change(copy / SCHEDULER, **fields)
    image = load(copy).dream("a cat", num_inference_steps=2, output_type="pt")
    assert image.isfinite().all()


def allows(field: str, values, value) -> bool:
    """Whether an entry of a table allows a value."""
    if isinstance(value, list):
        return field in variants.LISTS and all(allows(field, values, each) for each in value)
    if isinstance(values, tuple):
        return value in values
    if type(value) not in (int, float) or not values.least <= value <= values.most:
        return False
    return values.kind is not as_integer or value == int(value)


def test_every_field_is_refused_with_every_value_that_no_table_lists():
    """A property of `check_fields`, over all tables."""
    tables = (variants.LLAMA, variants.UNET, variants.VAE, variants.SCHEDULER, variants.ANCESTRAL)
    tables += (variants.PIXELS, variants.CLIP, variants.TOKENIZER)
    tables += (variants.PLUGIN, variants.DREAMLLM, variants.MINIDREAM)
    tried = (True, False, 7, 1e-5, -1, 10**30, "x", [], [1], ["x"], [[7, True]])
    for table in tables:
        for (field, values), value in itertools.product(table.items(), tried):
            if allows(field, values, value):
                variants.check_fields(Path("it.json"), {field: value}, table)
                continue
            with pytest.raises(ValueError, match=rf"^it\.json: {field} is ") as error:
                variants.check_fields(Path("it.json"), {field: value}, table)
            ends = [str(values.least), str(values.most)] if hasattr(values, "most") else None
            assert all(known in str(error.value) for known in ends or map(repr, values))


def test_whole_numbers_come_out_as_ints_in_lists_too():
    given = {"block_out_channels": [16.0, 32], "norm_eps": 1e-5, "other": 8.0, "dropout": 0}
    found = variants.check_fields(Path("it.json"), given, variants.UNET)
    assert found == given and list(map(type, found["block_out_channels"])) == [int, int]
    assert given["block_out_channels"] == [16.0, 32] and type(found["other"]) is float


def fields_of(config: dict, above: tuple[str, ...] = ()):
    """The path of keys to every field of a config, those in sections included."""
    for name, value in config.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from fields_of(value, (*above, name))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", CLIP, PIXELS, SCHEDULER])
def test_whatever_a_field_holds_is_read_or_refused_with_the_name_of_a_file(copy, name):
    """No other exception, and none without a name; every field, with two of six wrong values."""
    path = copy / name
    whole = json.loads(path.read_bytes())
    rng, wrong_values = random.Random(name), (None, "x", -1, [], {"x": 1}, True)
    fields = list(fields_of(whole))
    for (*above, field), wrong in [
        (place, wrong) for place in fields for wrong in rng.sample(wrong_values, 2)
    ]:
        changed = json.loads(json.dumps(whole))
        inside = changed
        for key in above:
            inside = inside[key]
        inside[field] = wrong
        path.write_text(json.dumps(changed), encoding="utf-8")
        try:
            config = variants.read_config(copy / "config.json")
            tokenizer = tokenizer_files.read_tokenizer(copy, config)
            with building.single_precision(), building.EmptyWeights():
                building.build(copy / "config.json", config, copy / "component_configs", tokenizer)
        except ValueError as error:
            assert str(copy) in str(error), (above, field)
