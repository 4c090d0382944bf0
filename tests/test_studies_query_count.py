"""The study of query counts with 2 steps each: fair to both sides, repeatable, resumed."""

import json
from dataclasses import asdict

import pytest
import torch

from minidream.studies import intervals, query_count, query_evaluation, query_table, query_training
from minidream.studies.results import as_text, load_results
from minidream.weights import toy
from minidream.weights.toy import clip_text_states
from minidream.world.scenes import is_held_out

TINY = query_count.QueryCountPlan(steps=2, batch=3, prompts=2, noises=2)
CIRCLE, STAR = ("large", "red", "circle"), ("small", "blue", "star")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def results(folder):
    """Two conditions of the study, one seed."""
    chosen = {("loss", "regression"): 32, ("queries", "4"): 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_count, "CONDITIONS", chosen)
        return query_count.run_all(TINY, [5], folder / "runs", folder / "out.json", progress=False)


def test_a_run_says_all_that_is_needed_to_repeat_and_judge_it(folder, results):
    written = json.loads((folder / "out.json").read_bytes())
    assert written == json.loads(json.dumps(results))
    assert (
        written["command"]
        == "python -m minidream.studies query_count --seeds 5 --steps 2 --batch 3 --prompts 2"
        " --noises 2"
    )
    assert written["plan"] == asdict(TINY) and written["torch"] and written["threads"] >= 1
    assert (
        written["recipe"]["steps"] == 2
        and written["recipe"]["batch"] == 3
        and written["recipe"]["learning_rate"] > 0
    )
    regression, four = written["runs"]
    assert (regression["queries"], four["queries"]) == (32, 4)
    assert regression["trained"] == 32 * toy.LLM_SIZE + toy.LLM_SIZE * toy.CONDITION_SIZE
    assert four["trained"] == regression["trained"] - 28 * toy.LLM_SIZE
    for run in (regression, four):
        assert (
            run["seed"] == 5
            and [step for step, _ in run["curve"]] == [2]
            and run["seconds"]["training"] > 0
        )
        assert set(run["exam"]) == set(query_evaluation.PROMPT_KINDS)
        for marks in run["exam"].values():
            assert marks["n"] == 2 and set(marks["right"]) == set(query_evaluation.ATTRIBUTES)
            assert (
                all(0 <= right <= 2 for right in marks["right"].values()) and marks["denoising"] > 0
            )
            assert marks["right"]["all"] <= min(marks["right"].values())
    assert (
        regression["exam"]["one, seen"]["imitation"] > 0
        and four["exam"]["one, seen"]["imitation"] is None
    )


def test_finished_runs_are_not_repeated_and_other_plans_are_refused(folder, results, monkeypatch):
    monkeypatch.setattr(
        query_count, "CONDITIONS", {("loss", "regression"): 32, ("queries", "4"): 4}
    )
    monkeypatch.setattr(
        query_count, "run", lambda *arguments: pytest.fail(f"run again: {arguments[:3]}")
    )
    again = query_count.run_all(TINY, [5], folder / "runs", folder / "out.json", progress=False)
    assert again["runs"] == results["runs"]
    made = []
    monkeypatch.setattr(
        query_count,
        "run",
        lambda study, condition, seed, *rest: (
            made.append((study, condition, seed))
            or {**results["runs"][0], "study": study, "condition": condition, "seed": seed}
        ),
    )
    more = query_count.run_all(TINY, [5, 6], folder / "runs", folder / "more.json", progress=False)
    assert len(made) == len(more["runs"]) == 4
    (folder / "more.json").write_text(
        as_text({**more, "runs": more["runs"][:3]}), encoding="utf-8"
    )  # killed before the last one
    query_count.run_all(TINY, [5, 6], folder / "runs", folder / "more.json", progress=False)
    assert made[4:] == [("queries", "4", 6)]
    with pytest.raises(ValueError, match=r"another plan \(\{'steps': 2.*not \{'steps': 3"):
        load_results(
            folder / "out.json", query_count.QueryCountPlan(steps=3, batch=3, prompts=2, noises=2)
        )
    assert load_results(folder / "out.json")["runs"] == json.loads(json.dumps(results["runs"]))


def test_the_whole_study_has_trainings_and_its_controls(tmp_path, monkeypatch):
    monkeypatch.setattr(
        query_count,
        "run",
        lambda study, condition, seed, *rest: {
            "study": study,
            "condition": condition,
            "seed": seed,
        },
    )
    made = query_count.run_all(
        query_count.QueryCountPlan(), [0, 1, 2], tmp_path, tmp_path / "all.json", progress=False
    )
    names = [(run["study"], run["condition"]) for run in made["runs"]]
    assert made["command"] == "python -m minidream.studies query_count --seeds 0 1 2"
    assert (
        names.count(("loss", "text states")) == 1 and names.count(("loss", "untrained")) == 3
    )  # nothing is drawn for the first
    assert query_count.BY_COUNT == {
        1: ("queries", "1"),
        4: ("queries", "4"),
        16: ("queries", "16"),
        32: ("loss", "score"),
        64: ("queries", "64"),
    }
    assert list(query_count.BY_COUNT) == [1, 4, 16, 32, 64] and all(
        condition in names for condition in query_count.BY_COUNT.values()
    )
    assert len([name for name in names if name[1] not in ("text states", "untrained")]) == 21
    assert names.count(("longer", "16")) == 3


def test_the_command_line(tmp_path, capsys, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        query_count,
        "run_all",
        lambda plan, seeds, folder, out, progress: seen.update(locals()) or {"runs": []},
    )
    query_count.main(
        [
            "--steps",
            "2",
            "--seeds",
            "3",
            "4",
            "--folder",
            str(tmp_path),
            "--out",
            str(tmp_path / "o.json"),
            "--quiet",
        ]
    )
    assert (
        seen["plan"] == query_count.QueryCountPlan(steps=2)
        and seen["seeds"] == (3, 4)
        and seen["progress"] is False
    )
    assert (seen["folder"], seen["out"]) == (tmp_path, tmp_path / "o.json")
    query_count.main([])
    assert seen["out"].parts[-3:] == ("notebooks", "results", "dream_queries.json")
    with pytest.raises(SystemExit):
        query_count.main(["--steps", "0"])
    assert "steps is at least 1, and not 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        query_count.main(["--help"])
    assert "--seeds" in capsys.readouterr().out


def test_both_losses_train_the_same_parts_from_the_same_start_on_the_same_captions():
    score, imitation = (query_training.fresh_model(32, seed=1) for _ in range(2))
    starts = [
        {
            name: value
            for name, value in model.state_dict().items()
            if not name.startswith("vision.projector")
        }  # which nobody uses here
        for model in (score, imitation)
    ]
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())
    assert not torch.equal(
        score.dream_queries, query_training.fresh_model(32, seed=2).dream_queries
    )
    stage = query_training.ImitationStage(imitation, toy.pretrained_text_tower())
    other = query_training.PaintingStage(score)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.5)
    batch = stage.batch(0, 0, 0)
    assert [document.text for document in batch[1]] == [
        document.text for document in other.batch(0, 0, 0)[1]
    ]
    stage(batch, torch.Generator().manual_seed(0))["total"].backward()
    optimizer.step()
    changed = {
        name for name, value in stage.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"model.dream_queries", "model.decoder.projector.projector.weight"}
    assert changed == {
        f"model.{name}"
        for name, parameter in other.model.named_parameters()
        if parameter.requires_grad
    }
    with pytest.raises(ValueError, match="32 states, 5 queries"):
        query_training.ImitationStage(
            query_training.fresh_model(5, seed=0), toy.pretrained_text_tower()
        )


def test_conditions_are_what_dream_paints_from():
    model, captions = (
        query_training.fresh_model(5, seed=0),
        ["a small red circle", "a large blue star above a small pink ring", ""],
    )
    torch.testing.assert_close(
        query_training.conditions(model, captions),
        model.decoder.projector(model.encode(captions)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_perfect_imitation_has_no_error_and_paints_as_the_true_states_do():
    evaluation, model = (
        query_evaluation.QueryEvaluation(prompts=6, noises=2),
        query_training.fresh_model(32, seed=0),
    )
    assert all(
        is_held_out(scene) == held_out and len(scene.objects) == things
        for kind, (things, held_out) in query_evaluation.PROMPT_KINDS.items()
        for scene in evaluation.scenes[kind]
    )
    true, drawn = evaluation.scores(model, true_states=True), evaluation.scores(model)
    for kind in query_evaluation.PROMPT_KINDS:
        assert (
            true[kind]["imitation"] == 0 < drawn[kind]["imitation"]
            and true[kind]["denoising"] < drawn[kind]["denoising"]
        )
    assert len(toy.paint_from_captions(model, evaluation.captions["one, seen"][:2])) == 2
    assert true["one, seen"]["right"]["all"] >= 5 and drawn["one, seen"]["right"]["all"] <= 1
    stage = query_training.ImitationStage(model, evaluation.text_tower)
    batch = stage.batch(0, 0, 0)
    model.decoder.config = type(model.decoder.config)(drop_prob=0.0)
    wanted = clip_text_states(
        evaluation.text_tower, model.tokenizer, [document.text for document in batch[1]]
    )
    given = query_training.conditions(model, [document.text for document in batch[1]])
    torch.testing.assert_close(
        stage(batch, torch.Generator())["total"], (given - wanted).square().mean()
    )


def test_right_by_attribute_by_hand():
    wanted = [("white", "left of", (CIRCLE, STAR))] * 4 + [("black", None, (STAR,))] * 2
    seen = [
        ("white", "left of", (CIRCLE, STAR)),  # all right
        ("white", "above", (CIRCLE, STAR)),  # only the relation is wrong
        (
            "gray",
            "left of",
            (("large", "red", "star"), ("small", "blue", "circle")),
        ),  # shapes exchanged, and the background
        None,  # no scene
        ("black", None, (("small", "red", "star"),)),  # the colour is wrong
        ("black", "above", (STAR, STAR)),
    ]  # one too many
    assert query_evaluation.right_by_attribute(seen, wanted) == {
        "count": 4,
        "size": 4,
        "colour": 3,
        "shape": 4,
        "background": 4,
        "all": 1,
    }
    with pytest.raises(ValueError):
        query_evaluation.right_by_attribute(seen[:2], wanted)


def run_of(condition, seed, right, denoising):
    exam = {
        "one, seen": {
            "denoising": denoising,
            "imitation": 2.0,
            "n": 8,
            "right": {"all": right, "colour": right + 1},
        }
    }
    return {"study": "loss", "condition": condition, "seed": seed, "exam": exam}


BY_HAND = {
    "runs": [
        run_of("score", 2, 6, 0.03),
        run_of("score", 0, 2, 0.01),
        run_of("score", 1, 4, 0.02),
        run_of("regression", 0, 1, 0.02),
        run_of("regression", 1, 3, 0.03),
        run_of("regression", 2, 5, 0.04),
        run_of("untrained", 0, 0, 0.5),
    ]
}


def test_results_are_read_by_seed():
    assert query_table.values_of(BY_HAND, "loss", "score", lambda run: run["seed"]) == [0, 1, 2]
    with pytest.raises(ValueError, match="no run of 'queries', '7'.*'score'"):
        query_table.values_of(BY_HAND, "queries", "7", len)
    run = BY_HAND["runs"][0]
    assert [
        query_table.score_of(run, "one, seen", what)
        for what in ("denoising", "imitation", "all", "colour")
    ] == [0.03, 2.0, 0.75, 0.875]
    table = query_table.table_of(
        BY_HAND,
        {"one": ("one, seen", "all"), "loss": ("one, seen", "denoising")},
        {"a": ("loss", "score"), 4: ("loss", "untrained")},
    )
    assert list(table) == ["one", "loss"] and list(table["one"]) == ["a", 4]
    assert table["one"]["a"] == intervals.mean_with_interval([0.25, 0.5, 0.75]) and table["loss"][
        4
    ][:2] == (
        [0.5],
        0.5,
    )


def test_a_difference_is_taken_seed_by_seed():
    mean, low, high = query_table.difference(BY_HAND, "one, seen", "all")
    assert mean == 0.125 and (low, high) == intervals.newcombe(
        (12, 24), (9, 24)
    )  # always one picture of eight more; the seeds are equal, by chance
    mean, low, high = query_table.difference(
        BY_HAND, "one, seen", "denoising", ("loss", "regression"), ("loss", "score")
    )
    assert mean == pytest.approx(0.01) and high - low < 1e-9
    with pytest.raises(
        ValueError, match=r"\('loss', 'score'\) was run with the seeds \[0, 1, 2\].*\[0\]"
    ):
        query_table.difference(BY_HAND, "one, seen", "all", other=("loss", "untrained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_table, "PROMPT_KINDS", {"one, seen": (1, False)})
        patch.setattr(query_table, "ATTRIBUTES", ("all", "colour"))
        assert query_table.difference_rows(BY_HAND) == [
            ("one, seen", "+12 [-15, +37]", "+12 [-15, +37]")
        ]


def test_the_plan_is_checked():
    with pytest.raises(ValueError, match="prompts is at least 1, and not 0"):
        query_count.QueryCountPlan(1, 1, 0, 1)
