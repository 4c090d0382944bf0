"""Metrics: the interval by hand, the tables, and the README's figures held to the committed JSON."""

import json
from pathlib import Path

import pytest

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
    return json.loads(shipped_toy.RESULTS.read_text())


def test_the_readme_shows_what_was_measured(results):
    assert shipped_toy.table(results) in README.read_text(), (
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
    """A few dozen fresh trials of each cheap row must lie near the committed figure: the weights are those measured."""
    import minidream

    evaluation = ToyEvaluation(minidream.load("toy"), n=60, batch=30, seed=7)
    for row in ("judge", "vae", "dream", "questions"):
        right = shipped_toy.summary(evaluation.measure(row, held_out=False))["right"]
        assert abs(right - results["rows"][row]["seen"]["right"]) <= 20, row
