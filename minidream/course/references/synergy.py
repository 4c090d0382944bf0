"""The exercises of notebook 08: a gain over seeds, and how large it must be to be found."""

import torch

from ...studies import intervals
from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 08.1: the gain


def gain(together: dict[int, float], alone: dict[int, float]) -> tuple[float, float, float]:
    """By how much one way is better than another, seed by seed: (mean, low, high).

    Args:
        together, alone: {seed: score}; only seeds of both count.
    """
    seeds = sorted(together.keys() & alone.keys())
    differences = torch.tensor([together[seed] - alone[seed] for seed in seeds])
    t = intervals.student_quantile(0.975, len(seeds) - 1)
    mean, reach = differences.mean(), t * differences.std() / len(seeds) ** 0.5
    return mean.item(), (mean - reach).item(), (mean + reach).item()


def scores_by_seed() -> list[tuple]:
    """Scores in different orders; one pair has seeds that only one of the two has."""
    return [
        ({0: 0.7, 1: 0.5, 2: 0.9}, {2: 0.7, 0: 0.6, 1: 0.4}),
        ({3: 0.2, 1: 0.8, 7: 0.5, 2: 0.1}, {1: 0.9, 2: 0.0, 3: 0.3, 9: 0.5}),
    ]


def unpaired(together: dict[int, float], alone: dict[int, float]) -> tuple[float, float, float]:
    """The interval of two groups that have nothing to do with each other."""
    one, other = (torch.tensor(list(scores.values())) for scores in (together, alone))
    factor = intervals.student_quantile(0.975, len(one) + len(other) - 2)
    reach = factor * (one.var() / len(one) + other.var() / len(other)).sqrt().item()
    mean = (one.mean() - other.mean()).item()
    return mean, mean - reach, mean + reach


def in_order(together: dict[int, float], alone: dict[int, float]) -> tuple[float, float, float]:
    """Scores are paired in the order in which they come."""
    pairs = zip(together.values(), alone.values())
    return intervals.seed_interval([one - other for one, other in pairs])


# --------------------------------------------------------------------------------------------------
# 08.2: what could have been found


def detectable(differences: list[float]) -> float:
    """The smallest true gain that so many seeds would find four times out of five.

    `minidream.studies.intervals.detectable` says how exact that is.
    """
    freedom = len(differences) - 1
    error = torch.tensor(differences).std() / len(differences) ** 0.5
    t = intervals.student_quantile(0.975, freedom) + intervals.student_quantile(0.8, freedom)
    return (t * error).item()


def half_width(differences: list[float]) -> float:
    """Half of the interval of the mean."""
    mean, low, _ = intervals.seed_interval(differences)
    return mean - low


EXERCISES = {
    "08.1": Exercise(
        gain,
        scores_by_seed,
        {
            "the two are not in the same order: go by the seed.": in_order,
            "that is the interval of two groups that have nothing to do with each other; here each "
            "seed is its own control.": unpaired,
        },
        "The interval of the differences: their mean, plus and minus Student's t, times the "
        "standard deviation over the root of their number. `intervals.student_quantile(0.975, 1)` "
        "is the t for one degree of freedom, so that n seeds take "
        "`intervals.student_quantile(0.975, n - 1)`. (`intervals.seed_interval` does it all.)",
    ),
    "08.2": Exercise(
        detectable,
        lambda: [([0.02, -0.01, 0.03, 0.05, 0.0],), ([1.0, 2.0, 4.0],)],
        {
            "a true gain of just that size is found half of the time: as often as not the mean is "
            "below it.": half_width,
            "that is for a single seed; the mean of several varies less, by the root of their "
            "number.": lambda differences: detectable(differences) * len(differences) ** 0.5,
        },
        "The standard error is the standard deviation (over n - 1) by the root of n.",
    ),
}
