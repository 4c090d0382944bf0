"""Recognizes mistakes that are possible in any exercise, from the results of all its cases.

A sentence is given only if it explains every case that differs: two numbers may be exchanged by
chance, but not in three cases.
"""

import inspect
import io
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from numbers import Number

import torch
from torch import Tensor

from ..tokenizers import ToyTokenizer
from .arguments import copied, nudged
from .axis_mistakes import axis_mistake, listed
from .differences import as_tensors, close, differs, is_tokens, wrong_kind
from .token_mistakes import token_mistake
from .value_mistakes import value_mistake

ORDINALS = ("first", "second", "third", "fourth")
NUDGES = 3  # how often all arguments are changed a little


@dataclass
class Answers:
    """Both functions, and the arguments of all cases, for recognizers that call them again."""

    answer: Callable
    reference: Callable
    cases: list[tuple]


@dataclass
class Names:
    """What things are called in sentences.

    axes: of the expected results; [] without names.
    tokenizer: names the tokens, or None.
    arguments: as the answer calls them.
    """

    axes: list[str]
    tokenizer: ToyTokenizer | None
    arguments: list[str]


def recognized(results: list, expected: list, answers: Answers, axes: list[str], tokenizer) -> str:
    """What is wrong with an answer, as a sentence; "" if no sentence is known for it.

    Args:
        results, expected: of all cases, at least one of which differs.
        answers: for recognizers that call the functions again.
        axes, tokenizer: as in `Names`.
    """
    if all(result is None for result in results):
        return "your function returns nothing. Is a `return` missing?"
    if any(map(undefined, results, expected)):
        return (
            "there are numbers that are infinite or not defined (nan). Is something divided by 0, "
            "or a logarithm of 0 taken?"
        )
    if not repeats(results, answers):
        return (
            "it gives something else each time. All that is random should come from the arguments."
        )
    if right_but_for_ties(answers):
        return (
            "it is right except where two values are equal, or one is exactly 0: look again at `>` "
            "and `>=`, or `<` and `<=`."
        )
    names = Names(axes, tokenizer, argument_names(answers))
    return mistake_in(results, expected, answers.cases, names)


def argument_names(answers: Answers) -> list[str]:
    """How the answer calls its arguments; if that cannot be seen, how the reference does."""
    names: list[str] = []
    with suppress(TypeError, ValueError):  # a function that is not written in Python
        names = list(inspect.signature(answers.answer).parameters)
    if len(names) < len(answers.cases[0]):
        names = list(inspect.signature(answers.reference).parameters)
    return names


def mistake_in(results: list, expected: list, cases: list, names: Names) -> str:
    """As `recognized`, from the results alone."""
    if not any(map(differs, results, expected)):
        return ""
    if are_tuples(results, expected):
        for index, slot in enumerate(zip(zip(*results), zip(*expected))):
            came, wanted = map(list, slot)
            if sentence := mistake_in(came, wanted, cases, names):
                return f"in the {ORDINALS[index]} of {len(expected[0])} results, {sentence}"
    if names.tokenizer is not None:
        tokens = [[as_tokens(value) for value in values] for values in (results, expected)]
        if None not in tokens[0] + tokens[1]:
            wrong = [pair for pair in zip(*tokens) if pair[0] != pair[1]]
            return token_mistake(wrong, names.tokenizer)
    tensors = as_tensors(results), as_tensors(expected)
    if None not in tensors and not any(isinstance(wanted, bool) for wanted in expected):
        return tensor_mistake(list(zip(*tensors)), cases, names)
    return word_mistake(results, expected)


def as_tokens(value) -> list[int] | None:
    """One token or a list of tokens as a list; None for anything else."""
    value = [value] if isinstance(value, int) else value
    return list(value) if is_tokens(value) else None


def tensor_mistake(pairs: list[tuple[Tensor, Tensor]], cases: list, names: Names) -> str:
    """What is wrong with numbers or tensors, (result, expected) of all cases."""
    if kind := next((fault for pair in pairs if (fault := wrong_kind(*pair))), ""):
        return kind
    wrong = [pair for pair in pairs if not close(*pair)]
    if not wrong:
        return ""
    if not any(result.any() for result, _ in pairs):
        return "everything is 0."
    if sentence := axis_mistake(wrong, names.axes):
        return sentence
    if all(result.shape == expected.shape for result, expected in pairs):
        return value_mistake(pairs, cases, names.arguments)
    return shape_mistake(pairs, cases, names.axes)


def shape_mistake(pairs: list[tuple[Tensor, Tensor]], cases: list, axes: list[str]) -> str:
    """What is wrong with the shape of a result."""
    index = next(i for i, (result, expected) in enumerate(pairs) if result.shape != expected.shape)
    came, wanted = (tuple(tensor.shape) for tensor in pairs[index])
    if not wanted:
        return f"a single number was expected, and an array of shape {came} came."
    meaning = f" ({' '.join(axes)})" if len(axes) == len(wanted) else ""
    sentence = f"the shape should be {wanted}{meaning}, and is {came}."
    if sorted(came) == sorted(wanted):
        return f"{sentence} Are axes exchanged?"
    for argument in cases[index]:
        shape = tuple(argument.shape) if isinstance(argument, Tensor) else ()
        kept = {shape[:axis] + shape[axis + 1 :]: axis for axis in range(len(shape))}
        if came in kept and wanted in kept:
            return (
                f"{sentence} An argument of shape {shape} was reduced along axis {kept[came]} (the "
                f"first is 0); it should be along axis {kept[wanted]}."
            )
    if len(came) == len(wanted):
        axis = next(axis for axis, pair in enumerate(zip(came, wanted)) if pair[0] != pair[1])
        where = listed((axis,), len(wanted), axes)
        return f"{sentence} Along {where} there are {came[axis]} entries instead of {wanted[axis]}."
    return f"{sentence} Was something summed over, or kept, that should not be?"


def are_tuples(results: list, expected: list) -> bool:
    """Whether all results are tuples of as many things each, which are no single numbers."""
    values = results + expected
    if not all(isinstance(value, (tuple, list)) for value in values):
        return False
    if {len(value) for value in values} != {len(expected[0])} or len(expected[0]) > len(ORDINALS):
        return False
    return not any(isinstance(item, Number) for value in expected for item in value)


def word_mistake(results: list, expected: list) -> str:
    """What is wrong with results that are no tensors: words, True and False, indices or None."""
    pairs = list(zip(results, expected))
    if not all(isinstance(value, (str, Number, type(None))) for pair in pairs for value in pair):
        return ""
    if len(set(expected)) < 2:
        return ""
    fractions = [came for came, wanted in pairs if type(wanted) is int and type(came) is float]
    if any(came % 1 for came in fractions):
        return (
            f"a whole number was expected, such as an index, and {fractions[0]:.3g} came. Is it "
            "`max` instead of `argmax`?"
        )
    if len(set(results)) == 1 and len(results) > 2:
        return f"it gives {results[0]!r} in every case, whatever its arguments are."
    came = {wanted: {one for one, other in pairs if other == wanted} for wanted in expected}
    wrong = {wanted: found - {wanted} for wanted, found in came.items() if found != {wanted}}
    if not all(len(found) == 1 for found in wrong.values()):
        return ""
    only = {wanted: found.pop() for wanted, found in wrong.items()}
    first, second = next(iter(only.items()))
    if only == {first: second, second: first}:
        return f"{first!r} and {second!r} are exchanged."
    parts = [f"where {wanted!r} is expected, {found!r} comes" for wanted, found in only.items()]
    return f"{'; '.join(parts)}."


def undefined(result, expected) -> bool:
    """Whether numbers are infinite or nan that should not be."""
    tensors = as_tensors([result, expected])
    if tensors is not None:
        came, wanted = tensors
        return came.shape == wanted.shape and bool((came.isfinite() < wanted.isfinite()).any())
    if isinstance(result, (list, tuple)) and isinstance(expected, (list, tuple)):
        return any(map(undefined, result, expected))
    return False


def repeats(results: list, answers: Answers) -> bool:
    """Whether an answer gives the same for the same arguments."""
    with redirect_stdout(io.StringIO()):  # what the answer prints was seen already
        again = [answers.answer(*copied(case)) for case in answers.cases]
    return not any(map(differs, again, results))


def right_but_for_ties(answers: Answers) -> bool:
    """Whether an answer is right as soon as fractions among its arguments are changed a little.

    Then equal ones become different, and what differs between > and >= is gone.
    """
    generator = torch.Generator().manual_seed(0)
    for case in answers.cases * NUDGES:
        changed = nudged(case, generator)
        try:
            with redirect_stdout(io.StringIO()):
                result = answers.answer(*copied(changed))
            expected = answers.reference(*copied(changed))
        except Exception:  # other arguments than those of the exercise may be refused
            return False
        if differs(result, expected):
            return False
    return True
