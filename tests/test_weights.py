"""Loading and saving: bit-exact round trips, and errors that name file and tensor."""

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

import minidream
from minidream.tokenizers import ToyTokenizer
from minidream.weights import reading, toy
from minidream.weights.scanning import scan_file
from minidream.world.language import VOCABULARY


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple:
    """An untrained toy and the folder that it was saved to."""
    model = toy.new_model(ToyTokenizer(VOCABULARY), seed=3).eval()
    folder = tmp_path_factory.mktemp("weights") / "saved"
    minidream.save(model, folder)
    return model, folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    """A copy of the folder, to be spoiled."""
    return Path(shutil.copytree(saved[1], tmp_path / "copy"))


def test_a_round_trip_is_bit_exact(saved, tmp_path):
    model, folder = saved
    again = minidream.load(folder)
    one, other = model.state_dict(), again.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(model.encode("a red circle"), again.encode("a red circle"))
    assert (
        again.decoder.config == model.decoder.config
        and again.config == model.config
        and again.llm.config == model.llm.config
    )
    minidream.save(again, tmp_path / "twice")
    assert (tmp_path / "twice" / "config.json").read_text(encoding="utf-8") == (
        folder / "config.json"
    ).read_text(encoding="utf-8")


def test_the_folder_has_the_official_layout(saved):
    _, folder = saved
    assert {
        "config.json",
        "model.safetensors",
        "dream_embedding.bin",
        "clip_vision_embedding.bin",
        "stable_diffusion_head.bin",
    } <= {path.name for path in folder.iterdir()}
    assert {
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.norm.weight",
    } <= set(load_file(folder / "model.safetensors"))
    clip = torch.load(folder / "clip_vision_embedding.bin", weights_only=True)
    assert {
        "clip_vision_model.vision_model.embeddings.class_embedding",
        "projector.projector.bias",
    } <= set(clip)
    assert {"projector.projector.weight"} == {
        name
        for name in torch.load(folder / "stable_diffusion_head.bin", weights_only=True)
        if not name.startswith(("vae.", "unet."))
    }


def test_dtype_is_as_stored_unless_named(saved, tmp_path):
    model, _ = saved
    half = minidream.load(saved[1], dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    minidream.save(half, tmp_path / "half")
    assert {parameter.dtype for parameter in minidream.load(tmp_path / "half").parameters()} == {
        torch.bfloat16
    }
    assert model.dream_queries.dtype == torch.float32


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda tensors: tensors.pop("model.norm.weight"), r"1 missing: model\.norm\.weight"),
        (
            lambda tensors: tensors.update({"model.more.weight": torch.ones(2)}),
            r"1 extra: model\.more\.weight",
        ),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}),
            r"1 misshapen: model\.norm\.weight \(7,\) instead of \(192,\)",
        ),
    ],
)
def test_a_tensor_that_is_missing_extra_or_misshapen_is_named(copy, change, words):
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(ValueError, match=words) as error:
        minidream.load(copy)
    assert "model.safetensors" in str(error.value)


def test_a_renamed_plugin_tensor_is_named(copy):
    path = copy / "stable_diffusion_head.bin"
    tensors = torch.load(path, weights_only=True)
    tensors["unet.conv_inn.bias"] = tensors.pop("unet.conv_in.bias")
    torch.save(tensors, path)
    with pytest.raises(
        ValueError,
        match=r"stable_diffusion_head\.bin.*missing: unet\.conv_in\.bias.*"
        r"extra: unet\.conv_inn\.bias",
    ):
        minidream.load(copy)


class RunsCode:
    """What an attacker would pickle."""

    def __reduce__(self):
        return print, ("this must never be printed",)


def test_a_pickle_that_would_run_code_is_refused(copy, capsys):
    torch.save({"dream_queries": RunsCode()}, copy / "dream_embedding.bin")
    with pytest.raises(ValueError, match=r"dream_embedding\.bin.*could run code.*refused"):
        minidream.load(copy)
    (copy / "dream_embedding.bin").write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(ValueError, match=r"dream_embedding\.bin"):
        minidream.load(copy)
    assert "never" not in capsys.readouterr().out


def test_missing_cut_and_foreign_files_are_named(copy):
    (copy / "clip_vision_embedding.bin").rename(copy / "aside")
    with pytest.raises(FileNotFoundError, match=r"clip_vision_embedding\.bin is missing"):
        minidream.load(copy)
    (copy / "aside").rename(copy / "clip_vision_embedding.bin")
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read, it may be cut short"):
        minidream.load(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no language model"):
        minidream.load(copy)
    config = json.loads((copy / "config.json").read_bytes())
    (copy / "config.json").write_text(
        json.dumps(config | {"model_type": "llama"}), encoding="utf-8"
    )
    with pytest.raises(
        ValueError, match=r"config\.json' is of a 'llama' model|config\.json.*'llama'"
    ):
        minidream.load(copy)


def test_unknown_names_say_what_exists(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"no weights are known as 'toyy'.*\"toy\".*"
        r"RunpeiDong/dreamllm-7b-chat-aesthetic-v1\.0",
    ):
        minidream.load("toyy")
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        minidream.load(tmp_path)


def test_a_save_that_fails_leaves_the_checkpoint_that_was_there(saved, copy, monkeypatch):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        minidream.save(saved[0], copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_folder_of_other_things_is_not_overwritten(saved, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match="no checkpoint"):
        minidream.save(saved[0], tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_official_shards_hold_the_same_as_one_file():
    tiny = Path(__file__).parent / "fixtures" / "tiny-a"
    one, shards = (
        minidream.load(tiny / folder, component_configs=tiny / "component_configs")
        for folder in ("checkpoint", "checkpoint_sharded")
    )
    assert all(
        torch.equal(left, right)
        for left, right in zip(one.parameters(), shards.parameters(), strict=True)
    )
    assert (
        one.queries == 8 and one.vision.patches == 16 and one.tokenizer.special.dream_start == 123
    )


# --------------------------------------------------------------------------------------------------
# Memory and disk


def test_too_little_memory_is_said_before_anything_is_read(saved, monkeypatch):
    model, folder = saved
    needed = sum(tensor.nbytes for tensor in model.state_dict().values())
    free = SimpleNamespace(available=needed - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(reading, "load_tensors", lambda *_: pytest.fail("reading had begun"))
    with pytest.raises(
        MemoryError,
        match=rf"{folder} take {needed / 1e9:.1f} GB of memory on cpu, "
        rf"and {free.available / 1e9:.1f} GB are free",
    ):
        minidream.load(folder, device="cpu")
    monkeypatch.undo()
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=needed * 2 // 3)
    )
    assert (
        minidream.load(folder, device="cpu", dtype=torch.bfloat16).dream_queries.dtype
        == torch.bfloat16
    ), "half of it does fit"


def test_too_little_disk_is_said_before_anything_is_written(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20_000_000))
    with pytest.raises(
        OSError, match=r"saved would take 0\.0[3-9] GB, and 0\.02 GB are free on its disk"
    ):
        minidream.save(saved[0], tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def resident(what: str) -> int:
    """This process's resident memory in bytes, now ("VmRSS") or at its highest ("VmHWM")."""
    status = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    )
    return int(status[what].split()[0]) * 1024


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(),
    reason="the highest resident memory can be reset on Linux alone",
)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_weights_are_held_once(tmp_path, monkeypatch, suffix):
    """Loading 64 MB of float32 as bfloat16 takes the 32 MB of the result and hardly more.

    The files are mapped and converted a portion at a time.
    """
    stored = {f"{number}": torch.full((1024, 1024), float(number)) for number in range(16)}
    path = tmp_path / f"many{suffix}"
    save_file(stored, path) if suffix == ".safetensors" else torch.save(stored, path)
    del stored
    tensors = scan_file(path)
    monkeypatch.setattr(reading, "BYTES_PER_MAPPING", 2**20)
    # Whatever is set up on first use is set up before memory is measured.
    reading.load_tensors(tensors, torch.device("cpu"), torch.bfloat16)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = resident("VmRSS")
    taken = reading.load_tensors(tensors, torch.device("cpu"), torch.bfloat16)
    peak = resident("VmHWM") - before
    needed = sum(tensor.nbytes for tensor in taken.values())
    assert needed == 2**25 and all(
        torch.equal(tensor, torch.full((1024, 1024), float(name)).bfloat16())
        for name, tensor in taken.items()
    )
    assert peak <= 1.1 * needed + 2 * 2**22 + 2**20, (
        "beside the target: one portion, and what is measured with it"
    )
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = resident("VmRSS")
    mapped = reading.load_tensors(tensors, torch.device("cpu"), None)
    assert resident("VmHWM") - before < 2**22, (
        "what is wanted as it is stored is mapped, and read when it is used"
    )
    assert mapped["3"].sum() == 3 * 1024**2


# --------------------------------------------------------------------------------------------------
# Mapped files


def test_training_on_does_not_write_into_the_files(copy):
    files = {path: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    model = minidream.load(copy, device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert {path: path.read_bytes() for path in files} == files


def test_a_model_can_be_saved_over_the_files_that_it_is_mapped_from(saved, copy):
    model = minidream.load(copy, device="cpu")
    with torch.no_grad():
        model.dream_queries.add_(1)
    minidream.save(model, copy)
    assert torch.equal(minidream.load(copy, device="cpu").dream_queries, saved[0].dream_queries + 1)
    assert torch.equal(model.llm.norm.weight, saved[0].llm.norm.weight), (
        "what was mapped before is still there"
    )
