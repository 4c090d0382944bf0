"""Intervals by hand, against scipy, and by trial."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from minidream.studies import intervals


def test_student_quantiles_are_those_of_printed_tables():
    printed = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
    assert [intervals.student_quantile(0.975, freedom) for freedom in range(1, 10)] == list(printed)
    printed = (1.376, 1.061, 0.978, 0.941, 0.920, 0.906, 0.896, 0.889, 0.883)
    assert [intervals.student_quantile(0.8, freedom) for freedom in range(1, 10)] == list(printed)
    assert intervals.student_quantile(0.975, 30) == 2.042
    assert intervals.NORMAL_POWER == 1 + 0.842 / 1.960


def test_an_interval_of_many_seeds_is_scipys():
    values = torch.randn(24, generator=torch.Generator().manual_seed(0)).tolist()
    mean, low, high = intervals.seed_interval(values)
    found = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((found.low, found.high), rel=1e-3)


def test_an_interval_over_seeds_by_hand():
    mean, low, high = intervals.seed_interval([1.0, 2.0, 3.0])
    assert (
        mean == 2
        and high - mean == pytest.approx(4.303 / 3**0.5, rel=1e-3)
        and low == pytest.approx(4 - high)
    )
    assert intervals.seed_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="at least 2 of them, not 1"):
        intervals.seed_interval([1.0])
    assert intervals.mean_with_interval([1.0, 2.0, 3.0]) == ([1.0, 2.0, 3.0], mean, low, high)
    values, mean, low, high = intervals.mean_with_interval([0.25])
    assert (values, mean) == ([0.25], 0.25) and low != low and high != high  # nan: no interval


def test_wilson_by_hand():
    low, high = intervals.wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4) and high == pytest.approx(
        0.9433, abs=1e-4
    )  # Wilson 1927, worked by hand
    assert intervals.wilson(10, 10)[1] == pytest.approx(1.0) and intervals.wilson(0, 10)[
        0
    ] == pytest.approx(0.0)
    with pytest.raises(ValueError, match="no trials"):
        intervals.wilson(0, 0)


def test_wilson_agrees_with_scipy_and_takes_partial_scores():
    for successes, n in ((0, 3), (1, 7), (12, 24), (1460, 1500)):
        found = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
        expected = pytest.approx((found.low, found.high), abs=1e-4)
        assert intervals.wilson(successes, n) == expected
    below, between, above = (intervals.wilson(successes, 10) for successes in (8, 8.5, 9))
    assert below[0] < between[0] < above[0] and below[1] < between[1] < above[1]


def test_newcombes_interval_of_a_known_difference():
    low, high = intervals.newcombe(
        (56, 70), (48, 80)
    )  # Newcombe 1998, table II: 0.2, from 0.0524 to 0.3339
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    assert intervals.newcombe((0, 5), (0, 5))[0] == -intervals.newcombe((0, 5), (0, 5))[1] < 0


def test_a_difference_of_shares_has_the_wider_interval():
    alike = [(4, 8), (4, 8)], [(2, 8), (2, 8)]
    values, mean, low, high, detectable = intervals.difference_of_shares(*alike)
    assert values == [0.25, 0.25] and mean == 0.25
    assert (low, high) == intervals.newcombe((8, 16), (4, 16))  # equal seeds, few replies
    assert detectable == (high - low) / 2 * intervals.NORMAL_POWER
    apart = [(8000, 8000), (0, 8000)], [(0, 8000), (0, 8000)]
    values, mean, low, high, detectable = intervals.difference_of_shares(*apart)
    assert values == [1, 0] and (mean, low, high) == intervals.seed_interval([1, 0])
    assert detectable == intervals.detectable([1, 0])


def test_what_is_concluded_from_an_interval():
    assert intervals.conclusion((0.15, 0.1, 0.2), "more", "less") == "more"
    assert intervals.conclusion((-0.15, -0.2, -0.1), "more", "less") == "less"
    assert "No difference" in intervals.conclusion((0.1, -0.1, 0.3), "more", "less")


def test_the_detectable_difference():
    assert intervals.detectable([1, 2, 3]) == pytest.approx((4.303 + 1.061) / math.sqrt(3))
    assert intervals.detectable([0.0, 0.0]) == 0
    # Against trial: of many studies whose true mean is the detectable one, four in five find it.
    for seeds in (3, 5, 6):
        spread = torch.arange(seeds) / torch.arange(seeds).float().std()  # standard deviation 1
        draws = torch.randn(
            40_000, seeds, generator=torch.Generator().manual_seed(0)
        ) + intervals.detectable(spread.tolist())
        low = draws.mean(dim=1) - intervals.student_quantile(0.975, seeds - 1) * draws.std(
            dim=1
        ) / math.sqrt(seeds)
        assert 0.74 < (low > 0).float().mean() < 0.81, seeds


def test_bootstrap_intervals_by_hand_and_against_scipy():
    mean, low, high = intervals.bootstrap_interval([0.0, 1.0] * 50)
    assert mean == 0.5 and 0.38 < low < 0.45 and 0.55 < high < 0.62  # 0.5 -+ 1.96 * 0.05
    assert intervals.bootstrap_interval([2.0] * 3) == (2, 2, 2)
    with pytest.raises(ValueError, match="no numbers"):
        intervals.bootstrap_interval([])
    values = torch.rand(30, generator=torch.Generator().manual_seed(0)).tolist()
    settings = {"n_resamples": 9999, "method": "percentile", "rng": np.random.default_rng(0)}
    found = stats.bootstrap((values,), np.mean, **settings).confidence_interval
    mean, low, high = intervals.bootstrap_interval(values, resamples=9999)
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.005)


def test_intervals_of_clusters_hold_what_they_promise_where_plain_ones_do_not():
    rng, hits = np.random.default_rng(1), {"clustered": 0, "plain": 0}
    clusters = [cluster for cluster in range(40) for _ in range(5)]
    for study in range(400):  # what the values of a cluster share is as large as what differs
        values = (rng.normal(size=40).repeat(5) + rng.normal(size=200)).tolist()
        _, low, high = intervals.clustered_interval(values, clusters, 400, seed=study)
        hits["clustered"] += low < 0 < high
        _, low, high = intervals.bootstrap_interval(values, 200, seed=study)
        hits["plain"] += low < 0 < high
    assert 0.9 <= hits["clustered"] / 400 <= 0.98 and hits["plain"] / 400 < 0.8


def test_shares_near_an_end_are_covered_where_a_bootstrap_claims_certainty():
    """Clusters of three trials that are all right or all wrong, of which two in a hundred are."""
    rng, truth, studies = np.random.default_rng(0), 0.02, 300
    covered = {intervals.clustered_share: 0, intervals.clustered_interval: 0}
    clusters = np.repeat(range(60), 3)
    for _ in range(studies):
        values = np.repeat(rng.random(60) < truth, 3)
        for interval in covered:
            _, low, high = interval(values, clusters, resamples=200)
            covered[interval] += low <= truth <= high
    assert covered[intervals.clustered_share] / studies > 0.93
    assert covered[intervals.clustered_interval] / studies < 0.8
    common = [True, False] * 40
    plain = intervals.clustered_interval(common, range(80))
    assert intervals.clustered_share(common, range(80)) == plain
    assert intervals.clustered_share([0.0] * 9, [0, 1, 2] * 3) == (0, 0, intervals.wilson(0, 3)[1])


def test_every_value_a_cluster_is_the_plain_bootstrap_of_scipy():
    values = np.random.default_rng(1).random(30)
    settings = {"n_resamples": 9999, "method": "percentile", "rng": np.random.default_rng(0)}
    found = stats.bootstrap((values,), np.mean, **settings).confidence_interval
    mean, low, high = intervals.clustered_interval(values, range(30), 9999)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.005)


def test_clusters_weigh_by_their_values():
    mean, low, high = intervals.clustered_interval([True, False, False, False], "abbb")
    assert mean == 0.25 and low == 0 and high == 1
    with pytest.raises(ValueError, match="3 values have 2 clusters"):
        intervals.clustered_interval([1, 2, 3], "ab")
    for values in ([], [1, 2]):
        with pytest.raises(ValueError, match="takes at least 2 of them, not"):
            intervals.clustered_interval(values, "a" * len(values))


def test_pairs_show_a_difference_that_unpaired_shares_hide():
    first = [True] * 60 + [False] * 40
    second = [True] * 50 + [False] * 50  # wrong wherever the first is, and ten times more
    mean, low, high = intervals.paired_interval(first, second)
    assert mean == pytest.approx(0.1) and low > 0
    low_unpaired, _ = intervals.newcombe((60, 100), (50, 100))
    assert low_unpaired < 0
    values = np.array(first, float) - np.array(second, float)
    found = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert (low, high) == pytest.approx(tuple(found.confidence_interval), abs=0.01)
    with pytest.raises(ValueError, match="2 results cannot be paired with 1"):
        intervals.paired_interval([1, 2], [1])


def test_mcnemar_asks_whether_disagreements_are_a_fair_coin():
    first = [True] * 50 + [True] * 8 + [False] * 1 + [False] * 20
    second = [True] * 50 + [False] * 8 + [True] * 1 + [False] * 20
    # 8 of 9: two-sided, twice the chance of at least 8 heads in 9 throws.
    assert intervals.mcnemar(first, second) == pytest.approx(2 * (9 + 1) / 2**9)
    assert intervals.mcnemar(first, first) == 1
    rng, small = np.random.default_rng(0), 0
    for _ in range(400):
        right = rng.random((2, 60)) < 0.6
        small += intervals.mcnemar(*right.tolist()) <= 0.05
    assert small / 400 <= 0.06  # exact tests find less than they may
    with pytest.raises(ValueError, match="2 results cannot be paired with 1"):
        intervals.mcnemar([True, True], [True])


def test_holm_by_hand():
    given = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    adjusted = {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    assert intervals.holm(given) == pytest.approx(adjusted)
    assert list(intervals.holm(given)) == list(given) and intervals.holm({}) == {}
    assert intervals.holm({"one": 0.9, "two": 0.8}) == {"one": 1.0, "two": 1.0}
    with pytest.raises(ValueError, match="the p value of 'one' is 1.5"):
        intervals.holm({"one": 1.5})


def test_a_ratio_of_sums_by_hand_and_as_a_mean():
    values, clusters = [1.0, 0.0, 2.0, 1.0, 0.0, 1.0], [0, 0, 1, 2, 3, 4]
    ones = [1.0] * len(values)
    found = intervals.ratio_interval(values, ones, clusters)
    assert found == pytest.approx(intervals.clustered_interval(values, clusters))
    ratio, low, high = intervals.ratio_interval([3, 1, 5], [4, 1, 5], [0, 1, 2])
    assert ratio == 0.9 and low == 0.75 and high == 1
    assert all(map(math.isnan, intervals.ratio_interval([1, 2], [0, 0], [0, 1])))
    with pytest.raises(ValueError, match="at least 2 of them, not 1"):
        intervals.ratio_interval([1, 2], [1, 1], [0, 0])


def test_intervals_of_ratios_cover_the_truth():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        ways = rng.gamma(2, size=60)
        gains = 0.3 * ways + rng.normal(scale=0.5, size=60)
        _, low, high = intervals.ratio_interval(gains, ways, range(60), resamples=400)
        covered += low <= 0.3 <= high
    assert 178 <= covered <= 198  # of 200; 190 are expected
