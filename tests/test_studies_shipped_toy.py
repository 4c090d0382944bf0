"""The evaluation of the shipped toy: every row, the table, the command, the README's numbers."""

import json
from pathlib import Path

import pytest

import minidream
from minidream.studies import shipped_toy
from minidream.studies.toy_evaluation import ToyEvaluation

README = Path(__file__).parents[1] / "README.md"


def test_summary_counts_one_and_two_things_apart():
    found = shipped_toy.summary([(1, True), (2, False), (2, True), (2, True)])
    assert found["right"] == 75.0 and found["n"] == 4
    assert found["one"]["right"] == 100.0 and found["two"] == {
        "n": 3,
        "right": 66.67,
        "interval": found["two"]["interval"],
    }
    assert found["interval"][0] < 75 < found["interval"][1]


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads(shipped_toy.RESULTS.read_bytes())


def test_the_readme_shows_what_was_measured(results):
    assert shipped_toy.table(results) in README.read_text(encoding="utf-8"), (
        "run `python -m minidream.studies shipped_toy --table` and paste what it prints"
    )


def test_every_row_was_measured_on_a_thousand_or_more(results):
    assert set(results["rows"]) == {row for row, *_ in shipped_toy.ROWS}
    for row, _, *targets in shipped_toy.ROWS:
        for kind, target in zip(("seen", "held_out"), targets):
            if target is not None:
                measured = results["rows"][row][kind]
                assert (
                    measured["n"] >= 1000
                    and measured["interval"][0] <= measured["right"] <= measured["interval"][1]
                ), (row, kind)


def test_the_shipped_weights_still_do_what_was_measured(results):
    """A few dozen fresh trials of each cheap row must be near the committed number."""
    evaluation = ToyEvaluation(minidream.load("toy"), n=60, batch=30, seed=7)
    for row in ("judge", "vae", "dream", "questions"):
        right = shipped_toy.summary(evaluation.measure(row, held_out=False))["right"]
        assert abs(right - results["rows"][row]["seen"]["right"]) <= 20, row


@pytest.fixture(scope="module")
def toy_model():
    return minidream.load("toy", device="cpu")


@pytest.mark.parametrize("held_out", (False, True), ids=("seen", "held_out"))
@pytest.mark.parametrize("row", shipped_toy.ROW_NAMES)
def test_every_row_on_three_scenes(toy_model, row, held_out):
    evaluation = ToyEvaluation(toy_model, n=3, batch=2, seed=3)
    trials = evaluation.measure(row, held_out)
    assert len(trials) == 3 and evaluation.measure(row, held_out) == trials  # always the same
    assert all(objects in (1, 2) and isinstance(right, bool) for objects, right in trials)
    judges_pictures = row not in ("analytic", "captions", "questions", "placement")
    assert len(evaluation.readers_agree) == (3 if judges_pictures else 0)
    if row in ("judge", "analytic"):
        assert all(right for _, right in trials)  # these renders are clear


def test_the_command_line(tmp_path, capsys):
    out = tmp_path / "new" / "out.json"
    options = ["--n", "2", "--batch", "2", "--seed", "5", "--out", str(out)]
    shipped_toy.main([*options, "--rows", "judge", "placement"])
    stored = json.loads(out.read_bytes())
    assert stored["command"] == "python -m minidream.studies shipped_toy --n 2 --seed 5"
    assert set(stored["rows"]) == {"judge", "placement"}
    assert set(stored["rows"]["judge"]) == {"seen", "held_out"}
    assert set(stored["rows"]["placement"]) == {"seen"}  # it has no target on the other
    judged = stored["rows"]["judge"]["seen"]
    assert judged["n"] == 2 and {"right", "interval", "readers_agree", "seconds"} <= set(judged)
    shipped_toy.main([*options, "--rows", "analytic"])  # rows measured before are kept
    assert set(json.loads(out.read_bytes())["rows"]) == {
        "judge",
        "placement",
        "analytic",
    }
    capsys.readouterr()
    shipped_toy.main(["--table", "--out", str(out)])
    assert capsys.readouterr().out.count("\n") == 2 + len(shipped_toy.ROWS)


def test_rows_of_another_command_are_not_mixed(tmp_path, capsys):
    out = tmp_path / "out.json"
    options = ["--batch", "2", "--out", str(out)]
    shipped_toy.main([*options, "--n", "2", "--rows", "judge", "placement"])
    before = out.read_bytes()
    for other in (["--n", "3"], ["--n", "2", "--seed", "1"], ["--n", "2", "--weights", "toy-1"]):
        with pytest.raises(SystemExit) as stopped:
            shipped_toy.main([*options, *other, "--rows", "judge"])
        message = capsys.readouterr().err
        assert stopped.value.code == 2 and "measure placement too" in message
        assert "--n 2 --seed 0, not" in message and " ".join(other[-2:]) in message
    assert out.read_bytes() == before
    shipped_toy.main([*options, "--n", "3", "--rows", "judge", "placement"])
    stored = json.loads(out.read_bytes())
    assert stored["n"] == 3 and stored["rows"]["judge"]["seen"]["n"] == 3


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
