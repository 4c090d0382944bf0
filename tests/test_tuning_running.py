"""Whole runs: the loss falls, a killed run goes on to the bit, and `load` reads what was saved."""

import json
import re

import pytest
import torch
from models_shared import same_weights, tiny_official
from tuning_shared import TINY_OPTIONS, log_of, tune, write_data, write_toy

import minidream
from minidream.train import __main__ as command_line
from minidream.tuning import running
from minidream.tuning.stream import Stream

CAPTIONS = ["ab", "abc", "a b", "c", "cab", "bb"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("tuning") / "data", CAPTIONS)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("tuning") / "toy")


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    captions = ["a red rocket", "a blue circle", "a cat left of a star"]
    return write_data(tmp_path_factory.mktemp("tuning") / "toy data", captions)


FORTY = ["--steps", "40", "--learning-rate", "1e-2", "--learn", "lora", "projectors"]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run on the official tiny checkpoint."""
    folder = tmp_path_factory.mktemp("tuning") / "run"
    tune(folder, data, *TINY_OPTIONS, *FORTY, "--old", str(data), "--both-ways")
    return folder


def test_the_loss_of_the_official_checkpoint_falls_and_load_reads_it_again(whole, data):
    report = json.loads((whole / "tune.json").read_text())
    before, after = report["losses"]["before"], report["losses"]["after"]
    assert before.keys() == after.keys() == {"own data", "old data"}
    for name in ("own data", "old data"):
        assert after[name]["language"] < 0.9 * before[name]["language"]
        assert after[name]["diffusion"] < before[name]["diffusion"]
    assert report["plan"]["learn"] == "lora projectors" and (whole / "tune.png").exists()
    model = minidream.load(whole / "model", device="cpu")
    original = tiny_official()
    state, old = model.state_dict(), original.state_dict()
    assert state.keys() == old.keys()
    changed = {name for name in old if not torch.equal(state[name], old[name])}
    expected = {
        name for name in old if name.startswith("llm.") and ("q_proj" in name or "v_proj" in name)
    }
    expected |= {name for name in old if "projector" in name or name == "dream_queries"}
    assert changed == expected
    stream = Stream(model, data, len(CAPTIONS), both_ways=True)
    found = running.measured(model, {"own data": lambda *_: stream.batch(0, 6)})
    for name, value in after["own data"].items():
        assert found["own data"][name] == pytest.approx(value, rel=1e-4)
    assert (
        model.dream("ab", num_inference_steps=1).size
        == original.dream("ab", num_inference_steps=1).size
    )


def test_a_run_that_was_stopped_goes_on_to_the_bit(whole, data, tmp_path, monkeypatch):
    batch = Stream.batch

    def stopped(stream, step, size):
        if step == 30:
            raise KeyboardInterrupt
        return batch(stream, step, size)

    options = [*TINY_OPTIONS, *FORTY, "--old", str(data), "--both-ways", "--save-seconds", "0"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stream, "batch", stopped)
        tune(tmp_path / "run", data, *options)
    assert torch.load(tmp_path / "run" / "tune.checkpoint.pt")["step"] == 20
    assert not (tmp_path / "run" / "model").exists()
    tune(tmp_path / "run", data, *options)
    one, other = (
        minidream.load(folder / "model", device="cpu") for folder in (whole, tmp_path / "run")
    )
    assert same_weights(one, other)
    for mine, theirs in zip(log_of(tmp_path / "run"), log_of(whole), strict=True):
        assert mine | {"samples_per_second": 0} == theirs | {"samples_per_second": 0}


def test_a_finished_run_is_not_made_again_and_another_one_is_refused(
    whole, data, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(running, "fit", None)
        tune(whole, data, *TINY_OPTIONS, *FORTY, "--both-ways")
    assert f"finished before: {whole / 'model'}" in capsys.readouterr().out
    with pytest.raises(
        SystemExit, match=r"belongs to another run \(\{'learn': 'lora projectors'\}"
    ):
        tune(whole, data, *TINY_OPTIONS, *FORTY, "--both-ways", "--learn", "unet")


def test_a_toy_learns_new_words_and_what_it_forgets_is_printed(
    toy, toy_data, tmp_path, capsys, monkeypatch
):
    options = ["--model", str(toy), "--data", str(toy_data), "--folder", str(tmp_path / "run")]
    options += ["--steps", "3", "--batch", "2", "--quiet", "--words", "rocket", "cat"]
    task = {"toy captions": command_line.TOY_TASKS["toy captions"]}
    monkeypatch.setattr(command_line, "TOY_TASKS", task)
    command_line.main(["tune", *options])
    printed = capsys.readouterr().out
    assert "data: 3 records, 3 usable documents" in printed and "memory: 0.0" in printed
    assert "toy captions, language" in printed and "own data, diffusion" in printed
    assert f"saved: minidream.load({str(tmp_path / 'run' / 'model')!r})" in printed
    model, old = (minidream.load(path, device="cpu") for path in (tmp_path / "run" / "model", toy))
    assert model.tokenizer.names == [*old.tokenizer.names, "rocket", "cat"]
    rows = len(old.tokenizer)
    assert torch.equal(model.llm.embed_tokens.weight[:rows], old.llm.embed_tokens.weight)
    model.dream("a cat left of a rocket", num_inference_steps=1)


@pytest.mark.parametrize(
    "more, words",
    [
        ([], "does not know these words of .*: (cat rocket|rocket cat). To teach them"),
        (["--words", "star"], "the toy knows these words already: star"),
        (["--old", "nowhere"], "nowhere"),
        (["--data", "nowhere"], "nowhere"),
        (["--model", "nothing"], "no weights are known as 'nothing'"),
    ],
)
def test_errors_come_before_any_work(toy, toy_data, tmp_path, monkeypatch, more, words):
    monkeypatch.setattr(running, "fit", None)
    with pytest.raises(SystemExit, match=words):
        tune(tmp_path / "run", toy_data, "--model", str(toy), *more)
    assert not [path for path in (tmp_path / "run").glob("*") if path.stat().st_size]


@pytest.mark.parametrize(
    "more, words",
    [
        (["--learn", "lora", "llm"], "choose lora or llm, not both"),
        (["--learn", "everything"], "invalid choice: 'everything'"),
        (["--steps", "0"], "--steps is at least 1"),
        (["--batch", "0"], "batch is at least 1|cannot share a --batch of 0"),
        (["--rank", "0"], "--rank is at least 1"),
    ],
)
def test_options_are_checked(toy, toy_data, tmp_path, capsys, more, words):
    with pytest.raises(SystemExit) as stopped:
        tune(tmp_path / "run", toy_data, "--model", str(toy), *more)
    assert stopped.value.code == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_folder_with_other_files_is_left_alone(toy, toy_data, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit, match="holds files but no checkpoint"):
        tune(tmp_path, toy_data, "--model", str(toy))
    assert (tmp_path / "model" / "thesis.txt").read_text() == "mine"


def test_layers_that_are_computed_again_give_the_same_gradients(toy):
    results = []
    for again in (False, True):
        model = minidream.load(toy, device="cpu")
        model.llm.requires_grad_(True)
        with running.computed_again(model.train(), again):
            model.loss("a red circle and a star").total.backward()
        results.append([each.grad for each in model.llm.parameters()])
        assert "forward" not in vars(model.llm.layers[0])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other)
