"""All ten stages for one step, in order, then shipped, loaded and asked to paint.

This is the code that makes the weights of the package. One step of four samples teaches nothing;
what is tested is that every stage is built from the parts before it, trains what it should, leaves
its parts, and that these arrive in a model unchanged.
"""

import json
import shutil
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import minidream
from minidream.train import __main__ as command_line
from minidream.train import clip_stages, pretraining, stages
from minidream.trainer import loop, runs, shipping
from minidream.weights import PRETRAINED, parts, toy

CLASSES = (
    *(pretraining.JudgeStage, pretraining.VaeStage, pretraining.UnetStage),
    *(clip_stages.TextStage, clip_stages.ClipStage),
)


@pytest.fixture(scope="module", autouse=True)
def small_recipes():
    """Recipes of four samples, and a pool of a few scenes for the U-Net."""
    with pytest.MonkeyPatch.context() as patch:
        for stage in CLASSES:
            patch.setattr(stage, "recipe", replace(stage.recipe, batch=4))
        for name, recipe in stages.RECIPES.items():
            # Some tasks take a small share of the batch, which must not come to nothing.
            patch.setitem(stages.RECIPES, name, replace(recipe, batch=8 if "stage" in name else 4))
        patch.setattr(pretraining, "UnetStage", partial(pretraining.UnetStage, pool_size=20))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_recipes) -> Path:
    """What all stages leave after one step each."""
    folder = tmp_path_factory.mktemp("run")
    for name in parts.ORDER:
        stages.run(name, folder, steps=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def others(folder, tmp_path_factory) -> list[Path]:
    """Two more runs of stages I to III."""
    runs = [tmp_path_factory.mktemp(f"run-{seed}") for seed in (1, 2)]
    for seed, other in enumerate(runs, start=1):
        options = ["all", "--folder", str(other), "--pretrained", str(folder), "--steps", "1"]
        command_line.main([*options, "--seed", str(seed), "--quiet"])
    return runs


@pytest.fixture(scope="module")
def shipped(folder, others, tmp_path_factory) -> Path:
    """The same, as it would lie in the package."""
    target = tmp_path_factory.mktemp("package")
    shipping.ship(folder, others, to=target)
    return target / "toy"


def part(folder: Path, stage: str, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{stage}.{name}.safetensors")


def changed(before: dict, after: dict) -> set[str]:
    """The tensors that differ."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_every_stage_leaves_its_parts_its_log_and_a_figure(folder):
    for name, leaves in parts.LEAVES.items():
        for leaf in leaves:
            assert (folder / f"{name}.{leaf}.safetensors").exists()
        (line,) = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(line)["step"] == 1 and json.loads(line)["total"] > 0
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("*.tmp"))


def test_parts_have_the_names_and_shapes_of_their_modules(folder):
    modules = parts.parts_of(toy.new_model(toy.ToyTokenizer(toy.VOCABULARY)))
    for name in ("stage2", "stage3"):
        for leaf in parts.LEAVES[name]:
            saved, wanted = part(folder, name, leaf), modules[leaf].state_dict()
            assert {key: value.shape for key, value in saved.items()} == {
                key: value.shape for key, value in wanted.items()
            }


def test_each_stage_trains_what_it_should(folder):
    text = changed(part(folder, "text", "clip_text"), part(folder, "clip", "clip_text"))
    assert text == {"text_projection.weight"}
    for leaf in ("llm", "visual_projector"):  # its first task is questions: nothing is painted
        assert changed(part(folder, "stage2", leaf), part(folder, "stage3", leaf)), leaf
    for before, after in (("llm", "lookup"), ("lookup", "stage2")):
        llm = changed(part(folder, before, "llm"), part(folder, after, "llm"))
        assert any(name.startswith("layers.5.") for name in llm), after


def test_a_finished_stage_is_not_trained_again(folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    stages.run("text", folder, steps=1, progress=False)
    assert "text: finished before (text.clip_text.safetensors)" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("name", ("clip", "lookup", "stage2"))
def test_a_stage_that_is_stopped_goes_on_to_the_bit(name, folder, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for place in (whole, stopped):
        place.mkdir()
        for earlier in parts.ORDER[: parts.ORDER.index(name)]:
            for path in parts.files_of(earlier, folder).values():
                shutil.copyfile(path, place / path.name)
    monkeypatch.setattr(runs, "fit", partial(loop.fit, save_seconds=0))
    monkeypatch.setattr(loop, "LINE", 1)  # a checkpoint after every step
    stages.run(name, whole, steps=4, progress=False)
    build, steps = stages.build, count()

    def that_stops(*given) -> torch.nn.Module:
        stage = build(*given)
        forward = stage.forward

        def stopping(batch, generator):
            if next(steps) == 2:
                raise KeyboardInterrupt
            return forward(batch, generator)

        stage.forward = stopping
        return stage

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "build", that_stops)
        stages.run(name, stopped, steps=4, progress=False)
    assert not any(path.exists() for path in parts.files_of(name, stopped).values())
    saved = torch.load(stopped / f"{name}.checkpoint.pt", weights_only=True)
    assert saved["step"] == 2
    stages.run(name, stopped, steps=4, progress=False)
    for path in parts.files_of(name, stopped).values():
        assert path.read_bytes() == (whole / path.name).read_bytes()


def test_a_missing_part_is_named_with_the_stage_that_leaves_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"text\.clip_text\.safetensors.*minidream\.train text"
    ):
        stages.run("unet", tmp_path, progress=False)
    with pytest.raises(FileNotFoundError, match="minidream.train"):
        shipping.ship(tmp_path, to=tmp_path / "package")
    assert not list(tmp_path.iterdir()), "and nothing is left behind"


def test_what_is_shipped_is_what_the_package_holds(shipped):
    ours, theirs = (
        {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        for root in (shipped.parent, PRETRAINED)
    )
    assert ours == theirs


def test_other_runs_share_what_is_frozen_and_differ_in_what_was_trained(folder, others, shipped):
    for name, other in zip(("toy-1", "toy-2"), others):
        assert set(path.name.split(".")[0] for path in (shipped.parent / name).iterdir()) == {
            "stage3"
        }
        for path in (shipped.parent / name).iterdir():
            assert load_file(path).keys() == load_file(folder / path.name).keys()
            assert changed(load_file(path), load_file(folder / path.name))
            assert not changed(load_file(path), load_file(other / path.name))
    summary = json.loads((shipped / "training.json").read_bytes())
    assert list(summary["toy-2"]) == ["stage1", "stage2", "stage3"]


def test_a_run_on_other_pretrained_parts_is_refused(folder, others, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(others[0], other)
    path = other / "vae.vae.safetensors"
    tensors = load_file(path)
    save_file({name: value + 1 for name, value in tensors.items()}, path)
    before = {path: path.read_bytes() for path in other.iterdir()}
    with pytest.raises(ValueError, match="vae.vae.safetensors"):
        shipping.take_pretrained(folder, other)
    with pytest.raises(ValueError, match="vae.vae.safetensors"):
        shipping.ship(folder, [other], to=tmp_path / "package")
    assert before == {path: path.read_bytes() for path in other.iterdir()}
    assert not (tmp_path / "package").exists()


def test_there_are_no_more_runs_than_names(folder, others, tmp_path):
    with pytest.raises(ValueError, match="3 other runs"):
        shipping.ship(folder, [*others, others[0]], to=tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_of_an_earlier_toy_is_left(folder, others, shipped, tmp_path):
    package = tmp_path / "package"
    shutil.copytree(shipped.parent, package)
    old = package / "toy" / "stages" / "stage9.llm.safetensors"
    shutil.copyfile(shipped / "judge.safetensors", old)
    with pytest.raises(ValueError, match="1 of 2 other runs were given"):
        shipping.ship(folder, others[:1], to=package)
    assert old.exists(), "nothing was written"
    shipping.ship(folder, others, to=package)
    found, wanted = (
        {path.relative_to(root) for path in root.rglob("*")} for root in (package, shipped.parent)
    )
    assert found == wanted


def test_shipped_tensors_are_the_trained_ones_in_half_precision(folder, shipped):
    sources = {
        "judge.safetensors": ("judge", "judge"),
        "clip_text.safetensors": ("clip", "clip_text"),
        "clip_visual_projection.safetensors": ("clip", "clip_visual_projection"),
        "stages/lookup.llm.safetensors": ("lookup", "llm"),
        "stages/stage2.dream_queries.safetensors": ("stage2", "dream_queries"),
    }
    for file, source in sources.items():
        saved, trained = load_file(shipped / file), part(folder, *source)
        assert saved.keys() == trained.keys(), file
        for key, value in trained.items():
            expected = value.half() if value.is_floating_point() else value
            assert saved[key].dtype == expected.dtype and torch.equal(saved[key], expected)


def test_the_summary_says_what_every_stage_took(shipped):
    summary = json.loads((shipped / "training.json").read_bytes())
    assert list(summary) == [*parts.ORDER, "toy-1", "toy-2"]
    for name in parts.ORDER:
        entry = summary[name]
        assert entry["steps"] == 1 and entry["batch"] == stages.RECIPES[name].batch
        assert entry["losses"]["total"] > 0 and entry["minutes"] >= 0


@pytest.mark.parametrize("source", ["training folder", "shipped folder"])
def test_a_model_loads_from_both_folders_and_paints(source, folder, shipped):
    path = folder if source == "training folder" else shipped
    model = minidream.load(path, device="cpu", dtype=torch.float32)
    expected = parts.assemble(folder)
    if source == "shipped folder":
        expected = expected.half().float()
    state = expected.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], atol=0, rtol=0)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    image = model.dream("a red star", num_inference_steps=2)
    assert image.size == (toy.IMAGE_SIZE, toy.IMAGE_SIZE)


def test_a_training_folder_keeps_its_dtype_unless_told(folder):
    assert minidream.load(folder, device="cpu").dream_queries.dtype == torch.float32
    half = minidream.load(folder, device="cpu", dtype=torch.bfloat16)
    assert half.dream_queries.dtype == half.llm.norm.weight.dtype == torch.bfloat16


# --------------------------------------------------------------------------------------------------
# The command line


def test_the_command_trains_one_stage(tmp_path, capsys):
    options = ["text", "--folder", str(tmp_path), "--steps", "1", "--seed", "3", "--quiet"]
    command_line.main(options)
    assert (tmp_path / "text.clip_text.safetensors").exists()
    assert capsys.readouterr().err == "", "--quiet shows no progress bar"
    settings = torch.load(tmp_path / "text.checkpoint.pt", weights_only=True)["settings"]
    assert settings["seed"] == 3 and settings["steps"] == 1


def test_the_command_all_runs_every_stage_in_order(folder, capsys):
    command_line.main(["all", "--folder", str(folder), "--steps", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(parts.ORDER)


def test_the_command_ship_ships(folder, others, monkeypatch):
    shipped = []
    monkeypatch.setattr(shipping, "ship", lambda *given: shipped.append(given))
    command_line.main(["ship", "--folder", str(folder), "--others", *map(str, others)])
    assert shipped == [(folder, tuple(others))]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["text", "--steps", "0"], "--steps is at least 1, not 0"),
        (["text", "--steps", "-5"], "--steps is at least 1, not -5"),
        (["text", "--steps", "many"], "invalid int value: 'many'"),
        (["stage4"], "invalid choice: 'stage4'"),
        ([], "required: stage"),
        (["text", "--pretrained", "runs/toy"], "--pretrained is for stages I to III, not for text"),
        (["all", "--others", "runs/toy-1"], "--others is for 'ship', not for all"),
    ],
)
def test_wrong_commands_are_usage_errors(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_the_help_names_every_stage(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and all(name in text for name in parts.ORDER)
