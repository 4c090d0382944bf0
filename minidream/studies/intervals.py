"""Intervals of shares (Wilson, Newcombe), of means over seeds (Student), and of paired values."""

import math
import random

from scipy import stats

# What turns half of a normal 95 % interval into the difference that 80 % of studies would detect.
NORMAL_POWER = 1 + round(stats.norm.ppf(0.8), 3) / round(stats.norm.ppf(0.975), 3)


def student_quantile(probability: float, freedom: int) -> float:
    """A quantile of Student's t distribution, to three decimals.

    Args:
        probability: 0.975 for a two-sided interval of 95 %.
        freedom: degrees of freedom, one less than the number of values.
    """
    # Rounded as in printed tables, so that results that were published with them stay the same.
    return round(float(stats.t.ppf(probability, freedom)), 3)


def conclusion(interval: tuple[float, float, float], positive: str, negative: str) -> str:
    """What an interval of a difference allows to conclude, in words for a title or a table.

    Args:
        interval: (mean, low, high).
        positive: the sentence for an interval that lies above 0.
        negative: the sentence for an interval that lies below 0.

    Returns:
        One of the two, or, if the interval contains 0, that no difference was found.
    """
    _, low, high = interval
    if low > 0:
        return positive
    if high < 0:
        return negative
    return "No difference that is larger than what seeds make"


def seed_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval over seeds: (mean, low, high). It is wide for few seeds.

    Raises:
        ValueError: for fewer than 2 values.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over seeds takes at least 2 of them, not {n}")
    mean = sum(values) / n
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half_width = student_quantile(0.975, n - 1) * std / math.sqrt(n)
    return mean, mean - half_width, mean + half_width


def detectable(values: list[float]) -> float:
    """The smallest true mean that would be told from 0 with power 80 % at the level 5 %.

    As many seeds, with the standard deviation of these values, would find a mean of this size in
    four of five studies. A smaller one may exist without being found. It is the usual sum of two
    quantiles of Student's t, times the standard error: too small by one percent with five seeds,
    by five percent with three. The standard deviation is itself estimated from these few values.

    Raises:
        ValueError: as in `seed_interval`.
    """
    mean, low, _ = seed_interval(values)
    freedom = len(values) - 1
    ratio = student_quantile(0.8, freedom) / student_quantile(0.975, freedom)
    return (mean - low) * (1 + ratio)


def mean_with_interval(values: list[float]) -> tuple[list[float], float, float, float]:
    """The values of the seeds with their mean and its interval, as figures take them.

    Returns:
        (values, mean, low, high); for one value, low and high are nan, as it has no interval.
    """
    if len(values) == 1:
        return values, values[0], math.nan, math.nan
    return values, *seed_interval(values)


def difference_of_shares(
    first: list[tuple[float, int]], second: list[tuple[float, int]]
) -> tuple[list[float], float, float, float, float]:
    """By how much the first share is larger than the second, seed by seed.

    The interval is the wider of two: Student's over the differences of the seeds, and Newcombe's
    over all replies. A few seeds can agree by chance, so that Student's interval alone can be too
    narrow. Half of Newcombe's interval also bounds what could have been detected.

    Args:
        first, second: (successes, trials) of each seed, in the same order of seeds.

    Returns:
        (differences of the seeds, mean, low, high, detectable), in [-1, 1].
    """
    values = [one / n - other / m for (one, n), (other, m) in zip(first, second)]
    mean, low, high = seed_interval(values)
    totals = [tuple(map(sum, zip(*counts))) for counts in (first, second)]
    lower, higher = newcombe(*totals)
    detectable_by_all = (higher - lower) / 2 * NORMAL_POWER
    smallest = max(detectable(values), detectable_by_all)
    return values, mean, min(low, lower), max(high, higher), smallest


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share: (low, high) in [0, 1].

    Args:
        successes: how many of the trials; a sum of partial scores need not be a whole number.
        n: trials.
        z: quantile of the normal distribution, 1.96 for 95 %.

    Raises:
        ValueError: for no trials.
    """
    # scipy's `binomtest(...).proportion_ci(method="wilson")` refuses the sums of partial scores.
    if not n:
        raise ValueError("an interval of no trials is not defined")
    share = successes / n
    middle = share + z * z / (2 * n)
    half_width = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (middle - half_width) / scale, (middle + half_width) / scale


def newcombe(first: tuple[float, int], second: tuple[float, int]) -> tuple[float, float]:
    """95 % interval of the difference of two shares: (low, high) in [-1, 1].

    It combines the limits of their Wilson intervals (Newcombe 1998, method 10).

    Args:
        first, second: (successes, trials) of each share.
    """
    (one, n), (other, m) = first, second
    (low, high), (other_low, other_high) = wilson(one, n), wilson(other, m)
    share, other_share = one / n, other / m
    difference = share - other_share
    return (
        difference - math.hypot(share - low, other_high - other_share),
        difference + math.hypot(high - share, other_share - other_low),
    )


def bootstrap_interval(
    values: list[float], resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of numbers and its 95 % percentile bootstrap (Efron 1979): (mean, low, high).

    Values that depend on one another, such as those of two words of one scene, have to be averaged
    before.

    Raises:
        ValueError: for no values.
    """
    # `scipy.stats.bootstrap` does the same with other random numbers, and so would change the
    # last digits of the committed notebooks.
    if not values:
        raise ValueError("the mean of no numbers is not defined")
    rng, size = random.Random(seed), len(values)
    means = sorted(sum(rng.choices(values, k=size)) / size for _ in range(resamples))
    low, high = int(0.025 * resamples), min(resamples - 1, int(0.975 * resamples))
    return sum(values) / size, means[low], means[high]
