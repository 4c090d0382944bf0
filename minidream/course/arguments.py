"""Arguments of an exercise's cases: copied, compared, and changed a little."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .differences import differs

NUDGE = 1e-3  # the standard deviation of a small change


def copied(value):
    """A copy of arguments, so that no function changes those of another.

    Tensors, arrays and what is in tuples, lists and dicts is copied; anything else is shared.
    """
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    return inside(copied, value)


def nudged(value, generator: torch.Generator):
    """A copy of arguments in which every fraction is changed a little; whole numbers stay.

    Args:
        value: as in `copied`; fractions in the fields of dataclasses are changed, too.
        generator: draws the changes.
    """
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            return value.clone()
        return value + NUDGE * torch.randn(value.shape, generator=generator)
    if isinstance(value, float):
        return value + NUDGE * torch.randn((), generator=generator).item()
    if is_dataclass(value) and not isinstance(value, type):
        fractions = [field.name for field in fields(value) if field.type in (float, "float")]
        return replace(
            value, **{name: nudged(getattr(value, name), generator) for name in fractions}
        )
    return inside(lambda item: nudged(item, generator), value)


def inside(change, value):
    """A tuple, list or dict in which every item is changed; anything else as it is."""
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(change(item) for item in value)
    return value


def changed(given, original) -> bool:
    """Whether a function has changed the tensors, arrays, lists or dicts that it was given."""
    if isinstance(original, (Tensor, np.ndarray)):
        return bool(differs(given, original))
    if isinstance(original, dict):
        same_keys = list(given) == list(original)
        return not same_keys or any(changed(given[key], original[key]) for key in original)
    if isinstance(original, (list, tuple)):
        return len(given) != len(original) or any(map(changed, given, original))
    return given is not original and given != original
