"""The notebooks' exercises check themselves: an attempt is compared with a function of the package.

The reference is library code, which has tests; the attempt is what a reader wrote in place of a
stub. An unchanged stub raises NotImplementedError, which does not count as a mistake.
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
    """Prints whether an attempt equals the reference: "Not attempted yet", "Right" or what differs.

    Args:
        attempt: the reader's function.
        reference: the function that it should equal; best one of the package, which has tests.
        cases: the arguments of one call each. Their results should differ, so that no constant
            passes.
        mistakes: {a helpful sentence: the function that makes this mistake}.

    Raises:
        ValueError: without cases, or if a mistake gives what the reference gives.
        Exception: whatever the attempt raises, with the line where it happened.
    """
    print(feedback(attempt, reference, cases, mistakes or {}))


def feedback(
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
        name = getattr(reference, "__name__", "the reference")
        return f"Right: in {len(cases)} of {len(cases)} cases it gives what `{name}` gives."
    for sentence, wrong in typical.items():
        if not any(map(differs, results, wrong)):
            return f"Not yet: {sentence}"
    number = next(number for number, fault in enumerate(faults) if fault)
    wrong = f"{sum(map(bool, faults))} of {len(cases)} cases differ"
    return f"Not yet: {wrong}. In case {number + 1}, {faults[number]}"


def call(function: Callable, case: tuple):
    """A call whose tensors are copies, so that nobody changes another's arguments."""
    return function(*(value.clone() if isinstance(value, Tensor) else value for value in case))


def differs(result, expected) -> str:
    """How a result differs from what was expected, as a sentence; "" if it does not.

    Integers are compared exactly, other numbers within `TOLERANCE`; tensors too. Lists,
    tuples and dicts are compared item by item, everything else by ==.
    """
    if result is None and expected is not None:
        return "it returns nothing. Is a `return` missing?"
    if isinstance(expected, dict):
        if not isinstance(result, dict) or result.keys() != expected.keys():
            keys = sorted(map(str, expected))
            return f"a dict with the keys {keys} was expected, and {shown(result)} came."
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
            items = f"{len(expected)} items in a {type(expected).__name__}"
            return f"{items} were expected, and {shown(result)} came."
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
        return (
            "there are numbers that are infinite or not defined (nan). "
            "Is something divided by 0, or a logarithm of 0 taken?"
        )
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
    wanted, came = expected.flatten()[place], result.flatten()[place]
    return f"{wanted:,.10g} was expected{where}, and {came:,.10g} came."


def shown(value) -> str:
    """A value in a sentence: short."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"an array of shape {tuple(value.shape)}"
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else f"{text[:59]}…"
