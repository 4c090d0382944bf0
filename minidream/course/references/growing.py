"""The exercises of notebook 13: which step failed, and the bytes of a training step."""

from collections import Counter
from itertools import product

from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 13.1: which step failed

STEPS = ("seeing", "rewriting", "painting")


def first_failures(seen: list[bool], rewritten: list[bool], painted: list[bool]) -> dict[str, int]:
    """For how many trials each step is the first that went wrong.

    Args:
        seen, rewritten, painted: whether each step of each trial was right by itself.

    Returns:
        {"seeing": n, "rewriting": n, "painting": n}; a trial without a failure counts nowhere.
    """
    counts = dict.fromkeys(STEPS, 0)
    for steps in zip(seen, rewritten, painted):
        for name, right in zip(STEPS, steps):
            if not right:
                counts[name] += 1
                break
    return counts


def all_failures(*steps: list[bool]) -> dict[str, int]:
    """Every step that is wrong counts, also after an earlier one."""
    return {name: sum(not right for right in step) for name, step in zip(STEPS, steps)}


def last_failures(*steps: list[bool]) -> dict[str, int]:
    """The last step that is wrong counts."""
    found = Counter()
    for trial in zip(*steps):
        wrong = [name for name, right in zip(STEPS, trial) if not right]
        found.update(wrong[-1:])
    return {name: found[name] for name in STEPS}


def successes(*steps: list[bool]) -> dict[str, int]:
    """Trials in which everything before a step was right, and the step, too."""
    return {
        name: sum(all(trial[: index + 1]) for trial in zip(*steps))
        for index, name in enumerate(STEPS)
    }


def trials() -> list[tuple]:
    """All patterns once; and some of them several times."""
    patterns = list(product((True, False), repeat=3))
    several = [patterns[0]] * 4 + [patterns[1]] * 2 + [patterns[6]] * 3 + [patterns[4]]
    return [tuple(map(list, zip(*some))) for some in (patterns, several)]


# --------------------------------------------------------------------------------------------------
# 13.2: bytes of a training step


def step_bytes(frozen: int, learned: int) -> int:
    """Bytes of weights, gradients and AdamW's moments; activations come on top.

    Args:
        frozen: parameters that do not learn, kept in bfloat16.
        learned: parameters that learn, kept in float32.
    """
    return 2 * frozen + (4 + 4 + 2 * 4) * learned


EXERCISES = {
    "13.1": Exercise(
        first_failures,
        trials,
        {
            "a trial counts once, for the first step that went wrong: what comes after a wrong "
            "step had no chance.": all_failures,
            "this takes the last step that went wrong; the first one is to blame.": last_failures,
            "this counts what went right.": successes,
        },
        'Go through the trials with `zip`, and through the names "seeing", "rewriting", '
        '"painting" in this order; stop at the first that is False.',
    ),
    "13.2": Exercise(
        step_bytes,
        lambda: [(7_000_000_000, 4_200_000), (0, 10), (5, 0)],
        {
            "AdamW keeps two moments for each learned parameter, not one: 8 bytes in float32.": (
                lambda frozen, learned: 2 * frozen + 12 * learned
            ),
            "what is frozen has no gradient and no moments.": (
                lambda frozen, learned: 2 * frozen + 16 * learned + 12 * frozen
            ),
            "learned parameters are in float32: 4 bytes each, not 2.": (
                lambda frozen, learned: 2 * frozen + 14 * learned
            ),
            "the frozen parameters have to be there, too: 2 bytes each.": (
                lambda frozen, learned: 16 * learned
            ),
            "frozen parameters are in bfloat16: 2 bytes each, not 4.": (
                lambda frozen, learned: 4 * frozen + 16 * learned
            ),
        },
        "2 bytes for each frozen parameter. For each learned one: the weight (4), its gradient "
        "(4), and AdamW's two moments (4 each).",
    ),
}
