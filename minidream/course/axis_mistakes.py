"""Mistakes in the axes of a tensor, told from results and expected results alone.

Each function takes the pairs of all cases that differ, and gives a sentence that explains every one
of them, or "". Tensors of up to four axes are understood. (`recognition.py` calls the functions.)
"""

from itertools import combinations, permutations, product

import torch
from torch import Tensor

from .differences import close

MOST_AXES = 4
Pairs = list[tuple[Tensor, Tensor]]  # (result, expected)


def axis_mistake(pairs: Pairs, names: list[str]) -> str:
    """The first mistake in axes that explains all pairs, as a sentence; "" if there is none.

    Args:
        pairs: (result, expected) of the cases that differ, at least one.
        names: of the axes of `expected`; others than it has are not used.
    """
    tensors = [tensor for pair in pairs for tensor in pair]
    if any(tensor.dim() > MOST_AXES or not tensor.numel() for tensor in tensors):
        return ""
    if len({expected.dim() for _, expected in pairs}) > 1:
        names = []
    finders = (
        axis_of_length_one,
        exchanged_axes,
        unmerged_axes,
        axis_left_over,
        axis_lost,
        one_entry,
        sums_along_another_axis,
        sees_ahead,
        only_diagonal,
        shifted,
        reversed_axis,
        repeated_along_axis,
    )
    return next((sentence for find in finders if (sentence := find(pairs, names))), "")


def named(axis: int, dim: int, names: list[str]) -> str:
    """An axis in a sentence."""
    return f"`{names[axis]}`" if len(names) == dim else f"number {axis}"


def listed(axes: tuple[int, ...], dim: int, names: list[str]) -> str:
    """One axis or several in a sentence."""
    words = " and ".join(named(axis, dim, names) for axis in axes)
    return f"the axis {words}" if len(axes) == 1 else f"the axes {words}"


def axis_of_length_one(pairs: Pairs, names: list[str]) -> str:
    """Whether all that is wrong is an axis of length 1."""
    for result, expected in pairs:
        if result.shape == expected.shape or not close(result.squeeze(), expected.squeeze()):
            return ""
    came, wanted = (tuple(tensor.shape) for tensor in pairs[0])
    return (
        f"the numbers are right, but the shape should be {wanted}, and is {came}: an axis of "
        f"length 1 is {'missing' if len(came) < len(wanted) else 'too many'}."
    )


def exchanged_axes(pairs: Pairs, names: list[str]) -> str:
    """Whether the results are right but for the order of their axes."""
    dims = {tensor.dim() for pair in pairs for tensor in pair}
    if len(dims) != 1 or (dim := dims.pop()) < 2:
        return ""
    for order in permutations(range(dim)):
        if not all(close(result.permute(order), expected) for result, expected in pairs):
            continue
        moved = tuple(axis for axis in range(dim) if order[axis] != axis)
        if len(moved) > 2:
            came = [named(order.index(axis), dim, names) for axis in range(dim)]
            return f"everything is there, but the axes are in another order: {', '.join(came)}."
        if dim == 2 and len(names) != dim:
            return "everything is there, but rows and columns are exchanged."
        return f"everything is there, but {listed(moved, dim, names)} are exchanged."
    return ""


def unmerged_axes(pairs: Pairs, names: list[str]) -> str:
    """Whether the results have two axes that should be one, such as heads and head_dim."""
    dims = {(result.dim(), expected.dim()) for result, expected in pairs}
    if len(dims) != 1 or (dim := dims.pop())[0] != dim[1] + 1:
        return ""
    for order in permutations(range(dim[0])):
        for axis in range(dim[1]):
            if all(
                close(result.permute(order).flatten(axis, axis + 1), expected)
                for result, expected in pairs
            ):
                return (
                    f"the numbers are right, but two axes should be merged into "
                    f"{listed((axis,), dim[1], names)}: {order[axis]} and {order[axis + 1]} of the "
                    "result (the first is 0), in this order."
                )
    return ""


REDUCTIONS = {"sum": Tensor.sum, "mean": Tensor.mean, "maximum": Tensor.amax}


def reduced(tensor: Tensor, axes: tuple[int, ...], reduction: str) -> list[Tensor]:
    """A tensor without some of its axes, and with them as axes of length 1."""
    reduce = REDUCTIONS[reduction]
    return [reduce(tensor.double(), axes, keepdim) for keepdim in (False, True)]


def axis_left_over(pairs: Pairs, names: list[str]) -> str:
    """Whether the results have axes that should have been summed over or averaged."""
    dims = {result.dim() for result, _ in pairs}
    if len(dims) != 1 or any(result.shape == expected.shape for result, expected in pairs):
        return ""
    dim = dims.pop()
    for axes in subsets(dim):
        for word in REDUCTIONS:
            if all(
                any(close(less, expected) for less in reduced(result, axes, word))
                for result, expected in pairs
            ):
                left = listed(axes, dim, [])
                return f"{left} (the first is 0) should not be there any more: take the {word}."
    return ""


def axis_lost(pairs: Pairs, names: list[str]) -> str:
    """Whether axes were summed over or averaged that should have been kept."""
    dims = {expected.dim() for _, expected in pairs}
    if len(dims) != 1 or any(result.shape == expected.shape for result, expected in pairs):
        return ""
    dim = dims.pop()
    for axes in subsets(dim):
        for word in REDUCTIONS:
            if all(
                any(close(result, less) for less in reduced(expected, axes, word))
                for result, expected in pairs
            ):
                return f"that is the {word} over {listed(axes, dim, names)}, which should be kept."
    return ""


def one_entry(pairs: Pairs, names: list[str]) -> str:
    """Whether a single number was expected, which is one entry of each result."""
    dims = {result.dim() for result, _ in pairs}
    if len(dims) != 1 or 0 in dims or any(expected.dim() for _, expected in pairs):
        return ""
    shortest = [min(lengths) for lengths in zip(*(result.shape for result, _ in pairs))]
    for place in product(*map(range, shortest)):
        if all(close(result[place], expected) for result, expected in pairs):
            return f"a single number was expected: the entry {place} of what came."
    return ""


def subsets(dim: int) -> list[tuple[int, ...]]:
    """All choices of at least one axis, small ones first."""
    return [axes for count in range(1, dim + 1) for axes in combinations(range(dim), count)]


def axes_of_sum_one(tensors: list[Tensor]) -> set[int]:
    """The axes along which all of some tensors add up to 1, with nothing negative in them."""
    if len({tensor.dim() for tensor in tensors}) != 1:
        return set()
    return {
        axis
        for axis in range(tensors[0].dim())
        if all(
            (tensor >= 0).all()
            and close(total := tensor.double().sum(axis), torch.ones_like(total))
            for tensor in tensors
        )
    }


def sums_along_another_axis(pairs: Pairs, names: list[str]) -> str:
    """Whether values should add up to 1 along one axis, and do along another, or along none."""
    if any(result.shape != expected.shape for result, expected in pairs):
        return ""
    wanted = axes_of_sum_one([expected for _, expected in pairs])
    came = axes_of_sum_one([result for result, _ in pairs])
    dim = pairs[0][1].dim()
    if not wanted or wanted & came or not dim:
        return ""
    right = listed((min(wanted),), dim, names)
    if came:
        wrong = listed((min(came),), dim, names)
        return (
            f"along {wrong} the values add up to 1; they should along {right}. Is the softmax "
            "taken over the wrong axis?"
        )
    if all(((expected == 0) == (result == 0)).all() for result, expected in pairs) and any(
        (expected == 0).any() for _, expected in pairs
    ):
        return (
            f"along {right} the values should add up to 1: what may not be seen is hidden before "
            "the softmax, not after it."
        )
    return f"along {right} the values should add up to 1, and they do not."


def sees_ahead(pairs: Pairs, names: list[str]) -> str:
    """Whether a causal mask is missing, or misplaced: the last two axes are tokens and inputs."""
    if any(result.shape != expected.shape or result.dim() < 2 for result, expected in pairs):
        return ""
    if any(expected.shape[-2] > expected.shape[-1] for _, expected in pairs):
        return ""
    shown = [(result != 0, expected != 0) for result, expected in pairs]
    hidden = [ahead(expected, from_the_end=True) for _, expected in pairs]
    if any(wanted[..., mask].any() for (_, wanted), mask in zip(shown, hidden)):
        return ""
    if not any((~wanted).any() for _, wanted in shown):
        return ""
    if all(
        (came == ~ahead(came, from_the_end=False)).all() and (came != wanted).any()
        for came, wanted in shown
    ):
        return "the mask is counted from the wrong end: the last token sees all inputs."
    if any(came[..., mask].any() for (came, _), mask in zip(shown, hidden)):
        return (
            "positions see what comes after them: the causal mask is missing, or not what it "
            "should be."
        )
    diagonals = [
        came.diagonal(wanted.shape[-1] - wanted.shape[-2], -2, -1) for came, wanted in shown
    ]
    if all(not diagonal.any() for diagonal in diagonals):
        return "a position may also see itself: the diagonal should not be hidden."
    return ""


def only_diagonal(pairs: Pairs, names: list[str]) -> str:
    """Whether everything that differs is on the diagonal of the last two axes."""
    for result, expected in pairs:
        if result.shape != expected.shape or result.dim() < 2:
            return ""
        diagonal = torch.eye(*result.shape[-2:], dtype=torch.bool)
        if not close(result.masked_fill(diagonal, 0), expected.masked_fill(diagonal, 0)):
            return ""
    return "everything is right except the diagonal, where a position meets itself."


def ahead(tensor: Tensor, from_the_end: bool) -> Tensor:
    """Which inputs (columns) come after each token (row), the last token being the last input."""
    rows, columns = tensor.shape[-2:]
    start = 1 + (columns - rows if from_the_end else 0)
    return torch.ones(rows, columns, dtype=torch.bool).triu(start)


def shifted(pairs: Pairs, names: list[str]) -> str:
    """Whether everything is at the next or at the previous position along one axis."""
    dim = pairs[0][1].dim()
    if any(result.dim() != dim or expected.dim() != dim for result, expected in pairs):
        return ""
    for axis in range(dim):
        for late in (True, False):
            if all(is_shifted(*pair, axis, late) for pair in pairs):
                where = f"along {listed((axis,), dim, names)} " if dim > 1 else ""
                return (
                    f"{where}everything is one position too {'late' if late else 'early'}: "
                    "should something be shifted by one, or not be shifted?"
                )
    return ""


def is_shifted(result: Tensor, expected: Tensor, axis: int, late: bool) -> bool:
    """Whether a result is the expected one, moved by one position; its ends are not compared."""
    if result.shape != expected.shape or expected.shape[axis] < 3:
        return False
    size = expected.shape[axis] - 1
    came = result.narrow(axis, int(late), size)
    wanted = expected.narrow(axis, int(not late), size)
    # What is the same at every position would look shifted, too.
    return close(came, wanted) and not constant_along(wanted, axis)


def constant_along(tensor: Tensor, axis: int) -> bool:
    """Whether all entries along an axis are the same."""
    return close(tensor, tensor.narrow(axis, 0, 1).expand_as(tensor))


def reversed_axis(pairs: Pairs, names: list[str]) -> str:
    """Whether the results run backwards along one axis."""
    dim = pairs[0][1].dim()
    for axis in range(dim):
        if all(
            result.dim() == expected.dim() == dim and close(result.flip(axis), expected)
            for result, expected in pairs
        ):
            where = listed((axis,), dim, names) if dim > 1 else "it"
            return f"everything is there, but {where} runs backwards."
    return ""


def repeated_along_axis(pairs: Pairs, names: list[str]) -> str:
    """Whether all entries along an axis are the same although they should differ."""
    dim = pairs[0][1].dim()
    if any(result.shape != expected.shape or result.dim() != dim for result, expected in pairs):
        return ""
    for axis in range(dim):
        if all(
            constant_along(result, axis) and not constant_along(expected, axis)
            for result, expected in pairs
        ):
            where = f"along {listed((axis,), dim, names)} " if dim > 1 else ""
            return f"{where}every entry is the same, and they should differ."
    return ""
