"""Mistakes in values that the arguments of the cases explain: their sizes, or they themselves.

Each function gives a sentence that explains every case, or "". (`recognition.py` calls them.)
"""

from collections.abc import Sized
from itertools import combinations_with_replacement
from math import prod

import torch
from torch import Tensor

from .differences import close

Pairs = list[tuple[Tensor, Tensor]]  # (result, expected)

# What it says if everything is multiplied by a factor that depends on a size n.
DEVIATIONS = {
    lambda n: ((n - 1) / n) ** 0.5: (
        "for the standard deviation, divide by n - 1 (here {n} - 1), not by n: the mean was "
        "computed from the same numbers."
    ),
    lambda n: (n / (n - 1)) ** 0.5: (
        "for the standard deviation, divide by n (here {n}), not by n - 1."
    ),
}
FACTORS = {
    lambda n: n: "everything is {n} times what it should be: is it a sum instead of a mean?",
    lambda n: 1 / n: "everything is 1/{n} of what it should be: is it a mean instead of a sum?",
    lambda n: n**0.5: "everything is sqrt({n}) times what it should be: divide by the root of {n}?",
    lambda n: n**-0.5: (
        "everything is 1/sqrt({n}) of what it should be: is it divided by the root of {n}?"
    ),
    **DEVIATIONS,
}
# Fractions that are common, so that they need more than one size as evidence.
FRACTIONS = {
    lambda n: n * (n - 1): (
        "everything is {n} * ({n} - 1) times what it should be: is it a sum instead of a mean?"
    ),
    lambda n: (n - 1) / n: (
        "for the variance, divide by n - 1 (here {n} - 1), not by n: the mean was computed from "
        "the same numbers."
    ),
    lambda n: n / (n - 1): "for the variance, divide by n (here {n}), not by n - 1.",
}
LEAST_SIZE = 3  # a factor of 2 has too many other reasons
MOST_REPEATS = 4  # of a product of arguments that is missing


def argument_mistake(pairs: Pairs, cases: list[tuple], names: list[str]) -> str:
    """The first mistake that the arguments explain, as a sentence; "" if there is none.

    Args:
        pairs: (result, expected) of all cases, each of one shape, float64.
        cases: their arguments.
        names: of the arguments.
    """
    return (
        factor_of_size(pairs, cases)
        or missing_product(pairs, cases, names)
        or missing_argument(pairs, cases, names)
    )


def ratio_of(result: Tensor, expected: Tensor) -> float | None:
    """The number by which everything expected is multiplied in a result; None if there is none."""
    scale = expected.square().sum()
    ratio = ((result * expected).sum() / scale).item() if scale else 0.0
    if not ratio or not close(result / abs(ratio), expected * (1 if ratio > 0 else -1)):
        return None
    return ratio


def factor_of_size(pairs: Pairs, cases: list[tuple]) -> str:
    """Whether everything is multiplied by a factor that follows from the size of an argument."""
    ratios = [ratio_of(*pair) for pair in pairs]
    if None in ratios:
        return ""
    sizes = [sorted(n for n in sizes_of(case) if n >= LEAST_SIZE) for case in cases]
    if sentence := size_sentence(ratios, sizes, FACTORS):
        return sentence
    if max(ratios) / min(ratios) > 1.001:
        if sentence := size_sentence(ratios, sizes, FRACTIONS):
            return sentence
        if all(ratio > 0.99 and abs(ratio - round(ratio)) < 1e-4 * ratio for ratio in ratios):
            return "everything is too large by whole numbers: is it a sum instead of a mean?"
    return ""


def size_sentence(ratios: list[float], sizes: list[list[int]], factors: dict) -> str:
    """What factors, one for each case, say if each follows from one of the sizes of its case.

    Args:
        ratios: the factor of each case.
        sizes: those that may explain it.
        factors: {function of a size: sentence}.
    """
    for factor, sentence in factors.items():
        found = [
            next((n for n in each if abs(factor(n) / ratio - 1) < 1e-4), None)
            for ratio, each in zip(ratios, sizes, strict=True)
        ]
        if None not in found:
            return sentence.format(n=found[0])
    return ""


def sizes_of(value) -> set[int]:
    """Lengths of the axes of arguments, and of lists, and whole numbers among them."""
    if isinstance(value, Tensor):
        return set(value.shape) | {value.numel()}
    if isinstance(value, bool):
        return set()
    if isinstance(value, int):
        return {value}
    if isinstance(value, (list, tuple)):
        return {len(value)}.union(*map(sizes_of, value))
    return {len(value)} if isinstance(value, Sized) and not isinstance(value, str) else set()


def missing_product(pairs: Pairs, cases: list[tuple], names: list[str]) -> str:
    """Whether a count leaves out a product of up to three whole arguments, or has it too often."""
    if any(expected.dim() for _, expected in pairs) or len(pairs) < 3:
        return ""
    whole = [i for i, value in enumerate(cases[0]) if type(value) is int]
    gaps = [(result - expected).item() for result, expected in pairs]
    for count in (1, 2, 3):
        for chosen in combinations_with_replacement(whole, count):
            products = [prod(case[i] for i in chosen) for case in cases]
            if not all(products):
                continue
            times = {gap / product for gap, product in zip(gaps, products)}
            if len(times) == 1 and (repeats := times.pop()) in whole_numbers():
                term = " * ".join(f"`{names[i]}`" for i in chosen)
                term = term if abs(repeats) == 1 else f"{abs(int(repeats))} * {term}"
                return f"{term} {'too much' if repeats > 0 else 'is missing'}."
    return ""


def whole_numbers() -> set[int]:
    """How often a product may be missing (negative), or be there too often."""
    return {*range(-MOST_REPEATS, MOST_REPEATS + 1)} - {0}


def missing_argument(pairs: Pairs, cases: list[tuple], names: list[str]) -> str:
    """Whether what differs is that a tensor among the arguments was added, or was left out."""
    for index, value in enumerate(cases[0]):
        if not isinstance(value, Tensor):
            continue
        for sign, words in ((1, "is added, and should not be"), (-1, "is missing")):
            if all(
                explained(result, expected, case[index], sign)
                for (result, expected), case in zip(pairs, cases, strict=True)
            ):
                return f"`{names[index]}` {words}."
    return ""


def explained(result: Tensor, expected: Tensor, argument: Tensor, sign: int) -> bool:
    """Whether all differences are `sign` times an argument of the same shape."""
    if argument.shape != expected.shape or not argument.any():
        return False
    argument = sign * argument.detach().cpu().double()
    wrong = ~torch.isclose(result, expected, 1e-4, 1e-4)
    return close((result - expected)[wrong], argument[wrong])
