"""Where a save writes: its own files are replaced, and nothing else in a folder is ever touched."""

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from models_shared import (
    TINY,
    in_child,
    same_weights,
    status,
    tiny_official,
    untrained_toy,
    without_privileges,
)
from safetensors.torch import load_file

import minidream
from minidream.trainer.shipping import save_part
from minidream.weights import reading, write_folder, writing
from minidream.weights.files import read_json, write_atomically, write_json

FOREIGN = (
    *("thesis.tex", ".git/HEAD", "eval/scores.json", "judge.safetensors", "model.safetensors.bak"),
    *("model-00001-of-00009.safetensors", "pytorch_model.bin", "component_configs/notes.txt"),
    *("component_configs/clip_vision/old.json", ".minidream", "training_args.bin"),
)


@pytest.fixture(scope="module")
def official() -> minidream.DreamLLM:
    """The tiny official checkpoint."""
    return tiny_official()


@pytest.fixture(scope="module")
def other() -> minidream.DreamLLM:
    """The same sizes with other weights."""
    model = tiny_official()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    return model


@pytest.fixture
def folder(official, tmp_path) -> Path:
    """A folder that the tiny checkpoint was saved to, among files of other things."""
    folder = tmp_path / "folder"
    minidream.save(official, folder)
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"years of work on {name}")
    return folder


def load(folder: Path) -> minidream.DreamLLM:
    return minidream.load(folder, device="cpu")


def contents(folder: Path) -> dict[str, bytes]:
    """{name: bytes} of all files in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --------------------------------------------------------------------------------------------------
# What is not ours


def test_other_files_survive_a_save(folder, other):
    before = contents(folder)
    minidream.save(other, folder)
    after = contents(folder)
    assert after.keys() == before.keys()
    assert {name: after[name] for name in FOREIGN} == {name: before[name] for name in FOREIGN}
    assert same_weights(load(folder), other)


@pytest.mark.parametrize(
    "config",
    ['{"model_type": "llama"}', '{"architectures": [', "[1, 2]", "", '"dreamllm"', b"\xff\xfe{}"],
)
def test_a_config_of_something_else_is_refused_before_anything_is_written(
    official, tmp_path, config
):
    (tmp_path / "config.json").write_bytes(config.encode() if isinstance(config, str) else config)
    (tmp_path / "model.safetensors").write_text("of another model")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json"):
        minidream.save(official, tmp_path)
    assert contents(tmp_path) == before


def test_folders_where_files_should_go_are_refused_before_anything_is_written(official, folder):
    for name in ("model.safetensors", "component_configs/diffusion/vae/config.json"):
        (folder / name).unlink()
        (folder / name).mkdir()
        before = contents(folder)
        with pytest.raises(ValueError, match=f"{folder / name} is a folder"):
            minidream.save(official, folder)
        assert contents(folder) == before
        (folder / name).rmdir()
    minidream.save(official, folder)
    assert same_weights(load(folder), official)


def test_a_subfolder_that_is_shared_through_a_link_is_refused(official, folder, tmp_path):
    (folder / "component_configs").rename(tmp_path / "shared")
    (folder / "component_configs").symlink_to(tmp_path / "shared")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="component_configs is a link"):
        minidream.save(official, folder)
    assert contents(tmp_path) == before


def test_a_file_is_not_a_folder(official, tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(OSError, match="file is not a folder"):
        minidream.save(official, tmp_path / "file")
    assert contents(tmp_path) == {"file": b"text"}


def test_links_that_lead_in_a_circle_are_named(official, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop", tmp_path / "loop" / "model"):
        with pytest.raises(OSError, match=f"the links of {path} lead in a circle"):
            minidream.save(official, path)
        with pytest.raises(OSError, match=f"the links of {path} lead in a circle"):
            write_atomically(lambda temporary: None, path)
    assert os.listdir(tmp_path) == ["loop"]


def test_hidden_files_and_lost_and_found_do_not_make_a_folder_unusable(official, tmp_path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref")
    minidream.save(official, tmp_path)
    assert same_weights(load(tmp_path), official)
    assert (tmp_path / ".git" / "HEAD").read_text() == "ref"


def test_a_list_of_files_from_elsewhere_cannot_remove_what_is_not_ours(official, folder, tmp_path):
    outside = tmp_path / "model.safetensors"
    outside.write_text("outside")
    config = read_json(folder / "config.json")
    config["minidream"]["files"] += [*FOREIGN, "../model.safetensors", str(outside), ".", "..", 7]
    write_json(config, folder / "config.json")
    before = contents(folder)
    minidream.save(official, folder)
    after = contents(folder)
    assert outside.read_text() == "outside"
    survivors = set(FOREIGN) - {"model-00001-of-00009.safetensors"}  # a name that a save may write
    assert {name: after[name] for name in survivors} == {name: before[name] for name in survivors}


# --------------------------------------------------------------------------------------------------
# What is ours


def sharded(model, folder: Path, monkeypatch, size: int = 250_000) -> None:
    """Saves in shards."""
    monkeypatch.setattr(writing, "SHARD_BYTES", size)
    minidream.save(model, folder)
    monkeypatch.undo()


def weight_files(folder: Path) -> set[str]:
    """The files of the language model, and of words."""
    return {path.name for path in folder.iterdir() if path.name.startswith(("model", "words"))}


def test_files_that_the_new_save_lacks_are_removed(official, other, tmp_path, monkeypatch):
    sharded(official, tmp_path / "one", monkeypatch)
    (tmp_path / "one" / "model-00009-of-00009.safetensors").write_text("not in the list")
    minidream.save(other, tmp_path / "one")
    assert weight_files(tmp_path / "one") == {
        "model.safetensors",
        "model-00009-of-00009.safetensors",
    }
    assert same_weights(load(tmp_path / "one"), other)
    (tmp_path / "one" / "model-00009-of-00009.safetensors").unlink()
    sharded(official, tmp_path / "one", monkeypatch)
    assert "model.safetensors" not in weight_files(tmp_path / "one")
    assert same_weights(load(tmp_path / "one"), official)
    sharded(other, tmp_path / "one", monkeypatch, 400_000)
    assert weight_files(tmp_path / "one") == {
        *(f"model-0000{shard}-of-00002.safetensors" for shard in (1, 2)),
        "model.safetensors.index.json",
    }
    assert same_weights(load(tmp_path / "one"), other)


def test_a_tensor_that_is_a_part_of_a_larger_one_is_written_alone(official, tmp_path):
    minidream.save(official, tmp_path / "plain")
    model = tiny_official()
    for module, name in (
        (model, "dream_queries"),
        (model.vision.projector, "weight"),
        (model.llm.norm, "weight"),
    ):
        value = getattr(module, name).detach()
        larger = torch.full((50, *value.shape), 7.0, dtype=value.dtype)
        larger[3] = value
        setattr(module, name, torch.nn.Parameter(larger[3], requires_grad=False))
    minidream.save(model, tmp_path / "part")
    sizes = [
        {path.name: path.stat().st_size for path in (tmp_path / folder).iterdir()}
        for folder in ("plain", "part")
    ]
    assert sizes[0] == sizes[1]
    assert same_weights(load(tmp_path / "part"), official)


def test_a_checkpoint_of_the_official_code_is_replaced(other, tmp_path):
    folder = Path(shutil.copytree(TINY / "checkpoint_sharded", tmp_path / "copy"))
    (folder / "model-extra.safetensors").write_text("no index lists it")
    minidream.save(other, folder)
    assert weight_files(folder) == {"model.safetensors", "model-extra.safetensors"}
    assert same_weights(load(folder), other)


def test_a_tokenizer_of_words_does_not_outlive_its_model(official, tmp_path):
    toy = untrained_toy()
    minidream.save(toy, tmp_path / "one")
    minidream.save(official, tmp_path / "one")
    assert not (tmp_path / "one" / "words.json").exists()
    assert len(load(tmp_path / "one").tokenizer) == len(official.tokenizer)
    minidream.save(toy, tmp_path / "one")
    assert load(tmp_path / "one").tokenizer.words == toy.tokenizer.words
    assert not (tmp_path / "one" / "tokenizer.model").exists()


def test_the_other_format_of_the_plugins_is_removed(official, other, tmp_path):
    folder = tmp_path / "one"
    for model, suffix in ((official, ".bin"), (other, ".safetensors"), (official, ".bin")):
        write_folder(model, folder, suffix)
        plugins = [*folder.glob("*embedding.*"), *folder.glob("*head.*")]
        assert len(plugins) == 3 and {path.suffix for path in plugins} == {suffix}
        assert same_weights(load(folder), model)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "words.json", "tokenizer.json"])
def test_a_file_that_would_be_read_in_place_of_ours_and_is_not_ours_is_named(
    official, folder, name
):
    (folder / name).write_text("{}")
    before = contents(folder)
    with pytest.raises(ValueError, match=rf"folder/{name}.*read in place"):
        minidream.save(official, folder)
    assert contents(folder) == before


# --------------------------------------------------------------------------------------------------
# Where a folder may be


def test_a_link_to_a_folder_stays_a_link(official, other, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/model")  # nothing is there yet
    for model in (official, other):
        minidream.save(model, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert same_weights(load(tmp_path / "disk" / "model"), model)
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link"}


@pytest.mark.parametrize("name", [".", "../folder", "./"])
def test_the_working_directory_can_be_saved_into(folder, other, monkeypatch, name):
    monkeypatch.chdir(folder)
    before = contents(folder)
    minidream.save(other, name)
    assert os.path.samefile(".", folder), "it is still the folder of that name"
    assert contents(folder).keys() == before.keys() and same_weights(load(Path(".")), other)


def test_an_empty_working_directory_can_be_saved_into(official, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    minidream.save(official, ".")
    assert same_weights(load(tmp_path), official)


def test_the_home_folder_may_be_written_as_a_tilde(official, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    minidream.save(official, "~/models/one")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert same_weights(load(tmp_path / "models" / "one"), official)


def test_a_writable_folder_inside_a_read_only_one(official, other):
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to others
        parent, folder = Path(name), Path(name) / "folder"
        folder.mkdir()
        parent.chmod(0o555)
        with without_privileges(parent, folder):
            for model in (official, other):
                minidream.save(model, folder)
                assert same_weights(load(folder), model)
            with pytest.raises(PermissionError, match=rf"{parent}"):
                minidream.save(official, parent / "new")
            folder.chmod(0o555)
            before = contents(folder)
            with pytest.raises(PermissionError, match=rf"{folder}"):
                minidream.save(official, folder)
            assert contents(folder) == before
        parent.chmod(0o755)
        folder.chmod(0o755)


def test_a_mount_point(official, other, tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip("only root may mount, and only outside of most containers")
    try:
        for model in (official, other):
            minidream.save(model, tmp_path)
            assert same_weights(load(tmp_path), model)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_save_leaves_the_folder_itself_in_its_place(folder, other):
    before = folder.stat()
    minidream.save(other, folder)
    assert (folder.stat().st_dev, folder.stat().st_ino) == (before.st_dev, before.st_ino)


# --------------------------------------------------------------------------------------------------
# Rights


@pytest.fixture(params=[0o022, 0o027, 0o002, 0o077])
def umask(request) -> int:
    """Which rights are taken away from new files."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(folder: Path) -> set[tuple[bool, int]]:
    """The rights in a folder: (whether of folders, rights)."""
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in folder.rglob("*")}


def test_all_files_and_folders_have_the_rights_that_new_files_have(
    official, tmp_path, umask, monkeypatch
):
    sharded(official, tmp_path / "pickles", monkeypatch)
    write_folder(official, tmp_path / "safetensors", ".safetensors")
    assert rights(tmp_path) == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}


def test_parts_and_figures_have_them_too(tmp_path, umask):
    save_part({"one": torch.ones(3)}, tmp_path / "stage.part.safetensors", {"plan": "{}"})
    write_atomically(lambda path: path.write_text("{}"), tmp_path / "results.json")
    assert rights(tmp_path) == {(False, 0o666 & ~umask)}
    assert load_file(tmp_path / "stage.part.safetensors")["one"].sum() == 3


def test_an_atomic_write_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.json").symlink_to("disk/results.json")
    for text in ("{}", "[]"):
        write_atomically(lambda path, text=text: path.write_text(text), tmp_path / "link.json")
        assert (tmp_path / "link.json").is_symlink()
        assert contents(tmp_path / "disk") == {"results.json": text.encode()}


# --------------------------------------------------------------------------------------------------
# Cut short


def test_a_first_save_that_was_killed_says_so_and_can_be_repeated(official, tmp_path):
    def run():
        torch.save = lambda *_: os._exit(2)  # the language model is written before
        minidream.save(official, tmp_path / "new")

    assert status(in_child(run)) == 2
    with pytest.raises(FileNotFoundError, match="new.*save.*cut short"):
        load(tmp_path / "new")
    minidream.save(official, tmp_path / "new")
    assert same_weights(load(tmp_path / "new"), official)


def cut_while_moving(model, folder: Path) -> Path:
    """A save that was killed after it had replaced some files; its hidden folder."""
    moves = 0

    def replace(source, target):
        nonlocal moves
        moves += "new" in Path(source).parts
        if moves == 3:
            os._exit(2)
        os.rename(source, target)

    def run():
        os.replace = replace
        minidream.save(model, folder)

    assert status(in_child(run)) == 2
    (hidden,) = folder.glob(".minidream-save*")
    return hidden


def test_a_folder_that_was_changed_after_a_save_was_cut_short_is_refused(folder, official, other):
    backup = contents(folder)
    hidden = cut_while_moving(other, folder)
    for name, content in backup.items():
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"cut short.*of \d+ files.*{hidden.name}"):
        load(folder)
    shutil.rmtree(hidden)
    assert same_weights(load(folder), official)


def test_a_changed_folder_can_be_saved_into_again(folder, official, other):
    hidden = cut_while_moving(other, folder)
    (hidden / "new" / "stable_diffusion_head.bin").unlink()
    with pytest.raises(ValueError, match="cut short"):
        load(folder)
    minidream.save(official, folder)
    assert same_weights(load(folder), official) and not hidden.exists()
    assert all((folder / name).read_text().startswith("years") for name in FOREIGN)


def test_a_save_that_was_cut_short_in_a_read_only_folder_is_named(official, other):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        minidream.save(official, folder)
        cut_while_moving(other, folder)
        folder.chmod(0o555)
        with without_privileges():
            with pytest.raises(PermissionError, match="cut short.*of .* files"):
                load(folder)
        folder.chmod(0o755)
        assert same_weights(load(folder), other)


def test_a_full_disk_in_the_middle_leaves_no_trace(folder, other, monkeypatch):
    before = contents(folder)

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    for target in (folder, folder.parent / "a" / "new" / "folder"):
        with pytest.raises(OSError, match="No space"):
            minidream.save(other, target)
    assert contents(folder) == before and not (folder.parent / "a").exists()


# --------------------------------------------------------------------------------------------------
# Two at a time


def test_two_saves_into_one_folder_do_not_mix(folder, official, other, monkeypatch):
    write_configs = writing.write_configs

    def save_another(*arguments):
        monkeypatch.setattr(writing, "write_configs", write_configs)
        with pytest.raises(OSError, match="another save into .*folder is not finished"):
            minidream.save(official, folder)
        return write_configs(*arguments)

    monkeypatch.setattr(writing, "write_configs", save_another)
    minidream.save(other, folder)
    assert same_weights(load(folder), other)


@pytest.mark.parametrize("moment", ["scan_folder", "load_tensors"])
def test_a_folder_that_is_saved_into_while_it_is_read_is_not_mixed(
    folder, other, monkeypatch, moment
):
    function = getattr(reading, moment)

    def meanwhile(*arguments):
        monkeypatch.setattr(reading, moment, function)
        result = function(*arguments)
        minidream.save(other, folder)
        return result

    monkeypatch.setattr(reading, moment, meanwhile)
    with pytest.raises(ValueError, match="was saved into while it was read"):
        load(folder)
    assert same_weights(load(folder), other)
