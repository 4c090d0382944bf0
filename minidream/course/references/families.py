"""The exercises of notebook 12: LoRA, boxes, who sees whom, and a fair comparison."""

import torch
from torch import Tensor

from ...families.boxes import box_iou
from ...studies.intervals import seed_interval
from ..exercises import Exercise

# --------------------------------------------------------------------------------------------------
# 12.1: LoRA's update merged


def merged(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """One matrix that does what a matrix and its LoRA update do together.

    `minidream.families.lora.LoRA.merged` does the same.

    Args:
        weight: shape (out, in).
        down, up: shape (rank, in) and (out, rank).
    """
    return weight + up @ down


def random_matrix(*shape: int) -> Tensor:
    """Numbers drawn from N(0, 1)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def matrices() -> list[tuple]:
    """A matrix and its update of rank 2, and of rank 1."""
    return [
        (random_matrix(5, 3), random_matrix(2, 3), random_matrix(5, 2)),
        (random_matrix(2, 7), random_matrix(1, 7), random_matrix(2, 1)),
    ]


# --------------------------------------------------------------------------------------------------
# 12.2: how well two boxes agree


def boxes() -> list[tuple]:
    """Boxes that overlap, that are apart in both directions, and one inside the other."""
    return [
        ((0.0, 0.0, 0.5, 0.5), (0.25, 0.0, 0.75, 0.5)),
        ((0.1, 0.1, 0.2, 0.4), (0.5, 0.6, 0.9, 0.7)),
        ((0.2, 0.1, 0.6, 0.9), (0.3, 0.3, 0.4, 0.5)),
    ]


def area(box: tuple[float, ...]) -> float:
    """Of (left, top, right, bottom)."""
    return (box[2] - box[0]) * (box[3] - box[1])


def unclipped(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Widths and heights may be negative."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = width * height
    return both / (area(one) + area(other) - both)


def counted_twice(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Both areas together, the common part twice."""
    share = box_iou(one, other)
    return share / (1 + share)


def of_smaller_box(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The common part as a share of the smaller box."""
    share, areas = box_iou(one, other), (area(one), area(other))
    return share / (1 + share) * sum(areas) / min(areas)


# --------------------------------------------------------------------------------------------------
# 12.3: which position sees which


def visibility(tokens: int, first: int, queries: int) -> Tensor:
    """Which position may attend to which: causal, but the queries also see one another.

    `minidream.families.metaqueries.BidirectionalQueries` opens the causal mask in this way.

    Args:
        tokens: positions in all.
        first: position of the first query.
        queries: how many there are.

    Returns:
        bool, shape (tokens, tokens): row i, column j is True where position i sees position j.
    """
    sees = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    sees[first : first + queries, first : first + queries] = True
    return sees


def opened_to_the_end(tokens: int, first: int, queries: int) -> Tensor:
    """The queries see everything."""
    return visibility(tokens, first, 0) | (torch.arange(tokens) >= first)[:, None]


# --------------------------------------------------------------------------------------------------
# 12.4: a fair comparison


def fair_comparison(runs: list[dict], first: str, second: str) -> tuple[float, float, float]:
    """By how much the first of two families is better, where both were trained alike.

    Args:
        runs: dicts with "family", "seed", "samples" (how many it was trained on) and "score".
        first, second: two families.

    Returns:
        (mean, low, high): Student's 95 % interval of the differences of runs with the same seed
        and the same number of samples.
    """
    scores = {(run["family"], run["seed"], run["samples"]): run["score"] for run in runs}
    differences = [
        score - scores[second, seed, samples]
        for (family, seed, samples), score in scores.items()
        if family == first and (second, seed, samples) in scores
    ]
    return seed_interval(differences)


def runs_of_families() -> list[tuple]:
    """Runs in no particular order; some have no partner, and some only one of another length."""
    table = [
        ("dreamllm", 0, 600, 0.61),
        ("flamingo", 1, 600, 0.30),
        ("dreamllm", 1, 600, 0.55),
        ("dreamllm", 2, 600, 0.70),
        ("flamingo", 0, 600, 0.42),
        ("flamingo", 2, 600, 0.41),
        ("flamingo", 3, 9600, 0.80),
        ("dreamllm", 3, 600, 0.52),
        ("lora", 2, 9600, 0.66),
        ("lora", 0, 600, 0.40),
        ("lora", 2, 600, 0.45),
        ("dreamllm", 5, 600, 0.90),
    ]
    keys = ("family", "seed", "samples", "score")
    runs = [dict(zip(keys, row)) for row in table]
    return [(runs, "dreamllm", "flamingo"), (runs, "lora", "dreamllm"), (runs, "flamingo", "lora")]


def by_seed_alone(runs: list[dict], first: str, second: str) -> tuple[float, float, float]:
    """The last run of each seed, whatever it was trained on."""
    scores = {(run["family"], run["seed"]): run["score"] for run in runs}
    pairs = [
        (score, scores[second, seed])
        for (family, seed), score in scores.items()
        if family == first and (second, seed) in scores
    ]
    return seed_interval([one - other for one, other in pairs])


def of_all_runs(runs: list[dict], first: str, second: str) -> tuple[float, float, float]:
    """The interval of two groups: means and variances of all runs of each family."""
    means, variances = [], []
    for family in (first, second):
        scores = torch.tensor([run["score"] for run in runs if run["family"] == family])
        means.append(scores.mean().item())
        variances.append((scores.var() / len(scores)).item())
    mean, reach = means[0] - means[1], 1.96 * sum(variances) ** 0.5
    return mean, mean - reach, mean + reach


def in_order(runs: list[dict], first: str, second: str) -> tuple[float, float, float]:
    """Runs are paired in the order in which they come."""
    scores = [
        [run["score"] for run in runs if run["family"] == family] for family in (first, second)
    ]
    return seed_interval([one - other for one, other in zip(*scores)])


def of_first(runs: list[dict], first: str, second: str) -> tuple[float, float, float]:
    """The first family's scores, where the second has a run, too."""
    no_score = [run | {"score": 0.0} if run["family"] == second else run for run in runs]
    return fair_comparison(no_score, first, second)


EXERCISES = {
    "12.1": Exercise(
        merged,
        matrices,
        {
            "that is what the update adds; the frozen matrix is part of it.": (
                lambda weight, down, up: up @ down
            ),
            "many implementations scale the update by its rank; here it is added as it is.": (
                lambda weight, down, up: weight + up @ down / len(down)
            ),
        },
        "What comes out is W x + U (D x). What matrix has to be before x?",
        axes="out in",
    ),
    "12.2": Exercise(
        box_iou,
        boxes,
        {
            "two boxes that are apart in both directions: minus times minus is plus, and they "
            "would overlap.": unclipped,
            "what both cover is counted twice in the denominator.": counted_twice,
            "divide by what at least one of them covers, not by the smaller box.": of_smaller_box,
        },
        "The left edge of what both cover is the larger of the two left edges, its right edge the "
        "smaller of the two right ones. If they are in the wrong order, there is nothing.",
    ),
    "12.3": Exercise(
        visibility,
        lambda: [(6, 2, 3), (9, 4, 5), (4, 0, 2)],
        {
            "that is the causal mask of all tokens: the queries do not see one another yet.": (
                lambda tokens, first, queries: visibility(tokens, first, 0)
            ),
            "what comes after the queries must stay hidden from them: only the block is opened.": (
                opened_to_the_end
            ),
            "this is the mask of what may not be seen: True is where attention is allowed.": (
                lambda *sizes: ~visibility(*sizes)
            ),
        },
        "Begin with a lower triangle (`torch.tril`), and open one square.",
        axes="positions inputs",
    ),
    "12.4": Exercise(
        fair_comparison,
        runs_of_families,
        {
            "a longer training is no fair opponent: both runs need the same number of samples.": (
                by_seed_alone
            ),
            "these are two unrelated groups of runs: compare runs with the same seed.": of_all_runs,
            "runs are not in the same order: go by seed and samples.": in_order,
            "that is the interval of the first family alone: take differences.": of_first,
            "it should be positive where the first family is better: first minus second.": (
                lambda runs, first, second: fair_comparison(runs, second, first)
            ),
        },
        "Make a dict with (family, seed, samples) as key. `intervals.seed_interval` gives the "
        "interval of a list of differences.",
    ),
}
