"""The slot for the full weights in notebook 11: `python -m minidream.studies full_weights`.

Ten questions to the published 7B, or to any other model. Each is a number for each prompt beside
its control. An answer is yes if the number clearly exceeds the control over the prompts.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from ..images import as_integer
from ..weights import find_full, load
from ..weights.commands import option, parse, parser_for
from ..weights.files import write_atomically
from .full_weights_lab import Lab
from .full_weights_questions import QUESTIONS
from .intervals import bootstrap_interval, paired_interval
from .results import COMMITTED, WRITTEN, ResultsFile, circumstances, load_results
from .tables import markdown_table

RESULTS = COMMITTED / "full_weights.json"  # the slot: not there until somebody has the weights
COMMAND = "python -m minidream.studies full_weights"
MARGIN = 0.03  # a smaller gain is no answer, however certain it is
FULL = (64, 4096)  # dream queries, and numbers in each


@dataclass(frozen=True)
class FullWeightsPlan:
    """How much; results of another plan cannot be compared with them."""

    prompts: int = option(24, "for each question; intervals are over them")
    draws: int = option(5, "random controls for each number")
    steps: int = option(20, "denoising steps of a picture")

    def __post_init__(self):
        for name, value in asdict(self).items():
            as_integer(name, value, 1)
        if min(self.prompts, self.draws) < 2:
            raise ValueError(
                f"an answer takes at least 2 prompts and 2 draws, not {self.prompts} and "
                f"{self.draws}"
            )


@dataclass(frozen=True)
class Answer:
    """What the prompts say about one question.

    own: the number of each prompt.
    controls: the same for each control, shape (controls, prompts).
    """

    own: list[float]
    controls: list[list[float]]

    @cached_property
    def interval(self) -> tuple[float, float, float]:
        """(mean, low, high) over the prompts."""
        return bootstrap_interval(self.own)

    @property
    def levels(self) -> list[float]:
        """The mean of each control."""
        return [sum(values) / len(values) for values in self.controls]

    @cached_property
    def gain(self) -> tuple[float, float, float]:
        """(mean, low, high) over the prompts: by how much the model exceeds its controls' mean."""
        means = [sum(values) / len(values) for values in zip(*self.controls)]
        return paired_interval(self.own, means)

    @property
    def needed(self) -> float:
        """What the gain has to exceed: how far apart the controls are, and at least `MARGIN`."""
        return max(MARGIN, max(self.levels) - min(self.levels))

    @property
    def beyond(self) -> bool:
        """Whether the whole interval of the gain lies above what is needed.

        Two random controls differ as well, over many prompts even significantly. So it is not
        enough that a model exceeds them.
        """
        return self.gain[1] > self.needed


def ask(
    model,
    plan: FullWeightsPlan,
    out: Path | None = None,
    progress: bool = False,
    name: str = "",
) -> dict:
    """Asks a model all questions.

    Args:
        model: a DreamLLM.
        plan: how much.
        out: the JSON file to write after every number, and to resume from; None writes nothing.
        progress: show a bar.
        name: of the weights, which the file keeps.

    Returns:
        The results, as in the file.

    Raises:
        ValueError: if the file holds the answers of another model or plan (both).
    """
    lab = Lab(model, plan.prompts, plan.draws, plan.steps)
    about = {
        "command": COMMAND + "".join(f" --{name} {n}" for name, n in asdict(plan).items()),
        "model": {
            "name": name,
            "queries": model.queries,
            "hidden": model.dream_queries.shape[-1],
            "dtype": str(model.dream_queries.dtype).removeprefix("torch."),
        },
        **(circumstances() if out else {}),
    }

    def one(question: str, prompt: int) -> dict:
        own, controls = QUESTIONS[question].numbers(lab.asked(prompt))
        own, *controls = (round(float(number), 4) for number in (own, *controls))
        return {"question": question, "prompt": prompt, "own": own, "controls": controls}

    # All questions of one prompt follow one another, since they share maps and pictures.
    wanted = [(question, prompt) for prompt in range(plan.prompts) for question in QUESTIONS]
    if out is None:
        return {"plan": asdict(plan), **about, "runs": [one(*key) for key in wanted]}
    file = ResultsFile(out, plan, keys=("question", "prompt"))
    if (before := load_results(out, plan)).get("model", about["model"]) != about["model"]:
        raise ValueError(
            f"{out} holds the answers of another model, {before['model']} and not "
            f"{about['model']}: choose another --out"
        )
    return file.complete(wanted, one, lambda runs: about, progress)


def answers(results: dict) -> dict[str, Answer]:
    """The answers by question.

    Raises:
        ValueError: if a question was not asked about every prompt of the plan.
    """
    found = {}
    for name in QUESTIONS:
        runs = [run for run in results["runs"] if run["question"] == name]
        if len(runs) != results["plan"]["prompts"]:
            raise ValueError(
                f"question {name!r} was asked about {len(runs)} prompts, not "
                f"{results['plan']['prompts']}: run the command again, it resumes"
            )
        found[name] = Answer(
            [run["own"] for run in runs], [*zip(*(run["controls"] for run in runs))]
        )
    return found


def as_drawn(results: dict) -> dict[str, tuple]:
    """The answers as `plots.plot_answers` takes them."""
    return {
        name: (answer.interval, answer.levels, answer.beyond)
        for name, answer in answers(results).items()
    }


def title_of(results: dict) -> str:
    """How many answers are yes, for the title of a figure."""
    found = answers(results).values()
    beyond = sum(answer.beyond for answer in found)
    return f"{beyond} of {len(found)} answers lie beyond their controls"


def table(results: dict) -> str:
    """The answers as a table in Markdown, numbers in per cent."""

    def cells(name: str, answer: Answer) -> list[str]:
        mean, low, high = (100 * number for number in answer.interval)
        low_control, high_control = (100 * pick(answer.levels) for pick in (min, max))
        control = f"{low_control:.0f} to {high_control:.0f} ({QUESTIONS[name].control})"
        verdict = "yes" if answer.beyond else "not beyond the control"
        return [QUESTIONS[name].ask, f"{mean:.0f} [{low:.0f}, {high:.0f}]", control, verdict]

    rows = [cells(*pair) for pair in answers(results).items()]
    return markdown_table(["question", "%", "control, %", "answer"], rows)


@dataclass(frozen=True)
class FullWeightsOptions:
    """What the command takes."""

    plan: FullWeightsPlan = FullWeightsPlan()
    model: str | None = option(
        None, "name or folder of the weights; without it, the full weights that are found here"
    )
    configs: Path | None = option(
        None, "folder of the components' configs; without it, the shipped ones"
    )
    device: str | None = option(None, "such as cuda; without it, a GPU if there is one")
    dtype: str | None = option(
        None, "without it, as stored", choices=["float32", "bfloat16", "float16"]
    )
    quantize: str | None = option(
        None, "packs the language model for smaller GPUs", choices=["int8", "int4"]
    )
    out: Path = option(
        WRITTEN / RESULTS.name, "JSON file to write, and to resume from; the figure is beside it"
    )
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self):
        load_results(self.out, self.plan)  # refuses another plan before any work starts
        if self.model is None and find_full() is None:
            raise ValueError(
                "the full weights are not on this machine: name their folder with --model, or in "
                "the environment variable MINIDREAM_7B"
            )


def main(arguments: list[str] | None = None) -> None:
    """The command line; `arguments` None takes those of the process."""
    from ..plots import plot_answers

    parser = parser_for(
        FullWeightsOptions, COMMAND, "Asks a model ten questions; finished ones are not repeated."
    )
    options = parse(parser, FullWeightsOptions, arguments)
    weights = find_full() if options.model is None else options.model
    model = load(weights, options.device, options.dtype, options.configs, options.quantize)
    if tuple(model.dream_queries.shape[1:]) != FULL and options.out == WRITTEN / RESULTS.name:
        parser.error(f"{options.out} is for the full weights: choose another --out")
    # The last part of a folder's name: where it lies is of no interest on another machine.
    name = " ".join([Path(weights).name, *([options.quantize] if options.quantize else [])])
    try:
        results = ask(model, options.plan, options.out, not options.quiet, name)
    except ValueError as error:
        parser.error(str(error))
    figure = plot_answers({"": as_drawn(results)}, title_of(results))
    picture = options.out.with_suffix(".png")
    write_atomically(lambda path: figure.savefig(path, format="png"), picture)
    print(table(results))


if __name__ == "__main__":
    main()
