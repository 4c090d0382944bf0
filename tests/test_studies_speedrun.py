"""The race: what is trained, what counts, and how entries are listed."""

import json

import pytest
import torch

import minidream
from minidream.studies import speedrun
from minidream.weights import parts


def test_only_what_paints_is_trained_and_nothing_that_painted_before_is_used():
    stage = speedrun.new_stage(speedrun.SpeedrunPlan(), seed=3)
    trained = {name for name, weights in stage.model.named_parameters() if weights.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"llm", "dream_queries", "decoder"}
    assert {name for name in trained if name.startswith("decoder")} == {
        name for name, _ in stage.model.named_parameters() if name.startswith("decoder.projector")
    }
    shipped = minidream.load("toy", device="cpu")
    assert not torch.allclose(stage.model.dream_queries, shipped.dream_queries, atol=0.1)
    before = parts.toy_before("stage1")
    assert torch.equal(stage.model.llm.embed_tokens.weight, before.llm.embed_tokens.weight)


def test_the_toy_counts_and_a_model_before_training_does_not():
    right = speedrun.painted_right(minidream.load("toy", device="cpu"), 20, seed=1, batch=10)
    assert right >= 17
    fresh = speedrun.new_stage(speedrun.SpeedrunPlan(), seed=3).model
    assert speedrun.painted_right(fresh, 20, seed=1, batch=10) <= 2


def test_a_run_is_written_and_not_repeated(tmp_path, capsys):
    out = tmp_path / "speedrun.json"
    command = ["--steps", "2", "--batch", "2", "--prompts", "2", "--seeds", "4"]
    speedrun.main([*command, "--out", str(out), "--quiet", "--change", "nothing yet"])
    stored = json.loads(out.read_bytes())
    (done,) = stored["runs"]
    assert done["seed"] == 4 and done["minutes"] >= 0 and done["counts"] == (done["right"] == 2)
    assert "--steps 2" in stored["command"]
    written = out.read_bytes()
    capsys.readouterr()
    speedrun.main([*command, "--out", str(out), "--quiet", "--change", "nothing yet"])
    assert out.read_bytes() == written
    assert "nothing yet" in capsys.readouterr().out


def test_the_leaderboard_is_sorted_by_time():
    def entry(change, minutes, right):
        done = {"date": "2026-11-29", "minutes": minutes, "right": right, "counts": right >= 475}
        plan = {"prompts": 500, "change": change}
        return {"plan": plan, "machine": "2 cores", "runs": [done, done]}

    table = speedrun.leaderboard([entry("slow", 12.0, 490), entry("quick", 8.0, 470)])
    lines = table.splitlines()
    assert "quick" in lines[2] and "0 of 2" in lines[2] and "94.0 [" in lines[2]
    assert "slow" in lines[3] and "2 of 2" in lines[3]


@pytest.mark.parametrize("option", ("--steps", "--prompts"))
def test_nothing_cannot_be_trained(option, capsys):
    with pytest.raises(SystemExit):
        speedrun.main([option, "0"])
    assert "at least 1" in capsys.readouterr().err
