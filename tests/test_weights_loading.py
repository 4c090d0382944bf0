"""How a name becomes a folder (with a hub that is not there), and the checks before reading."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import minidream
from minidream import weights
from minidream.tokenizers import ToyTokenizer
from minidream.weights import fake, loading, reading, scanning, toy, writing
from minidream.weights.files import read_json, write_json
from minidream.world.language import VOCABULARY

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
CPU = torch.device("cpu")


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the tiny official checkpoint, with its component configs."""
    folder = Path(shutil.copytree(TINY / "checkpoint", tmp_path / "copy"))
    shutil.copytree(TINY / "component_configs", folder / "component_configs")
    return folder


# --------------------------------------------------------------------------------------------------
# The hub


@pytest.fixture
def hub(monkeypatch, copy) -> list:
    """A hub where every repository is the tiny checkpoint; the list of what is downloaded."""
    downloads = []

    def snapshot_download(name, ignore_patterns):
        downloads.append((name, ignore_patterns))
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return downloads


@pytest.mark.parametrize("name", [*weights.HUB_NAMES, "someone/their-dreamllm"])
def test_a_hub_name_is_downloaded_without_the_pickled_training_arguments(
    hub, copy, monkeypatch, name
):
    monkeypatch.chdir(copy)
    assert weights.find(name) == copy
    assert hub == [(name, ["training_args.bin"])]


def test_a_model_is_loaded_from_the_hub_as_from_its_folder(hub, copy):
    model, expected = minidream.load("someone/theirs", CPU), minidream.load(copy, CPU)
    assert hub == [("someone/theirs", ["training_args.bin"])]
    assert_close(dict(model.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


def test_a_failed_download_is_an_error_with_its_reason(monkeypatch):
    def no_network(name, ignore_patterns):
        raise ConnectionError("the network is unreachable")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(
        ValueError, match="'someone/theirs' is not a folder.*is unreachable"
    ) as error:
        weights.find("someone/theirs")
    assert isinstance(error.value.__cause__, ConnectionError)


@pytest.mark.parametrize(
    "name",
    [
        "toyy",
        "a/b/c",
        "./runs/toy",
        "../toy",
        "/nowhere",
        "~/toy",
        Path("someone/theirs"),
        "runs/missing",  # `runs` is a folder, so this is a mistyped path
    ],
)
def test_a_name_that_cannot_be_on_the_hub_is_never_asked_for_there(
    hub, monkeypatch, tmp_path, name
):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no weights are known as") as error:
        weights.find(name)
    assert hub == []
    for known in (repr(str(name)), '"toy"', "official layout", "minidream.train", "dreamllm-7b"):
        assert known in str(error.value)


# --------------------------------------------------------------------------------------------------
# Folders


def test_a_folder_is_a_checkpoint_or_a_finished_training_or_an_error(hub, copy, tmp_path):
    training = tmp_path / "training"
    training.mkdir()
    (training / "stage2.llm.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="training/config.json is missing.*finished train"):
        weights.find(training)
    (training / "stage3.llm.safetensors").touch()
    assert weights.find(training) == training
    assert weights.find(str(copy)) == copy
    assert weights.find("toy") == weights.PRETRAINED / "toy"
    with pytest.raises(FileNotFoundError, match=r"clip\.clip_vision\.safetensors.*train clip`"):
        minidream.load(training, CPU)
    assert hub == []


@pytest.fixture
def cache(monkeypatch, tmp_path) -> dict[str, Path]:
    """The hub's cache: {name of a repository: folder}; the second of the known names is there."""
    monkeypatch.delenv("MINIDREAM_7B", raising=False)
    folders = {
        weights.HUB_NAMES[1]: Path(shutil.copytree(TINY / "checkpoint", tmp_path / "second"))
    }

    def try_to_load_from_cache(name, file):
        if name not in folders:
            return None
        path = folders[name] / file
        # The hub's client returns an object, not None, for a file that the repository lacks.
        return str(path) if path.exists() else object()

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", try_to_load_from_cache)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("a download")
    )
    return folders


def test_the_first_complete_download_is_taken(cache, tmp_path):
    first, second = weights.HUB_NAMES
    assert weights.find_full() == cache[second]
    cache[first] = Path(shutil.copytree(TINY / "checkpoint", tmp_path / "first"))
    assert weights.find_full() == cache[first]
    (cache[first] / "dream_embedding.bin").unlink()
    assert weights.find_full() == cache[second]
    (cache[second] / "config.json").unlink()
    assert weights.find_full() is None


def test_a_damaged_download_is_an_error_and_not_skipped(cache):
    path = cache[weights.HUB_NAMES[1]] / "stable_diffusion_head.bin"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"stable_diffusion_head\.bin cannot be read"):
        weights.find_full()


def test_the_environment_names_a_checkpoint_or_a_training(cache, monkeypatch, copy, tmp_path):
    monkeypatch.setenv("MINIDREAM_7B", str(copy))
    assert weights.find_full() == copy
    monkeypatch.setenv("MINIDREAM_7B", "toy")  # a folder has to be named, not a name of `load`
    with pytest.raises(FileNotFoundError, match="MINIDREAM_7B is 'toy', which is not a folder"):
        weights.find_full()
    monkeypatch.setenv("MINIDREAM_7B", "")  # as good as unset
    assert weights.find_full() == cache[weights.HUB_NAMES[1]]


# --------------------------------------------------------------------------------------------------
# Paths, dtypes and devices as users give them


@pytest.fixture
def home(monkeypatch, copy) -> Path:
    """The home folder; the tiny checkpoint is in it, as `copy`."""
    monkeypatch.setenv("HOME", str(copy.parent))
    return copy.parent


@pytest.mark.parametrize("name", ["~/copy", b"~/copy", Path("~/copy")])
def test_a_path_may_begin_at_home(home, name):
    assert weights.find(name) == home / "copy"
    model = minidream.load(name, CPU, component_configs="~/copy/component_configs")
    assert weights.inventory(name)["dream_embedding.bin"][0] == 1
    assert model.queries == 8


def test_the_environment_may_name_a_folder_at_home(home, monkeypatch):
    monkeypatch.setenv("MINIDREAM_7B", "~/copy")
    assert weights.find_full() == home / "copy"


def test_component_configs_at_home(home, copy):
    (copy / "component_configs").rename(home / "configs")
    assert minidream.load(copy, CPU, component_configs="~/configs").queries == 8
    with pytest.raises(
        FileNotFoundError, match=rf"{home}/none/clip_vision/config\.json is missing"
    ):
        minidream.load(copy, CPU, component_configs="~/none")


def test_a_folder_at_home_that_is_there_already_is_not_written(home):
    with pytest.raises(FileExistsError, match=str(home / "copy")):
        fake.fake_7b("~/copy", progress=False)


@pytest.mark.parametrize("name", [None, 3, ["toy"]])
def test_a_name_that_is_no_path(name):
    with pytest.raises(TypeError, match="expected str, bytes or os.PathLike"):
        minidream.load(name)


def test_no_name_is_not_the_current_folder(copy, monkeypatch):
    monkeypatch.chdir(copy)
    with pytest.raises(ValueError, match="no weights are known as ''"):
        minidream.load("", CPU)


@pytest.mark.parametrize(
    "given, dtype",
    [
        ("bfloat16", torch.bfloat16),
        ("torch.bfloat16", torch.bfloat16),
        (torch.bfloat16, torch.bfloat16),
        ("float16", torch.float16),
        ("half", torch.float16),  # torch's own other name
        ("float64", torch.float64),
        ("float32", torch.float32),
        ("auto", torch.float32),
        (None, torch.float32),
    ],
)
def test_a_dtype_may_be_given_by_its_name(copy, given, dtype):
    model = minidream.load(copy, CPU, dtype=given)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_the_automatic_dtype_is_that_of_the_config():
    assert minidream.load("toy", CPU).dream_queries.dtype == torch.float32
    assert minidream.load("toy", CPU, dtype="auto").dream_queries.dtype == torch.float16


@pytest.mark.parametrize(
    "fields, dtype",
    [
        ({"torch_dtype": "bfloat16"}, torch.bfloat16),
        ({"torch_dtype": None, "dtype": "float16"}, torch.float16),
        ({"torch_dtype": "torch.float16", "dtype": "float16"}, torch.float16),
        ({"torch_dtype": None}, torch.float32),  # as stored
        ({"torch_dtype": "auto"}, torch.float32),
    ],
)
def test_the_automatic_dtype_under_old_and_new_names(copy, fields, dtype):
    write_json(read_json(copy / "config.json") | fields, copy / "config.json")
    assert minidream.load(copy, CPU, dtype="auto").dream_queries.dtype == dtype
    assert minidream.load(copy, CPU).dream_queries.dtype == torch.float32


@pytest.mark.parametrize(
    "fields", [{"torch_dtype": "int8"}, {"dtype": "bfloat16"}, {"torch_dtype": 3}]
)
def test_a_config_whose_dtype_is_none_or_two(copy, fields):
    write_json(read_json(copy / "config.json") | fields, copy / "config.json")
    with pytest.raises(ValueError, match=r"config\.json: the dtype is given as .*torch_dtype"):
        minidream.load(copy, CPU, dtype="auto")


@pytest.mark.parametrize(
    "dtype",
    [
        "bf16",
        "int8",
        "float8_e4m3fn",
        "",
        "nn",
        torch.int64,
        torch.complex64,
        float,
        16,
        ["float32"],
    ],
)
def test_another_dtype_is_refused_before_anything_is_searched(monkeypatch, dtype):
    monkeypatch.setattr(loading, "find", lambda name: pytest.fail("a folder was searched"))
    with pytest.raises(
        ValueError, match='None, "auto" or one of float32, bfloat16, .*, not'
    ) as error:
        minidream.load("toy", CPU, dtype=dtype)
    assert repr(dtype) in str(error.value)


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:99", "", "meta", "cpu:x", 99, 1.5, torch.device("mps")]
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_searched(monkeypatch, device):
    monkeypatch.setattr(loading, "find", lambda name: pytest.fail("a folder was searched"))
    with pytest.raises(ValueError, match="cannot be used; here there are cpu") as error:
        minidream.load("toy", device)
    assert str(device) in str(error.value)


@pytest.mark.parametrize("given", ["", b"", 0, False, [], np.zeros(2), torch.zeros(0)], ids=repr)
@pytest.mark.parametrize("option", ["component_configs", "quantize", "dtype"])
def test_an_option_that_is_falsy_is_not_ignored(monkeypatch, option, given):
    monkeypatch.setattr(loading, "find", lambda name: pytest.fail("a folder was searched"))
    with pytest.raises((TypeError, ValueError), match=f"^{option} is "):
        minidream.load("toy", **{option: given})


def test_component_configs_of_a_training_which_has_none(tmp_path):
    (tmp_path / "stage3.llm.safetensors").touch()
    with pytest.raises(ValueError, match="component_configs '/configs' would have no effect"):
        minidream.load(tmp_path, CPU, component_configs="/configs")


@pytest.mark.parametrize("old", [True, False], ids=["old format", "zip"])
@pytest.mark.parametrize(
    "change, said",
    [
        (torch.Tensor.to_sparse, "torch.sparse_coo"),
        (lambda tensor: tensor.to("meta"), "on the meta device"),
    ],
    ids=["sparse", "meta"],
)
def test_a_tensor_without_all_its_values_is_named_with_its_file(copy, change, said, old):
    path, name = copy / "dream_embedding.bin", "dream_queries"
    tensors = torch.load(path, weights_only=True)
    changed = tensors | {name: change(tensors[name])}
    torch.save(changed, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError) as error:
        minidream.load(copy, CPU)
    assert str(error.value).startswith(f"{path}: {name} is {said}"), error.value


def test_weights_that_were_quantized_elsewhere_are_refused(copy):
    path = copy / "dream_embedding.bin"
    tensors = torch.load(path, weights_only=True)
    torch.save({name: tensor.to(torch.int8) for name, tensor in tensors.items()}, path)
    with pytest.raises(
        ValueError, match=r"dream_embedding\.bin.*floating-point.*: dream_queries torch\.int8"
    ):
        minidream.load(copy, CPU)


# --------------------------------------------------------------------------------------------------
# Room in memory and on the disk


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_checked_to_the_byte(monkeypatch, device):
    needed = 3_000_000_000
    cases = {"cpu": 2_900_000_000, "cuda": 1_200_000_000}

    def set_free(changed: dict[str, int]) -> None:
        free = cases | changed
        memory = SimpleNamespace(available=free["cpu"])
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free["cuda"], 80 * 10**9))

    set_free({})
    words = (
        rf"^they take 3\.0 GB of memory on {device}, and {cases[device] / 1e9:.1f} GB are free\. "
    )
    with pytest.raises(MemoryError, match=words):
        reading.check_memory("they", needed, torch.device(device))
    set_free({device: needed - 1})
    with pytest.raises(MemoryError, match="3.0 GB.*3.0 GB"):
        reading.check_memory("they", needed, torch.device(device))
    set_free({device: needed})
    reading.check_memory("they", needed, torch.device(device))


def test_the_bytes_of_the_weights_are_counted_per_dtype():
    def stored(shape, dtype=torch.float32):
        return scanning.StoredTensor(Path("file"), "name", shape, dtype)

    parts = {
        "model": scanning.StoredPart(
            Path("file"),
            {
                "model.layers.0.self_attn.q_proj.weight": stored((7, 5)),
                "model.layers.0.input_layernorm.weight": stored((7,)),
                "lm_head.weight": stored((3, 7), torch.bfloat16),
            },
        ),
        "stable_diffusion_head": scanning.StoredPart(
            Path("file"), {"unet.layers.0.weight": stored((2, 5))}
        ),
    }
    assert reading.bytes_needed(parts, None, None) == 4 * (35 + 7 + 10) + 2 * 21
    assert reading.bytes_needed(parts, torch.bfloat16, None) == 2 * (35 + 7 + 21 + 10)
    # Only the matrices of the language model's layers become eight bits; a row takes 5 bytes more.
    packed = 35 + 7 * 5
    assert reading.bytes_needed(parts, None, "int8") == packed + 4 * (7 + 10) + 2 * 21
    assert reading.bytes_needed(parts, torch.bfloat16, "int8") == packed + 2 * (7 + 21 + 10)


def test_the_disk_is_checked_to_the_byte(monkeypatch, tmp_path):
    model = minidream.load(TINY / "checkpoint", CPU, component_configs=TINY / "component_configs")
    # Tensors of two files have the same name, and both count.
    needed = sum(tensor.nbytes for tensor in model.state_dict().values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(OSError, match=rf"copy would take {needed / 1e9:.2f} GB, and .* are free"):
        minidream.save(model, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    minidream.save(model, tmp_path / "copy")
    assert (tmp_path / "copy" / "config.json").exists()
    with pytest.raises(OSError, match=r"big would take 16\.12 GB, and \d\.\d\d GB are free"):
        writing.check_disk(tmp_path / "big", 16_123_456_789)


def test_a_quantized_tensor_is_named_and_not_written(tmp_path):
    class Quantized(torch.Tensor):
        """Any other type than torch.Tensor."""

    model = toy.new_model(ToyTokenizer(VOCABULARY))
    weight = model.llm.layers[2].mlp.down_proj.weight.data.as_subclass(Quantized)
    model.llm.layers[2].mlp.down_proj.weight = nn.Parameter(weight, requires_grad=False)
    with pytest.raises(
        ValueError, match=r"not written.*layers\.2\.mlp\.down_proj\.weight is quant"
    ):
        minidream.save(model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------
# Files that are not what they should be


def test_a_file_of_something_else_is_refused(copy):
    torch.save([torch.ones(2)], copy / "dream_embedding.bin")
    with pytest.raises(ValueError, match=r"dream_embedding\.bin holds more than named.*: list"):
        minidream.load(copy, CPU)
    (copy / "dream_embedding.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"dream_embedding\.bin is missing$"):
        minidream.load(copy, CPU)
    (copy / "tokenizer.model").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model is missing"):
        minidream.load(copy, CPU)
    (copy / "added_tokens.json").write_text('{"<im_start>": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"added_tokens\.json is not valid JSON: Expecting value"):
        minidream.load(copy, CPU)
    with pytest.raises(FileNotFoundError, match=r"none\.json is missing"):
        read_json(copy / "none.json")


# --------------------------------------------------------------------------------------------------
# What ships beside the toy


def test_each_caption_is_painted_from_its_own_seed():
    model = minidream.load("toy", CPU)
    model.decoder.config = replace(model.decoder.config, num_inference_steps=2)
    together = toy.paint_from_captions(model, ["a red circle", "a blue star"])
    (alone,) = toy.paint_from_captions(model, ["a red circle"])
    assert [picture.size for picture in together] == [(toy.IMAGE_SIZE, toy.IMAGE_SIZE)] * 2
    difference = torch.tensor(list(together[0].tobytes())) - torch.tensor(list(alone.tobytes()))
    assert difference.abs().max() <= 1  # of 255
    text_tower = toy.pretrained_text_tower()
    states = toy.clip_text_states(text_tower, model.tokenizer, ["a red circle", "a blue star", ""])
    with torch.no_grad():
        pictures = toy.paint_from_text_states(model.decoder, states[:2], states[2:])
    assert pictures.shape == (2, 3, toy.IMAGE_SIZE, toy.IMAGE_SIZE)
    assert pictures.min() >= 0 and pictures.max() <= 1
    with pytest.raises(ValueError, match="a caption takes 42 tokens.*the text tower reads 32"):
        toy.clip_text_states(text_tower, model.tokenizer, ["a " * 40])
