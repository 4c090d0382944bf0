"""The race: what is trained, what counts, and how entries are listed."""

import json

import pytest
import torch

import minidream
from minidream.studies import speedrun
from minidream.weights import parts


def test_only_what_paints_is_trained_and_nothing_that_painted_before_is_used():
    stage = speedrun.new_stage(speedrun.SpeedrunEntry(), seed=3)
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
    fresh = speedrun.new_stage(speedrun.SpeedrunEntry(), seed=3).model
    assert speedrun.painted_right(fresh, 20, seed=1, batch=10) <= 2


def test_a_run_is_written_and_not_repeated(tmp_path, capsys):
    out = tmp_path / "speedrun.json"
    command = ["--steps", "2", "--batch", "2", "--prompts", "2", "--seeds", "4"]
    speedrun.main([*command, "--out", str(out), "--quiet", "--change", "nothing yet"])
    stored = json.loads(out.read_bytes())
    (done,) = stored["runs"]
    assert done["seed"] == 4 and done["minutes"] >= 0 and done["counts"] == (done["right"] == 2)
    assert done["steps"] == done["batch"] == 2 and done["change"] == "nothing yet"
    written = out.read_bytes()
    capsys.readouterr()
    speedrun.main([*command, "--out", str(out), "--quiet", "--change", "nothing yet"])
    assert out.read_bytes() == written
    assert "nothing yet" in capsys.readouterr().out
    speedrun.main([*command, "--out", str(out), "--quiet", "--change", "another"])
    runs = json.loads(out.read_bytes())["runs"]
    assert [run["change"] for run in runs] == ["nothing yet", "another"] and runs[0] == done
    assert capsys.readouterr().out.count("| 0.0 |") == 2
    with pytest.raises(SystemExit):
        speedrun.main(["--prompts", "3", "--out", str(out)])
    assert "another plan" in capsys.readouterr().err


def test_the_quickest_that_counts_comes_first_and_what_does_not_count_last():
    def done(change, minutes, right):
        found = {"date": "2026-11-29", "change": change, "minutes": minutes, "machine": "2 cores"}
        return found | {"right": right, "counts": right >= 475}

    runs = [done("slow", 12.0, 490)] * 2
    runs += [done("hasty", 2.0, 480), done("hasty", 2.0, 400)]
    runs += [done("quick", 8.0, 475)] * 2
    table = speedrun.leaderboard({"plan": {"prompts": 500}, "runs": runs})
    lines = table.splitlines()[2:]
    for line, change, counting in zip(lines, ("quick", "slow", "hasty"), (2, 2, 1), strict=True):
        assert change in line and f"{counting} of 2" in line
    assert "95.0 [" in lines[0]


@pytest.mark.parametrize("option", ("--steps", "--prompts"))
def test_nothing_cannot_be_trained(option, capsys):
    with pytest.raises(SystemExit):
        speedrun.main([option, "0"])
    assert "at least 1" in capsys.readouterr().err
