"""Does painting help seeing, and seeing painting? `python -m minidream.studies synergy all` trains both alone and together.

Together is the family `dreamllm`. What it is compared with comes in two sizes, since "alone" can mean two things: the same
samples of its own kind and none of the other (`*-share`: does more of *another* kind help?), or as many samples in all, every
one of its own kind (does it help more than more of one's own would?). And painting beside reading tells whether it is seeing
that helps, or any further lesson. Beside them, two ablations of what is trained together: how many queries, and how heavy the denoising loss.

Each is trained by several seeds and compared seed by seed: the same new weights, the same samples in the same order, at the same
rates, and an exam with the same samples and the same noise. (Noise in training differs.) Paper: section 5.1, table 3.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..documents import Document, Layout
from ..families.dreamllm import creation, dreamllm
from ..families.encode_only import instructions
from ..families.evaluation import COMBINATIONS, FamilyEvaluation
from ..families.family import Family, FamilyPlan, base_model, stage2_modules
from ..families.samples import IMAGE_KINDS, TEXT_KINDS, Sample
from .family_runs import build, common_seeds, parser_of, results_of, runs_of, trained
from .family_table import lead_of, mark_of, share_of
from .intervals import detectable, spread

RESULTS = Path(__file__).parents[2] / "notebooks" / "results" / "synergy.json"
SHARES = {
    kinds: len(kinds) / len(IMAGE_KINDS + TEXT_KINDS) for kinds in (IMAGE_KINDS, TEXT_KINDS)
}  # of the joint run's samples


def its_share(
    builder: Callable[[FamilyPlan], Family], kinds: tuple[str, ...]
) -> Callable[[FamilyPlan], Family]:
    """A builder of what sees as much of its own kinds as in the joint run, each sample at the same rate as there: warm-up and decay are as much shorter."""

    def built(plan: FamilyPlan) -> Family:
        family, share = builder(plan), SHARES[kinds]
        family.recipe = replace(
            family.recipe,
            steps=max(1, round(share * family.recipe.steps)),
            warmup=round(share * family.recipe.warmup),
        )
        return family

    return built


class BesideReading(Family):
    """Learns to paint and to read: what is asked about a picture in the joint run is asked about its caption, with the same replies."""

    def lay_out(self, sample: Sample) -> tuple[Layout, Document]:
        """A sample as one sequence; where text is asked for, a caption stands in the place of the picture."""
        return super().lay_out(
            replace(sample, given=(f"{sample.caption}.", *sample.given[1:]))
            if sample.kind in TEXT_KINDS
            else sample
        )


def creation_reading(plan: FamilyPlan) -> Family:
    """As many steps of everything as in the joint run, and the same samples to paint, but nothing to see and to speak about."""
    model = base_model()
    return BesideReading(
        "creation-reading",
        model,
        plan.recipe(1e-3),
        IMAGE_KINDS,
        stage2_modules(model),
        training_kinds=IMAGE_KINDS + TEXT_KINDS,
    )


# The names of the table where it has the same runs: in one folder they are trained once.
ARMS = {
    "dreamllm": dreamllm,
    "creation-share": its_share(creation, IMAGE_KINDS),
    "dreamllm-creation": creation,
    "creation-reading": creation_reading,
    "comprehension-share": its_share(instructions, TEXT_KINDS),
    "instructions": instructions,
}
QUERIES = {2: "queries-2", 8: "queries-8", 32: "dreamllm"}
WEIGHTS = {
    10: "weight-10",
    40: "dreamllm",
    160: "weight-160",
}  # 10 is the official code's, 40 the toy's
ABLATIONS = {
    **{
        name: partial(dreamllm, name=name, queries=count)
        for count, name in QUERIES.items()
        if name not in ARMS
    },
    **{
        name: partial(dreamllm, name=name, weight=weight)
        for weight, name in WEIGHTS.items()
        if name not in ARMS
    },
}
TRAININGS = {**ARMS, **ABLATIONS}
# Question -> (one, the other that it should be better than, what both were asked).
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
NOISES = 4  # times the exam's pictures are noised for their loss
STRETCHES = 6  # that a training is cut into at most; 600, 360 and 240 steps, logged every 20, have whole lines in each sixth


@torch.no_grad()
def losses(family: Family, evaluation: FamilyEvaluation) -> dict:
    """{kind: {"seen" and "held out": mean loss}} on the exam's samples: the denoising loss of pictures, the language loss of texts.

    Measured as in training (a tenth of the conditions dropped), always with the same noise: two models differ by less than two noises.
    """
    part = {kind: "language" if kind in TEXT_KINDS else "diffusion" for kind in family.kinds}
    return {
        kind: {
            name: sum(
                family(evaluation.samples(kind, held_out), torch.Generator().manual_seed(noise))[
                    part[kind]
                ].item()
                for noise in range(NOISES)
            )
            / NOISES
            for name, held_out in COMBINATIONS.items()
        }
        for kind in family.kinds
    }


def run(name: str, seed: int, plan: FamilyPlan, folder: Path, progress: bool = True) -> dict:
    """Trains and examines one of `ARMS` or `ABLATIONS` once; returns what the JSON holds of a run."""
    family = build(TRAININGS[name], plan, seed)
    done, evaluation = (
        trained(family, name, seed, folder, progress),
        FamilyEvaluation(plan, seed, family.model.device),
    )
    return {**done, "exam": evaluation.evaluate(family), "losses": losses(family, evaluation)}


def shares_of(
    results: dict, names: dict, kind: str, what: str = "facts", combination: str = "seen"
) -> dict[int, tuple[list[float], float, float, float]]:
    """A mark for each number of `QUERIES` or `WEIGHTS`, as `table.share_of`, over the seeds that all of them were run with."""
    seeds = common_seeds(results, *names.values())
    return {
        number: share_of(
            [
                mark_of(done["exam"][kind][combination], what, results["plan"]["prompts"])
                for done in runs_of(results, name)
                if done["seed"] in seeds
            ]
        )
        for number, name in names.items()
    }


def curve_of(done: dict, part: str) -> np.ndarray:
    """The losses that a run logged, each the mean of as many steps; `part` is "diffusion" or "language". No sample comes twice: each loss is on new ones."""
    (curve,) = done["curves"].values()
    return np.array([line[part] for line in curve])


def lead_on_the_way(
    results: dict, together: str, alone: str, part: str
) -> tuple[list[float], float, float, float, float]:
    """How much smaller the loss is while it is learned, ln(alone / together), as `table.lead_of` gives its leads; 0.1 is about a tenth.

    Both logs are cut into as many stretches as both have whole lines in; in each, both have seen just the same samples of their own kinds
    (or as many samples, where alone means the whole). The mean over the stretches.
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
    return *spread(values), detectable(values)


def on_the_way(results: dict) -> dict[str, tuple]:
    """The answers while it is learned: {question: `lead_on_the_way`}; two seeds at least."""
    return {
        question: lead_on_the_way(
            results, together, alone, "language" if kinds == TEXT_KINDS else "diffusion"
        )
        for question, (together, alone, kinds) in QUESTIONS.items()
        if len(common_seeds(results, together, alone)) > 1
    }


def ablated(results: dict, names: dict[int, str], words: str) -> dict[str, tuple]:
    """What another number of `QUERIES` or `WEIGHTS` gains on the way over the usual one: {"2 queries, painting": `lead_on_the_way`}.

    Args:
        names: {number: name}; the usual one is called "dreamllm".
        words: what the numbers count.
    """
    return {
        f"{number} {words}, {task}": lead_on_the_way(results, name, "dreamllm", part)
        for number, name in names.items()
        if name != "dreamllm"
        for task, part in (("painting", "diffusion"), ("seeing", "language"))
    }


def lead_in_loss(
    results: dict, together: str, alone: str, kind: str, combination: str
) -> tuple[list[float], float, float, float, float]:
    """How much smaller the loss is in the end, ln(alone / together), as `table.lead_of` gives its leads: positive is better."""
    losses = [
        {done["seed"]: done["losses"][kind][combination] for done in runs_of(results, name)}
        for name in (together, alone)
    ]
    values = [
        math.log(losses[1][seed] / losses[0][seed])
        for seed in common_seeds(results, together, alone)
    ]
    return *spread(values), detectable(values)


def gains_of(results: dict, measure: str, combination: str = "seen") -> dict[str, tuple]:
    """{"question: kind": (gains of the seeds, mean, low, high, detectable)}, as `plots.plot_gains` takes them; two seeds at least.

    Args:
        measure: "loss", ln(alone / together); "facts" or "right", points in [-1, 1] of a share (see `FamilyEvaluation.mark`).
        combination: "seen" or "held out".
    """
    rows = {}
    for question, (together, alone, kinds) in QUESTIONS.items():
        for kind in kinds if len(common_seeds(results, together, alone)) > 1 else ():
            rows[f"{question}: {kind}"] = (
                lead_in_loss(results, together, alone, kind, combination)
                if measure == "loss"
                else lead_of(results, together, alone, kind, combination, measure)
            )
    return rows


def text_of(results: dict) -> str:
    """The answers in Markdown: on the way, then in the end for each kind: the mean gain, its 95 % interval, and what could have been found.

    Gains of losses are 100 ln(alone / together), so that 10 is about a tenth; those of facts are points.
    """
    lines = ["| on the way: gain [95 %], detectable | loss | seeds |", "|---|---|--:|"]
    lines += [
        f"| {question} | {in_words(row)} | {len(row[0])} |"
        for question, row in on_the_way(results).items()
    ]
    lines += [
        "",
        f"| in the end: gain [95 %], detectable | {' | '.join(f'{measure}, {combination}' for measure, combination in MEASURES)} | seeds |",
        "|---|" + "---|" * len(MEASURES) + "--:|",
    ]
    by_measure = [gains_of(results, *measure) for measure in MEASURES]
    for row in by_measure[0]:
        lines.append(
            f"| {row} | {' | '.join(in_words(rows[row]) for rows in by_measure)} | {len(by_measure[0][row][0])} |"
        )
    return "\n".join(lines) + "\n"


def in_words(gain: tuple) -> str:
    """ "+3.1 [+1.0, +5.2], 3.0", in hundredths: the mean, its interval, what could have been found."""
    return "{:+.1f} [{:+.1f}, {:+.1f}], {:.1f}".format(*(100 * number for number in gain[1:]))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = parser_of(
        "minidream.families.synergy",
        "Trains painting and seeing alone and together; finished runs are not repeated. "
        f"The ablations ({', '.join(ABLATIONS)}) take the first three seeds.",
        TRAININGS,
        [0, 1, 2, 3, 4],
        Path("runs/families"),
        RESULTS,
    )
    print(text_of(results_of(parser, parser.parse_args(arguments), run, TRAININGS, few=ABLATIONS)))


if __name__ == "__main__":
    main()
