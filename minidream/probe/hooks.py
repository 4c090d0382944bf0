"""Recording and changing what passes any point of a model: `hooks`, `record`, `run_with_cache`.

    before = probe.run_with_cache(model, "a red star", "llm.2.resid_post")["llm.2.resid_post"]
    with probe.hooks(model, {"llm.2.z": torch.zeros_like}, positions=[3], heads=[0]):
        model.dream("a red star")

They act in every pass of the thread inside the `with` block: of `encode`, `dream`, `chat`, `write`
and `loss`. Only the null condition, which guidance pushes away from, is left as it is. `points`
lists the names.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from .attention import forget_all_weights
from .indices import several
from .points import Point, points
from .visits import Passes, Visit
from .watch import hooked, matching


def named(model, names) -> dict[str, Point]:
    """The points with these names, in which `*` matches within one part: "llm.*.z".

    Raises:
        TypeError: for a name that is not a str.
        ValueError: for a name that matches none, with the nearest.
    """
    available, found = points(model), {}
    for name in several(names):
        if not isinstance(name, str):
            raise TypeError(f"a point has a name, a str, not {type(name).__name__}")
        found |= {each: available[each] for each in matching(name, available, "point")}
    return found


@contextmanager
def visits(
    model,
    visitors: list[tuple[str, Callable]],
    positions=None,
    heads=None,
    recomputed: bool = True,
):
    """As `hooks`, with functions of a `Visit`; yields the `Passes`; `recomputed` as in `hooked`."""
    where = "" if positions is None else f" at positions {positions}"
    # Lists, since an iterator would be used up by the first of several points.
    positions = None if positions is None else several(positions)
    heads = None if heads is None else several(heads)
    passes = Passes(model)
    made = [
        Visit(point, function, positions, heads, passes)
        for name, function in visitors
        for point in named(model, name).values()
    ]
    try:
        with hooked(passes.hooks(made), recomputed):
            yield passes
    finally:
        forget_all_weights()
    silent = [visit.point.name for visit in made if not visit.count]
    if silent and all(name.startswith("queries") for name in silent) and not passes.encoded:
        raise RuntimeError(
            "no prompt was encoded inside the `with` block (`chat` and `write` do not encode any)"
        )
    if silent:
        raise RuntimeError(f"no pass inside the `with` block reached {', '.join(silent)}{where}")


@contextmanager
def hooks(
    model, functions: dict[str, Callable[[Tensor], Tensor | None]], positions=None, heads=None
):
    """Calls functions with what passes points of a model, and goes on with what they return.

    Args:
        model: a DreamLLM.
        functions: {name of a point, in which `*` matches within one part: function}. It gets a
            tensor with the axes that `points` names, and returns one of the same shape, or None
            to leave it as it is. Of several functions at one point, each gets what the one before
            it returned.
        positions: which to pass to the functions; None is all. An index or several, the same for
            every prompt, or a list of as many indices for each prompt. In the language model they
            count the inputs of a prompt from `<s>`, without padding (see `positions`), and -1 is
            the last; in a pass that has none of them, no function is called.
        heads: which to pass to the functions; None is all.

    Raises:
        TypeError: for a name that is not a str, a position or a head that is not a number.
        ValueError: at once, for an unknown name (with the nearest), heads at a point without heads,
            and what is known not to exist; in a pass, for a position that does not exist, or a
            result of another shape (both).
        RuntimeError: at the end, if a point was not reached.
    """
    pairs = [
        (name, lambda value, columns, own=each: own(value)) for name, each in functions.items()
    ]
    with visits(model, pairs, positions, heads):
        yield


@contextmanager
def record(model, names, positions=None, heads=None):
    """Records what passes points of a model.

        with probe.record(model, "unet.*.cross.pattern") as cache:
            model.dream("a red star", seed=1)
        cache["unet.0.cross.pattern"]      # a list of as many tensors as steps

    The tensors are those of the passes: neither moved to the CPU nor detached.

    Args:
        names: of points, one or several, in which `*` matches within one part.
        model, positions, heads, errors: as in `hooks`. Only the rows of a pattern at the named
            positions are computed.

    Yields:
        {name: list of tensors, one for each pass}.
    """
    cache = {name: [] for name in named(model, names)}

    def keep(name: str, value: Tensor, columns) -> None:
        cache[name].append(value)

    visitors = [(name, partial(keep, name)) for name in cache]
    with visits(model, visitors, positions, heads, recomputed=False):
        yield cache


def run_with_cache(model, prompts, names, positions=None, heads=None) -> dict[str, Tensor]:
    """What passes points of the language model and of the vision tower while prompts are encoded.

    Args:
        model: a DreamLLM.
        prompts: a str or Document, or a list of them. A batch is padded on the left.
        names, positions, heads, errors: as in `record`. What the U-Net does is not computed here:
            `record` it during `dream`.

    Returns:
        {name: tensor}, with the axes that `points` names.
    """
    known = named(model, names)
    if painting := [name for name, point in known.items() if point.part == "unet"]:
        raise ValueError(
            f"{painting[0]} is reached while a picture is painted: use `record` around `dream`"
        )
    with record(model, list(known), positions, heads) as cache:
        model.encode(prompts)
    return {name: tensors[0] for name, tensors in cache.items()}
