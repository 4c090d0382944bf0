"""How the result of an answer differs from the expected one, in a single case."""

from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from ..documents import IGNORED

TOLERANCE = 1e-4  # relative and absolute: sums in another order differ by less, mistakes by more
NUMBERS = (int, float, Tensor, np.ndarray, np.generic)


def differs(result, expected, tokenizer=None) -> str:
    """How a result differs from the expected one, as a sentence; "" if it does not.

    Integers are compared exactly, other numbers within `TOLERANCE`; tensors too. Lists, tuples and
    dicts are compared item by item, everything else by ==.

    Args:
        result, expected: of one call.
        tokenizer: gives the tokens of lists of ids their names.
    """
    if result is None and expected is not None:
        return "it returns nothing. Is a `return` missing?"
    if isinstance(expected, dict):
        if not isinstance(result, dict) or result.keys() != expected.keys():
            keys = sorted(map(str, expected))
            return f"a dict with the keys {keys} was expected, and {shown(result)} came."
        pairs = {f"under {key!r}": (result[key], expected[key]) for key in expected}
        return first_fault(pairs, tokenizer)
    if isinstance(expected, (list, tuple)):
        if tokenizer is not None and is_tokens(expected) and is_tokens(result):
            return tokens_differ(list(result), list(expected), tokenizer)
        if isinstance(result, (Tensor, np.ndarray)) and as_tensors([expected]):
            return numbers_differ(result, expected)  # (mean, low, high) may come as a tensor
        if not isinstance(result, (list, tuple)) or len(result) != len(expected):
            items = f"{len(expected)} items in a {type(expected).__name__}"
            return f"{items} were expected, and {shown(result)} came."
        pairs = {f"at index {i}": pair for i, pair in enumerate(zip(result, expected))}
        return first_fault(pairs, tokenizer)
    if isinstance(expected, NUMBERS) and not isinstance(expected, bool):
        if isinstance(expected, int) and tokenizer is not None and is_tokens([result]):
            return tokens_differ([result], [expected], tokenizer)
        return numbers_differ(result, expected)
    try:
        same = bool(result == expected)
    except (RuntimeError, ValueError):  # a tensor or an array, which is not simply equal or not
        same = False
    return "" if same else f"{shown(expected)} was expected, and {shown(result)} came."


def first_fault(pairs: dict[str, tuple], tokenizer) -> str:
    """The first difference among named pairs, with its name; "" without any."""
    for name, (result, expected) in pairs.items():
        if fault := differs(result, expected, tokenizer):
            return f"{name}, {fault}"
    return ""


def numbers_differ(result, expected) -> str:
    """As `differs`, for numbers, tensors and arrays."""
    tensors = as_tensors([result, expected])
    if tensors is None:
        return f"numbers were expected, and {shown(result)} came."
    result, expected = tensors
    if result.shape != expected.shape:
        return f"the shape should be {tuple(expected.shape)}, and is {tuple(result.shape)}."
    if fault := wrong_kind(result, expected):
        return fault
    if close(result, expected):
        return ""
    result, expected = result.double(), expected.double()
    same = (result == expected) | (result.isnan() & expected.isnan())
    place = (result - expected).abs().nan_to_num(torch.inf).masked_fill(same, 0).argmax()
    where = ""
    if result.dim():
        index = tuple(int(number) for number in torch.unravel_index(place, result.shape))
        where = f" at {index}"
    wanted, came = expected.flatten()[place], result.flatten()[place]
    return f"{wanted:,.10g} was expected{where}, and {came:,.10g} came."


def wrong_kind(result: Tensor, expected: Tensor) -> str:
    """A sentence if a tensor has a dtype that cannot be used in place of the expected one.

    Single numbers are not judged: 3.0 is as good as 3.
    """
    if not expected.dim() or expected.is_floating_point():
        return ""
    if expected.dtype == torch.bool and result.dtype != torch.bool:
        return f"True and False were expected (torch.bool), and numbers ({result.dtype}) came."
    if result.dtype.is_floating_point:
        return f"whole numbers were expected ({expected.dtype}), and {result.dtype} came."
    return ""


def as_tensors(values: list) -> list[Tensor] | None:
    """Numbers, lists of numbers and tensors as tensors on the CPU; None if one is none of these.

    Complex numbers are none.
    """
    try:
        tensors = [torch.as_tensor(value).detach().cpu() for value in values]
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if any(tensor.is_complex() for tensor in tensors) else tensors


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape, and equal numbers: exactly if `other` has integers."""
    tolerance = TOLERANCE if other.is_floating_point() else 0.0
    one, other = one.double(), other.double()
    return one.shape == other.shape and torch.allclose(one, other, tolerance, tolerance, True)


def is_tokens(value) -> bool:
    """Whether a value is a list of integers, which may be token ids."""
    if not isinstance(value, (list, tuple)):
        return False
    return all(isinstance(item, (int, np.integer)) and type(item) is not bool for item in value)


def token_name(token: int | None, tokenizer) -> str:
    """A token in a sentence: its text, or that it is no target of the loss."""
    if token is None:
        return "nothing"
    if token == IGNORED:
        return f"{IGNORED} (ignored)"
    return f"`{tokenizer.label(token)}`" if 0 <= token < len(tokenizer) else f"the id {token}"


def tokens_differ(result: list[int], expected: list[int], tokenizer) -> str:
    """As `differs`, for lists of token ids or labels; tokens are called by their names."""
    pairs = list(zip_longest(result, expected))
    first = next((place for place, (came, wanted) in enumerate(pairs) if came != wanted), None)
    if first is None:
        return ""
    came, wanted = (token_name(token, tokenizer) for token in pairs[first])
    fault = f"{wanted} was expected, and {came} came."
    if len(pairs) > 1:
        fault = f"at position {first} (the first is 0), {fault}"
    if len(result) != len(expected):
        fault = f"{len(expected)} tokens were expected, and {len(result)} came; {fault}"
    return fault


def shown(value) -> str:
    """A value in a sentence: short."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"an array of shape {tuple(value.shape)}"
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else f"{text[:59]}…"
