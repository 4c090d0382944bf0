"""The notebooks' exercises check themselves: an attempt is compared with the package's own function, case by case.

The reference is library code, which has tests; the attempt is what a reader wrote in place of a stub. A stub that nobody
touched raises NotImplementedError, and is no mistake.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-4  # relative and absolute: sums in another order differ by less, mistakes by more


def check_exercise(
    attempt: Callable,
    reference: Callable,
    *cases: tuple,
    mistakes: dict[str, Callable] | None = None,
) -> None:
    """Prints whether an attempt does what the reference does: "not attempted yet", "Right" or, in a sentence, what differs.

    Args:
        attempt: the reader's function.
        reference: the function that it should equal; best one of the package, which has tests.
        cases: the arguments of one call each; what `reference` gives for them should differ, so that no constant passes.
        mistakes: {a sentence that helps: what one gets who makes this mistake}, as functions of the same arguments.

    Raises:
        ValueError: without cases, or if a mistake gives what the reference gives.
        Exception: whatever the attempt raises, with the line where it happened.
    """
    print(verdict(attempt, reference, cases, mistakes or {}))


def verdict(
    attempt: Callable, reference: Callable, cases: Iterable[tuple], mistakes: dict[str, Callable]
) -> str:
    """What `check_exercise` prints."""
    cases = list(cases)
    if not cases:
        raise ValueError("an exercise needs at least one case to be checked on")
    expected = [call(reference, case) for case in cases]
    typical = {
        sentence: [call(mistake, case) for case in cases] for sentence, mistake in mistakes.items()
    }
    for sentence, wrong in typical.items():
        if not any(map(differs, wrong, expected)):
            raise ValueError(
                f"this mistake is none, since it passes all {len(cases)} cases: {sentence!r}"
            )
    results = []
    for case in cases:
        before = [value.clone() if isinstance(value, Tensor) else value for value in case]
        try:
            results.append(attempt(*case))
        except NotImplementedError:
            return (
                "Not attempted yet: write your own lines in place of `raise NotImplementedError`."
            )
        if any(
            isinstance(value, Tensor) and differs(now, value) for now, value in zip(case, before)
        ):
            for now, value in zip(case, before):
                if isinstance(value, Tensor):
                    now.copy_(value)
            return (
                "Not yet: your function changes what it is given. Make a copy first, with .clone()."
            )
    faults = list(map(differs, results, expected))
    if not any(faults):
        return f"Right: in {len(cases)} of {len(cases)} cases it gives what `{getattr(reference, '__name__', 'the reference')}` gives."
    for sentence, wrong in typical.items():
        if not any(map(differs, results, wrong)):
            return f"Not yet: {sentence}"
    number = next(number for number, fault in enumerate(faults) if fault)
    return f"Not yet: {sum(map(bool, faults))} of {len(cases)} cases differ. In case {number + 1}, {faults[number]}"


def call(function: Callable, case: tuple):
    """A call whose tensors are copies, so that nobody changes another's arguments."""
    return function(*(value.clone() if isinstance(value, Tensor) else value for value in case))


def differs(result, expected) -> str:
    """How a result differs from what was expected, as a sentence; "" if it does not.

    Whole numbers are compared exactly, others with `TOLERANCE`, tensors and arrays too; lists, tuples and dicts item by item; all else by ==.
    """
    if result is None and expected is not None:
        return "it returns nothing. Is a `return` missing?"
    if isinstance(expected, dict):
        if not isinstance(result, dict) or result.keys() != expected.keys():
            return f"a dict with the keys {sorted(map(str, expected))} was expected, and {shown(result)} came."
        return next(
            (
                f"under {key!r}, {fault}"
                for key in expected
                if (fault := differs(result[key], expected[key]))
            ),
            "",
        )
    if isinstance(expected, (list, tuple)):
        if not isinstance(result, (list, tuple)) or len(result) != len(expected):
            return f"{len(expected)} items in a {type(expected).__name__} were expected, and {shown(result)} came."
        return next(
            (
                f"at place {place}, {fault}"
                for place, pair in enumerate(zip(result, expected))
                if (fault := differs(*pair))
            ),
            "",
        )
    if isinstance(expected, (bool, str)) or not isinstance(
        expected, (int, float, complex, Tensor, np.ndarray, np.generic)
    ):
        try:
            return (
                ""
                if bool(result == expected)
                else f"{shown(expected)} was expected, and {shown(result)} came."
            )
        except (RuntimeError, ValueError):  # a tensor or an array, which is not simply equal or not
            return f"{shown(expected)} was expected, and {shown(result)} came."
    return numbers_differ(result, expected)


def numbers_differ(result, expected) -> str:
    """As `differs`, for numbers, tensors and arrays."""
    counted = (
        not isinstance(expected, (float, complex))
        and not torch.as_tensor(expected).is_floating_point()
    )
    tolerance = 0.0 if counted else TOLERANCE  # a count is right or wrong
    try:
        result, expected = (
            torch.as_tensor(value).detach().cpu().double() for value in (result, expected)
        )
    except (TypeError, ValueError, RuntimeError):
        return f"numbers were expected, and {shown(result)} came."
    if result.shape != expected.shape:
        turned = result.dim() > 1 and result.shape == expected.shape[::-1]
        return f"the shape should be {tuple(expected.shape)}, and is {tuple(result.shape)}." + (
            " Are rows and columns exchanged?"
            if turned
            else " Was something summed over, or kept, that should not be?"
        )
    if torch.allclose(result, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
        return ""
    if (result.isfinite() < expected.isfinite()).any():
        return "there are numbers that are infinite or not defined (nan). Is something divided by 0, or a logarithm of 0 taken?"
    if (
        result.dim() == 2
        and result.shape[0] == result.shape[1]
        and torch.allclose(result.T, expected, rtol=TOLERANCE, atol=TOLERANCE)
    ):
        return "everything is there, but rows and columns are exchanged."
    scale = (result * expected).sum() / expected.square().sum()
    if (
        result.numel() > 1
        and scale
        and scale.isfinite()
        and torch.allclose(result, scale * expected, rtol=TOLERANCE, atol=TOLERANCE * abs(scale))
    ):
        return f"everything is {scale:.3g} times what it should be."
    same = (result == expected) | (result.isnan() & expected.isnan())
    place = (result - expected).abs().nan_to_num(torch.inf).masked_fill(same, 0).argmax()
    where = (
        ""
        if result.dim() == 0
        else f" at {tuple(int(index) for index in torch.unravel_index(place, result.shape))}"
    )
    return f"{expected.flatten()[place]:,.10g} was expected{where}, and {result.flatten()[place]:,.10g} came."


def shown(value) -> str:
    """A value in a sentence: short."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"an array of shape {tuple(value.shape)}"
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else f"{text[:59]}…"
