"""What teaches dream queries, and how many it takes: `python -m minidream.studies query_count`.

Three questions, each asked with several seeds: do queries learn more from the denoising loss than
from imitating CLIP's text states, how many queries does a picture need, and what does longer
training repair? Notebook 05 reads the results.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..images import as_integer
from ..train import stages
from ..trainer.loop import fit
from ..weights import toy
from ..weights.commands import option, parse, parser_for
from .query_evaluation import QueryEvaluation
from .query_table import summary
from .query_training import ImitationStage, PaintingStage, fresh_model
from .results import COMMITTED, WRITTEN, ResultsFile, circumstances, command_of, load_results

RESULTS = COMMITTED / "dream_queries.json"
ALIKE = 32  # queries for the comparison of losses: as many as CLIP has text states
COUNTS = (1, 4, 16, 64)  # queries for the question how many
LONGER = 5  # times as many steps, for the question what longer training repairs
# (study, condition) -> queries. "untrained" is the control; "text states" is the upper reference,
# which has no queries.
CONDITIONS = {
    ("loss", "text states"): 0,
    ("loss", "untrained"): ALIKE,
    ("loss", "regression"): ALIKE,
    ("loss", "score"): ALIKE,
    **{("queries", str(count)): count for count in COUNTS},
    ("longer", "16"): 16,
}
# Queries -> (study, condition): the comparison of losses adds one run to the question how many.
BY_COUNT = {
    int(condition) if study == "queries" else ALIKE: (study, condition)
    for study, condition in sorted(CONDITIONS, key=CONDITIONS.get)
    if study == "queries" or condition == "score"
}


@dataclass(frozen=True)
class QueryCountPlan:
    """What all runs of the study share; results of another plan cannot be compared with them."""

    steps: int = option(240, "of training, per run")
    batch: int = option(32, "documents per step")
    prompts: int = option(48, "painted and judged, of each of four kinds")
    noises: int = option(8, "per picture, for the denoising loss")

    def __post_init__(self):
        for name, value in asdict(self).items():
            as_integer(name, value, 1)


def run(
    study: str, condition: str, seed: int, plan: QueryCountPlan, folder: Path, progress: bool = True
) -> dict:
    """Trains dream queries once, unless the condition says not to, and evaluates them.

    Args:
        study, condition: a key of `CONDITIONS`.
        seed: of the first queries and projector, of batches and of noise; all conditions share it.
        plan: how long the training and how thorough the evaluation is.
        folder: where the training's checkpoint and log go.
        progress: show a bar.

    Returns:
        What the JSON file holds of a run.
    """
    clock = time.perf_counter()
    queries = CONDITIONS[study, condition]
    model = fresh_model(queries or ALIKE, seed)
    trained, curve = 0, []
    if condition not in ("untrained", "text states"):
        imitates = condition == "regression"
        if imitates:
            stage = ImitationStage(model, toy.pretrained_text_tower())
        else:
            stage = PaintingStage(model)
        stage.recipe = replace(stage.recipe, batch=plan.batch)
        trained = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
        own = folder / f"{study}-{condition}-{seed}"
        steps = plan.steps * (LONGER if study == "longer" else 1)
        log = fit(stage, own, seed=seed, steps=steps, progress=progress)
        curve = [[line["step"], line["total" if imitates else "diffusion"]] for line in log]
    train_seconds = time.perf_counter() - clock
    evaluation = QueryEvaluation(plan.prompts, plan.noises, model.device)
    scores = evaluation.scores(model, true_states=condition == "text states")
    seconds = {"training": train_seconds, "exam": time.perf_counter() - clock - train_seconds}
    return {
        "study": study,
        "condition": condition,
        "seed": seed,
        "queries": queries,
        "trained": trained,
        "curve": curve,
        "exam": scores,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def run_all(
    plan: QueryCountPlan, seeds: list[int], folder: Path, out: Path, progress: bool = True
) -> dict:
    """Makes all runs of the study that are not in the JSON file yet."""
    wanted = [
        (study, condition, seed)
        for seed in seeds
        for study, condition in CONDITIONS
        if condition != "text states" or seed == seeds[0]  # it has nothing that a seed would change
    ]
    recipe = replace(stages.RECIPES["stage1"], steps=plan.steps, batch=plan.batch)
    head = {
        "command": command_of("query_count", seeds, plan),
        "recipe": asdict(recipe),
        **circumstances(),
    }

    def one(study: str, condition: str, seed: int) -> dict:
        return run(study, condition, seed, plan, folder, progress)

    file = ResultsFile(out, plan, keys=("study", "condition", "seed"))
    return file.complete(wanted, one, lambda runs: head, progress)


@dataclass(frozen=True)
class QueryCountOptions:
    """What the command takes."""

    seeds: tuple[int, ...] = option((0, 1, 2), "a run of every condition for each")
    plan: QueryCountPlan = QueryCountPlan()
    folder: Path = option(Path("runs/studies/queries"), "where checkpoints and logs go")
    out: Path = option(WRITTEN / RESULTS.name, "JSON file to write, and to resume from")
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self):
        load_results(self.out, self.plan)  # refuses another plan before any work starts


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    parser = parser_for(
        QueryCountOptions,
        "python -m minidream.studies query_count",
        "Trains dream queries in several ways; finished runs are not repeated.",
    )
    options = parse(parser, QueryCountOptions, arguments)
    progress = not options.quiet
    print(summary(run_all(options.plan, options.seeds, options.folder, options.out, progress)))


if __name__ == "__main__":
    main()
