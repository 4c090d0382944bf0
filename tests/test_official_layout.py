"""Files in the official layout and in older ones: what is read, refused and saved.

The tiny official checkpoint has every kind of tensor that the full one has. Its files are renamed,
merged and damaged here.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.testing import assert_close

import minidream
from minidream.weights import building, reading, writing
from minidream.weights.layout import PLUGINS
from minidream.weights.reading import SHIPPED_CONFIGS

TINY = Path(__file__).parent / "fixtures" / "tiny-a"


def load(folder: Path, **options):
    return minidream.load(
        folder, device="cpu", component_configs=TINY / "component_configs", **options
    )


@pytest.fixture(scope="module")
def official():
    return load(TINY / "checkpoint")


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the tiny checkpoint, to be changed."""
    return Path(shutil.copytree(TINY / "checkpoint", tmp_path / "copy"))


@pytest.fixture
def shards(tmp_path) -> Path:
    """A copy of the same in shards."""
    return Path(shutil.copytree(TINY / "checkpoint_sharded", tmp_path / "shards"))


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def change_config(folder: Path, change) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    change(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def assert_same(one, other):
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    different = [
        name
        for name in left
        if left[name].dtype != right[name].dtype or not torch.equal(left[name], right[name])
    ]
    assert not different


# --------------------------------------------------------------------------------------------------
# The configs that ship


def unfilled(config: dict, components: Path = SHIPPED_CONFIGS):
    with init_empty_weights(include_buffers=False):
        return building.build(
            Path("config.json"), {"model_type": "dreamllm"} | config, components, None
        )


def test_shipped_configs_are_of_the_published_sizes():
    """Tensors and parameters, counted from the official classes with the published configs."""
    model = unfilled({"vocab_size": 32008})

    def size(module):
        tensors = module.state_dict().values()
        return len(tensors), sum(tensor.numel() for tensor in tensors)

    assert size(model.llm) == (291, 6_738_481_152)
    assert len(writing.rotary_frequencies(model)) == 323 - 291
    assert size(model.vision.tower)[0] == 391 and len(model.vision.state_dict()) == 393
    assert size(model.decoder.vae) == (248, 83_653_863) and size(model.decoder.unet) == (
        686,
        865_910_724,
    )
    assert size(model.decoder)[0] == 935
    assert model.dream_queries.shape == (1, 64, 4096) and model.vision.patches == 256
    assert model.decoder.image_size == 512 and model.decoder.projector.projector.weight.shape == (
        1024,
        4096,
    )
    assert (
        model.decoder.scheduler.config.prediction_type == "epsilon"
        and model.decoder.config.eta == 1
    )
    assert (model.decoder.config.num_inference_steps, model.decoder.config.guidance_scale) == (
        50,
        7.5,
    )


def test_shipped_configs_serve_where_there_are_no_others(copy, monkeypatch, official):
    with pytest.raises(
        ValueError,
        match=r"clip_vision_embedding\.bin does not fit.*"
        r"sizes are those of .*config\.json and .*dreamllm-7b",
    ):
        minidream.load(copy, device="cpu")
    monkeypatch.setattr(reading, "SHIPPED_CONFIGS", TINY / "component_configs")
    assert_same(minidream.load(copy, device="cpu"), official)
    shutil.copytree(TINY / "component_configs", copy / "component_configs")
    monkeypatch.setattr(reading, "SHIPPED_CONFIGS", Path("nowhere"))
    assert_same(minidream.load(copy, device="cpu"), official)
    (copy / "component_configs/diffusion/vae/config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vae/config\.json is missing"):
        minidream.load(copy, device="cpu")


# --------------------------------------------------------------------------------------------------
# Names of other writers


def test_clip_without_its_middle_level_and_with_its_old_buffer(copy, official):
    path = copy / "clip_vision_embedding.bin"
    tensors = {name.replace(".vision_model.", "."): tensor for name, tensor in read(path).items()}
    tensors["clip_vision_model.embeddings.position_ids"] = torch.arange(17)
    torch.save(tensors, path)
    assert_same(load(copy), official)


@pytest.mark.parametrize("convolution", [False, True])
def test_vae_attention_under_its_old_names(copy, official, convolution):
    path = copy / "stable_diffusion_head.bin"
    tensors, renamed = {}, 0
    for name, tensor in read(path).items():
        old = name
        for new, before in (
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ):
            if name.startswith("vae.") and f".attentions.0.{new}." in name:
                old, renamed = name.replace(new, before), renamed + 1
        if old != name and convolution and old.endswith("weight"):
            tensor = tensor[:, :, None, None]
        tensors[old] = tensor
    assert renamed == 2 * 4 * 2, "encoder and decoder, four matrices, weight and bias"
    torch.save(tensors, path)
    assert_same(load(copy), official)


def test_a_tensor_under_two_names_is_refused(copy):
    path = copy / "clip_vision_embedding.bin"
    tensors = read(path)
    tensors["clip_vision_model.post_layernorm.bias"] = tensors[
        "clip_vision_model.vision_model.post_layernorm.bias"
    ]
    torch.save(tensors, path)
    with pytest.raises(
        ValueError, match=r"clip_vision_embedding\.bin holds .*post_layernorm\.bias twice"
    ):
        load(copy)


def test_only_the_vaes_matrices_may_be_convolutions(copy):
    path = copy / "stable_diffusion_head.bin"
    tensors = read(path)
    tensors["projector.projector.weight"] = tensors["projector.projector.weight"][:, :, None, None]
    torch.save(tensors, path)
    with pytest.raises(
        ValueError,
        match=r"misshapen: projector\.projector\.weight \(48, 64, 1, 1\) instead of \(48, 64\)",
    ):
        load(copy)


def test_projectors_of_several_layers_and_a_norm_behind_the_visual_one(copy, tmp_path):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    clip, sd = read(copy / "clip_vision_embedding.bin"), read(copy / "stable_diffusion_head.bin")
    for tensors in (clip, sd):
        for name in [name for name in tensors if name.startswith("projector.")]:
            del tensors[name]
    clip |= {
        "projector.projector.0.weight": draw(64, 32),
        "projector.projector.0.bias": draw(64),
        "projector.projector.2.weight": draw(64, 64),
        "projector.projector.2.bias": draw(64),
        "post_layernorm.weight": draw(64),
        "post_layernorm.bias": draw(64),
    }
    sd |= {
        "projector.projector.0.weight": draw(48, 64),
        "projector.projector.2.weight": draw(48, 48),
        "projector.projector.4.weight": draw(48, 48),
    }
    torch.save(clip, copy / "clip_vision_embedding.bin")
    torch.save(sd, copy / "stable_diffusion_head.bin")
    with pytest.raises(
        ValueError,
        match=r"clip_vision_embedding\.bin.*missing: projector\.projector\.bias.*"
        r"extra: post_layernorm\.bias",
    ):
        load(copy)

    def change(config):
        config["plugins_init_kwargs"]["clip_vision_embedding"] |= {
            "projector_type": "mlp",
            "projector_depth": 2,
            "use_additional_post_layernorm": True,
        }
        config["plugins_init_kwargs"]["stable_diffusion_head"] |= {
            "projector_type": "mlp",
            "projector_depth": 3,
        }

    change_config(copy, change)
    model = load(copy)
    pixels, states = torch.rand(1, 3, 32, 32), torch.rand(1, 8, 64)
    with torch.no_grad():
        patches = model.vision.tower(pixel_values=pixels, output_hidden_states=True).hidden_states[
            -2
        ][:, 1:]
        hidden = F.gelu(
            patches @ clip["projector.projector.0.weight"].T + clip["projector.projector.0.bias"]
        )
        hidden = (
            hidden @ clip["projector.projector.2.weight"].T + clip["projector.projector.2.bias"]
        )
        expected = F.layer_norm(
            hidden, (64,), clip["post_layernorm.weight"], clip["post_layernorm.bias"], eps=1e-5
        )
        assert_close(model.vision(pixels), expected, atol=1e-5, rtol=0)
        hidden = F.gelu(
            F.gelu(states @ sd["projector.projector.0.weight"].T)
            @ sd["projector.projector.2.weight"].T
        )
        assert_close(
            model.decoder.projector(states),
            hidden @ sd["projector.projector.4.weight"].T,
            atol=1e-4,
            rtol=0,
        )
    minidream.save(model, tmp_path / "again")
    assert_same(minidream.load(tmp_path / "again", device="cpu"), model)


# --------------------------------------------------------------------------------------------------
# One file with everything, as FSDP leaves it; shards; the oldest files


def everything(folder: Path) -> dict:
    tensors = load_file(folder / "model.safetensors")
    for plugin, prefix in PLUGINS.items():
        tensors |= {
            prefix + name: tensor for name, tensor in read(folder / f"{plugin}.bin").items()
        }
    return tensors


def test_one_file_with_everything_in_it(copy, official):
    torch.save(everything(copy), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert_same(load(copy), official)  # what is repeated is left aside ...
    for plugin in PLUGINS:
        (copy / f"{plugin}.bin").unlink()
    assert_same(load(copy), official)  # ... and taken where a plugin has no file


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update({"stable_diffusion_head.unet.conv_inn.bias": torch.ones(2)}),
        lambda tensors: tensors.update({"stable_diffusion_head.unet.conv_in.bias": torch.ones(7)}),
    ],
)
def test_repeated_tensors_must_be_those_of_the_plugins(copy, change):
    tensors = everything(copy)
    change(tensors)
    torch.save(tensors, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(
        ValueError,
        match=r"pytorch_model\.bin repeats tensors of stable_diffusion_head\.bin.*"
        r"stable_diffusion_head\.unet\.conv_in",
    ):
        load(copy)
    (copy / "stable_diffusion_head.bin").unlink()
    with pytest.raises(ValueError, match=r"pytorch_model\.bin does not fit.*unet\.conv_in"):
        load(copy)


def test_shards_of_pickled_tensors(copy, official):
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:7], names[7:30], names[30:]), start=1):
        shard = f"pytorch_model-0000{number}-of-00003.bin"
        torch.save({name: tensors[name] for name in part}, copy / shard)
        weight_map |= dict.fromkeys(part, shard)
    (copy / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8"
    )
    assert_same(load(copy), official)


def test_dream_queries_without_a_name(copy, official):
    torch.save(
        torch.nn.Parameter(read(copy / "dream_embedding.bin")["dream_queries"]),
        copy / "dream_queries.pt",
    )
    (copy / "dream_embedding.bin").unlink()
    assert_same(load(copy), official)


@pytest.mark.parametrize(
    "plugin, alone, rest",
    [
        ("clip_vision_embedding", "clip_vision_model_projector.pt", "CLIP tower"),
        ("stable_diffusion_head", "unet_projector.pt", "VAE and the U-Net"),
        ("stable_diffusion_head", "stable_diffusion_head_projector.bin", "VAE and the U-Net"),
    ],
)
def test_a_projector_alone_does_not_suffice(copy, plugin, alone, rest):
    (copy / f"{plugin}.bin").rename(copy / alone)
    with pytest.raises(
        FileNotFoundError,
        match=rf"{plugin}\.bin is missing: {alone} is there, but holds the projector alone.*{rest}",
    ):
        load(copy)


# --------------------------------------------------------------------------------------------------
# Errors in shards name the shard


def spoil(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def index_of(folder: Path) -> dict:
    return json.loads((folder / "model.safetensors.index.json").read_bytes())


def test_an_index_that_names_an_absent_shard(shards):
    (shards / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"model-00002-of-00003\.safetensors is missing; "
        r"model\.safetensors\.index\.json lists it",
    ):
        load(shards)


def test_a_truncated_shard(shards):
    path = shards / "model-00003-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"model-00003-of-00003\.safetensors cannot be read, it may be cut short"
    ):
        load(shards)


def test_a_truncated_plugin(copy):
    path = copy / "stable_diffusion_head.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(
        ValueError, match=r"stable_diffusion_head\.bin cannot be read, it may be cut short"
    ):
        load(copy)


def test_a_misshapen_tensor_in_a_shard(shards):
    spoil(
        shards / "model-00003-of-00003.safetensors",
        lambda tensors: tensors.update({"lm_head.weight": torch.ones(7, 64)}),
    )
    with pytest.raises(
        ValueError,
        match=r"1 misshapen: lm_head\.weight in model-00003-of-00003\.safetensors "
        r"\(7, 64\) instead of \(128, 64\)",
    ):
        load(shards)


def test_a_shard_and_the_index_that_disagree(shards):
    spoil(
        shards / "model-00003-of-00003.safetensors",
        lambda tensors: tensors.update({"lm_heat.weight": tensors.pop("lm_head.weight")}),
    )
    with pytest.raises(
        ValueError,
        match=r"model-00003-of-00003\.safetensors and its index name different tensors: "
        r"\['lm_head\.weight', 'lm_heat\.weight'\]",
    ):
        load(shards)


def test_a_tensor_that_no_shard_has(shards):
    spoil(
        shards / "model-00003-of-00003.safetensors", lambda tensors: tensors.pop("lm_head.weight")
    )
    index = index_of(shards)
    del index["weight_map"]["lm_head.weight"]
    (shards / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(
        ValueError,
        match=r"model\.safetensors\.index\.json does not fit the model\. "
        r"Tensors 1 missing: lm_head\.weight",
    ):
        load(shards)
    (shards / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json has no \"weight_map\""):
        load(shards)


def test_a_file_that_holds_more_than_tensors(copy):
    torch.save({"dream_queries": torch.ones(1, 8, 64), "epoch": 3}, copy / "dream_embedding.bin")
    with pytest.raises(
        ValueError, match=r"dream_embedding\.bin holds more than named tensors: \['epoch'\]"
    ):
        load(copy)


# --------------------------------------------------------------------------------------------------
# config.json


def test_a_config_that_says_little_means_the_official_defaults(copy, official):
    def change(config):
        for name in (
            "num_key_value_heads",
            "rope_theta",
            "rms_norm_eps",
            "loss_weight_lm",
            "loss_weight_vm",
            "loss_scale_schedule",
            "attention_bias",
            "hidden_act",
            "pretraining_tp",
            "plugins_type",
            "log_attentions",
        ):
            del config[name]
        config["rope_scaling"] = None
        for plugin, keep in (
            ("dream_embedding", ["num_dream_queries"]),
            ("clip_vision_embedding", []),
            ("stable_diffusion_head", []),
        ):
            config["plugins_init_kwargs"][plugin] = {
                name: config["plugins_init_kwargs"][plugin][name] for name in keep
            }
            config["plugins_init_kwargs"][plugin]["pretrained_model_name_or_path"] = (
                "/mnt/author/stage3/checkpoint-1200"
            )

    change_config(copy, change)
    model = load(copy)
    assert_same(model, official)
    assert (
        model.llm.config == official.llm.config
        and model.config == official.config
        and model.decoder.config == official.decoder.config
    )
    model = unfilled({})
    assert (
        model.llm.config.vocab_size == 32000
        and model.dream_queries.shape == (1, 64, 4096)
        and model.vision.select_layer == -2
    )


def test_training_options_of_the_config_are_taken(copy):
    def change(config):
        config["plugins_init_kwargs"]["stable_diffusion_head"] |= {
            "noise_offset": 0.05,
            "input_perturbation": 0.1,
            "snr_gamma": 5.0,
            "drop_prob": 0.2,
        }
        config |= {"loss_scale_schedule": "l2_norm", "loss_weight_lm": 3.0, "loss_weight_vm": 4.0}

    change_config(copy, change)
    model = load(copy)
    options = model.decoder.config
    assert (
        options.noise_offset,
        options.input_perturbation,
        options.snr_gamma,
        options.drop_prob,
    ) == (0.05, 0.1, 5.0, 0.2)
    assert model.config.loss_scale == 5.0
    minidream.save(model, copy.parent / "again")
    again = minidream.load(copy.parent / "again", device="cpu")
    assert again.decoder.config == options and again.config == model.config


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda config: config.update(model_type="llama"), "'llama' model, not of a 'dreamllm'"),
        (
            lambda config: config.update(rope_scaling={"type": "linear", "factor": 2.0}),
            "rope_scaling is .*linear",
        ),
        (lambda config: config.update(hidden_act="gelu"), "hidden_act is 'gelu'"),
        (lambda config: config.update(attention_bias=True), "attention_bias is True"),
        (lambda config: config.update(tie_word_embeddings=True), "tie_word_embeddings is True"),
        (
            lambda config: config.update(num_attention_heads=5),
            "hidden_size 64 is not a multiple of num_attention_heads 5",
        ),
        (lambda config: config.update(loss_scale_schedule="linf"), "not 'linf'"),
        (
            lambda config: config["plugins_init_kwargs"].update(controlnet_head={}),
            "plugins that are not known here: controlnet_head",
        ),
        (
            lambda config: config["plugins_init_kwargs"]["dream_embedding"].update(
                embed_hidden_size=65
            ),
            "dream_embedding is made for .* width 65; this one has 64",
        ),
        (
            lambda config: config["plugins_init_kwargs"]["clip_vision_embedding"].update(
                projector_type="conv"
            ),
            "projector of type 'conv' and depth 1",
        ),
        (
            lambda config: config["plugins_init_kwargs"]["stable_diffusion_head"].update(
                projector_depth=2
            ),
            "projector of type 'linear' and depth 2",
        ),
    ],
)
def test_another_model_is_refused(copy, change, words):
    change_config(copy, change)
    with pytest.raises(ValueError, match=words) as error:
        load(copy)
    assert "config.json" in str(error.value)


def set_ids(**ids):
    return lambda config: config["special_tokens2ids_dict"]["additional_special_tokens"].update(
        {f"<{name}>": number for name, number in ids.items()}
    )


@pytest.mark.parametrize(
    "change, words",
    [
        (
            set_ids(dream_start=122, dream_end=123),
            r"disagree about .*'<dream_start>': \(123, 122\)",
        ),
        (lambda config: config.update(bos_token_id=5), r"disagree about \{'<s>': \(5, 1\)\}"),
        (
            lambda config: config["special_tokens2ids_dict"]["additional_special_tokens"].pop(
                "<im_patch>"
            ),
            "no id for <im_patch>",
        ),
        (lambda config: config.pop("special_tokens2ids_dict"), r"no id for \[PAD\], <s>"),
        (
            lambda config: config.update(vocab_size=127),
            "ids up to 127; config.json says a vocabulary of 127",
        ),
    ],
)
def test_special_tokens_that_do_not_agree_are_refused(copy, change, words):
    change_config(copy, change)
    with pytest.raises(ValueError, match=words) as error:
        load(copy)
    assert "config.json" in str(error.value)


def test_special_tokens_among_the_pieces_are_refused(copy):
    change_config(copy, set_ids(im_patch=50))
    added = json.loads((copy / "added_tokens.json").read_bytes())
    (copy / "added_tokens.json").write_text(
        json.dumps(added | {"<im_patch>": 50}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"<im_patch>.* 50.*120 pieces"):
        load(copy)


# --------------------------------------------------------------------------------------------------
# Back into the official layout


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_what_is_loaded_and_saved_is_the_same(official, tmp_path, dtype):
    model = load(TINY / "checkpoint", dtype=dtype)
    minidream.save(model, tmp_path / "saved")
    assert_same(minidream.load(tmp_path / "saved", device="cpu"), model)
    for name in (
        "model.safetensors",
        *(f"{plugin}.bin" for plugin in PLUGINS),
    ):  # mapped tensors drag no whole file along
        assert (tmp_path / "saved" / name).stat().st_size <= 1.1 * (
            TINY / "checkpoint" / name
        ).stat().st_size / (1 if dtype is None else 1.5) + 2000


def test_saved_files_have_the_names_and_values_of_the_official_ones(official, tmp_path):
    minidream.save(official, tmp_path / "saved")
    theirs, ours = TINY / "checkpoint", tmp_path / "saved"
    pairs = [(load_file(theirs / "model.safetensors"), load_file(ours / "model.safetensors"))]
    pairs += [(read(theirs / f"{plugin}.bin"), read(ours / f"{plugin}.bin")) for plugin in PLUGINS]
    for their, our in pairs:
        assert their.keys() == our.keys()
        assert all(torch.equal(their[name], our[name]) for name in their)
    one, other = (json.loads((folder / "config.json").read_bytes()) for folder in (theirs, ours))
    for name in (
        "_target_",
        "clip_vision_model_name_or_path",
        "embed_hidden_size",
        "num_dream_queries",
        "projector_type",
        "projector_depth",
        "select_layer",
        "use_additional_post_layernorm",
        "diffusion_name_or_path",
        "resolution",
        "pretrained_model_name_or_path",
    ):
        for plugin in PLUGINS:
            assert one["plugins_init_kwargs"][plugin].get(name) == other["plugins_init_kwargs"][
                plugin
            ].get(name), name
    written_for_others = {
        "_name_or_path",
        "initializer_range",
        "log_attentions",
        "log_hidden_states",
        "plugins_init_kwargs",
        "pretraining_tp",
        "transformers_version",
        "use_cache",
    }
    assert {name: one[name] for name in one if name not in written_for_others} == {
        name: other[name] for name in one if name not in written_for_others
    }
    for name in ("added_tokens.json", "generation_config.json"):
        one, other = (json.loads((folder / name).read_bytes()) for folder in (theirs, ours))
        assert other.items() <= one.items()
    assert (theirs / "tokenizer.model").read_bytes() == (ours / "tokenizer.model").read_bytes()


def test_a_large_language_model_is_written_in_shards(official, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", 250_000)
    minidream.save(official, tmp_path / "saved")
    index = index_of(tmp_path / "saved")
    names = sorted(path.name for path in (tmp_path / "saved").glob("model*.safetensors"))
    assert names == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]
    theirs = index_of(TINY / "checkpoint_sharded")
    assert (
        index["metadata"] == theirs["metadata"]
        and index["weight_map"].keys() == theirs["weight_map"].keys()
    )
    for name in names:
        tensors = load_file(tmp_path / "saved" / name)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 250_000
        assert set(tensors) == {
            tensor for tensor, where in index["weight_map"].items() if where == name
        }
    assert_same(minidream.load(tmp_path / "saved", device="cpu"), official)
