"""Intervals: of shares (Wilson, Newcombe), of means over seeds (Student), and of paired values (bootstrap)."""

import math
import random


def verdict(interval: tuple[float, float, float], more: str, less: str) -> str:
    """`more` or `less`, if the whole interval of a difference lies above or below 0; else that nothing was found."""
    _, low, high = interval
    return (
        more
        if low > 0
        else less
        if high < 0
        else "No difference that is larger than what seeds make"
    )


# Two-sided 95 % points of Student's t for 1, 2, … degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def seed_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval over seeds: (mean, low, high). With few seeds it is wide, and should be.

    Raises:
        ValueError: for fewer than 2 or more than 10 values.
    """
    if not 2 <= len(values) <= len(STUDENT) + 1:
        raise ValueError(
            f"an interval over seeds takes 2 to {len(STUDENT) + 1} of them, not {len(values)}"
        )
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    reach = STUDENT[len(values) - 2] * deviation / math.sqrt(len(values))
    return mean, mean - reach, mean + reach


# One-sided 80 % points, likewise.
STUDENT_80 = (1.376, 1.061, 0.978, 0.941, 0.920, 0.906, 0.896, 0.889, 0.883)


def detectable(values: list[float]) -> float:
    """The smallest true mean that as many seeds, spread as these are, would tell from 0 in four of five studies (power 80 %, level 5 %).

    What is smaller may well be there and was not to be seen. From the usual sum of two quantiles: too small by a hundredth with
    five seeds, by a twentieth with three; the spread itself is known from these few values only. ValueError as in `seed_interval`.
    """
    mean, low, _ = seed_interval(values)
    return (mean - low) * (1 + STUDENT_80[len(values) - 2] / STUDENT[len(values) - 2])


def spread(values: list[float]) -> tuple[list[float], float, float, float]:
    """Values of the seeds, their mean and its interval: (values, mean, low, high), as figures take it; one value has no interval (nan)."""
    return (
        (values, *seed_interval(values))
        if len(values) > 1
        else (values, values[0], math.nan, math.nan)
    )


POWER = (
    1 + 0.842 / 1.960
)  # from the half-width of a normal 95 % interval to what is found four times out of five


def lead_in_shares(
    first: list[tuple[float, int]], second: list[tuple[float, int]]
) -> tuple[list[float], float, float, float, float]:
    """By how much one share is larger than another: (differences of the seeds, mean, low, high, detectable), in [-1, 1].

    The interval is the wider of two, since seeds that happen to be equal prove nothing: Student's over the differences seed by seed, and
    Newcombe's over all that was marked. Its half-width says what could have been told from 0, as in `detectable`.

    Args:
        first, second: (how many, of how many) with each seed, the seeds in the same order.
    """
    values = [
        right / n - right_too / n_too for (right, n), (right_too, n_too) in zip(first, second)
    ]
    mean, low, high = seed_interval(values)
    lower, higher = newcombe(*(tuple(map(sum, zip(*marks))) for marks in (first, second)))
    return (
        values,
        mean,
        min(low, lower),
        max(high, higher),
        max(detectable(values), (higher - lower) / 2 * POWER),
    )


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share, for `right` of `n`: (low, high) in [0, 1]."""
    if not n:
        raise ValueError("an interval of no trials is not defined")
    share = right / n
    middle, spread = (
        share + z * z / (2 * n),
        z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)),
    )
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def newcombe(right: tuple[float, int], other: tuple[float, int]) -> tuple[float, float]:
    """95 % interval of the difference of two shares, each (how many, of how many), by the limits of their Wilson intervals (Newcombe 1998, method 10)."""
    (share, low, high), (other_share, other_low, other_high) = (
        (one / n, *wilson(one, n)) for one, n in (right, other)
    )
    return (
        share - other_share - math.hypot(share - low, other_high - other_share),
        share - other_share + math.hypot(high - share, other_share - other_low),
    )


def bootstrap_interval(
    values: list[float], draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high) of numbers: a 95 % percentile bootstrap over them (Efron 1979); ValueError for none.

    What is not independent, such as two words of one scene, is to be averaged before.
    """
    if not values:
        raise ValueError("the mean of no numbers is not defined")
    rng, size = random.Random(seed), len(values)
    means = sorted(sum(rng.choices(values, k=size)) / size for _ in range(draws))
    return sum(values) / size, means[int(0.025 * draws)], means[min(draws - 1, int(0.975 * draws))]
