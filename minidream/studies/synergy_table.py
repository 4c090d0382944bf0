"""Reading the results of the study of synergy: gains during training and after it, as tables."""

import math

import numpy as np

from ..families.samples import IMAGE_KINDS, TEXT_KINDS
from .family_runs import common_seeds, runs_of
from .family_table import family_difference, score_of, share_of
from .intervals import detectable, mean_with_interval
from .tables import markdown_table

# Question -> (one, the other that it should be better than, the kinds that both were asked).
QUESTIONS = {
    "painting, against its share alone": ("dreamllm", "creation-share", IMAGE_KINDS),
    "painting, against more painting": ("dreamllm", "dreamllm-creation", IMAGE_KINDS),
    "painting, against painting beside reading": ("dreamllm", "creation-reading", IMAGE_KINDS),
    "painting beside reading, against its share alone": (
        "creation-reading",
        "creation-share",
        IMAGE_KINDS,
    ),
    "seeing, against its share alone": ("dreamllm", "comprehension-share", TEXT_KINDS),
    "seeing, against more seeing": ("dreamllm", "instructions", TEXT_KINDS),
}
MEASURES = (("facts", "seen"), ("facts", "held out"), ("loss", "seen"), ("loss", "held out"))
# How many stretches a training is cut into, at most: logs of 600, 360 and 240 steps with a line for
# every 20 have whole lines in each sixth.
STRETCHES = 6


def part_of(kind: str) -> str:
    """The part of the loss that samples of a kind have."""
    return "language" if kind in TEXT_KINDS else "diffusion"


def shares_of(
    results: dict, names: dict, kind: str, what: str = "facts", combination: str = "seen"
) -> dict[int, tuple[list[float], float, float, float]]:
    """A share for each number in `synergy.WEIGHTS`, over the seeds that all have in common.

    Returns:
        {number: as `family_table.share_of`}.
    """
    seeds, prompts = common_seeds(results, *names.values()), results["plan"]["prompts"]

    def share(name: str):
        runs = [done for done in runs_of(results, name) if done["seed"] in seeds]
        return share_of([score_of(done["exam"][kind][combination], what, prompts) for done in runs])

    return {number: share(name) for number, name in names.items()}


def curve_of(done: dict, part: str) -> np.ndarray:
    """The losses that a run logged, each the mean of the same number of steps.

    No sample comes twice, so that each loss is measured on new samples.

    Args:
        done: the run.
        part: "diffusion" or "language".
    """
    (curve,) = done["curves"].values()
    return np.array([line[part] for line in curve])


def gain_during_training(
    results: dict, together: str, alone: str, part: str
) -> tuple[list[float], float, float, float, float]:
    """How much smaller the loss is during training: ln(alone / together); 0.1 is about a tenth.

    Both logs are cut into as many stretches as have whole lines in both. Within each stretch, both
    runs see the same samples of their own kinds, or as many samples where alone means the whole.
    The gain of a seed is the mean over the stretches.

    Returns:
        As `family_table.family_difference`.
    """
    logs = [
        {done["seed"]: curve_of(done, part) for done in runs_of(results, name)}
        for name in (together, alone)
    ]
    values = []
    for seed in common_seeds(results, together, alone):
        stretches = math.gcd(STRETCHES, *(len(log[seed]) for log in logs))
        one, other = (log[seed].reshape(stretches, -1).mean(axis=1) for log in logs)
        values.append(np.log(other / one).mean().item())
    return *mean_with_interval(values), detectable(values)


def gains_during_training(results: dict) -> dict[str, tuple]:
    """The answers during training: {question: `gain_during_training`}.

    Questions whose two runs share fewer than two seeds are left out.
    """
    return {
        question: gain_during_training(results, together, alone, part_of(kinds[0]))
        for question, (together, alone, kinds) in QUESTIONS.items()
        if len(common_seeds(results, together, alone)) > 1
    }


def gains_of_ablations(results: dict, names: dict[int, str], words: str) -> dict[str, tuple]:
    """What another number of `synergy.WEIGHTS` gains over the usual one, during training.

    Args:
        results: of the runs.
        names: {number: name}; the usual one is called "dreamllm".
        words: what the numbers count.

    Returns:
        {"2 queries, painting": `gain_during_training`}.
    """
    return {
        f"{number} {words}, {task}": gain_during_training(results, name, "dreamllm", part)
        for number, name in names.items()
        if name != "dreamllm"
        for task, part in (("painting", "diffusion"), ("seeing", "language"))
    }


def gain_in_loss(
    results: dict, together: str, alone: str, kind: str, combination: str
) -> tuple[list[float], float, float, float, float]:
    """How much smaller the loss is after training: ln(alone / together); positive is better.

    Returns:
        As `family_table.family_difference`.
    """
    joint, single = (
        {done["seed"]: done["losses"][kind][combination] for done in runs_of(results, name)}
        for name in (together, alone)
    )
    seeds = common_seeds(results, together, alone)
    values = [math.log(single[seed] / joint[seed]) for seed in seeds]
    return *mean_with_interval(values), detectable(values)


def gains_of(results: dict, measure: str, combination: str = "seen") -> dict[str, tuple]:
    """All gains after training, as `plots.plot_gains` takes them; each needs two common seeds.

    Args:
        results: of the runs.
        measure: "loss", ln(alone / together); "facts" or "right", the difference of two shares,
            in [-1, 1].
        combination: "seen" or "held out".

    Returns:
        {"question: kind": (gains of the seeds, mean, low, high, detectable)}.
    """
    rows = {}
    for question, (together, alone, kinds) in QUESTIONS.items():
        for kind in kinds if len(common_seeds(results, together, alone)) > 1 else ():
            pair = (results, together, alone, kind, combination)
            gain = gain_in_loss(*pair) if measure == "loss" else family_difference(*pair, measure)
            rows[f"{question}: {kind}"] = gain
    return rows


def text_of(results: dict) -> str:
    """The answers as two tables in Markdown: during training, then after it for each kind.

    Each cell holds the mean gain, its 95 % interval, and what could have been detected. Gains of
    losses are 100 ln(alone / together), so that 10 is about a tenth; those of facts are points.
    """
    during = markdown_table(
        ["on the way: gain [95 %], detectable", "loss", "seeds"],
        [
            [question, in_words(gain), str(len(gain[0]))]
            for question, gain in gains_during_training(results).items()
        ],
        ["left", "left", "right"],
    )
    by_measure = [gains_of(results, *measure) for measure in MEASURES]
    after = markdown_table(
        [
            "in the end: gain [95 %], detectable",
            *(f"{measure}, {combination}" for measure, combination in MEASURES),
            "seeds",
        ],
        [
            [row, *(in_words(gains[row]) for gains in by_measure), str(len(gain[0]))]
            for row, gain in by_measure[0].items()
        ],
        ["left"] * (1 + len(MEASURES)) + ["right"],
    )
    return f"{during}\n\n{after}\n"


def in_words(gain: tuple) -> str:
    """ "+3.1 [+1.0, +5.2], 3.0", in hundredths: the mean, its interval, what was detectable."""
    return "{:+.1f} [{:+.1f}, {:+.1f}], {:.1f}".format(*(100 * number for number in gain[1:]))
