"""Does painting help seeing, and seeing painting? `python -m minidream.families.synergy all` trains both alone and together.

Together is the family `dreamllm`. What it is compared with comes in two sizes, since "alone" can mean two things: the same
samples of its own kind and none of the other (`*-share`: does more of *another* kind help?), or as many samples in all, every
one of its own kind (does it help more than more of one's own would?). Beside them, two ablations of what is trained
together: how many queries, and how heavy the denoising loss.

Each is trained by several seeds and compared seed by seed: the same new weights, the same samples in the same order, and an
exam with the same samples and the same noise. (Noise in training differs, and each run has its own warm-up and decay.) Paper:
section 5.1, table 3.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..studies import detectable, spread
from .dreamllm import creation, dreamllm
from .encode_only import instructions
from .exam import COMBINATIONS, Exam
from .family import Family, Plan
from .runs import build, common_seeds, parser_of, results_of, runs_of, trained
from .samples import PAINTED, TOLD
from .table import lead_of, mark_of, share_of

RESULTS = Path(__file__).parents[2] / "notebooks" / "results" / "synergy.json"
SHARES = {kinds: len(kinds) / len(PAINTED + TOLD) for kinds in (PAINTED, TOLD)}     # of the joint run's samples
# The names of the table where it has the same runs: in one folder they are trained once.
ARMS = {"dreamllm": dreamllm, "creation-share": partial(creation, share=SHARES[PAINTED]), "dreamllm-creation": creation,
        "comprehension-share": partial(instructions, share=SHARES[TOLD]), "instructions": instructions}
QUERIES = {2: "queries-2", 8: "queries-8", 32: "dreamllm"}
WEIGHTS = {10: "weight-10", 40: "dreamllm", 160: "weight-160"}     # 10 is the paper's, 40 the toy's
ABLATIONS = {**{name: partial(dreamllm, name=name, queries=count) for count, name in QUERIES.items() if name not in ARMS},
             **{name: partial(dreamllm, name=name, weight=weight) for weight, name in WEIGHTS.items() if name not in ARMS}}
TRAININGS = {**ARMS, **ABLATIONS}
# Question -> (trained together, trained alone, what both were asked).
QUESTIONS = {"does seeing help painting": ("dreamllm", "creation-share", PAINTED),
             "does it help more than more painting": ("dreamllm", "dreamllm-creation", PAINTED),
             "does painting help seeing": ("dreamllm", "comprehension-share", TOLD),
             "does it help more than more seeing": ("dreamllm", "instructions", TOLD)}
MEASURES = (("facts", "seen"), ("facts", "held out"), ("loss", "seen"), ("loss", "held out"))
NOISES = 4          # times the exam's pictures are noised for their loss


@torch.no_grad()
def losses(family: Family, exam: Exam) -> dict:
    """{kind: {"seen" and "held out": mean loss}} on the exam's samples: the denoising loss of pictures, the language loss of texts.

    Measured as in training (a tenth of the conditions dropped), always with the same noise: two models differ by less than two noises.
    """
    part = {kind: "language" if kind in TOLD else "diffusion" for kind in family.kinds}
    return {kind: {name: sum(family(exam.samples(kind, held_out), torch.Generator().manual_seed(noise))[part[kind]].item() for noise in range(NOISES)) / NOISES
                   for name, held_out in COMBINATIONS.items()} for kind in family.kinds}


def run(name: str, seed: int, plan: Plan, folder: Path, progress: bool = True) -> dict:
    """Trains and examines one of `ARMS` or `ABLATIONS` once; returns what the JSON holds of a run."""
    family = build(TRAININGS[name], plan, seed)
    done, exam = trained(family, name, seed, folder, progress), Exam(plan, seed, family.model.device)
    return {**done, "exam": exam.marks(family), "losses": losses(family, exam)}


def shares_of(results: dict, name: str, kind: str, what: str = "facts", combination: str = "seen") -> tuple[list[float], float, float, float]:
    """A mark of one of `ARMS` or `ABLATIONS` over its seeds, as `table.share_of`."""
    return share_of([mark_of(done["exam"][kind][combination], what, results["plan"]["prompts"]) for done in runs_of(results, name)])


def curve_of(results: dict, name: str, seed: int, part: str) -> list[tuple[float, float]]:
    """(share of the training that is done, loss) along a run; `part` is "diffusion" or "language". No sample comes twice: each loss is on new ones."""
    (run,) = (done for done in runs_of(results, name) if done["seed"] == seed)
    (curve,) = run["curves"].values()
    return [(line["step"] / curve[-1]["step"], line[part]) for line in curve]


def on_the_way(results: dict) -> dict[str, tuple]:
    """How much smaller the loss is while it is learned, as `gains_of`: ln(alone / together), mean over the training; 0.1 is about a tenth.

    At each share of the training both have seen as much: of their own kinds where "alone" means its share, in all where it means the whole.
    """
    rows, shares = {}, np.linspace(0.05, 1, 96)
    for question, (together, alone, kinds) in QUESTIONS.items():
        part = "language" if kinds == TOLD else "diffusion"
        logs = [[np.interp(shares, *zip(*curve_of(results, name, seed, part))) for name in (together, alone)] for seed in common_seeds(results, together, alone)]
        if len(logs) > 1:
            values = [np.log(other / one).mean().item() for one, other in logs]
            rows[question] = (*spread(values), detectable(values))
    return rows


def lead_in_loss(results: dict, together: str, alone: str, kind: str, combination: str) -> tuple[list[float], float, float, float, float]:
    """How much smaller the loss is in the end, ln(alone / together), as `table.lead_of` gives its leads: positive is better."""
    losses = [{done["seed"]: done["losses"][kind][combination] for done in runs_of(results, name)} for name in (together, alone)]
    values = [math.log(losses[1][seed] / losses[0][seed]) for seed in common_seeds(results, together, alone)]
    return *spread(values), detectable(values)


def gains_of(results: dict, measure: str, combination: str = "seen") -> dict[str, tuple]:
    """{"question: kind": (gains of the seeds, mean, low, high, detectable)}, as `plots.plot_gains` takes them; two seeds at least.

    Args:
        measure: "loss", ln(alone / together); "facts" or "right", points in [-1, 1] of a share (see `Exam.mark`).
        combination: "seen" or "held out".
    """
    rows = {}
    for question, (together, alone, kinds) in QUESTIONS.items():
        for kind in kinds if len(common_seeds(results, together, alone)) > 1 else ():
            rows[f"{question}: {kind}"] = (lead_in_loss(results, together, alone, kind, combination) if measure == "loss"
                                           else lead_of(results, together, alone, kind, combination, measure))
    return rows


def text_of(results: dict) -> str:
    """The answers in Markdown: on the way, then in the end for each kind: the mean gain in %, its 95 % interval, and what could have been found."""
    lines = ["| gain on the way in % [95 %], detectable | loss | seeds |", "|---|---|--:|"]
    lines += [f"| {question} | {in_words(row)} | {len(row[0])} |" for question, row in on_the_way(results).items()]
    lines += ["", f"| gain in the end in % [95 %], detectable | {' | '.join(f'{measure}, {combination}' for measure, combination in MEASURES)} | seeds |", "|---|" + "---|" * len(MEASURES) + "--:|"]
    by_measure = [gains_of(results, *measure) for measure in MEASURES]
    for row in by_measure[0]:
        lines.append(f"| {row} | {' | '.join(in_words(rows[row]) for rows in by_measure)} | {len(by_measure[0][row][0])} |")
    return "\n".join(lines) + "\n"


def in_words(gain: tuple) -> str:
    """"+3.1 [+1.0, +5.2], 3.0", in hundredths: the mean, its interval, what could have been found."""
    return "{:+.1f} [{:+.1f}, {:+.1f}], {:.1f}".format(*(100 * number for number in gain[1:]))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = parser_of("minidream.families.synergy", "Trains painting and seeing alone and together; finished runs are not repeated. "
                       f"The ablations ({', '.join(ABLATIONS)}) take the first three seeds.",
                       TRAININGS, [0, 1, 2, 3, 4], Path("runs/families"), RESULTS)
    print(text_of(results_of(parser, parser.parse_args(arguments), run, TRAININGS, few=ABLATIONS)))


if __name__ == "__main__":
    main()
