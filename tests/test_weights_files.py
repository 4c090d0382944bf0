"""Files of a checkpoint that are empty, cut, of an older format, or not the files themselves.

Each test copies the tiny official checkpoint and changes one of its files.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import minidream
from minidream import weights
from minidream.weights import parts, reading
from minidream.weights.files import as_path, check_file, read_json
from minidream.weights.scanning import inventory, scan_file

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
PLUGIN_FILES = [f"{plugin}.bin" for plugin in weights.layout.PLUGINS]
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 12345\n"
)
# Every file of a checkpoint that is read.
FILES = [
    *("config.json", "model.safetensors", "tokenizer.model", "added_tokens.json", *PLUGIN_FILES),
    *("component_configs/clip_vision/config.json", "component_configs/diffusion/vae/config.json"),
    "component_configs/clip_vision/preprocessor_config.json",
    "component_configs/diffusion/unet/config.json",
    "component_configs/diffusion/scheduler/scheduler_config.json",
]


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the tiny official checkpoint, with its component configs."""
    folder = Path(shutil.copytree(TINY / "checkpoint", tmp_path / "copy"))
    shutil.copytree(TINY / "component_configs", folder / "component_configs")
    return folder


@pytest.fixture
def shards(tmp_path) -> Path:
    """The same in shards."""
    folder = Path(shutil.copytree(TINY / "checkpoint_sharded", tmp_path / "shards"))
    shutil.copytree(TINY / "component_configs", folder / "component_configs")
    return folder


def load(folder: Path, **options):
    return minidream.load(folder, device="cpu", **options)


def assert_loads_the_same(folder: Path) -> None:
    expected = load(TINY / "checkpoint", component_configs=TINY / "component_configs").state_dict()
    found = load(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# --------------------------------------------------------------------------------------------------
# Something else in place of a file


@pytest.mark.parametrize("name", FILES)
def test_a_git_lfs_pointer_is_called_one(copy, name):
    (copy / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(ValueError, match=r"is a Git LFS pointer.*`git lfs pull`") as error:
        load(copy)
    assert str(copy / name) in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_called_empty(copy, name):
    (copy / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"is empty \(0 bytes\)") as error:
        load(copy)
    assert str(copy / name) in str(error.value)


@pytest.mark.parametrize("content, words", [(b"", "empty"), (POINTER.encode(), "Git LFS pointer")])
def test_an_index_and_its_shards_may_not_be_pointers_or_empty(shards, content, words):
    for name in ("model-00002-of-00003.safetensors", "model.safetensors.index.json"):
        (shards / name).write_bytes(content)
        with pytest.raises(ValueError, match=words) as error:
            load(shards)
        assert str(shards / name) in str(error.value)


def test_a_part_of_a_training_may_not_be_a_pointer(tmp_path):
    path = tmp_path / "unet.unet.safetensors"
    path.write_text(POINTER, encoding="utf-8")
    with pytest.raises(ValueError, match=r"unet\.unet\.safetensors is a Git LFS pointer"):
        parts.load_part(path, torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["model.safetensors", "dream_embedding.bin", "tokenizer.model"])
def test_a_link_into_a_cache_that_lost_the_file_says_where_it_leads(copy, name):
    """As in the hub's cache, where the files of a snapshot are links to blobs."""
    (copy / name).unlink()
    (copy / name).symlink_to("../blobs/4d7a2146")
    with pytest.raises(
        FileNotFoundError, match=r"is missing: it links to \.\./blobs/4d7a2146, which is not there"
    ) as error:
        load(copy)
    assert str(copy / name) in str(error.value)


def test_a_folder_in_place_of_a_file(copy):
    (copy / "dream_embedding.bin").unlink()
    (copy / "dream_embedding.bin").mkdir()
    with pytest.raises(ValueError, match=r"dream_embedding\.bin is a folder, not a file"):
        load(copy)


def test_an_error_page_in_place_of_a_file_is_not_called_code(copy):
    (copy / "dream_embedding.bin").write_text("<!DOCTYPE html><p>404", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"dream_embedding\.bin is no file of.*begins with b'<!DOC"
    ):
        load(copy)


def test_a_download_into_the_hubs_cache_that_left_an_empty_file_is_an_error(copy, monkeypatch):
    import huggingface_hub

    found = str(copy / "config.json")
    monkeypatch.delenv("MINIDREAM_7B", raising=False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: found)
    (copy / "stable_diffusion_head.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"stable_diffusion_head\.bin is empty"):
        weights.find_full()
    assert not list(copy.glob("*.tmp"))


# --------------------------------------------------------------------------------------------------
# torch's format from before version 1.6


def save_old(tensors, path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("name", PLUGIN_FILES)
def test_a_plugin_in_torchs_old_format_is_read(copy, name):
    save_old(torch.load(copy / name, weights_only=True), copy / name)
    assert_loads_the_same(copy)
    assert load(copy, dtype=torch.bfloat16).dream_queries.dtype == torch.bfloat16


def test_a_language_model_in_torchs_old_format_is_read(copy):
    save_old(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    expected = inventory(copy)["model.safetensors"]
    (copy / "model.safetensors").unlink()
    assert inventory(copy)["pytorch_model.bin"] == expected
    assert_loads_the_same(copy)


def test_old_dream_queries_without_a_name(copy):
    queries = torch.load(copy / "dream_embedding.bin", weights_only=True)["dream_queries"]
    (copy / "dream_embedding.bin").unlink()
    save_old(torch.nn.Parameter(queries), copy / "dream_queries.pt")
    assert_loads_the_same(copy)


def test_the_old_format_is_scanned_without_its_tensors(tmp_path):
    """Names, shapes and dtypes; strides and tensors that share storage do not matter."""
    whole = torch.arange(12.0).reshape(3, 4)
    save_old({"a": whole, "b": whole.t(), "c": whole[1:].half()}, tmp_path / "old.bin")
    scanned = scan_file(tmp_path / "old.bin")
    assert {name: (one.shape, one.dtype) for name, one in scanned.items()} == {
        "a": ((3, 4), torch.float32),
        "b": ((4, 3), torch.float32),
        "c": ((2, 4), torch.float16),
    }
    loaded = reading.load_tensors(scanned, torch.device("cpu"), None)
    assert torch.equal(loaded["b"], whole.t()) and torch.equal(loaded["c"], whole[1:].half())


def test_the_old_format_is_read_once_however_much_is_converted(tmp_path, monkeypatch):
    save_old(
        {f"{number}": torch.full((2, 3), float(number)) for number in range(5)}, tmp_path / "o"
    )
    scanned, reads = scan_file(tmp_path / "o"), []
    monkeypatch.setattr(reading, "BYTES_PER_MAPPING", 0)
    mapped = reading.map_tensors
    monkeypatch.setattr(reading, "map_tensors", lambda path: reads.append(path) or mapped(path))
    loaded = reading.load_tensors(scanned, torch.device("cpu"), torch.float64)
    assert len(reads) == 1 and all((loaded[f"{n}"] == n).all() for n in range(5))


class RunsCode:
    """What an attacker would pickle."""

    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize("protocol", range(6))
def test_no_old_pickle_runs_code(copy, capsys, protocol):
    path = copy / "dream_embedding.bin"
    path.write_bytes(pickle.dumps({"dream_queries": RunsCode()}, protocol))
    with pytest.raises(ValueError, match=r"dream_embedding\.bin is"):
        load(copy)
    save_old({"dream_queries": RunsCode()}, path)
    with pytest.raises(ValueError, match=r"dream_embedding\.bin.*could run code.*refused"):
        load(copy)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("old", [False, True])
def test_a_file_that_is_cut_anywhere_is_an_error_that_names_it(tmp_path, old):
    path = tmp_path / "cut.bin"
    torch.save({"a": torch.ones(2, 3)}, path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    for length in {0, 1, 3, *range(4, len(whole), 13), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.bin"):
            scan_file(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"cut\.bin cannot be read, it may be cut short"):
        scan_file(path)


# --------------------------------------------------------------------------------------------------
# An index that names no files


@pytest.mark.parametrize(
    "shard",
    [None, 3, "", ".", "..", "../model-00001-of-00003.safetensors", "/etc/passwd", ["a"], "a/b"],
)
def test_an_index_may_name_files_beside_it_alone(shards, shard):
    path = shards / "model.safetensors.index.json"
    index = read_json(path)
    index["weight_map"]["model.norm.weight"] = shard
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ValueError, match=r"index\.json assigns model\.norm\.weight to ") as error:
        load(shards)
    assert repr(shard) in str(error.value)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": null}'])
def test_an_index_without_tensors(shards, content):
    (shards / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r'index\.json has no "weight_map"'):
        load(shards)


@pytest.mark.parametrize("content", ["null", "[]", "3", '"text"'])
@pytest.mark.parametrize("name", ["model.safetensors.index.json", "config.json"])
def test_json_that_is_no_object(shards, name, content):
    (shards / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name} holds a \w+, not a dict"):
        load(shards)


def test_one_file_is_preferred_to_an_index_of_an_earlier_save(copy, shards):
    """As transformers does: an index that was left behind may name shards that are gone."""
    shutil.copy(copy / "model.safetensors", shards)
    (shards / "model-00002-of-00003.safetensors").unlink()
    assert_loads_the_same(shards)


# --------------------------------------------------------------------------------------------------
# Encodings of JSON files


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_of_other_editors_is_read(copy, encoding):
    for name in FILES:
        if name.endswith(".json"):
            text = (copy / name).read_text(encoding="utf-8")
            (copy / name).write_text(text, encoding=encoding)
    assert_loads_the_same(copy)


def test_an_encoding_that_json_does_not_have_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "config.json").write_bytes('{"name": "caf\u00e9"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON.*byte 0xe9"):
        read_json(tmp_path / "config.json")


# --------------------------------------------------------------------------------------------------
# Paths


def test_a_path_may_be_of_any_type_and_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("~/runs", b"~/runs", Path("~/runs")):
        assert as_path(given) == tmp_path / "runs"
    assert as_path("~nobody-of-this-name/runs") == Path("~nobody-of-this-name/runs")
    assert as_path("runs/~") == Path("runs/~")
    for wrong in (3, None, ["runs"]):
        with pytest.raises(TypeError):
            as_path(wrong)


def test_a_file_that_is_there_passes(tmp_path):
    (tmp_path / "file").write_bytes(b"v")
    check_file(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="none is missing$"):
        check_file(tmp_path / "none")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("many", ["1", "["], ids=["digits", "brackets"])
def test_json_with_too_many_digits_or_brackets_is_refused_with_its_name(tmp_path, many):
    (tmp_path / "it.json").write_text('{"a": ' + 10**5 * many + "}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"it\.json is not valid JSON"):
        read_json(tmp_path / "it.json")
