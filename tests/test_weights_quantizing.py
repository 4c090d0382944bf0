"""Eight and four bits: what is stored, how near the states stay, and how much memory reading takes.

The tests that quantize need torchao, which is an optional extra.
"""

import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from models_shared import TINY
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import minidream
from minidream.weights import loading, quantizing, reading
from minidream.weights.quantizing import packed_bytes, quantizer, stored_bytes
from minidream.weights.scanning import scan_file

CPU = torch.device("cpu")
CONFIGS = TINY / "component_configs"
# The largest error of a state over the largest state, by form, that these sizes may have.
NEAR = {"int8": 0.05, "int4": 0.35}
every_form = pytest.mark.parametrize("form", quantizing.FORMS)


@pytest.fixture(scope="module")
def torchao() -> None:
    """Skips what needs torchao where it is not installed."""
    pytest.importorskip("torchao", reason="torchao is an optional extra: pip install torchao")


@pytest.fixture(scope="module")
def exact() -> minidream.DreamLLM:
    """The tiny official checkpoint in float32."""
    return minidream.load(TINY / "checkpoint", CPU, component_configs=CONFIGS)


def packed(form: str, **options) -> minidream.DreamLLM:
    """The same, quantized."""
    folder = TINY / "checkpoint"
    return minidream.load(folder, CPU, component_configs=CONFIGS, quantize=form, **options)


def matrices_of(model) -> list[torch.Tensor]:
    """The weights of all linear layers of the language model's layers."""
    linear = (part for part in model.llm.layers.modules() if isinstance(part, nn.Linear))
    return [part.weight for part in linear]


# --------------------------------------------------------------------------------------------------
# Refused before any work


@pytest.mark.parametrize("form", ["int3", "INT8", "", 8, True, torch.int8, ["int8"]])
def test_an_unknown_form_is_refused_with_what_there_is(monkeypatch, form):
    monkeypatch.setattr(loading, "find", lambda name: pytest.fail("a folder was searched"))
    words = re.escape(f'quantize is None, "int8" or "int4", not {form!r}')
    with pytest.raises(ValueError, match=words):
        minidream.load("toy", quantize=form)


@every_form
def test_without_torchao_it_is_said_how_to_get_it(monkeypatch, form):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    monkeypatch.setitem(sys.modules, "torchao.prototype.quantization.int4", None)
    monkeypatch.setattr(loading, "find", lambda name: pytest.fail("a folder was searched"))
    with pytest.raises(ImportError) as error:
        minidream.load("toy", CPU, quantize=form)
    assert str(error.value) == (
        f'quantize="{form}" needs torchao 0.18 or newer, which is not installed: pip install '
        '"minidream[int8]", or pip install torchao'
    )


@pytest.mark.parametrize(
    "device, said",
    [("cuda:1", "cuda:1 has compute capability 7.5; "), ("mps", "the device is mps; ")],
)
def test_int4_on_a_device_without_a_layout_for_it(monkeypatch, device, said):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match=rf'^quantize="int4" exists for the CPU.* and {said}'):
        quantizer("int4", torch.device(device))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    quantizing.check_device(torch.device("cuda"))


@pytest.mark.parametrize(
    "form, dtype", [("int8", "float64"), ("int4", "float64"), ("int8", "float16")]
)
def test_a_dtype_in_which_it_does_not_work_is_refused(monkeypatch, form, dtype):
    words = f"quantize='{form}' does not work in {dtype}: .*; choose dtype=torch.bfloat16"
    with pytest.raises(ValueError, match=words):
        quantizing.check_dtype(form, getattr(torch, dtype))
    monkeypatch.setattr(loading, "find", lambda name: pytest.fail("a folder was searched"))
    with pytest.raises(ValueError, match=words):
        minidream.load("toy", CPU, dtype=dtype, quantize=form)


def test_weights_that_are_stored_in_such_a_dtype_are_refused_before_they_are_read():
    shapes = {"lm_head.weight": (7, 5), "model.layers.0.mlp.up_proj.weight": (3, 5)}
    dtypes = {"lm_head.weight": torch.float16, "model.layers.0.mlp.up_proj.weight": torch.bfloat16}
    quantizing.check_matrices("int8", shapes, dtypes, CPU)
    dtypes["model.layers.0.mlp.up_proj.weight"] = torch.float16
    with pytest.raises(ValueError, match="'int8' does not work in float16"):
        quantizing.check_matrices("int8", shapes, dtypes, CPU)


def test_matrices_that_int4_cannot_pack_are_named():
    assert quantizing.group_size((16, 256), "cpu") == 128
    assert quantizing.group_size((16, 192), "cpu") == 64
    assert quantizing.group_size((8, 96), "cuda") == 32
    shapes = {
        "lm_head.weight": (7, 5),
        "model.layers.0.input_layernorm.weight": (5,),
        "model.layers.1.mlp.up_proj.weight": (24, 64),
    }
    dtypes = dict.fromkeys(shapes, torch.bfloat16)
    quantizing.check_matrices("int4", shapes, dtypes, torch.device("cuda"))
    with pytest.raises(ValueError, match=r"pack model\.layers\.1\.mlp\.up_proj\.weight: .* 24 ro"):
        quantizing.check_matrices("int4", shapes, dtypes, CPU)
    with pytest.raises(ValueError, match="16 rows and 48 columns"):
        quantizing.group_size((16, 48), "cpu")


# --------------------------------------------------------------------------------------------------
# What is stored


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_those_of_the_formula(torchao, form, dtype):
    quantized = quantizer(form, CPU)
    for shape in ((48, 32), (16, 192), (32, 256)):
        matrix = quantized(torch.randn(shape, dtype=dtype))
        assert matrix.shape == shape and matrix.dtype == dtype
        assert stored_bytes(matrix) == packed_bytes(shape, form, dtype.itemsize)


def test_bytes_by_hand():
    assert packed_bytes((16, 256), "int8", 2) == 16 * 256 + 16 * 5
    assert packed_bytes((16, 256), "int4", 2) == 8 * 256 + 16 * 2 * 4
    assert packed_bytes((16, 256), "int4", 4) == 8 * 256 + 16 * 2 * 8
    # CUDA's layout fills rows of 256 up to 1024, always with two numbers in bfloat16 for a group.
    assert packed_bytes((16, 256), "int4", 4, "cuda") == 8 * 1024 + 16 * 8 * 4
    assert packed_bytes((16, 1024), "int4", 4, "cuda") == 8 * 1024 + 16 * 8 * 4


@every_form
def test_the_layers_of_the_language_model_are_packed_and_nothing_else(torchao, exact, form):
    model = packed(form)
    assert len(matrices_of(model)) == 4 * 7
    inside = {id(weight) for weight in matrices_of(model)}
    for (name, one), other in zip(exact.named_parameters(), model.parameters(), strict=True):
        is_packed = type(other.data).__module__.startswith("torchao")
        assert is_packed == (id(other) in inside), name
        assert is_packed or torch.equal(one, other), name
    shapes = [tuple(each.shape) for each in exact.llm.layers.parameters() if each.dim() == 2]
    saved = sum(4 * math.prod(shape) - packed_bytes(shape, form, 4) for shape in shapes)
    total = sum(map(stored_bytes, exact.state_dict().values()))
    assert sum(map(stored_bytes, model.state_dict().values())) == total - saved


# --------------------------------------------------------------------------------------------------
# What it can do


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_are_near_those_of_float32(torchao, exact, form, dtype):
    prompts = ["A cat", "Two small birds on a branch"]
    states = exact.encode(prompts)
    near = packed(form, dtype=dtype).encode(prompts).float()
    error = (near - states).abs().max() / states.abs().max()
    assert 0 < error < NEAR[form]


@every_form
def test_a_packed_model_paints_and_answers_and_is_not_saved(torchao, form, tmp_path):
    model = packed(form)
    options = {"num_inference_steps": 2, "output_type": "pt"}
    image = model.dream("A cat", **options)
    assert image.shape == (3, 32, 32) and image.isfinite().all() and image.std() > 0
    assert torch.equal(image, model.dream("A cat", **options))
    answer = model.chat([Image.new("RGB", (40, 30), "red"), "A cat"], max_new_tokens=3)
    assert isinstance(answer, str)
    trace = minidream.probe.dream_attention(model, "A cat")
    torch.testing.assert_close(trace.weights.sum(dim=-1), torch.ones(trace.weights.shape[:-1]))
    with pytest.raises(ValueError, match=r"quantized model is not written.*q_proj\.weight"):
        minidream.save(model, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@every_form
def test_the_toy_is_packed_after_it_was_read(torchao, form):
    model, exact = minidream.load("toy", CPU, quantize=form), minidream.load("toy", CPU)
    assert {type(weight.data).__module__.split(".")[0] for weight in matrices_of(model)} == {
        "torchao"
    }
    prompt = "a large red circle"
    error = (model.encode(prompt) - exact.encode(prompt)).abs().max()
    assert 0 < error < NEAR[form] * exact.encode(prompt).abs().max()


# --------------------------------------------------------------------------------------------------
# Memory while reading


def status(what: str) -> int:
    """This process's resident memory in bytes: "RssFile" of mapped files, "RssAnon" all else."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"^{what}:\s+(\d+)", text, re.MULTILINE)[1]) * 1024


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="how much resident memory belongs to files is known on Linux alone",
)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_no_more_is_held_than_what_is_packed(torchao, tmp_path, monkeypatch, suffix):
    """200 MB in bfloat16 become 100 in int8, and what is held never exceeds 1.2 times that.

    Norms and word embeddings lie between the matrices in the file and stay mapped; nothing that was
    read for packing stays resident with them.
    """
    stored = {"model.embed_tokens.weight": torch.zeros(4096, 1024, dtype=torch.bfloat16)}
    for layer in range(384):
        name = f"model.layers.{layer}."
        stored[f"{name}input_layernorm.weight"] = torch.ones(1024, dtype=torch.bfloat16)
        stored[f"{name}mlp.up_proj.weight"] = torch.randn(256, 1024).bfloat16()
    path = tmp_path / f"model{suffix}"
    save_file(stored, path) if suffix == ".safetensors" else torch.save(stored, path)
    del stored
    tensors, quantized = scan_file(path), quantizer("int8", CPU)
    monkeypatch.setattr(reading, "BYTES_PER_MAPPING", 2**21)
    first = {name: tensors[name] for name in list(tensors)[:5]}
    reading.load_tensors(first, CPU, None, quantized)  # what is set up on first use
    most = {"RssAnon": 0, "RssFile": 0}

    def watched(matrix):
        result = quantized(matrix)
        most.update({what: max(size, status(what)) for what, size in most.items()})
        return result

    reading.release_freed()  # else what was freed before would be used again, and not be counted
    before = {what: status(what) for what in most}
    loaded = reading.load_tensors(tensors, CPU, None, watched)
    matrices = [tensor for name, tensor in loaded.items() if name.endswith("up_proj.weight")]
    needed = sum(map(stored_bytes, matrices))
    assert len(matrices) == 384 and needed == 384 * packed_bytes((256, 1024), "int8", 2)
    grown = {what: most[what] - before[what] for what in most}
    assert needed * 0.8 < grown["RssAnon"] <= needed * 1.2
    # Twice as much was read. Portions of it, and what is read ahead, are mapped for a time.
    assert grown["RssFile"] <= needed * 0.4, "what was read is still mapped"
    assert loaded["model.embed_tokens.weight"].sum() == 0  # mapped, and read now


def test_each_matrix_is_packed_once_and_the_rest_is_left(tmp_path):
    stored = {
        "model.layers.0.mlp.up_proj.weight": torch.full((3, 5), 7.0),
        "model.norm.weight": torch.ones(5),
        "model.layers.0.input_layernorm.weight": torch.ones(5),
        "lm_head.weight": torch.ones(2, 5),
    }
    save_file(stored, tmp_path / "model.safetensors")
    seen = []

    def quantized(matrix):
        seen.append(matrix.clone())
        return matrix.to(torch.int8)

    tensors = scan_file(tmp_path / "model.safetensors")
    loaded = reading.load_tensors(tensors, CPU, torch.bfloat16, quantized)
    assert [matrix.shape for matrix in seen] == [(3, 5)] and seen[0].dtype == torch.bfloat16
    assert loaded.keys() == stored.keys()
    dtypes = {name: tensor.dtype for name, tensor in loaded.items()}
    assert dtypes.pop("model.layers.0.mlp.up_proj.weight") == torch.int8
    assert set(dtypes.values()) == {torch.bfloat16}


def test_memory_is_checked_for_what_is_packed(monkeypatch):
    parts = reading.scan_folder(TINY / "checkpoint")
    plain = reading.bytes_needed(parts, None, None)
    needed = {form: reading.bytes_needed(parts, None, form) for form in quantizing.FORMS}
    assert needed["int4"] < needed["int8"] < plain
    free = SimpleNamespace(available=needed["int4"] - 1)
    monkeypatch.setattr(reading.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(reading, "load_tensors", lambda *_: pytest.fail("reading had begun"))
    monkeypatch.setattr(loading, "quantizer", lambda *_: lambda matrix: matrix)
    with pytest.raises(MemoryError, match=r'checkpoint take .*quantize="int4" once more'):
        packed("int4")
