"""The study behind notebooks 09 and 10 on a tiny plan: all its parts, and none is run twice."""

import json
import math
from dataclasses import replace

import pytest
import torch

import minidream
from minidream.studies import probing, probing_lab
from minidream.studies.probing_lab import Lab, ProbingPlan, word_positions
from minidream.studies.probing_layers import OBJECT_HEADS
from minidream.studies.results import load_results
from minidream.world.judge import HEADS

TINY = ProbingPlan(scenes=4, ablated=4, curves=3, prompts=60, pairs=4, attributed=3)


@pytest.fixture(scope="module")
def lab():
    model = minidream.load("toy", device="cpu")
    model.decoder.config = replace(
        model.decoder.config, num_inference_steps=5
    )  # quick, and most pictures come out right
    return Lab(model, TINY, seed=7)


def test_pointing_has_a_share_for_every_kind_of_word_and_control(lab):
    found = probing.pointing(lab)
    assert 1 <= found["scenes"] <= 4 and found["words"] == {
        kind: 2 * found["scenes"] for kind in probing_lab.WORD_KINDS
    }
    assert (
        set(found["hits"])
        == set(found["mass"])
        == {"two hops", "rollout", "shuffled caption", "untrained queries", "uniform"}
    )
    assert all(0 <= hit <= 1 for kinds in found["hits"].values() for hit in kinds.values())
    assert [len(layers) for layers in found["layers"].values()] == [6, 6, 6]
    # A uniform map hits an object in proportion to its size, between 2 and 30 % of the cells.
    assert all(0.02 < hit < 0.3 for hit in found["hits"]["uniform"].values())


def test_masks_words_and_noise_belong_together(lab):
    done = lab.painted("test", 4)
    again = lab.paint(done.states, done.seeds)
    torch.testing.assert_close(again, done.pictures, atol=1e-3, rtol=0)
    for number, phrase in enumerate(done.phrases):
        objects = {
            done.object_index(number, role) for role in phrase.roles if role and role[0] == "shape"
        }
        assert objects == {0, 1} and done.masks[number].shape == (2, *done.pictures.shape[2:])
        first, second = (mask.nonzero().float().mean(dim=0) for mask in done.masks[number])
        assert (first < second).any()  # the left or upper one first
    trace = minidream.probe.dream_attention(lab.model, done.phrases[0].text)
    assert [trace.inputs[place] for place in word_positions(trace, done.phrases[0])] == list(
        done.phrases[0].words
    )
    with pytest.raises(ValueError, match="are not the words"):
        word_positions(trace, done.phrases[0] + done.phrases[0])


def test_ablations_curves_and_attributions(lab):
    found = probing.ablations(lab)
    assert (
        len(found["changes"]) == 16
        and all(len(row) == len(HEADS) for row in found["changes"])
        and len(found["pixels"][0]) == 3
    )
    assert all(len(values) == 2 * found["scenes"] for values in found["agreement"].values())
    found = probing.curves(lab)
    for direction, whole_at in (("deletion", 0), ("insertion", 16)):
        ends = {
            (curve[whole_at], curve[16 - whole_at]) for curve in found["curves"][direction].values()
        }
        assert len(ends) == 1 and ends.pop()[0] > 0.9  # all orders begin and end alike
        assert all(len(areas) == found["things"] for areas in found["areas"][direction].values())
    found = probing.attributions(lab)
    assert (
        all(-1 <= rank <= 1 for ranks in found["ranks"].values() for rank in ranks)
        and max(found["relative delta"]) < 0.5
    )


def test_layers_and_claims(lab):
    found = probing.readable(lab)["heads"]
    assert set(found) == {"axis", *OBJECT_HEADS}
    assert (
        torch.tensor(found["first colour"]["accuracy"]).shape
        == torch.tensor(found["first colour"]["control"]).shape
        == (6, 16)
    )
    found = probing.patching(lab)
    assert (
        found["to the other prompt"][-1] >= 0.5
        and found["still the prompt itself"][-1] == 0
        and len(found["lens"]) == 6
    )
    found = probing.swaps(lab)
    assert found["things"] in (2, 4, 6, 8) and all(
        0 <= share <= 1
        for name in ("as the map says", "at random")
        for share in found[name].values()
    )
    found = probing.claims(lab)["conditions"]
    assert {name: condition["slots"] for name, condition in found.items()}["text states"] == 32
    assert all(
        math.isfinite(value) for condition in found.values() for value in condition["separation"]
    )


def test_a_killed_run_goes_on_and_another_plan_is_refused(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(probing, "load", lambda name: None)
    monkeypatch.setattr(probing, "Lab", lambda model, plan, seed: seed)
    monkeypatch.setattr(
        probing,
        "PARTS",
        {
            name: lambda seed, name=name: made.append((name, seed)) or {"n": 1}
            for name in ("one", "two")
        },
    )
    out = tmp_path / "deep" / "out.json"
    probing.run_all(TINY, [1], out, ["one"], progress=False)
    results = probing.run_all(TINY, [1, 2], out, ["one", "two"], progress=False)
    assert made == [("one", 1), ("two", 1), ("one", 2), ("two", 2)]
    assert results["runs"] == json.loads(out.read_bytes())["runs"] and results[
        "command"
    ].startswith("python -m minidream.studies probing --seeds 1 2 --scenes 4")
    assert probing.runs_of(results, "two") == [
        {"part": "two", "seed": 1, "n": 1},
        {"part": "two", "seed": 2, "n": 1},
    ]
    with pytest.raises(
        ValueError, match=r"no run of 'three' in these results; there are \['one', 'two'\]"
    ):
        probing.runs_of(results, "three")
    with pytest.raises(SystemExit):
        probing.main(["--out", str(out), "--scenes", "9"])
    assert "holds runs of another plan" in capsys.readouterr().err
    with pytest.raises(ValueError, match="at least 3 scenes"):
        ProbingPlan(curves=2)


def test_the_table_counts_pictures_over_all_seeds():
    hits = {"two hops": {"size": 0.5, "colour": 1.0, "shape": 0.75}}
    runs = [
        {
            "part": "pointing",
            "seed": seed,
            "scenes": scenes,
            "hits": {"two hops": {**hits["two hops"], "size": size}},
        }
        for seed, scenes, size in ((0, 30, 0.5), (1, 10, 0.9))
    ]
    head, _, row = probing.table({"runs": runs}).splitlines()
    assert "40 pictures" in head
    assert row == "| two hops | 100.0 [91.2, 100.0] | 75.0 [59.8, 85.8] | 60.0 [44.6, 73.7] |"


def test_the_readme_has_the_table_of_the_committed_results():
    readme = (probing.RESULTS.parents[2] / "README.md").read_text(encoding="utf-8")
    assert probing.table(load_results(probing.RESULTS)) in readme, (
        "run `python -m minidream.studies probing --table`"
    )


def test_the_command_line(tmp_path, monkeypatch, capsys):
    seen, out = {}, tmp_path / "out.json"
    hits = dict.fromkeys(("colour", "shape", "size"), 0.5)
    run = {"part": "pointing", "seed": 4, "scenes": 10, "hits": {"two hops": hits}}
    monkeypatch.setattr(
        probing,
        "run_all",
        lambda plan, seeds, out, parts, progress: seen.update(locals()) or {"runs": [run]},
    )
    probing.main(["--scenes", "9", "--seeds", "4", "--parts", "pointing", "--out", str(out)])
    assert seen["plan"] == ProbingPlan(scenes=9) and seen["out"] == out
    assert (seen["seeds"], seen["parts"], seen["progress"]) == ((4,), ("pointing",), True)
    printed = capsys.readouterr().out
    assert "| two hops | 50.0 [" in printed
    probing.main(["--parts", "curves", "--quiet"])
    assert seen["parts"] == ("curves",) and capsys.readouterr().out == ""
    out.write_text(json.dumps({"plan": {}, "runs": [run]}), encoding="utf-8")
    probing.main(["--table", "--out", str(out)])
    assert capsys.readouterr().out == printed
    for wrong, words in (
        (["--table", "--out", "nowhere.json"], "nowhere.json is missing"),
        (["--curves", "2"], "at least 3 scenes"),
        (["--parts", "nothing"], "invalid choice"),
    ):
        with pytest.raises(SystemExit):
            probing.main(wrong)
        assert words in capsys.readouterr().err
