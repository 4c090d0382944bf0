"""The checker of exercises accepts right answers, rejects wrong ones and says what is wrong."""

import math
import re

import numpy as np
import pytest
import torch
from einops import rearrange

from minidream.course import check
from minidream.course.arguments import changed, copied, nudged
from minidream.course.differences import differs
from minidream.course.exercises import NOT_ATTEMPTED, Exercise, feedback
from minidream.course.references import FILES, exercises_of, find
from minidream.tokenizers import ToyTokenizer
from minidream.world import SceneObject
from minidream.world.language import VOCABULARY

MATRIX = torch.arange(6.0).reshape(2, 3) + 1
SQUARE = torch.arange(9.0).reshape(3, 3)
TOKENIZER = ToyTokenizer(VOCABULARY)
SPECIAL = TOKENIZER.special


def row_means(values):
    """A reference: the mean of every row."""
    return values.mean(dim=1)


def said_of(answer, reference=row_means, cases=((MATRIX,), (SQUARE,)), mistakes=None, **names):
    """The feedback on an answer to an exercise that is made here."""
    exercise = Exercise(reference, lambda: list(cases), mistakes or {}, "begin.", **names)
    return feedback(exercise, answer)


def random(*shape, seed=0):
    """Numbers drawn from N(0, 1)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# Right, not attempted, wrong


def test_the_reference_and_equal_results_are_right():
    assert said_of(row_means) == (
        "Right: in 2 of 2 cases it gives what `test_exercises.row_means` gives."
    )
    # Another way to the same numbers is right, too: rounding that depends on the order of summing
    # does not count.
    assert said_of(lambda values: values.double().sum(1) / values.shape[1]).startswith("Right")
    assert said_of(lambda values: values.numpy().mean(1)).startswith("Right")


def test_an_unchanged_stub_is_not_a_mistake_and_needs_no_reference():
    def my_means(values):
        raise NotImplementedError

    assert said_of(my_means, reference=None) == NOT_ATTEMPTED


@pytest.mark.parametrize(
    "answer, sentence",
    [
        (lambda values: values.mean(dim=0), r"reduced along axis 0 .* should be along axis 1"),
        (lambda values: values.mean(), "that is the mean over the axis number 0"),
        (lambda values: values.mean(dim=1, keepdim=True), "an axis of length 1 is too many"),
        (lambda values: values.sum(dim=1), "everything is 3 times .* a sum instead of a mean"),
        (lambda values: None, "returns nothing. Is a `return` missing"),
        (lambda values: values.mean(dim=1) / 0, "divided by 0"),
        (lambda values: "2, 5", "numbers were expected, and str '2, 5' came"),
        (lambda values: values.mul_(2).mean(dim=1), r"changes what it is given"),
        (lambda values: values.mean(dim=1) + torch.rand(()), "something else each time"),
        (lambda values: -values.mean(dim=1), "wrong sign"),
        (lambda values: values.mean(dim=1) + 4, "everything is 4 too large"),
        (lambda values: values.mean(dim=1) ** 2, "that is the square of what it should be"),
        (lambda values: values.mean(dim=1).log(), "that is the logarithm of"),
        (lambda values: 1 - values.mean(dim=1), "that is 1 minus"),
        (lambda values: values.mean(dim=1).flip(0), "it runs backwards"),
        (lambda values: values.mean(dim=1)[:1], "1 entries instead of 2"),
        (lambda values: 0 * values.mean(dim=1), "everything is 0"),
    ],
)
def test_a_sentence_explains_what_is_wrong(answer, sentence):
    said = said_of(answer)
    assert said.startswith("Not yet: ")
    assert re.search(sentence, said), said


def test_what_no_sentence_explains_is_shown_with_the_hint():
    said = said_of(lambda values: values.mean(dim=1) + values[:, 0] ** 2)
    assert said == (
        "Not yet: 2 of 2 cases differ. In case 1, 5 was expected at (1,), and 21 came. Hint: begin."
    )


def test_an_answer_cannot_change_the_arguments():
    before = MATRIX.clone()
    said_of(lambda values: values.zero_())
    assert torch.equal(MATRIX, before)


def test_a_constant_does_not_pass_two_cases():
    cases = ((MATRIX,), (MATRIX + 1,), (MATRIX + 3,))
    said = said_of(lambda values: torch.tensor([2.0, 5.0]), cases=cases)
    assert "the same in every case" in said


def test_typical_mistakes_are_recognized_by_their_results():
    mistakes = {"that is the maximum of each row, not the mean.": lambda values: values.amax(dim=1)}
    assert (
        said_of(lambda values: values.max(dim=1).values, mistakes=mistakes)
        == "Not yet: that is the maximum of each row, not the mean."
    )
    assert said_of(row_means, mistakes=mistakes).startswith("Right")


def test_an_error_of_the_answer_is_raised_and_says_in_which_case():
    with pytest.raises(IndexError) as caught:
        said_of(lambda values: values.mean(dim=7))
    assert caught.value.__notes__ == [
        "It was raised in case 1 of 2, with an array of shape (2, 3)."
    ]


def test_answers_are_called_again_without_printing(capsys):
    def loud(values):
        print("here")
        return values.mean(dim=1) ** 3

    said_of(loud)
    assert capsys.readouterr().out == "here\n" * 2


# --------------------------------------------------------------------------------------------------
# Recognized in any exercise


def softmax(scores):
    return scores.softmax(dim=-1)


def causal(scores):
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(dim=-1)


def identity(values):
    return values


def deviation(values):
    return values.std()


def variance(values):
    return values.var()


def last_rows(values):
    """Which columns the last rows of a square may see."""
    return torch.ones_like(values).bool().tril(values.shape[1] - values.shape[0])


def first_rows(values):
    return torch.ones_like(values).bool().tril()


def cells(values):
    return rearrange(values, "batch heads cells dim -> batch cells (heads dim)")


def upper(values):
    return values >= 0.5


FOUR_AXES = ((random(2, 3, 5, 4),), (random(3, 2, 4, 7, seed=1),))
SQUARES = ((random(5, 5),), (random(4, 4, seed=1),))
OBLONGS = ((random(2, 5),), (random(3, 7, seed=1),))
LISTS = ((random(3),), (random(7, seed=1),), (random(12, seed=2),))
NAMES = {"axes": "batch heads cells queries"}


@pytest.mark.parametrize(
    "reference, answer, cases, names, sentence",
    [
        (identity, lambda x: x.mT, FOUR_AXES, NAMES, "axes `cells` and `queries` are exchanged"),
        (identity, lambda x: x.mT, FOUR_AXES, {}, "axes number 2 and number 3 are exchanged"),
        (
            identity,
            lambda x: x.permute(0, 2, 3, 1),
            FOUR_AXES,
            NAMES,
            "in another order: `batch`, `cells`, `queries`, `heads`",
        ),
        (identity, lambda x: x.sum(1), FOUR_AXES, NAMES, "the sum over the axis `heads`, which"),
        (
            identity,
            lambda x: x.mean((0, 3)),
            FOUR_AXES,
            NAMES,
            "the mean over the axes `batch` and `queries`",
        ),
        (lambda x: x.sum((1, 2)), identity, FOUR_AXES, {}, "number 1 and number 2 .* take the sum"),
        (lambda x: x.amax(0), identity, FOUR_AXES, {}, "take the maximum"),
        (softmax, lambda x: x.softmax(1), FOUR_AXES, NAMES, "along the axis `heads` .* softmax"),
        (softmax, lambda x: x.sigmoid(), FOUR_AXES, NAMES, "the axis `queries` .* they do not"),
        (causal, softmax, SQUARES, {}, "what comes after them: the causal mask"),
        (causal, lambda x: softmax(x).tril(), SQUARES, {}, "before the softmax, not after it"),
        (last_rows, first_rows, OBLONGS, {}, "the mask is counted from the wrong end"),
        (
            last_rows,
            lambda x: torch.ones_like(x).bool().tril(x.shape[1] - x.shape[0] - 1),
            OBLONGS,
            {},
            "a position may also see itself",
        ),
        (lambda x: x[1, 2], identity, SQUARES, {}, r"single number .*: the entry \(1, 2\) of what"),
        (cells, lambda x: x.transpose(1, 2), FOUR_AXES, {}, "merged into .*: 2 and 3"),
        (cells, identity, FOUR_AXES, {"axes": "batch cells dim"}, "into the axis `dim`: 1 and 3"),
        (cells, lambda x: x.flatten(2), FOUR_AXES, {}, "the shape should be"),
        (
            lambda x: x.flatten(2).mT,
            lambda x: x.flatten(2).reshape(len(x), -1, x.shape[1]),
            FOUR_AXES,
            {},
            "in other places",
        ),
        (identity, lambda x: x.roll(1, 2), FOUR_AXES, NAMES, "`cells` .* one position too late"),
        (identity, lambda x: x.roll(-1), LISTS, {}, "^Not yet: everything is .* too early"),
        (identity, lambda x: x.flip(3), FOUR_AXES, NAMES, "the axis `queries` runs backwards"),
        (identity, lambda x: x[:1].expand_as(x), FOUR_AXES, NAMES, "`batch` every entry is the"),
        (deviation, lambda x: x.std(correction=0), LISTS, {}, r"n - 1 \(here 3 - 1\), not by n"),
        (lambda x: x.std(correction=0), deviation, LISTS, {}, r"divide by n \(here 3\)"),
        (variance, lambda x: x.var(correction=0), LISTS, {}, "for the variance, divide by n - 1"),
        (lambda x: x.mean(), lambda x: x.sum(), LISTS, {}, "3 times .* a sum instead of a mean"),
        (lambda x: x.sum(), lambda x: x.mean(), LISTS, {}, "1/3 of .* a mean instead of a sum"),
        (
            lambda x: x / len(x) ** 0.5,
            identity,
            LISTS,
            {},
            r"sqrt\(3\) times what it should be: divide by the root of 3",
        ),
        (lambda x: x.exp(), lambda x: 100 * x.exp(), LISTS, {}, "no percentage"),
        (
            lambda x: x.exp().log2(),
            lambda x: x.exp().log(),
            LISTS,
            {},
            "another base",
        ),
        (identity, lambda x: 1.7 * x, LISTS, {}, "everything is 1.7 times"),
        (identity, torch.floor, LISTS, {}, "the fractions are lost"),
        (identity, torch.abs, LISTS, {}, "some have the wrong sign"),
        (identity, lambda x: x + x, LISTS, {}, "`x` is added"),
        (upper, lambda x: ~upper(x), LISTS, {}, "True and False are exchanged"),
        (upper, lambda x: upper(x).float(), LISTS, {}, "True and False were expected"),
        (identity, lambda x: x.index_fill(0, torch.tensor(0), 9), LISTS, {}, "except the first"),
        (identity, lambda x: torch.cat([x[:1], x[1:] * 3 + 1]), LISTS, {}, "only the first entry"),
        (
            identity,
            lambda x: x + torch.eye(len(x)),
            SQUARES,
            {},
            "everything is right except the diagonal",
        ),
        (
            deviation,
            identity,
            FOUR_AXES,
            {},
            r"a single number was expected, and an array of shape \(2, 3, 5, 4\) came",
        ),
    ],
)
def test_general_mistakes_are_recognized(reference, answer, cases, names, sentence):
    said = said_of(answer, reference=reference, cases=cases, **names)
    assert said.startswith("Not yet: ") and "cases differ" not in said, said
    assert re.search(sentence, said), said


def test_what_only_ties_tell_apart_is_recognized():
    half = torch.tensor([0.2, 0.5, 0.7])
    cases = ((half,), (torch.tensor([0.5, 0.9]),), (torch.tensor([0.1, 0.4]),))
    said = said_of(lambda values: values > 0.5, reference=upper, cases=cases)
    assert "except where two values are equal" in said and "`>=`" in said
    # A wrong threshold differs elsewhere, too.
    cases = (*cases, (torch.tensor([0.55, 0.3]),))
    assert "equal" not in said_of(lambda values: values > 0.6, reference=upper, cases=cases)


def test_words_and_indices_that_are_exchanged_are_named():
    def side(x):
        return "left" if x < 0 else "right"

    cases = ((-1.0,), (2.0,), (-3.0,))
    said = said_of(lambda x: "right" if x < 0 else "left", reference=side, cases=cases)
    assert said == "Not yet: 'left' and 'right' are exchanged."
    said = said_of(lambda x: "left", reference=side, cases=cases)
    assert "it gives 'left' in every case" in said
    said = said_of(lambda x: "up" if x > 0 else "left", reference=side, cases=cases)
    assert said == "Not yet: where 'right' is expected, 'up' comes."

    def first_positive(values):
        return next((index for index, value in enumerate(values) if value > 0), None)

    cases = (([-1.0, 0.5],), ([-1.0, -2.0],), ([0.3, 1.0],))
    said = said_of(max, reference=first_positive, cases=cases)
    assert "a whole number was expected, such as an index, and 0.5 came" in said


def test_a_missing_term_of_a_count_is_named_by_its_arguments():
    def count(layers, width):
        return 3 * layers * width**2 + layers + 7

    cases = ((2, 3), (5, 4), (3, 8))
    for wrong, sentence in (
        (lambda layers, width: 3 * layers * width**2 + 7, "`layers` is missing"),
        (lambda layers, width: 2 * layers * width**2 + layers + 7, "`layers` * `width` * `width`"),
        (lambda layers, width: 3 * layers * (width**2 + 1) + 7, "2 * `layers` too much"),
    ):
        assert sentence in said_of(wrong, reference=count, cases=cases)


def test_an_argument_that_is_left_out_or_added_is_named():
    cases = tuple((random(2, 3, seed=seed), random(2, 3, seed=seed + 9)) for seed in range(2))

    def both(first, second):
        return first + second.exp()

    said = said_of(lambda first, second: second.exp(), reference=both, cases=cases)
    assert said == "Not yet: `first` is missing."
    said = said_of(lambda one, second: 2 * one + second.exp(), reference=both, cases=cases)
    assert said == "Not yet: `one` is added, and should not be."
    said = said_of(lambda *pair: pair[1].exp(), reference=both, cases=cases)
    assert said == "Not yet: `first` is missing."
    # A function without a signature in Python is answered, too.
    assert said_of(torch.mul, reference=both, cases=cases).startswith("Not yet: ")


def test_intervals_are_judged_by_their_middle_and_their_width():
    def interval(values):
        mean, reach = values.mean(), values.std()
        return mean.item(), (mean - reach).item(), (mean + reach).item()

    def with_width(width, sign=1):
        def answer(values):
            mean, reach = sign * values.mean(), width(values)
            return mean.item(), (mean - reach).item(), (mean + reach).item()

        return answer

    for wrong, sentence in (
        (with_width(lambda x: 2 * x.std()), "it is 2 times as wide"),
        (with_width(lambda x: x.std(correction=0)), "n - 1 (here 3 - 1)"),
        (with_width(lambda x: x.std(), sign=-1), "the other way round"),
        (with_width(lambda x: x.std() + 0.3), "the interval is not as wide as it should be."),
    ):
        assert sentence in said_of(wrong, reference=interval, cases=LISTS)
    # A tensor of the three numbers is as good as a tuple.
    assert said_of(lambda x: torch.tensor(interval(x)), interval, LISTS).startswith("Right")


STORY = [SPECIAL.bos, SPECIAL.dream_start, SPECIAL.im_patch, SPECIAL.im_patch, SPECIAL.dream_end]
STORY += [SPECIAL.im_start, SPECIAL.im_patch, SPECIAL.im_end, TOKENIZER.ids["star"], SPECIAL.eos]


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda ids: [*ids[1:], -100], "one position too early"),
        (lambda ids: [-100, *ids[:-1]], "one position too late"),
        (lambda ids: ids[:1] + ids[5:8] + ids[1:5] + ids[8:], "painted before it is read"),
        (
            lambda ids: [*ids[:8], *reversed(ids[8:])],
            "position 8 .* `star` was expected, and `</s>",
        ),
        (lambda ids: ids[:3] + ids[4:], "there should be 3 of `<im_patch>`, and there are 2"),
        (lambda ids: ids[:-1], "1 of `</s>`, and there are 0"),
        (lambda ids: [-100 if i == SPECIAL.eos else i for i in ids], "label is missing at `</s>`"),
        (
            lambda ids: [SPECIAL.dream_start if i == SPECIAL.im_patch else i for i in ids],
            "where `<im_patch>` was expected, `<dream_start>` came",
        ),
        (lambda ids: ids[:5], "there should be 1 of `</s>`, and there are 0; .* of `<im_patch>`"),
        (lambda ids: [9999, *ids[1:]], "`<s>` was expected, the id 9999 came"),
    ],
)
def test_tokens_are_named(change, sentence):
    names = {"tokenizer": TOKENIZER}
    cases = ((STORY,), (STORY[:8] + STORY[1:],))
    said = said_of(lambda ids: change(list(ids)), identity, cases, **names)
    assert re.search(sentence, said), said
    # The same in one of two results.
    said = said_of(
        lambda ids: (ids, change(list(ids))), lambda ids: (ids, list(ids)), cases, **names
    )
    assert "second of 2 results" in said and re.search(sentence, said), said


def test_labels_that_should_not_be_there_are_named():
    def labels(ids):
        return [-100 if token == SPECIAL.im_patch else token for token in ids]

    said = said_of(identity, labels, ((STORY,), (STORY[1:],)), tokenizer=TOKENIZER)
    assert "no label should be at `<im_patch>`" in said


def test_a_sentence_has_to_explain_every_case():
    cases = ((random(3),), (random(4, seed=1),))

    def sometimes(values):  # twice as much in the first case, one more in the second
        return 2 * values if len(values) == 3 else values + 1

    assert "2 of 2 cases differ" in said_of(sometimes, identity, cases)


def noisy(result):
    """A result with noise on every fraction, the same for the same result."""
    numbers = torch.as_tensor(result).double()
    draw = torch.Generator().manual_seed(int(1e6 * numbers.abs().sum()))
    with_noise = numbers + torch.randn(numbers.shape, generator=draw)
    return tuple(with_noise.tolist()) if isinstance(result, tuple) else with_noise


@pytest.mark.parametrize("number", "03.1 03.2 03.3 04.1 04.2 04.3 05.1 05.3 06.2 08.1 10.1".split())
def test_noise_is_explained_by_nothing(number):
    exercise = find(number)
    said = feedback(exercise, lambda *case: noisy(exercise.reference(*case)))
    assert "cases differ" in said, said


GARBAGE = [
    *(None, "", 0, 1.5, math.nan, math.inf, 1j, True, [], {}, (), object(), [None], b"x", range(3)),
    *(torch.zeros(0), torch.ones(2, 1, 3, 1, 4), torch.ones(3).bool(), np.ones(3), torch.tensor(3)),
    *([1, 2, 3], [[1, 2], [3, 4]], ([1], [2]), {"a": 1}, [torch.ones(2), torch.ones(3)], print),
    *((1.0, 2.0, 3.0), (math.nan,) * 3, [-100, 5, 10**9], "left of"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("notebook", FILES)
def test_whatever_comes_is_answered_with_a_sentence(notebook):
    for exercise in exercises_of(notebook).values():
        for value in GARBAGE:
            said = feedback(exercise, lambda *case, value=value: value)
            assert said.startswith("Not yet: ") and said.rstrip(")").endswith((".", "?")), said


# --------------------------------------------------------------------------------------------------
# One case


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
        ([1, 2], [1, 3], "at index 1, 3 was expected"),
        ([1], [1, 2], "2 items in a list"),
        (torch.tensor([1.0, 2.5]), (1.0, 2.0), r"2 was expected at \(1,\), and 2.5 came"),
        ({"a": 1.0}, {"a": 1}, ""),
        ({"a": 1}, {"a": 2}, "under 'a', 2 was expected"),
        ({"b": 1}, {"a": 1}, "the keys \\['a'\\]"),
        (torch.ones(2), "a", "str 'a' was expected, and an array of shape"),
        ([torch.ones(2)], [torch.ones(2)], ""),
        (MATRIX.T, MATRIX, r"the shape should be \(2, 3\), and is \(3, 2\)"),
        (torch.tensor([torch.nan, 1]), torch.tensor([torch.nan, 1]), ""),
        (torch.tensor([torch.nan, 2]), torch.tensor([torch.nan, 1]), "1 was expected at"),
        (torch.tensor([torch.inf, 2]), torch.tensor([torch.inf, 1]), "1 was expected at"),
        (torch.ones(2), torch.ones(2).long(), r"whole numbers were expected \(torch.int64\)"),
        (torch.ones(2), torch.ones(2).bool(), "True and False were expected"),
        (torch.ones(2).int(), torch.ones(2).long(), ""),
        (2j, 2.0, "numbers were expected, and complex 2j came"),
        (None, None, ""),
        ("ab", "ab", ""),
    ],
)
def test_results_of_every_kind_are_compared(result, expected, sentence):
    said = differs(result, expected)
    assert bool(said) == bool(sentence) and re.search(sentence, said), said


# --------------------------------------------------------------------------------------------------
# Arguments


def test_arguments_are_copied_nudged_and_watched():
    star = SceneObject("star", "red", "small", 0.25, 0.5)
    case = (MATRIX, torch.tensor([1, 2]), [0.5, 3], {"a": (1.5, "b")}, star, np.ones(2), None)
    same, other = copied(case), nudged(case, torch.Generator().manual_seed(0))
    assert not changed(same, case) and same[0] is not MATRIX and same[4] is star
    assert 0 < (other[0] - MATRIX).abs().max() < 0.01 and torch.equal(other[1], case[1])
    assert other[2][0] != 0.5 and other[2][1] == 3 and other[3]["a"][1] == "b"
    assert other[4].x != star.x and other[4].colour == "red"
    for index, change in (
        (0, lambda value: value.add_(1)),
        (2, lambda value: value.append(1)),
        (3, lambda value: value.update(b=1)),
        (5, lambda value: value.fill(7)),
    ):
        given = copied(case)
        change(given[index])
        assert changed(given, case), index


# --------------------------------------------------------------------------------------------------
# By number


def test_check_prints_what_is_said(capsys):
    def my_length(words, pictures, queries, patches):
        raise NotImplementedError

    check("01.2", my_length)
    check("01.2", lambda words, pictures, queries, patches: 2)
    first, second = capsys.readouterr().out.splitlines()
    assert first == NOT_ATTEMPTED and second.startswith("Not yet: it gives the same in every")


@pytest.mark.parametrize(
    "number, sentence",
    [
        ("04.9", "notebook 04 has 04.1, 04.2"),
        ("99.1", "the notebooks with exercises are 00, 01, 02"),
        ("", "the notebooks with exercises are 00, 01, 02"),
        (4.2, "is an exercise"),
    ],
)
def test_an_unknown_exercise_is_refused(number, sentence):
    with pytest.raises(ValueError, match=f"there is no exercise .*{sentence}"):
        check(number, row_means)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"check\(\'01.1\', my_function\), not 3: .*parentheses"):
        check("01.1", 3)
