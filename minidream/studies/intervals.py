"""Intervals and tests, and which is used when. The unit is what was drawn independently.

| question | function |
|---|---|
| a share of independent trials | `wilson` |
| the difference of two shares of unrelated trials | `newcombe` |
| the same, over seeds of training | `difference_of_shares` |
| a mean over seeds of training | `seed_interval`; `detectable`: what they could have shown |
| a mean of independent numbers | `bootstrap_interval` |
| a mean over the words of prompts, or over one prompt in several runs | `clustered_interval` |
| the same, of right and wrong | `clustered_share` |
| a ratio of two sums over prompts, such as a share of an effect | `ratio_interval` |
| two ways on the same prompts, right or wrong | `mcnemar`, and `paired_interval` for how much |
| two ways on the same prompts, numbers | `paired_interval` |
| several questions at once | `holm` on their p values |
"""

import math
import random
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

RARE = 10  # clusters; with fewer that are right, or wrong, a bootstrap of a share is too narrow
# Turns half of a normal 95 % interval into the difference that 80 % of studies would detect.
NORMAL_POWER = 1 + round(stats.norm.ppf(0.8), 3) / round(stats.norm.ppf(0.975), 3)


def student_quantile(probability: float, freedom: int) -> float:
    """A quantile of Student's t distribution, to three decimals.

    Args:
        probability: 0.975 for a two-sided interval of 95 %.
        freedom: degrees of freedom, one less than the number of values.
    """
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


def clustered_interval(
    values: Sequence[float], clusters: Sequence[Hashable], resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of numbers and its 95 % interval, where those of one cluster depend on one another.

    Whole clusters are drawn again (the percentile bootstrap of clusters, Field & Welsh 2007), so
    that a hundred words of ten prompts count as ten. With few clusters it is too narrow: by about
    a tenth with ten of them.

    Args:
        values: numbers, or True and False.
        clusters: of each value, such as the prompt that it comes from.
        resamples, seed: of the bootstrap.

    Returns:
        (mean, low, high).

    Raises:
        ValueError: for no values, as many clusters as values are needed (both numbers), or fewer
            than 2 different clusters.
    """
    sums, counts = sums_of_clusters(values, clusters)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(sums.sum() / counts.sum()), float(low), float(high)


def clustered_share(
    values: Sequence[float], clusters: Sequence[Hashable], resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """As `clustered_interval`, for shares in [0, 1] that may lie at one of the ends.

    Of a share of 0 every resample is 0, and the bootstrap would claim to know it for certain. So
    with fewer than `RARE` clusters' worth of either right or wrong, the interval is the wider of
    the bootstrap's and Wilson's, which counts each cluster as one trial.

    Raises:
        ValueError: as `clustered_interval`.
    """
    mean, low, high = clustered_interval(values, clusters, resamples, seed)
    trials = len(set(clusters))
    if trials * min(mean, 1 - mean) >= RARE:
        return mean, low, high
    lower, higher = wilson(mean * trials, trials)
    return mean, max(0.0, min(low, lower)), min(1.0, max(high, higher))


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    clusters: Sequence[Hashable],
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The ratio of two sums and its 95 % interval, by the same bootstrap as `clustered_interval`.

    Prompts whose denominator is near 0 hardly count, where in a mean of ratios they would decide.

    Args:
        numerators, denominators: numbers, two for each value.
        clusters: of each value.
        resamples, seed: of the bootstrap.

    Returns:
        (ratio, low, high); nan, nan, nan if the denominators add up to 0.

    Raises:
        ValueError: as `clustered_interval`.
    """
    above, _ = sums_of_clusters(numerators, clusters)
    below, _ = sums_of_clusters(denominators, clusters)
    if not below.sum():
        return math.nan, math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(len(above), size=(resamples, len(above)))
    totals = below[drawn].sum(axis=1)
    ratios = above[drawn].sum(axis=1)[totals != 0] / totals[totals != 0]
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(above.sum() / below.sum()), float(low), float(high)


def sums_of_clusters(
    values: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """The sum and the number of the values of each cluster; errors as `clustered_interval`."""
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values have {len(clusters)} clusters: each has one")
    index: dict[Hashable, int] = {}
    of_values = np.array([index.setdefault(cluster, len(index)) for cluster in clusters], dtype=int)
    if len(index) < 2:
        raise ValueError(f"an interval over clusters takes at least 2 of them, not {len(index)}")
    return np.bincount(of_values, np.asarray(values, dtype=float)), np.bincount(of_values)


def paired_interval(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """By how much the first of two ways exceeds the second on the same prompts, with 95 % interval.

    Args:
        first, second: the results of both ways, in the same order.
        clusters: as in `clustered_interval`; None takes every pair for independent.
        resamples, seed: of the bootstrap.

    Returns:
        (mean difference, low, high).

    Raises:
        ValueError: as `clustered_interval`; for results of different numbers (both).
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} results cannot be paired with {len(second)}")
    differences = [float(one) - float(other) for one, other in zip(first, second)]
    clusters = range(len(differences)) if clusters is None else clusters
    return clustered_interval(differences, clusters, resamples, seed)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """The p value of two ways being right equally often, on the same independent prompts.

    Only prompts on which one is right and the other wrong say something: as many of each kind are
    expected. (The exact test of McNemar 1947, two-sided.)

    Args:
        first, second: whether each was right, in the same order.

    Raises:
        ValueError: for results of different numbers (both).
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} results cannot be paired with {len(second)}")
    only_first = sum(bool(one) and not other for one, other in zip(first, second))
    only_second = sum(bool(other) and not one for one, other in zip(first, second))
    if not only_first + only_second:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """P values adjusted for how many there are (Holm 1979).

    Those of at most 0.05 hold together: the chance that any of them is false is at most 5 %.

    Args:
        p_values: by question.

    Returns:
        The adjusted ones, by question, in the same order.

    Raises:
        ValueError: for a p value outside of [0, 1] (its question).
    """
    for question, value in p_values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"the p value of {question!r} is {value}, outside of [0, 1]")
    adjusted, largest = {}, 0.0
    ascending = sorted(p_values, key=p_values.get)
    for rank, question in enumerate(ascending):
        largest = max(largest, min(1.0, (len(ascending) - rank) * p_values[question]))
        adjusted[question] = largest
    return {question: adjusted[question] for question in p_values}
