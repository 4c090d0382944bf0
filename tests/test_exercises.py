"""The checker of exercises accepts right attempts, rejects wrong ones and says what differs."""

import re

import numpy as np
import pytest
import torch

from minidream.course.exercises import check_exercise, differs, feedback

MATRIX = torch.arange(6.0).reshape(2, 3) + 1
SQUARE = torch.arange(9.0).reshape(3, 3)


def row_means(values):
    """A reference: the mean of every row."""
    return values.mean(dim=1)


def feedback_on(attempt, *cases, mistakes=None, reference=row_means):
    return feedback(
        attempt, reference, [(case,) for case in cases or (MATRIX, SQUARE)], mistakes or {}
    )


def test_the_reference_and_equal_results_are_right(capsys):
    check_exercise(row_means, row_means, (MATRIX,), (SQUARE,))
    assert capsys.readouterr().out == "Right: in 2 of 2 cases it gives what `row_means` gives.\n"
    # Another way to the same numbers is right, too: rounding that depends on the order of summing
    # does not count.
    assert feedback_on(lambda values: values.double().sum(1) / values.shape[1]).startswith("Right")
    assert feedback_on(lambda values: values.numpy().mean(1)).startswith("Right")


def test_an_unchanged_stub_is_not_a_mistake(capsys):
    def my_means(values):
        raise NotImplementedError

    check_exercise(my_means, row_means, (MATRIX,))
    assert capsys.readouterr().out.startswith("Not attempted yet")


@pytest.mark.parametrize(
    "attempt, sentence",
    [
        (lambda values: values.mean(dim=0), r"the shape should be \(2,\), and is \(3,\)"),
        (lambda values: values.mean(), r"the shape should be \(2,\), and is \(\)"),
        (
            lambda values: values.sum(dim=1),
            r"2 of 2 cases differ. In case 1, everything is 3 times what it should be",
        ),
        (lambda values: None, "Is a `return` missing"),
        (lambda values: values.mean(dim=1) / 0, "divided by 0"),
        (lambda values: "2, 5", "numbers were expected, and str '2, 5' came"),
        (lambda values: torch.tensor([2.0, 5.5]), r"5 was expected at \(1,\), and 5.5 came"),
        (lambda values: values.mul_(2).mean(dim=1), r"changes what it is given"),
    ],
)
def test_a_sentence_explains_what_is_wrong(attempt, sentence):
    said = feedback_on(attempt)
    assert said.startswith("Not yet: ")
    assert re.search(sentence, said), said


def test_an_attempt_cannot_change_the_arguments():
    before = MATRIX.clone()
    feedback_on(lambda values: values.zero_(), MATRIX)
    assert torch.equal(MATRIX, before)


def test_a_constant_does_not_pass_two_cases():
    assert "1 of 2 cases differ. In case 2" in feedback_on(
        lambda values: torch.tensor([2.0, 5.0]), MATRIX, MATRIX + 1
    )


def test_typical_mistakes_are_recognized_by_their_results():
    mistakes = {"that is the maximum of each row, not the mean.": lambda values: values.amax(dim=1)}
    assert (
        feedback_on(lambda values: values.max(dim=1).values, mistakes=mistakes)
        == "Not yet: that is the maximum of each row, not the mean."
    )
    assert feedback_on(row_means, mistakes=mistakes).startswith("Right")
    assert "2 was expected at" in feedback_on(
        lambda values: values.amin(dim=1), MATRIX, mistakes=mistakes
    )
    with pytest.raises(ValueError, match="this mistake is none"):
        feedback_on(
            row_means, mistakes={"another way": lambda values: values.sum(1) / values.shape[1]}
        )
    with pytest.raises(ValueError, match="at least one case"):
        feedback(row_means, row_means, [], {})


def test_an_error_of_the_attempt_is_raised():
    with pytest.raises(IndexError):
        feedback_on(lambda values: values.mean(dim=7))


@pytest.mark.parametrize(
    "result, expected, sentence",
    [
        (3, 3, ""),
        (3.0, 3, ""),
        (3.00001, 3.0, ""),
        (10**9 + 1, 10**9, "1,000,000,000 was expected, and 1,000,000,001 came"),
        (np.float32(3), 3, ""),
        (4, 3, "3 was expected, and 4 came"),
        (True, True, ""),
        (1, "a", "str 'a' was expected, and int 1 came"),
        ([1, 2], (1, 2), ""),
        ([1, 2], [1, 3], "at place 1, 3 was expected"),
        ([1], [1, 2], "2 items in a list"),
        ({"a": 1.0}, {"a": 1}, ""),
        ({"a": 1}, {"a": 2}, "under 'a', 2 was expected"),
        ({"b": 1}, {"a": 1}, "the keys \\['a'\\]"),
        (torch.ones(2), "a", "str 'a' was expected, and an array of shape"),
        ([torch.ones(2)], [torch.ones(2)], ""),
        (SQUARE.T, SQUARE, "rows and columns are exchanged"),
        (MATRIX.T, MATRIX, "Are rows and columns exchanged"),
        (torch.tensor([torch.nan, 1]), torch.tensor([torch.nan, 1]), ""),
        (torch.tensor([torch.nan, 2]), torch.tensor([torch.nan, 1]), "1 was expected at"),
        (torch.tensor([torch.inf, 2]), torch.tensor([torch.inf, 1]), "1 was expected at"),
        (None, None, ""),
        ("ab", "ab", ""),
    ],
)
def test_results_of_every_kind_are_compared(result, expected, sentence):
    said = differs(result, expected)
    assert bool(said) == bool(sentence) and re.search(sentence, said), said
