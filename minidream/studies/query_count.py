"""The course's long runs: `python -m minidream.studies query_count` trains dream queries many times, and writes a JSON.

Notebook 05 reads it. Two questions, each asked with several seeds and one budget: do queries learn more from the denoising
loss than from imitating CLIP's text states, and how many queries does a picture need? What is measured is kept run by
run, so that a command that was killed goes on where it stopped.
"""

import argparse
import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from .. import dream_queries
from ..documents import collate
from ..model import DreamLLM
from ..train import stages
from ..train.loop import fit
from ..weights import parts, toy
from ..weights.files import write_atomically
from ..weights.toy import clip_text_states, painted
from ..world.language import describe, parse_caption
from ..world.render import render
from ..world.scenes import sample_scene
from .intervals import lead_in_shares, seed_interval, spread, wilson
from .results import as_text, circumstances, load_results

RESULTS = Path(__file__).parents[2] / "notebooks" / "results" / "dream_queries.json"
ALIKE = 32  # queries for the comparison of losses: as many as CLIP has text states
COUNTS = (1, 4, 16, 64)  # queries for the question how many
KINDS = {
    "one, seen": (1, False),
    "two, seen": (2, False),
    "one, held out": (1, True),
    "two, held out": (2, True),
}
ATTRIBUTES = ("count", "size", "colour", "shape", "background", "all")
# (study, condition) -> queries. "untrained" is the control, "text states" the upper reference, which has no queries.
CONDITIONS = {
    ("loss", "text states"): 0,
    ("loss", "untrained"): ALIKE,
    ("loss", "regression"): ALIKE,
    ("loss", "score"): ALIKE,
    **{("queries", str(count)): count for count in COUNTS},
}
# queries -> (study, condition): the comparison of losses has one run more for the question how many
BY_COUNT = {
    int(condition) if study == "queries" else ALIKE: (study, condition)
    for study, condition in sorted(CONDITIONS, key=CONDITIONS.get)
    if study == "queries" or condition == "score"
}


@dataclass(frozen=True)
class Plan:
    """What all runs of a study share; results of another plan do not stand beside them."""

    steps: int = 240
    batch: int = 32
    prompts: int = 48  # painted and judged, of every kind
    noises: int = 8  # per picture, for the denoising loss

    def __post_init__(self):
        if min(self.steps, self.batch, self.prompts, self.noises) < 1:
            raise ValueError(
                f"steps, batch, prompts and noises are at least 1, not {self.steps}, {self.batch}, {self.prompts} and {self.noises}"
            )


class ImitationStage(stages.DocumentStage):
    """Stage I's creation with another teacher: the projected queries shall equal CLIP's text states of the caption.

    The error is squared and averaged, and no picture is looked at. The same captions as in stage I, in the same order; as
    there, a tenth of them is dropped, and then the states of the empty caption are to be met.

    Args:
        model: the toy with as many dream queries as CLIP has text states.
        text_tower: the toy CLIP's, frozen.

    Raises:
        ValueError: for another number of queries (both numbers).

    Paper: section 2.1, on aligning with CLIP's embeddings.
    """

    def __init__(self, model: DreamLLM, text_tower: torch.nn.Module):
        super().__init__("stage1-creation", model)
        if model.queries != text_tower.config.max_position_embeddings:
            raise ValueError(
                f"each text state needs a query of its own: {text_tower.config.max_position_embeddings} states, {model.queries} queries"
            )
        self.text_tower = text_tower

    def forward(self, batch, generator):
        """Mean squared error per number of a state."""
        _, documents = batch
        kept = (
            torch.rand(len(documents), generator=generator) >= self.model.decoder.config.drop_prob
        )
        captions = [
            document.text if keep else "" for document, keep in zip(documents, kept.tolist())
        ]
        with torch.no_grad():
            wanted = clip_text_states(self.text_tower, self.model.tokenizer, captions)
        return {"total": F.mse_loss(conditions(self.model, captions), wanted)}


def conditions(model: DreamLLM, captions: list[str]) -> Tensor:
    """What the U-Net sees after captions: projected queries, shape (batch, queries, condition_dim), with gradients."""
    layouts = [model.prompt_layout(caption) for caption in captions]
    batch = collate(layouts, model.tokenizer.special.pad, device=model.device)
    hidden = model.llm(
        model.embed(batch, [])
    )  # padding stands on the right, where causal attention never looks
    return model.decoder.projector(dream_queries.gather(hidden, model.queries, batch.queries))


def fresh_model(queries: int, seed: int) -> DreamLLM:
    """The toy before stage I's creation, with new dream queries and a new condition projector, drawn from a seed."""
    model = parts.toy_before("stage1-creation")
    generator = torch.Generator().manual_seed(seed)
    model.dream_queries = dream_queries.new_dream_queries(
        queries, toy.LLM_SIZE, generator, toy.EMBEDDING_STD
    )
    bound = toy.LLM_SIZE**-0.5  # as torch draws a new linear layer
    with torch.no_grad():
        model.decoder.projector.projector.weight.uniform_(-bound, bound, generator=generator)
    return model


def words_of(facts: tuple | None, attribute: str):
    """What facts (as `Scene.facts`) say of one attribute; sizes, colours and shapes sorted, so that places do not count."""
    if facts is None:
        return None
    background, _, looks = facts
    if attribute in ("background", "count"):
        return {"background": background, "count": len(looks)}[attribute]
    return sorted(look[("size", "colour", "shape").index(attribute)] for look in looks)


def right_by_attribute(seen: list[tuple | None], wanted: list[tuple]) -> dict[str, int]:
    """How many pictures are right in each attribute, and in all of them with the relation.

    Args:
        seen: what a reader found, as `Scene.facts`; None where it found no scene.
        wanted: what the prompts state, the background too.
    """
    pairs = list(zip(seen, wanted, strict=True))
    counts = {
        attribute: sum(
            words_of(found, attribute) == words_of(facts, attribute) for found, facts in pairs
        )
        for attribute in ATTRIBUTES[:-1]
    }
    return counts | {"all": sum(found == facts for found, facts in pairs)}


class Exam:
    """The same fresh prompts, pictures and noise for every run.

    Args:
        plan: how many.
        device: where pictures are painted and judged.
    """

    def __init__(self, plan: Plan, device="cpu"):
        self.plan = plan
        self.judge, self.text_tower = (
            toy.pretrained_judge().to(device),
            toy.pretrained_text_tower().to(device),
        )
        self.scenes, self.captions = {}, {}
        for kind, (things, held_out) in KINDS.items():
            rng = random.Random(f"studies {kind}")
            self.scenes[kind] = [sample_scene(rng, held_out, things) for _ in range(plan.prompts)]
            self.captions[kind] = [
                describe(scene, rng, background=True).text for scene in self.scenes[kind]
            ]

    @torch.no_grad()
    def marks(self, model: DreamLLM, true_states: bool = False) -> dict:
        """Denoising loss, distance from CLIP's text states and judged pictures, for every kind of prompt.

        Args:
            model: whose dream queries are examined.
            true_states: the U-Net gets CLIP's text states instead of them.

        Returns:
            {kind: {"denoising": loss, "imitation": mean squared error, None where the numbers of states differ,
            "n": prompts, "right": {attribute: how many}}}.
        """

        def seen_by_unet(captions):
            return (
                clip_text_states(self.text_tower, model.tokenizer, captions)
                if true_states
                else conditions(model, captions)
            )

        decoder, found = model.decoder, {}
        null = seen_by_unet([""])
        for kind, captions in self.captions.items():
            states, wanted = (
                seen_by_unet(captions),
                clip_text_states(self.text_tower, model.tokenizer, captions),
            )
            latents = decoder.encode_images(
                render(self.scenes[kind], toy.IMAGE_SIZE)[0].to(decoder.device) * 2 - 1
            )
            losses = [
                decoder.loss(latents, states, torch.Generator().manual_seed(number)).item()
                for number in range(self.plan.noises)
            ]
            readings = [
                reading.facts for reading in self.judge.read(painted(decoder, states, null))
            ]
            found[kind] = {
                "denoising": round(sum(losses) / len(losses), 5),
                "imitation": round(F.mse_loss(states, wanted).item(), 5)
                if states.shape == wanted.shape
                else None,
                "n": len(captions),
                "right": right_by_attribute(
                    readings, [parse_caption(caption) for caption in captions]
                ),
            }
        return found


def run(
    study: str, condition: str, seed: int, plan: Plan, folder: Path, progress: bool = True
) -> dict:
    """Trains dream queries once, unless the condition says not to, and examines them.

    Args:
        study, condition: a key of `CONDITIONS`.
        seed: of the first queries and projector, of batches and of noise; the same for all conditions.
        plan: how long, and how thorough the exam.
        folder: where the training's checkpoint and log go.
        progress: show a bar.

    Returns:
        What the JSON holds of a run.
    """
    clock = time.perf_counter()
    queries, curve, trained = CONDITIONS[study, condition], [], 0
    model = fresh_model(queries or ALIKE, seed)
    if condition not in ("untrained", "text states"):
        stage = (
            ImitationStage(model, toy.pretrained_text_tower())
            if condition == "regression"
            else stages.DocumentStage("stage1-creation", model)
        )
        stage.recipe = replace(stage.recipe, batch=plan.batch)
        trained = sum(
            parameter.numel() for parameter in model.parameters() if parameter.requires_grad
        )
        log = fit(
            stage,
            folder / f"{study}-{condition}-{seed}",
            seed=seed,
            steps=plan.steps,
            progress=progress,
        )
        curve = [
            [line["step"], line["diffusion" if condition != "regression" else "total"]]
            for line in log
        ]
    train_seconds = time.perf_counter() - clock
    marks = Exam(plan, model.device).marks(model, true_states=condition == "text states")
    return {
        "study": study,
        "condition": condition,
        "seed": seed,
        "queries": queries,
        "trained": trained,
        "curve": curve,
        "exam": marks,
        "seconds": {
            "training": round(train_seconds, 1),
            "exam": round(time.perf_counter() - clock - train_seconds, 1),
        },
    }


def queries_study(
    plan: Plan, seeds: list[int], folder: Path, out: Path, progress: bool = True
) -> dict:
    """All runs of notebook 05 that are not in the JSON yet; it is written anew after each of them."""
    results = load_results(out, plan)
    finished = {(done["study"], done["condition"], done["seed"]) for done in results["runs"]}
    wanted = [
        (*names, seed)
        for seed in seeds
        for names in CONDITIONS
        if names[1] != "text states" or seed == seeds[0]
    ]
    options = (
        [] if plan == Plan() else [f"--{name} {value}" for name, value in asdict(plan).items()]
    )
    results |= {
        "command": " ".join(
            ["python -m minidream.studies query_count --seeds", *map(str, seeds), *options]
        ),
        "recipe": asdict(
            replace(stages.RECIPES["stage1-creation"], steps=plan.steps, batch=plan.batch)
        ),
        **circumstances(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    todo = [names for names in wanted if names not in finished]
    for study, condition, seed in (bar := tqdm(todo, disable=not progress)):
        bar.set_description(f"{study} {condition}, seed {seed}")
        results["runs"].append(run(study, condition, seed, plan, folder, progress))
        write_atomically(lambda path: path.write_text(as_text(results)), out)
    return results


# --------------------------------------------------------------------------------------------------
# Reading the results


def values_of(results: dict, study: str, condition: str, number) -> list:
    """`number(run)` of every run of a condition, by seed; ValueError if there is none."""
    chosen = sorted(
        (
            done
            for done in results["runs"]
            if (done["study"], done["condition"]) == (study, condition)
        ),
        key=lambda done: done["seed"],
    )
    if not chosen:
        raise ValueError(
            f"no run of {study!r}, {condition!r} in these results; there are {sorted({(done['study'], done['condition']) for done in results['runs']})}"
        )
    return [number(done) for done in chosen]


def mark(done: dict, kind: str, what: str) -> float:
    """One number of a run's exam: "denoising" or "imitation", or the share in [0, 1] of pictures that are right in an attribute."""
    marks = done["exam"][kind]
    return marks[what] if what in marks else marks["right"][what] / marks["n"]


def table_of(results: dict, rows: dict[str, tuple[str, str]], columns: dict) -> dict:
    """Marks over seeds, as `plots.plot_spreads` and `plots.plot_by_count` take them.

    Args:
        rows: {name: (kind of prompt, what is marked)}.
        columns: {name: (study, condition)}.

    Returns:
        {row: {column: `spread` of the seeds}}.
    """
    return {
        row: {
            column: spread(values_of(results, *condition, lambda done: mark(done, kind, what)))
            for column, condition in columns.items()
        }
        for row, (kind, what) in rows.items()
    }


def lead(
    results: dict,
    kind: str,
    what: str,
    one: tuple[str, str] = ("loss", "score"),
    other: tuple[str, str] = ("loss", "regression"),
) -> tuple[float, float, float]:
    """By how much the mark of one (study, condition) is larger than another's: (mean, low, high) of the differences seed by seed.

    The interval is `seed_interval`, of a share that of `lead_in_shares`.

    Raises:
        ValueError: if they do not have the same seeds (both).
    """
    seeds, others = (
        values_of(results, *condition, lambda done: done["seed"]) for condition in (one, other)
    )
    if seeds != others:
        raise ValueError(f"{one} was run with the seeds {seeds}, {other} with {others}")
    exams = [
        values_of(results, *condition, lambda done: done["exam"][kind])
        for condition in (one, other)
    ]
    if what in ATTRIBUTES:
        return lead_in_shares(
            *([(exam["right"][what], exam["n"]) for exam in every] for every in exams)
        )[1:4]
    return seed_interval([first[what] - second[what] for first, second in zip(*exams)])


def lead_rows(results: dict) -> list[tuple[str, ...]]:
    """`lead` in words, for every kind of prompt and attribute, in percentage points: ("one, seen", "+12 [-3, +27]", ...)."""

    def in_words(kind: str, what: str) -> str:
        mean, low, high = (100 * number for number in lead(results, kind, what))
        return f"{mean:+.0f} [{low:+.0f}, {high:+.0f}]"

    return [(kind, *(in_words(kind, what) for what in ATTRIBUTES)) for kind in KINDS]


def summary(results: dict) -> str:
    """A line per run: denoising loss and share of right pictures, for seen prompts of one and of two things."""
    lines = []
    for done in results["runs"]:
        one, two = (done["exam"][kind] for kind in ("one, seen", "two, seen"))
        low, high = wilson(one["right"]["all"], one["n"])
        lines.append(
            f"{done['study']:8} {done['condition']:12} seed {done['seed']}  denoising {one['denoising']:.4f} / {two['denoising']:.4f}  "
            f"right {mark(done, 'one, seen', 'all'):.0%} [{low:.0%}, {high:.0%}] / {mark(done, 'two, seen', 'all'):.0%}  "
            f"{sum(done['seconds'].values()):.0f} s"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    defaults = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m minidream.studies query_count",
        description="The long runs behind the notebooks; finished ones are not repeated.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "study",
        choices=["queries"],
        help="queries: notebook 05, denoising loss against imitating CLIP, and the number of queries",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/studies/queries"),
        help="where checkpoints and logs go",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="a run of every condition for each"
    )
    parser.add_argument("--steps", type=int, default=defaults.steps, help="of training, per run")
    parser.add_argument("--batch", type=int, default=defaults.batch, help="documents per step")
    parser.add_argument(
        "--prompts",
        type=int,
        default=defaults.prompts,
        help="painted and judged, of each of four kinds",
    )
    parser.add_argument(
        "--noises", type=int, default=defaults.noises, help="per picture, for the denoising loss"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="JSON to write, and to go on with"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    try:
        plan = Plan(options.steps, options.batch, options.prompts, options.noises)
        load_results(options.out, plan)
    except ValueError as error:
        parser.error(str(error))
    print(
        summary(
            queries_study(
                plan, options.seeds, options.folder, options.out, progress=not options.quiet
            )
        )
    )


if __name__ == "__main__":
    main()
