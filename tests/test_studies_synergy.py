"""Painting and seeing, alone and together: the same samples, gains by hand, a whole run."""

import json
import math

import pytest
import torch

from minidream.families import evaluation, family, samples
from minidream.studies import family_runs, intervals, synergy, synergy_table
from minidream.studies.results import load_results

TINY = family.FamilyPlan(steps=5, batch=2, prompts=2)


def words_of(system, steps):
    """{kind: what was given and replied, in order} of so many batches."""
    seen = {}
    for step in range(steps):
        for sample in system.batch(7, step, 0):
            seen.setdefault(sample.kind, []).append(
                tuple(item for item in (*sample.given, sample.reply) if isinstance(item, str))
            )
    return seen


def test_alone_is_what_was_seen_together_and_no_more():
    plan = family.FamilyPlan(steps=20, batch=2, prompts=1)
    together = words_of(family_runs.build(synergy.ARMS["dreamllm"], plan, 0), 20)
    systems = [
        family_runs.build(synergy.ARMS[name], plan, 0)
        for name in ("creation-share", "comprehension-share")
    ]
    alone = [words_of(system, system.recipe.steps) for system in systems]
    assert [system.recipe.steps for system in systems] == [12, 8]
    assert alone[0] | alone[1] == together and set(together) == set(
        samples.PAINTED_KINDS + samples.TEXT_KINDS
    )
    longer = words_of(family_runs.build(synergy.ARMS["instructions"], plan, 0), 20)
    assert all(
        longer[kind][:8] == together[kind] and len(longer[kind]) == 20
        for kind in samples.TEXT_KINDS
    )


def test_arms_differ_in_what_they_say_they_do():
    joint, other = (
        family_runs.build({**synergy.ARMS, **synergy.ABLATIONS}[name], TINY, 0)
        for name in ("dreamllm", "weight-160")
    )
    assert [system.model.config.loss_weight_vm for system in (joint, other)] == [40, 160]
    assert torch.equal(joint.model.vision.projector.weight, other.model.vision.projector.weight)
    assert set(synergy.ABLATIONS) == {"weight-10", "weight-160"}


def test_a_run_holds_exam_and_losses(tmp_path):
    done = synergy.run("creation-share", 3, TINY, tmp_path, progress=False)
    assert done["samples"] == {kind: 2 for kind in samples.IMAGE_KINDS} and set(
        done["exam"]
    ) == set(done["losses"]) == set(samples.PAINTED_KINDS)
    assert all(
        set(marks) == set(evaluation.COMBINATIONS) and all(0 < loss < 1 for loss in marks.values())
        for marks in done["losses"].values()
    )
    again = synergy.run(
        "creation-share", 3, TINY, tmp_path, progress=False
    )  # read again, not trained again
    assert {**again, "samples_per_second": 0} == {
        **json.loads(json.dumps(done)),
        "samples_per_second": 0,
    }


def done(name, seed, kinds, facts, loss):
    return {
        "family": name,
        "seed": seed,
        "exam": {
            kind: {name: {"right": 1, "facts": facts} for name in evaluation.COMBINATIONS}
            for kind in kinds
        },
        "losses": {kind: dict.fromkeys(evaluation.COMBINATIONS, loss) for kind in kinds},
        "curves": {
            name: [{"step": step, "diffusion": loss, "language": loss / step} for step in (10, 20)]
        },
    }


def test_reading_has_the_same_lessons_without_a_picture_to_speak_about():
    plan = family.FamilyPlan(steps=10, batch=2, prompts=1)
    together, reading = (
        family_runs.build(synergy.ARMS[name], plan, 0) for name in ("dreamllm", "creation-reading")
    )
    assert (
        words_of(reading, 10) == words_of(together, 10)
        and reading.recipe == together.recipe
        and set(reading.kinds) == set(samples.PAINTED_KINDS)
    )
    assert {name for name, value in reading.named_parameters() if value.requires_grad} == {
        name for name, value in together.named_parameters() if value.requires_grad
    }
    for step in range(10):
        for sample in together.batch(0, step, 0):
            (seen, _), (read, document) = together.lay_out(sample), reading.lay_out(sample)
            decode = together.model.tokenizer.decode
            if sample.kind in samples.PAINTED_KINDS:
                assert read.ids == seen.ids and len(document.images) == len(sample.pictures) + 1
            else:
                assert (
                    decode(read.ids).startswith(
                        f"question: {sample.caption}. {sample.given[1]} answer: {sample.reply}"
                    )
                    and not document.images
                )
                assert [word for word in read.labels if word != -100] == [
                    word for word in seen.labels if word != -100
                ]  # the same is learned


def test_gains_by_hand():
    kinds = samples.IMAGE_KINDS + samples.TEXT_KINDS
    results = {
        "plan": {"prompts": 4},
        "runs": [
            done("dreamllm", seed, kinds, facts, 0.5)
            for seed, facts in ((1, 0.75), (0, 0.5), (2, 0.75))
        ]
        + [
            done(name, seed, kinds, 0.25, loss)
            for name in synergy.ARMS
            if name != "dreamllm"
            for seed, loss in ((2, 1.0), (0, 0.25), (1, 0.5))
        ],
    }
    row = "seeing, against its share alone: caption"
    values, mean, low, high, detectable = synergy_table.gains_of(results, "loss")[row]
    assert (
        values == [math.log(0.5), 0, math.log(2)]
        and (mean, low, high) == intervals.seed_interval(values)
        and detectable == intervals.detectable(values)
    )  # twice the loss, the same, half of it
    values, mean, low, high, detectable = synergy_table.gains_of(results, "facts")[row]
    assert values == [0.25, 0.5, 0.5] and mean == pytest.approx(1.25 / 3)
    assert (
        low == intervals.newcombe((8, 12), (3, 12))[0] < intervals.seed_interval(values)[1]
    )  # twelve replies are worth less than three seeds,
    values, mean, low, high, detectable = synergy_table.gains_of(results, "right")[row]
    assert (
        values == [0, 0, 0]
        and (low, high) == intervals.newcombe((3, 12), (3, 12))
        and high > 0.3
        and detectable > high
    )  # and most so where all seeds are alike
    fewer = {
        **results,
        "runs": results["runs"]
        + [done("weight-10", seed, kinds, facts, 0.5) for seed, facts in ((0, 1.0), (2, 0.5))],
    }
    by_count = synergy_table.shares_of(
        fewer, {10: "weight-10", 40: "dreamllm"}, "paint"
    )  # seed 1 has no run with a weight of 10, and does not count
    assert {count: spread[:2] for count, spread in by_count.items()} == {
        10: ([1.0, 0.5], 0.75),
        40: ([0.5, 0.75], 0.625),
    }
    lines = synergy_table.text_of(results).splitlines()
    assert len(lines) == 11 + 4 * len(samples.IMAGE_KINDS) + 2 * len(samples.TEXT_KINDS) and lines[
        -2
    ].startswith("| seeing, against more seeing: caption | +41.7 [")
    assert (
        synergy_table.gains_of({**results, "runs": results["runs"][:4]}, "loss")
        == synergy_table.gains_during_training({**results, "runs": results["runs"][:4]})
        == {}
    )
    values, *interval, _ = synergy_table.gains_during_training(results)[
        "painting, against its share alone"
    ]
    assert values == pytest.approx([math.log(0.5), 0, math.log(2)]) and tuple(
        interval
    ) == intervals.seed_interval(values)
    assert synergy_table.curve_of(results["runs"][0], "language").tolist() == [0.05, 0.025]
    gained = synergy_table.gains_of_ablations(fewer, {10: "weight-10", 40: "dreamllm"}, "as weight")
    assert list(gained) == ["10 as weight, painting", "10 as weight, seeing"] and gained[
        "10 as weight, painting"
    ][0] == [0, 0]


def test_gains_on_the_way_compare_the_same_samples():
    def log(name, seed, steps):
        """A run whose loss depends only on which samples of its own it sees, steep at first.

        Each line is the mean of 20 steps, as `trainer.fit` logs it.
        """
        losses = [(1 + seed) * math.exp(-8 * (step + 0.5) / steps) for step in range(steps)]
        curve = [
            {"step": last, "diffusion": sum(losses[last - 20 : last]) / 20, "language": 1.0}
            for last in range(20, steps + 1, 20)
        ]
        return {"family": name, "seed": seed, "curves": {name: curve}}

    results = {
        "runs": [
            log(name, seed, steps)
            for name, steps in (
                ("dreamllm", 600),
                ("creation-share", 360),
                ("dreamllm-creation", 600),
            )
            for seed in (0, 1)
        ]
    }
    found = synergy_table.gains_during_training(results)
    assert set(found) == {"painting, against its share alone", "painting, against more painting"}
    assert all(
        abs(value) < 1e-3 for values, *_ in found.values() for value in values
    )  # nothing is gained where nothing differs
    better = {
        **results,
        "runs": [
            {
                **run,
                "curves": {
                    "": [
                        {**line, "diffusion": line["diffusion"] / 2}
                        for line in next(iter(run["curves"].values()))
                    ]
                },
            }
            if run["family"] == "dreamllm"
            else run
            for run in results["runs"]
        ],
    }
    assert all(
        value == pytest.approx(math.log(2), abs=1e-3)
        for values, *_ in synergy_table.gains_during_training(better).values()
        for value in values
    )


def test_alone_each_sample_is_learned_at_the_same_rate():
    plan = family.FamilyPlan()
    together, *alone = (
        family_runs.build(synergy.ARMS[name], plan, 0).recipe
        for name in ("dreamllm", "creation-share", "comprehension-share")
    )
    assert [recipe.steps for recipe in alone] == [360, 240]
    for recipe in alone:
        for done in (0.02, 0.08, 0.3, 0.6, 0.95):  # of the training
            assert recipe.rate(done * recipe.steps, recipe.steps) == pytest.approx(
                together.rate(done * 600, 600), rel=0.15
            )


def test_the_command_line_gives_ablations_three_seeds(tmp_path, monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(
        family_runs,
        "run_all",
        lambda run, wanted, plan, study, folder, out, progress: (
            seen.update(locals()) or {"plan": {}, "runs": []}
        ),
    )
    monkeypatch.setattr(synergy, "text_of", lambda results: "the answers")
    synergy.main(["all", "--out", str(tmp_path / "o.json")])
    assert {
        name: [seed for other, seed in seen["wanted"] if other == name]
        for name in ("dreamllm", "weight-10")
    } == {"dreamllm": [0, 1, 2, 3, 4], "weight-10": [0, 1, 2]}
    assert seen["study"] == "synergy all" and "the answers" in capsys.readouterr().out


def test_the_committed_runs_are_all_there():
    results = load_results(synergy.RESULTS)
    on_the_way, _ = synergy_table.text_of(results).split("\n\n")
    assert on_the_way in (synergy.RESULTS.parents[2] / "README.md").read_text(encoding="utf-8"), (
        "paste what `python -m minidream.studies synergy table` prints first"
    )
    assert {
        name: len(family_runs.runs_of(results, name)) for name in synergy.ARMS
    } == dict.fromkeys(synergy.ARMS, 5)
    assert {
        name: len(family_runs.runs_of(results, name)) for name in synergy.ABLATIONS
    } == dict.fromkeys(synergy.ABLATIONS, 3)
