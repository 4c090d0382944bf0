"""The evaluation of the shipped toy: every row, the tables, the command, the README's numbers."""

import json
from pathlib import Path

import pytest

import minidream
from minidream.studies import shipped_toy
from minidream.studies.toy_categories import HELD_OUT_PROMPTS, MODES, PROMPT_CATEGORIES
from minidream.studies.toy_evaluation import PAINTED_ROWS, ToyEvaluation, Trial
from minidream.weights import PRETRAINED
from minidream.world import Scene, SceneObject, is_held_out

README = Path(__file__).parents[1] / "README.md"


def test_counts_and_shares_by_objects_and_category():
    trials = [
        Trial(1, "add", True),
        Trial(2, "add", False),
        Trial(2, "remove", True),
        Trial(2, "remove", True),
    ]
    measured = {"toy": shipped_toy.counted(trials), "toy-1": {"1 add": [0, 4]}}
    assert measured["toy"] == {"1 add": [1, 1], "2 add": [0, 1], "2 remove": [2, 2]}
    whole = shipped_toy.share(measured)
    assert whole["n"] == 8 and whole["right"] == 37.5 and whole["runs"] == [75.0, 0.0]
    assert whole["interval"][0] < 37.5 < whole["interval"][1]
    assert shipped_toy.share(measured, objects=2)["n"] == 3
    assert shipped_toy.share(measured, category="add")["right"] == round(100 / 6, 1)
    assert shipped_toy.share(measured, 1, "remove") == {}


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads(shipped_toy.RESULTS.read_bytes())


def test_the_readme_shows_what_was_measured(results):
    readme = README.read_text(encoding="utf-8")
    training = json.loads((PRETRAINED / "toy" / "training.json").read_bytes())
    tables = [*shipped_toy.tables(results).split("\n\n"), shipped_toy.training_table(training)]
    for table in tables:
        assert table in readme, (
            "run `python -m minidream.studies shipped_toy --table` and paste what it prints"
        )


def test_everything_was_measured_on_a_thousand_or_more(results):
    for row, kind, mode in shipped_toy.cells_of(tuple(shipped_toy.ROWS)):
        of_runs = results["rows"][row][kind][mode]
        assert shipped_toy.share(of_runs)["n"] >= 1000, (row, kind, mode)
        runs = ("toy",) if row in shipped_toy.FROZEN_ROWS else shipped_toy.RUNS
        assert tuple(of_runs) == runs, (row, kind, mode)


@pytest.mark.parametrize("kind", shipped_toy.KINDS)
@pytest.mark.parametrize("row", shipped_toy.WORDS_ROWS)
def test_what_was_learned_in_words_is_there_in_the_end(results, row, kind):
    """Stage III must give back what stage II lost. (Stories in words it does not rehearse.)"""
    before = shipped_toy.share(results["earlier"]["stage1"][row][kind])
    between = shipped_toy.share(results["earlier"]["stage3"][row][kind])
    finished = shipped_toy.share({"toy": results["rows"][row][kind]["direct"]["toy"]})
    assert min(each["n"] for each in (before, between, finished)) >= 300
    assert finished["right"] >= before["right"] - (15 if row == "telling" else 3)


def test_thinking_edits_two_objects_right_nineteen_times_out_of_twenty(results):
    thinking = results["rows"]["edits"]
    seen, held_out = (
        shipped_toy.share(thinking[kind]["thinking"], objects=2)["right"]
        for kind in shipped_toy.KINDS
    )
    assert seen >= 95 and held_out >= 80  # 90 were wanted of the latter; the README says why


def test_committed_rows_are_those_of_the_shipped_weights(results):
    assert results["weights"] == shipped_toy.weights_of(shipped_toy.RUNS)
    sizes = [path.stat().st_size for path in PRETRAINED.glob("**/*.safetensors")]
    assert sum(sizes) < 48e6 and max(sizes) < 15e6


def test_the_shipped_weights_still_do_what_was_measured(results):
    """A few dozen fresh trials of each cheap row must be near the committed number."""
    evaluation = ToyEvaluation(minidream.load("toy"), n=60, batch=30, seed=7)
    for row in ("judge", "vae", "rewriting", "dream", "questions"):
        fresh = shipped_toy.share({"": shipped_toy.counted(evaluation.measure(row, False))})
        committed = shipped_toy.share(results["rows"][row]["seen"]["direct"])
        assert abs(fresh["right"] - committed["right"]) <= 20, row


@pytest.fixture(scope="module")
def toy_model():
    return minidream.load("toy", device="cpu")


@pytest.mark.parametrize("held_out", (False, True), ids=("seen", "held_out"))
@pytest.mark.parametrize(
    ("row", "mode"),
    [
        (row, mode)
        for row in shipped_toy.ROWS
        for mode in (MODES if row in PAINTED_ROWS else ("direct",))
    ],
)
def test_every_row_on_a_few_scenes(toy_model, row, mode, held_out):
    evaluation = ToyEvaluation(toy_model, n=6, batch=4, seed=3)
    trials = evaluation.measure(row, held_out, mode)
    assert len(trials) == 6 and evaluation.measure(row, held_out, mode) == trials
    assert all(trial.objects in (1, 2) and isinstance(trial.right, bool) for trial in trials)
    judged = row in (*PAINTED_ROWS, "judge", "vae", "unet")
    assert len(evaluation.readers_agree) == (6 if judged else 0)
    categories = {trial.category for trial in trials}
    if row in ("edits", "rewriting", "questions"):
        assert len(categories) >= 5
    if row == "prompts":
        assert categories == set(HELD_OUT_PROMPTS if held_out else PROMPT_CATEGORIES)
    if row == "stories":
        assert categories == {"second", "third"}
    if row in ("judge", "analytic"):
        assert all(trial.right for trial in trials)  # these renders are clear


def test_held_out_prompts_say_what_is_held_out(toy_model, monkeypatch):
    evaluation = ToyEvaluation(toy_model, n=60, seed=3)
    asked = []
    monkeypatch.setattr(
        evaluation,
        "painted",
        lambda texts, wanted, scenes, mode: (
            asked.extend(zip(texts, scenes)) or [Trial(1, "", True) for _ in scenes]
        ),
    )
    trials = evaluation.measure("prompts", True, "direct")
    for (text, scene), trial in zip(asked, trials, strict=True):
        shapes = [item.shape for item in scene.objects]
        of_objects = any(is_held_out(Scene((item,))) for item in scene.objects)
        assert len(set(shapes)) == len(shapes) and all(shape in text for shape in shapes)
        assert of_objects == (trial.category != "position")
        colours = [item.colour in text for item in scene.objects]
        assert all(colours) if of_objects else not any(colours)


def test_a_reply_in_words_must_say_the_background_and_nothing_false(toy_model):
    evaluation = ToyEvaluation(toy_model, n=1)
    scene = Scene((SceneObject("star", "red", "small"),), "white")
    for words, right, with_background in (
        ("a small red star on a white background", True, True),
        ("a small red star", True, False),
        ("a small red star on a black background", False, False),
        ("a small star", False, False),
    ):
        assert evaluation.states(words, scene, False) == right
        assert evaluation.states(words, scene, True) == with_background


def test_questions_are_of_the_kind_that_they_count_for(toy_model, monkeypatch):
    asked = []
    monkeypatch.setattr(type(toy_model), "chat", lambda model, turn: asked.append(turn[1]) or "")
    trials = ToyEvaluation(toy_model, n=70, seed=1).measure("questions", True)
    for question, trial in zip(asked, trials, strict=True):
        assert question.startswith("how many") == (trial.category == "count"), question
    kinds = [trial.category for trial in trials]
    assert {kinds.count(kind) for kind in kinds} == {10}


def test_modes_try_the_same_scenes(toy_model):
    """They differ in how a picture is painted, not in what is asked for."""
    evaluation = ToyEvaluation(toy_model, n=4, batch=4, seed=3)
    asked = [
        [(trial.objects, trial.category) for trial in evaluation.measure("edits", False, mode)]
        for mode in MODES
    ]
    assert asked[0] == asked[1] == asked[2]


def test_the_command_line(tmp_path, capsys):
    out = tmp_path / "new" / "out.json"
    options = ["--n", "2", "--batch", "2", "--seed", "5", "--weights", "toy", "--out", str(out)]
    shipped_toy.main([*options, "--rows", "judge", "placement"])
    stored = json.loads(out.read_bytes())
    command = "python -m minidream.studies shipped_toy --n 2 --seed 5 --weights toy"
    assert stored["command"] == command
    assert set(stored["rows"]) == {"judge", "placement"}
    assert set(stored["rows"]["judge"]) == {"seen", "held_out"}
    assert set(stored["rows"]["placement"]) == {"seen"}  # it has no target on the other
    before = stored["rows"]["judge"]
    shipped_toy.main([*options, "--rows", "analytic", "judge"])  # what was measured is kept
    stored = json.loads(out.read_bytes())["rows"]
    assert set(stored) == {"judge", "placement", "analytic"} and stored["judge"] == before
    capsys.readouterr()
    shipped_toy.main([*options, "--table"])
    printed = capsys.readouterr().out
    assert printed.count("right, in %") == 5 and "| judge on fresh renders |" in printed
    assert "100.0 [" in printed and "| 2 |" in printed  # how many trials
    assert "| stage | what learns | steps x batch | minutes |" in printed


def test_rows_of_another_command_are_not_mixed(tmp_path, capsys):
    out = tmp_path / "out.json"
    options = ["--batch", "2", "--weights", "toy", "--out", str(out), "--rows", "judge"]
    shipped_toy.main([*options, "--n", "2"])
    before = out.read_bytes()
    for other in (["--n", "3"], ["--n", "2", "--seed", "1"]):
        with pytest.raises(SystemExit) as stopped:
            shipped_toy.main([*options, *other])
        message = capsys.readouterr().err
        assert stopped.value.code == 2 and "rows of another command" in message
        assert "--n 2 --seed 0" in message and " ".join(other[-2:]) in message
    assert out.read_bytes() == before
    stored = json.loads(before)
    assert list(stored["weights"]) == ["toy"]
    stored["weights"]["toy"] = "0123"  # measured before the weights were made anew
    out.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(SystemExit):
        shipped_toy.main([*options, "--n", "2"])
    assert "rows of another weights of 'toy' (0123, not " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    (
        (["--n", "0"], "--n and --batch are at least 1, not 0 and 50"),
        (["--rows", "nothing"], "invalid choice: 'nothing'"),
        (["--table", "--out", "nowhere.json"], "nowhere.json is missing"),
    ),
)
def test_wrong_options_end_the_command(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        shipped_toy.main(arguments)
    assert stopped.value.code == 2 and words in capsys.readouterr().err
