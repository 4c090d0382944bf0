"""Mistakes in the values of numbers, told from results and expected results of all cases.

Each function gives a sentence that explains every case, or "". One number fits many explanations,
so that a factor or an offset needs at least two different numbers as evidence. (`recognition.py`
calls the functions.)
"""

import math

import torch
from torch import Tensor

from .argument_mistakes import DEVIATIONS, argument_mistake, ratio_of, size_sentence
from .differences import close

Pairs = list[tuple[Tensor, Tensor]]  # (result, expected)


def value_mistake(pairs: Pairs, cases: list[tuple], names: list[str]) -> str:
    """The first mistake in values that explains all cases, as a sentence; "" if there is none.

    Args:
        pairs: (result, expected) of all cases, each of one shape.
        cases: their arguments.
        names: of the arguments.
    """
    if any(expected.dtype == torch.bool for _, expected in pairs):
        return opposite(pairs) or only_at_some_positions(pairs)
    pairs = [(result.double(), expected.double()) for result, expected in pairs]
    numbers = torch.cat([expected.flatten() for _, expected in pairs])
    if numbers.unique().numel() > 1:  # else any number is some function of the only one
        sentence = (
            argument_mistake(pairs, cases, names)
            or factor(pairs)
            or offset(pairs)
            or function_of_expected(pairs)
            or interval(pairs)
            or signs(pairs)
            or rounded(pairs)
            or other_places(pairs)
        )
        if sentence:
            return sentence
    return same_every_time(pairs) or only_at_some_positions(pairs)


# Factors that are known for something.
KNOWN = {
    -1.0: "everything has the wrong sign.",
    100.0: "everything is 100 times what it should be: a share is wanted, no percentage.",
    math.log(2): "everything is log(2) times what it should be: a logarithm to another base?",
    1 / math.log(2): "everything is 1/log(2) times what it should be: a logarithm to base 2?",
    math.log(10): "everything is log(10) times what it should be: a logarithm to another base?",
    1 / math.log(10): "everything is 1/log(10) times what it should be: a logarithm to base 10?",
}


def factor(pairs: Pairs) -> str:
    """Whether everything is too large or too small by one factor."""
    ratios = [ratio_of(*pair) for pair in pairs if pair[1].any()]
    if None in ratios or any(abs(ratio / ratios[0] - 1) > 1e-4 for ratio in ratios):
        return ""
    if any(result.any() and not expected.any() for result, expected in pairs):
        return ""
    for number, sentence in KNOWN.items():
        if abs(ratios[0] / number - 1) < 1e-4:
            return sentence
    return f"everything is {ratios[0]:.3g} times what it should be."


def offset(pairs: Pairs) -> str:
    """Whether everything is too large or too small by one number."""
    gaps = torch.cat([(result - expected).flatten() for result, expected in pairs])
    gap = gaps.mean().item()
    if not all(close(result, expected + gap) for result, expected in pairs):
        return ""
    return f"everything is {abs(gap):.3g} too {'large' if gap > 0 else 'small'}."


FUNCTIONS = {
    "the square of": torch.square,
    "the square root of": torch.sqrt,
    "the logarithm of": torch.log,
    "the exponential of": torch.exp,
    "1 divided by": torch.reciprocal,
    "1 minus": lambda numbers: 1 - numbers,
}


def function_of_expected(pairs: Pairs) -> str:
    """Whether the results are a well-known function of what they should be."""
    for name, function in FUNCTIONS.items():
        if all(close(result, function(expected)) for result, expected in pairs):
            return f"that is {name} what it should be."
    return ""


def signs(pairs: Pairs) -> str:
    """Whether the results are right but for their signs."""
    if all(close(result.abs(), expected.abs()) for result, expected in pairs):
        return "the numbers are right, but some have the wrong sign."
    return ""


def rounded(pairs: Pairs) -> str:
    """Whether the results are whole numbers in place of fractions."""
    for function in (torch.floor, torch.trunc, torch.round):
        if all(close(result, function(expected)) for result, expected in pairs):
            return (
                "the fractions are lost: whole numbers came. Is it `//` instead of `/`, or a dtype "
                "of integers?"
            )
    return ""


def interval(pairs: Pairs) -> str:
    """What is wrong with (mean, low, high) if the mean is right, or right but for its sign."""
    if any(result.shape != (3,) or expected.shape != (3,) for result, expected in pairs):
        return ""
    if all(close(result[[0, 2, 1]], -expected) for result, expected in pairs):
        return "the difference is taken the other way round."
    if not all(
        close(result[0], expected[0]) and close(result[1:].sum(), expected[1:].sum())
        for result, expected in pairs
    ):
        return ""
    ratios = [((came[2] - came[1]) / (want[2] - want[1])).item() for came, want in pairs]
    widths = "the middle is right, but the interval is not as wide as it should be"
    if all(ratio > 0 for ratio in ratios):
        # The number of values is not always the size of an argument.
        sizes = [range(3, 31)] * len(ratios)
        if sentence := size_sentence(ratios, sizes, DEVIATIONS):
            return f"{widths}: {sentence}"
        if all(abs(ratio / ratios[0] - 1) < 1e-4 for ratio in ratios):
            return f"{widths}: it is {ratios[0]:.3g} times as wide."
    return f"{widths}."


def other_places(pairs: Pairs) -> str:
    """Whether the results have the right numbers in other places."""
    if all(
        close(result.flatten().sort()[0], expected.flatten().sort()[0])
        for result, expected in pairs
    ):
        return (
            "the numbers are right, but they are in other places. Was something reshaped where "
            "axes should be rearranged, or taken in another order?"
        )
    return ""


def opposite(pairs: Pairs) -> str:
    """Whether True and False are exchanged."""
    if all(close(result, ~expected) for result, expected in pairs):
        return "True and False are exchanged."
    return ""


def same_every_time(pairs: Pairs) -> str:
    """Whether the results of all cases are the same although they should differ."""
    results, expected = [result for result, _ in pairs], [wanted for _, wanted in pairs]
    if len(pairs) > 2 and all_same(results) and not all_same(expected):
        return "it gives the same in every case, whatever its arguments are."
    return ""


def all_same(tensors: list[Tensor]) -> bool:
    """Whether tensors have one shape and equal numbers."""
    return all(close(tensor, tensors[0]) for tensor in tensors[1:])


def only_at_some_positions(pairs: Pairs) -> str:
    """Whether only the first or the last entry along an axis is wrong, or only one is right."""
    wrong = [pair for pair in pairs if not close(*pair)]
    dim = wrong[0][1].dim()
    if any(expected.dim() != dim for _, expected in wrong):
        return ""
    for axis in range(dim):
        where = f" along axis {axis} (the first is 0)" if dim > 1 else ""
        faults = [faults_along(*pair, axis) for pair in wrong]
        if all(len(fault) > 2 for fault in faults):
            for word, index in (("first", 0), ("last", -1)):
                if all(fault[index] and fault.sum() == 1 for fault in faults):
                    return f"everything is right except the {word} entry{where}."
                if all(not fault[index] and fault.sum() == len(fault) - 1 for fault in faults):
                    return f"only the {word} entry{where} is right."
    return ""


def faults_along(result: Tensor, expected: Tensor, axis: int) -> Tensor:
    """For each index along an axis, whether anything is wrong there: bool, shape (length,)."""
    pairs = zip(result.unbind(axis), expected.unbind(axis))
    return torch.tensor([not close(*pair) for pair in pairs])
