"""The course's long runs: `python -m minidream.studies queries` trains dream queries many times, and writes a JSON.

Notebook 05 reads it. Two questions, each asked with several seeds and one budget: do queries learn more from the denoising
loss than from imitating CLIP's text states, and how many queries does a picture need? What is measured is kept run by
run, so that a command that was killed goes on where it stopped.
"""

import argparse
import json
import math
import os
import platform
import random
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from . import dream, stages, toy
from .documents import collate
from .metrics import newcombe, wilson
from .model import DreamLLM
from .train import fit, write_atomically
from .vision import clip_text_states
from .world.language import describe, parse_caption
from .world.render import render, to_pil
from .world.scenes import sample_scene

RESULTS = Path(__file__).parent.parent / "notebooks" / "results" / "dream_queries.json"
ALIKE = 32                                  # queries for the comparison of losses: as many as CLIP has text states
COUNTS = (1, 4, 16, 64)                     # queries for the question how many
KINDS = {"one, seen": (1, False), "two, seen": (2, False), "one, held out": (1, True), "two, held out": (2, True)}
ATTRIBUTES = ("count", "size", "colour", "shape", "background", "all")
# (study, condition) -> queries. "untrained" is the control, "text states" the upper reference, which has no queries.
CONDITIONS = {("loss", "text states"): 0, ("loss", "untrained"): ALIKE, ("loss", "regression"): ALIKE, ("loss", "score"): ALIKE,
              **{("queries", str(count)): count for count in COUNTS}}
# queries -> (study, condition): the comparison of losses has one run more for the question how many
BY_COUNT = {int(condition) if study == "queries" else ALIKE: (study, condition) for study, condition in sorted(
    CONDITIONS, key=CONDITIONS.get) if study == "queries" or condition == "score"}


@dataclass(frozen=True)
class Plan:
    """What all runs of a study share; results of another plan do not stand beside them."""
    steps: int = 240
    batch: int = 32
    prompts: int = 48           # painted and judged, of every kind
    noises: int = 8             # per picture, for the denoising loss

    def __post_init__(self):
        if min(self.steps, self.batch, self.prompts, self.noises) < 1:
            raise ValueError(f"steps, batch, prompts and noises are at least 1, not {self.steps}, {self.batch}, {self.prompts} and {self.noises}")


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
            raise ValueError(f"each text state needs a query of its own: {text_tower.config.max_position_embeddings} states, {model.queries} queries")
        self.text_tower = text_tower

    def forward(self, batch, generator):
        """Mean squared error per number of a state."""
        _, documents = batch
        kept = torch.rand(len(documents), generator=generator) >= self.model.decoder.config.drop_prob
        captions = [document.text if keep else "" for document, keep in zip(documents, kept.tolist())]
        with torch.no_grad():
            wanted = clip_text_states(self.text_tower, self.model.tokenizer, captions)
        return {"total": F.mse_loss(conditions(self.model, captions), wanted)}


def conditions(model: DreamLLM, captions: list[str]) -> Tensor:
    """What the U-Net sees after captions: projected queries, shape (batch, queries, condition_dim), with gradients."""
    layouts = [model.prompt_layout(caption) for caption in captions]
    batch = collate(layouts, model.tokenizer.special.pad, device=model.device)
    hidden = model.llm(model.embed(batch, []))      # padding stands on the right, where causal attention never looks
    return model.decoder.projector(dream.gather(hidden, model.queries, batch.queries))


def fresh_model(queries: int, seed: int) -> DreamLLM:
    """The toy before stage I's creation, with new dream queries and a new condition projector, drawn from a seed."""
    model = stages.toy_before("stage1-creation")
    generator = torch.Generator().manual_seed(seed)
    model.dream_queries = dream.new_dream_queries(queries, toy.LLM_SIZE, generator, toy.EMBEDDING_DEVIATION)
    bound = toy.LLM_SIZE ** -0.5        # as torch draws a new linear layer
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
    counts = {attribute: sum(words_of(found, attribute) == words_of(facts, attribute) for found, facts in pairs) for attribute in ATTRIBUTES[:-1]}
    return counts | {"all": sum(found == facts for found, facts in pairs)}


def painted(decoder, states: Tensor, null: Tensor) -> Tensor:
    """Pictures from conditions (batch, queries, condition_dim) and the null condition; picture i has seed i.

    Returns:
        Shape (batch, 3, height, width), RGB in [0, 1].
    """
    return decoder.decode(decoder.sample_seeded(states, null, list(range(len(states)))))


@torch.no_grad()
def dream_of_clip(model: DreamLLM, captions: list[str]) -> list:
    """What the model's U-Net paints from the toy CLIP's text states, without language model and queries: PIL images; picture i has seed i."""
    states = clip_text_states(toy.pretrained_text_tower().to(model.device), model.tokenizer, [*captions, ""])
    return to_pil(painted(model.decoder, states[:-1], states[-1:]))


class Exam:
    """The same fresh prompts, pictures and noise for every run.

    Args:
        plan: how many.
        device: where pictures are painted and judged.
    """

    def __init__(self, plan: Plan, device="cpu"):
        self.plan = plan
        self.judge, self.text_tower = toy.pretrained_judge().to(device), toy.pretrained_text_tower().to(device)
        self.scenes, self.captions = {}, {}
        for kind, (things, held_out) in KINDS.items():
            rng = random.Random(f"studies {kind}")
            self.scenes[kind] = [sample_scene(rng, held_out, things) for _ in range(plan.prompts)]
            self.captions[kind] = [describe(scene, rng, background=True).text for scene in self.scenes[kind]]

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
            return clip_text_states(self.text_tower, model.tokenizer, captions) if true_states else conditions(model, captions)

        decoder, found = model.decoder, {}
        null = seen_by_unet([""])
        for kind, captions in self.captions.items():
            states, wanted = seen_by_unet(captions), clip_text_states(self.text_tower, model.tokenizer, captions)
            latents = decoder.encode(render(self.scenes[kind], toy.IMAGE_SIZE)[0].to(decoder.device) * 2 - 1)
            losses = [decoder.loss(latents, states, torch.Generator().manual_seed(number)).item() for number in range(self.plan.noises)]
            readings = [reading.facts for reading in self.judge.read(painted(decoder, states, null))]
            found[kind] = {"denoising": round(sum(losses) / len(losses), 5),
                           "imitation": round(F.mse_loss(states, wanted).item(), 5) if states.shape == wanted.shape else None,
                           "n": len(captions), "right": right_by_attribute(readings, [parse_caption(caption) for caption in captions])}
        return found


def run(study: str, condition: str, seed: int, plan: Plan, folder: Path, progress: bool = True) -> dict:
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
        stage = (ImitationStage(model, toy.pretrained_text_tower()) if condition == "regression"
                 else stages.DocumentStage("stage1-creation", model))
        stage.recipe = replace(stage.recipe, batch=plan.batch)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        log = fit(stage, folder / f"{study}-{condition}-{seed}", seed=seed, steps=plan.steps, progress=progress)
        curve = [[line["step"], line["diffusion" if condition != "regression" else "total"]] for line in log]
    train_seconds = time.perf_counter() - clock
    marks = Exam(plan, model.device).marks(model, true_states=condition == "text states")
    return {"study": study, "condition": condition, "seed": seed, "queries": queries, "trained": trained, "curve": curve, "exam": marks,
            "seconds": {"training": round(train_seconds, 1), "exam": round(time.perf_counter() - clock - train_seconds, 1)}}


def load_results(path: Path, plan: Plan | None = None) -> dict:
    """The results so far, of any plan; if one is given, none yet is fine, and another plan's raise ValueError (both plans)."""
    if plan is not None and not path.exists():
        return {"plan": asdict(plan), "runs": []}
    results = json.loads(path.read_text())
    if plan is not None and results["plan"] != asdict(plan):
        raise ValueError(f"{path} holds runs of another plan ({results['plan']}, not {asdict(plan)}); choose another --out and --folder, or delete it")
    return results


def queries_study(plan: Plan, seeds: list[int], folder: Path, out: Path, progress: bool = True) -> dict:
    """All runs of notebook 05 that are not in the JSON yet; it is written anew after each of them."""
    results = load_results(out, plan)
    finished = {(done["study"], done["condition"], done["seed"]) for done in results["runs"]}
    wanted = [(*names, seed) for seed in seeds for names in CONDITIONS if names[1] != "text states" or seed == seeds[0]]
    options = [] if plan == Plan() else [f"--{name} {value}" for name, value in asdict(plan).items()]
    results |= {"command": " ".join(["python -m minidream.studies queries --seeds", *map(str, seeds), *options]),
                "recipe": asdict(replace(stages.RECIPES["stage1-creation"], steps=plan.steps, batch=plan.batch)),
                **circumstances()}
    out.parent.mkdir(parents=True, exist_ok=True)
    todo = [names for names in wanted if names not in finished]
    for study, condition, seed in (bar := tqdm(todo, disable=not progress)):
        bar.set_description(f"{study} {condition}, seed {seed}")
        results["runs"].append(run(study, condition, seed, plan, folder, progress))
        write_atomically(lambda path: path.write_text(as_text(results)), out)
    return results


def circumstances() -> dict:
    """What a run was made with: code, torch, threads, machine."""
    root, code = Path(__file__).parents[1], "no checkout"
    if (root / ".git").exists() and shutil.which("git"):
        code = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True).stdout.strip()
    return {"code": code, "torch": torch.__version__.split("+")[0], "threads": torch.get_num_threads(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {'CUDA' if torch.cuda.is_available() else 'CPU'}"}


def as_text(results: dict) -> str:
    """JSON with a line per run, so that it can be read and compared."""
    head = json.dumps({key: value for key, value in results.items() if key != "runs"}, indent=1)[:-2]
    return head + ',\n "runs": [\n' + ",\n".join("  " + json.dumps(done) for done in results["runs"]) + "\n ]\n}\n"


# ---------------------------------------------------------------------------------------------------------------------
# Reading the results

def values_of(results: dict, study: str, condition: str, number) -> list:
    """`number(run)` of every run of a condition, by seed; ValueError if there is none."""
    chosen = sorted((done for done in results["runs"] if (done["study"], done["condition"]) == (study, condition)), key=lambda done: done["seed"])
    if not chosen:
        raise ValueError(f"no run of {study!r}, {condition!r} in these results; there are {sorted({(done['study'], done['condition']) for done in results['runs']})}")
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
    return {row: {column: spread(values_of(results, *condition, lambda done: mark(done, kind, what))) for column, condition in columns.items()}
            for row, (kind, what) in rows.items()}


def lead(results: dict, kind: str, what: str, one: tuple[str, str] = ("loss", "score"), other: tuple[str, str] = ("loss", "regression")) -> tuple[float, float, float]:
    """By how much the mark of one (study, condition) is larger than another's: (mean, low, high) of the differences seed by seed.

    The interval is `seed_interval`, of a share that of `lead_in_shares`.

    Raises:
        ValueError: if they do not have the same seeds (both).
    """
    seeds, others = (values_of(results, *condition, lambda done: done["seed"]) for condition in (one, other))
    if seeds != others:
        raise ValueError(f"{one} was run with the seeds {seeds}, {other} with {others}")
    exams = [values_of(results, *condition, lambda done: done["exam"][kind]) for condition in (one, other)]
    if what in ATTRIBUTES:
        return lead_in_shares(*([(exam["right"][what], exam["n"]) for exam in every] for every in exams))[1:4]
    return seed_interval([first[what] - second[what] for first, second in zip(*exams)])


def lead_rows(results: dict) -> list[tuple[str, ...]]:
    """`lead` in words, for every kind of prompt and attribute, in percentage points: ("one, seen", "+12 [-3, +27]", ...)."""
    def in_words(kind: str, what: str) -> str:
        mean, low, high = (100 * number for number in lead(results, kind, what))
        return f"{mean:+.0f} [{low:+.0f}, {high:+.0f}]"
    return [(kind, *(in_words(kind, what) for what in ATTRIBUTES)) for kind in KINDS]


def verdict(interval: tuple[float, float, float], more: str, less: str) -> str:
    """`more` or `less`, if the whole interval of a difference lies above or below 0; else that nothing was found."""
    _, low, high = interval
    return more if low > 0 else less if high < 0 else "No difference that is larger than what seeds make"


# Two-sided 95 % points of Student's t for 1, 2, … degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def seed_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval over seeds: (mean, low, high). With few seeds it is wide, and should be.

    Raises:
        ValueError: for fewer than 2 or more than 10 values.
    """
    if not 2 <= len(values) <= len(STUDENT) + 1:
        raise ValueError(f"an interval over seeds takes 2 to {len(STUDENT) + 1} of them, not {len(values)}")
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
    return (values, *seed_interval(values)) if len(values) > 1 else (values, values[0], math.nan, math.nan)


POWER = 1 + 0.842 / 1.960           # from the half-width of a normal 95 % interval to what is found four times out of five


def lead_in_shares(first: list[tuple[float, int]], second: list[tuple[float, int]]) -> tuple[list[float], float, float, float, float]:
    """By how much one share is larger than another: (differences of the seeds, mean, low, high, detectable), in [-1, 1].

    The interval is the wider of two, since seeds that happen to be equal prove nothing: Student's over the differences seed by seed, and
    Newcombe's over all that was marked. Its half-width says what could have been told from 0, as in `detectable`.

    Args:
        first, second: (how many, of how many) with each seed, the seeds in the same order.
    """
    values = [right / n - right_too / n_too for (right, n), (right_too, n_too) in zip(first, second)]
    mean, low, high = seed_interval(values)
    lower, higher = newcombe(*(tuple(map(sum, zip(*marks))) for marks in (first, second)))
    return values, mean, min(low, lower), max(high, higher), max(detectable(values), (higher - lower) / 2 * POWER)


def summary(results: dict) -> str:
    """A line per run: denoising loss and share of right pictures, for seen prompts of one and of two things."""
    lines = []
    for done in results["runs"]:
        one, two = (done["exam"][kind] for kind in ("one, seen", "two, seen"))
        low, high = wilson(one["right"]["all"], one["n"])
        lines.append(f"{done['study']:8} {done['condition']:12} seed {done['seed']}  denoising {one['denoising']:.4f} / {two['denoising']:.4f}  "
                     f"right {mark(done, 'one, seen', 'all'):.0%} [{low:.0%}, {high:.0%}] / {mark(done, 'two, seen', 'all'):.0%}  "
                     f"{sum(done['seconds'].values()):.0f} s")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="python -m minidream.studies", description="The long runs behind the notebooks; finished ones are not repeated.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("study", choices=["queries"], help="queries: notebook 05, denoising loss against imitating CLIP, and the number of queries")
    parser.add_argument("--folder", type=Path, default=Path("runs/studies/queries"), help="where checkpoints and logs go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a run of every condition for each")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="of training, per run")
    parser.add_argument("--batch", type=int, default=defaults.batch, help="documents per step")
    parser.add_argument("--prompts", type=int, default=defaults.prompts, help="painted and judged, of each of four kinds")
    parser.add_argument("--noises", type=int, default=defaults.noises, help="per picture, for the denoising loss")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON to write, and to go on with")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    try:
        plan = Plan(options.steps, options.batch, options.prompts, options.noises)
        load_results(options.out, plan)
    except ValueError as error:
        parser.error(str(error))
    print(summary(queries_study(plan, options.seeds, options.folder, options.out, progress=not options.quiet)))


if __name__ == "__main__":
    main()
