"""Does painting help seeing, and seeing painting? `python -m minidream.studies synergy all`.

Both tasks are trained together, as the family `dreamllm`, and alone. "Alone" comes in two sizes:
the same samples of its own kind and none of the other (`*-share`: does more of *another* kind
help?), or as many samples in all, each of its own kind (does it help more than more of its own kind
would?).
Painting beside reading tells whether it is seeing that helps, or any further task. An ablation
changes the weight of the denoising loss in the joint training.

Each is trained with several seeds and compared seed by seed: the same new weights, the same samples
in the same order at the same learning rates, and an evaluation with the same samples and the same
noise. (The noise in training differs.) Paper: section 5.1, table 3.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ..documents import Document, Layout
from ..families.dreamllm import creation, dreamllm
from ..families.encode_only import instructions
from ..families.evaluation import COMBINATIONS, FamilyEvaluation
from ..families.family import Family, FamilyPlan, base_model, stage2_modules
from ..families.samples import IMAGE_KINDS, TEXT_KINDS, Sample
from ..weights.commands import option, parse, parser_for
from .family_runs import (
    NAMES_HELP,
    FamilyOptions,
    build,
    results_of,
    trained,
)
from .results import COMMITTED, WRITTEN
from .synergy_table import part_of, text_of

RESULTS = COMMITTED / "synergy.json"
# Of the joint run's samples.
SHARES = {kinds: len(kinds) / len(IMAGE_KINDS + TEXT_KINDS) for kinds in (IMAGE_KINDS, TEXT_KINDS)}


def its_share(
    builder: Callable[[FamilyPlan], Family], kinds: tuple[str, ...]
) -> Callable[[FamilyPlan], Family]:
    """A builder of a family that learns from the same samples of its own kinds as the joint run.

    Each sample has the same learning rate as there: warm-up and decay are shortened alike.
    """

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
    """Learns to paint and to read instead of to see.

    What the joint run asks about a picture is asked about its caption, with the same replies.
    """

    def lay_out(self, sample: Sample) -> tuple[Layout, Document]:
        """A sample as one sequence; where text is asked for, the caption replaces the picture."""
        if sample.kind in TEXT_KINDS:
            sample = replace(sample, given=(f"{sample.caption}.", *sample.given[1:]))
        return super().lay_out(sample)


def creation_reading(plan: FamilyPlan) -> Family:
    """As many steps as in the joint run and the same samples to paint, but no pictures to see."""
    model = base_model()
    return BesideReading(
        "creation-reading",
        model,
        plan.recipe(1e-3),
        IMAGE_KINDS,
        stage2_modules(model),
        training_kinds=IMAGE_KINDS + TEXT_KINDS,
    )


# Runs that the table of the families also has keep their names: in one folder they are made once.
ARMS = {
    "dreamllm": dreamllm,
    "creation-share": its_share(creation, IMAGE_KINDS),
    "dreamllm-creation": creation,
    "creation-reading": creation_reading,
    "comprehension-share": its_share(instructions, TEXT_KINDS),
    "instructions": instructions,
}
# 10 is the weight of the official code, 40 the toy's.
WEIGHTS = {10: "weight-10", 40: "dreamllm", 160: "weight-160"}
ABLATIONS = {
    name: partial(dreamllm, name=name, weight=weight)
    for weight, name in WEIGHTS.items()
    if name not in ARMS
}
TRAININGS = {**ARMS, **ABLATIONS}
NOISES = 4  # how often the loss of each sample of the evaluation is measured, each with new noise


@torch.no_grad()
def losses(family: Family, evaluation: FamilyEvaluation) -> dict:
    """The losses on the samples of the evaluation: of pictures denoising, of texts language.

    They are measured as in training (a tenth of the conditions dropped), always with the same
    noise, so that two models differ by less than two draws of the noise do.

    Returns:
        {kind: {"seen" and "held out": mean loss}}.
    """

    def mean_loss(kind: str, held_out: bool) -> float:
        samples, part = evaluation.samples(kind, held_out), part_of(kind)
        generators = [torch.Generator().manual_seed(noise) for noise in range(NOISES)]
        return sum(family(samples, generator)[part].item() for generator in generators) / NOISES

    return {
        kind: {name: mean_loss(kind, held_out) for name, held_out in COMBINATIONS.items()}
        for kind in family.kinds
    }


def run(name: str, seed: int, plan: FamilyPlan, folder: Path, progress: bool = True) -> dict:
    """Trains and evaluates one of `ARMS` or `ABLATIONS` once.

    Returns:
        What the JSON file holds of a run.
    """
    family = build(TRAININGS[name], plan, seed)
    done = trained(family, name, seed, folder, progress)
    evaluation = FamilyEvaluation(plan, seed, family.model.device)
    return {**done, "exam": evaluation.evaluate(family), "losses": losses(family, evaluation)}


@dataclass(frozen=True)
class SynergyOptions(FamilyOptions):
    """What the command takes."""

    names: tuple[str, ...] = option(
        help=f"{NAMES_HELP}: {', '.join(TRAININGS)}",
        positional=True,
        choices=[*TRAININGS, "all", "table"],
        metavar="NAME",
    )
    seeds: tuple[int, ...] = option(
        (0, 1, 2, 3, 4), "a run for each; the ablations are run with the first three"
    )
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write, and to resume from")


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        SynergyOptions,
        "python -m minidream.studies synergy",
        "Trains painting and seeing alone and together; finished runs are not repeated.",
    )
    options = parse(parser, SynergyOptions, arguments)
    print(text_of(results_of(options, "synergy", run, TRAININGS, few=ABLATIONS)))


if __name__ == "__main__":
    main()
