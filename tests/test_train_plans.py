"""What was trained is never mixed up: plans of runs and parts; figures, logs, checkpoints fail."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from killed_run import SmallStage
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from minidream.plots import curves
from minidream.train import __main__ as command_line
from minidream.train import clip_stages, stages
from minidream.trainer.loop import Recipe, fit
from minidream.weights import parts


@pytest.fixture(scope="module", autouse=True)
def small_recipes():
    """Recipes of four samples, for the two fastest stages."""
    with pytest.MonkeyPatch.context() as patch:
        recipe = replace(clip_stages.TextStage.recipe, batch=4)
        patch.setattr(clip_stages.TextStage, "recipe", recipe)
        patch.setitem(stages.RECIPES, "text", recipe)
        recipe = replace(clip_stages.ClipStage.recipe, batch=4)
        patch.setattr(clip_stages.ClipStage, "recipe", recipe)
        patch.setitem(stages.RECIPES, "clip", recipe)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The text tower after two steps. No test changes this folder."""
    folder = tmp_path_factory.mktemp("trained")
    stages.run("text", folder, steps=2, progress=False)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def copied(folder: Path, to: Path) -> Path:
    """A copy of a folder."""
    for name, content in contents(folder).items():
        (to / name).write_bytes(content)
    return to


# --------------------------------------------------------------------------------------------------
# Steps


@pytest.mark.parametrize("steps", [0, -5, True, 2.5, float("nan"), "20"])
def test_steps_that_no_run_can_have_are_refused_before_anything_is_written(steps, tmp_path):
    for train in (
        lambda: fit(SmallStage(), tmp_path / "new", steps=steps, progress=False),
        lambda: stages.run("text", tmp_path / "new", steps=steps, progress=False),
    ):
        with pytest.raises((TypeError, ValueError), match="steps is"):
            train()
    assert not (tmp_path / "new").exists()


def test_a_recipe_that_trains_nothing_is_refused():
    for wrong in (
        {"steps": 0},
        {"batch": 2.5},
        {"warmup": -1},
        {"learning_rate": float("nan")},
        {"ema": 1.5},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            Recipe(**{"steps": 1, "batch": 1, "learning_rate": 1.0, **wrong})


@pytest.mark.parametrize("before", [40, 200])
def test_a_run_of_another_length_is_refused(before, tmp_path):
    fit(SmallStage(), tmp_path, steps=before, progress=False)
    files = contents(tmp_path)
    with pytest.raises(
        ValueError, match=rf"another run \({{'steps': {before}}}, not {{'steps': 80}}\)"
    ):
        fit(SmallStage(), tmp_path, steps=80, progress=False)
    assert contents(tmp_path) == files


# --------------------------------------------------------------------------------------------------
# Parts


def test_a_part_says_how_it_was_trained(trained):
    with safe_open(trained / "text.clip_text.safetensors", "pt") as file:
        metadata = file.metadata()
    plan = json.loads(metadata["plan"])
    assert plan["stage"] == "text" and plan["steps"] == 2 and plan["seed"] == 0
    assert plan["batch"] == 4 and plan["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"steps": 3}, r"{'steps': 2}, not {'steps': 3}"),
        ({}, r"{'steps': 2}, not {'steps': 1400}"),
        ({"steps": 2, "seed": 1}, r"{'seed': 0}, not {'seed': 1}"),
    ],
)
def test_a_part_of_another_run_is_refused(asked, message, trained):
    files = contents(trained)
    with pytest.raises(ValueError, match=rf"text\.clip_text\.safetensors belongs.*{message}"):
        stages.run("text", trained, progress=False, **asked)
    assert contents(trained) == files


def test_a_part_of_another_recipe_is_refused(trained, monkeypatch):
    monkeypatch.setitem(stages.RECIPES, "text", replace(stages.RECIPES["text"], ema=0.5))
    with pytest.raises(ValueError, match=r"{'ema': 0.998}, not {'ema': 0.5}"):
        stages.run("text", trained, steps=2, progress=False)


def test_all_stages_are_refused_before_the_first_is_trained(trained, tmp_path, capsys):
    folder = copied(trained, tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["all", "--folder", str(folder)])
    assert stopped.value.code == 2
    assert "{'steps': 2}, not {'steps': 1400}" in capsys.readouterr().err
    assert contents(folder) == contents(trained), "not even the judge, which comes first"


def test_a_checkpoint_of_another_run_stops_all_stages_too(trained, tmp_path, capsys):
    folder = copied(trained, tmp_path)
    (folder / "text.clip_text.safetensors").unlink()
    with pytest.raises(SystemExit):
        command_line.main(["all", "--folder", str(folder), "--steps", "7"])
    assert "text.checkpoint.pt belongs to another run" in capsys.readouterr().err


def test_a_stage_that_was_built_on_other_parts_is_refused(trained, tmp_path):
    folder = copied(trained, tmp_path)
    stages.run("clip", folder, steps=1, progress=False)
    for path in folder.glob("text.*"):
        path.unlink()
    stages.run("text", folder, steps=1, progress=False)
    message = r"clip\.clip_vision.*text\.clip_text\.safetensors': 'steps 2, .*not.*'steps 1, "
    with pytest.raises(ValueError, match=message):
        stages.run("clip", folder, steps=1, progress=False)
    for part in parts.LEAVES["clip"]:  # nor does its unfinished run go on
        (folder / f"clip.{part}.safetensors").unlink()
    with pytest.raises(ValueError, match=r"clip\.checkpoint\.pt belongs to another run.*steps 2, "):
        stages.run("clip", folder, steps=1, progress=False)


def test_a_stage_built_on_the_same_parts_trained_again_is_not_refused(trained, tmp_path, capsys):
    folder = copied(trained, tmp_path)
    stages.run("clip", folder, steps=1, progress=False)
    for path in folder.glob("text.*"):
        path.unlink()
    stages.run("text", folder, steps=2, progress=False)
    stages.run("clip", folder, steps=1, progress=False)
    assert "clip: finished before" in capsys.readouterr().out


def test_a_part_that_does_not_say_how_it_was_trained_is_kept(trained, tmp_path, capsys):
    path = tmp_path / "text.clip_text.safetensors"
    save_file(load_file(trained / path.name), path)
    stages.run("text", tmp_path, progress=False)
    line = (
        "text: finished before (text.clip_text.safetensors); with which steps and seed is not known"
    )
    assert capsys.readouterr().out.strip() == line


def test_a_run_that_was_killed_between_two_parts_goes_on(trained, tmp_path, capsys):
    folder = copied(trained, tmp_path)
    stages.run("clip", folder, steps=1, progress=False)
    whole = contents(folder)
    (folder / "clip.clip_text.safetensors").unlink()
    stages.run("clip", folder, steps=1, progress=False)
    assert "finished before" not in capsys.readouterr().out
    assert contents(folder).keys() == whole.keys()
    for name in parts.LEAVES["clip"]:
        assert contents(folder)[f"clip.{name}.safetensors"] == whole[f"clip.{name}.safetensors"]


def damaged_part(damage: str, path: Path) -> None:
    """Damages a finished part."""
    content = path.read_bytes()
    if damage == "no plan":
        save_file(load_file(path), path, {"plan": "[2, 0"})
    elif damage == "another plan":
        save_file(load_file(path), path, {"plan": "3"})
    else:
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        kinds = {"empty": b"", "cut short": content[:-50], "header cut": content[:9]}
        path.write_bytes({**kinds, "pointer": pointer}[damage])


@pytest.mark.parametrize("stage", ["text", "clip"])
@pytest.mark.parametrize(
    "damage", ["empty", "cut short", "header cut", "pointer", "no plan", "another plan"]
)
def test_a_damaged_part_is_named_by_its_stage_and_by_those_built_on_it(
    trained, tmp_path, capsys, stage, damage
):
    folder = copied(trained, tmp_path)
    path = folder / "text.clip_text.safetensors"
    damaged_part(damage, path)
    with pytest.raises(ValueError, match=rf"{path} (is|cannot be)"):
        stages.run(stage, folder, steps=2, progress=False)
    with pytest.raises(SystemExit):
        command_line.main([stage, "--folder", str(folder), "--steps", "2"])
    assert str(path) in capsys.readouterr().err


def test_a_part_with_other_tensors_is_named(trained, tmp_path):
    path = copied(trained, tmp_path) / "text.clip_text.safetensors"
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path)
    with pytest.raises(ValueError, match=rf"(?s){path} is of another model.*Missing key"):
        stages.run("clip", tmp_path, steps=1, progress=False)


# --------------------------------------------------------------------------------------------------
# What goes wrong beside the weights


def test_a_backend_that_does_not_exist_does_not_lose_a_part(tmp_path):
    options = ["text", "--folder", str(tmp_path), "--steps", "1", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "minidream.train", *options],
        env={**os.environ, "MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and (tmp_path / "text.clip_text.safetensors").exists()
    assert "text.png could not be drawn: Key backend: 'nonsense'" in done.stderr


def test_a_figure_that_cannot_be_written_does_not_lose_a_part(tmp_path):
    (tmp_path / "text.png").mkdir()
    with pytest.warns(UserWarning, match=r"text\.png could not be drawn"):
        stages.run("text", tmp_path, steps=1, progress=False)
    assert (tmp_path / "text.clip_text.safetensors").exists()


def test_a_figure_that_a_kill_prevented_is_drawn_by_the_next_start(trained, tmp_path, capsys):
    folder = copied(trained, tmp_path)
    (folder / "text.png").unlink()
    stages.run("text", folder, steps=2, progress=False)
    assert "finished before" in capsys.readouterr().out
    assert (folder / "text.png").read_bytes().startswith(b"\x89PNG")
    (folder / "text.png").unlink()
    (folder / "text.jsonl").unlink()  # a part that was copied here alone has no losses to draw
    stages.run("text", folder, steps=2, progress=False)
    assert not (folder / "text.png").exists()


def test_a_figure_that_fails_does_not_lose_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(curves.plt, "subplots", lambda *_, **__: 1 / 0)
    with pytest.warns(UserWarning, match="could not be drawn: division by zero"):
        stages.run("text", tmp_path, steps=1, progress=False)
    assert (tmp_path / "text.clip_text.safetensors").exists()


class Stopped(SmallStage):
    """Is broken off before step 50."""

    def batch(self, seed, step, process):
        if step == 50:
            raise KeyboardInterrupt
        return super().batch(seed, step, process)


@pytest.mark.parametrize("damage", ["cut short", "empty", "missing", "more lines"])
def test_a_damaged_log_does_not_stop_a_run_from_going_on(damage, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(Stopped(), tmp_path, save_seconds=0, progress=False)
    path = tmp_path / "small.jsonl"
    content = path.read_bytes()
    damaged = {"cut short": content[:-30], "empty": b"", "more lines": content + b'{"step": 9'}
    path.unlink() if damage == "missing" else path.write_bytes(damaged[damage])
    resumed = SmallStage()
    log = fit(resumed, tmp_path, progress=False)
    whole = SmallStage()
    fit(whole, tmp_path / "whole", progress=False)
    assert [line["step"] for line in log] == list(range(20, 201, 20))
    assert [json.loads(line) for line in path.read_text().splitlines()] == log
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


@pytest.mark.parametrize("size", [0, 100, 0.5, -1])
def test_a_checkpoint_that_was_cut_short_is_named(size, tmp_path):
    fit(SmallStage(), tmp_path, steps=20, progress=False)
    path = tmp_path / "small.checkpoint.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(size * len(content)) if size == 0.5 else size])
    with pytest.raises(ValueError, match=r"small\.checkpoint\.pt is damaged.*delete it"):
        fit(SmallStage(), tmp_path, steps=20, progress=False)


class Untrained(SmallStage):
    """Has no first step."""

    def batch(self, seed, step, process):
        pytest.fail("a step was taken")


def test_a_checkpoint_that_cannot_be_written_is_found_before_the_first_step(tmp_path):
    path = tmp_path / "small.checkpoint.pt"
    path.symlink_to(tmp_path / "not there" / "small.checkpoint.pt")
    with pytest.raises(OSError, match=rf"{path} cannot be written"):
        fit(Untrained(), tmp_path, progress=False)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=rf"{path} is damaged.*directory"):
        fit(Untrained(), tmp_path, progress=False)


def test_a_part_that_cannot_be_written_is_found_before_the_first_step(tmp_path, monkeypatch):
    path = tmp_path / "text.clip_text.safetensors"
    path.symlink_to(tmp_path / "not there" / path.name)
    monkeypatch.setattr(clip_stages.TextStage, "batch", Untrained.batch)
    with pytest.raises(OSError, match=rf"{path} cannot be written"):
        stages.run("text", tmp_path, steps=1, progress=False)


@pytest.mark.parametrize("change", ["settings", "step", "log", "trained", "optimizer", "average"])
def test_a_checkpoint_that_holds_something_else_is_named(tmp_path, change):
    fit(SmallStage(), tmp_path, steps=20, progress=False)
    path = tmp_path / "small.checkpoint.pt"
    whole = torch.load(path, weights_only=True)
    without = {name: value for name, value in whole.items() if name != change}
    for wrong in (3, {"settings": {}, "log": []}, without, {**whole, change: "three"}):
        torch.save(wrong, path)
        with pytest.raises(ValueError, match=r"small\.checkpoint\.pt is damaged.*delete it"):
            fit(Untrained(), tmp_path, steps=20, progress=False)


@pytest.mark.parametrize("change", [{"trained": []}, {"optimizer": {}}])
def test_a_checkpoint_of_another_stage_is_named(tmp_path, change):
    fit(SmallStage(), tmp_path, steps=20, progress=False)
    path = tmp_path / "small.checkpoint.pt"
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(ValueError, match=r"small\.checkpoint\.pt is damaged.*delete it"):
        fit(Untrained(), tmp_path, steps=20, progress=False)


@pytest.mark.parametrize("seconds", ["60", None, True, float("nan"), -1])
def test_a_time_between_checkpoints_that_is_none_is_refused(seconds, tmp_path):
    with pytest.raises((TypeError, ValueError), match="save_seconds is"):
        fit(Untrained(), tmp_path / "new", save_seconds=seconds, progress=False)
    assert not (tmp_path / "new").exists()


def test_a_log_that_cannot_be_written_is_found_before_the_first_step(tmp_path):
    (tmp_path / "small.jsonl").mkdir()
    with pytest.raises(OSError, match=r"small\.jsonl"):
        fit(Stopped(), tmp_path, steps=60, progress=False)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        fit(Stopped(), tmp_path, save_seconds=0, progress=False)
    files = contents(tmp_path)

    def full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 128 vs 0")  # as torch 2.13 says it

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(
            OSError, match=r"small\.checkpoint\.pt could not be written after step 60"
        ):
            fit(SmallStage(), tmp_path, save_seconds=0, progress=False)
    assert contents(tmp_path) == files
    assert len(fit(SmallStage(), tmp_path, progress=False)) == 10


class Exploding(SmallStage):
    """Its loss is 0 and its gradient is not a number."""

    def forward(self, batch, generator):
        return {"total": (self.line(batch) * 0).square().sum().sqrt()}


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_changes_the_weights(tmp_path):
    stage = Exploding()
    with pytest.raises(FloatingPointError, match="small: the gradient is nan at step 0"):
        fit(stage, tmp_path, steps=20, progress=False)
    assert all(weights.isfinite().all() for weights in stage.parameters())
    assert not (tmp_path / "small.checkpoint.pt").exists()
