"""The long run behind notebooks 09 and 10: `python -m minidream.studies probing` scores the toy's maps and interventions.

Each part asks one question over fresh prompts of two things, with several seeds (of prompts and of noise; the weights are the
shipped ones), and is kept part by part and seed by seed, so that a command that was killed goes on where it stopped.
"""

import argparse
import copy
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange, repeat
from torch import Tensor
from tqdm.auto import tqdm

from ..images import to_pil
from ..probe.attribution import feature_ablation, integrated_gradients
from ..probe.effects import judged, masks_of, on_cells, pixel_change, verdict_changes
from ..probe.interventions import patch, replaced
from ..probe.lens import lens_states
from ..probe.linear_probes import linear_probes
from ..probe.llm_attention import dream_attention
from ..probe.map_scores import (
    curve_area,
    mass_inside,
    overlap,
    points_at,
    rank_correlation,
    separation,
    stability,
)
from ..probe.residual_stream import query_stream
from ..probe.targets import DenoisingTarget
from ..probe.two_hop import join
from ..probe.unet_attention import watch_image
from ..weights import load, toy
from ..weights.files import write_atomically
from ..weights.toy import clip_text_states
from ..world.judge import HEADS, Reading, answers_of, scenes_by_colour
from ..world.language import Phrase, describe, parse_caption
from ..world.scenes import sample_scene
from . import results
from .intervals import wilson

RESULTS = Path(__file__).parent.parent.parent / "notebooks" / "results" / "probing.json"
KINDS = ("size", "colour", "shape")  # of words that name a thing
LOOKS = tuple(
    f"{slot} {kind}" for slot in ("first", "second") for kind in KINDS
)  # the judge's heads for two things


@dataclass(frozen=True)
class Plan:
    """How much of each part; results of another plan do not stand beside them."""

    scenes: int = 500  # for pointing
    ablated: int = 40  # scenes of which every query, and every word, is taken away
    curves: int = 20  # scenes with deletion and insertion curves of both things
    prompts: int = 1200  # for linear probes; a third of them is the exam
    pairs: int = 100  # for patching, the lens, exchanges and the claims of section 5.2
    attributed: int = 20  # prompts with integrated gradients

    def __post_init__(self):
        if min(asdict(self).values()) < 3:
            raise ValueError(f"every part takes at least 3 scenes: {asdict(self)}")


@dataclass
class Painted:
    """Prompts of two things with what was painted from them and recorded meanwhile, only those that came out right."""

    phrases: list[Phrase]
    states: Tensor  # (prompts, queries, hidden)
    pictures: Tensor  # (prompts, 3, size, size)
    masks: list[Tensor]  # of each picture, (2, size, size), the left or upper thing first
    cells: Tensor  # where latent cells look, (prompts, queries, height, width)
    seeds: list[int]  # of the noise

    def thing(self, number: int, role: tuple) -> int:
        """Which of a picture's things a word with a role names: 0 is the left or upper one."""
        phrase = self.phrases[number]
        shape, colour = (
            next(
                word for word, other in zip(phrase.words, phrase.roles) if other == (kind, role[1])
            )
            for kind in ("shape", "colour")
        )
        return [look[1:] for look in parse_caption(phrase.text)[2]].index((colour, shape))

    def looked(self, number: int, thing: int, whose: int | None = None) -> Tensor:
        """How much the cells of a picture's thing look at each query, (queries,); by the map of picture `whose`, None: by its own."""
        cells = self.cells[number if whose is None else whose]
        return (cells * on_cells(self.masks[number], *cells.shape[1:])[thing]).sum(dim=(1, 2))


class Lab:
    """What all parts share: the model, the judge, and painting with fixed noise.

    Args:
        model: the toy.
        plan: how much.
        seed: of prompts and noise.
    """

    def __init__(self, model, plan: Plan, seed: int):
        self.model, self.plan, self.seed = model, plan, seed
        self.judge = toy.pretrained_judge().to(model.device)

    def prompts(self, part: str, count: int) -> list[Phrase]:
        """Captions of two things, in free words, without a background."""
        rng = random.Random(f"probing {part} {self.seed}")
        return [describe(sample_scene(rng, count=2), rng, background=False) for _ in range(count)]

    def paint(self, states: Tensor, seeds: list[int], batch: int = 32) -> Tensor:
        """Pictures (number, 3, size, size) from states, each with the noise of its own seed."""
        return torch.stack(
            [
                picture
                for first in range(0, len(states), batch)
                for picture in self.model.paint(
                    states[first : first + batch], seeds[first : first + batch], output_type="pt"
                )
            ]
        )

    def painted(self, part: str, count: int, batch: int = 25) -> Painted:
        """Paints `count` prompts, and keeps those whose picture judge and analytic reader find right."""
        phrases, states, pictures, masks, cells, seeds = [], [], [], [], [], []
        captions = self.prompts(part, count)
        for first in range(0, count, batch):
            some = captions[first : first + batch]
            numbers = [100_000 * self.seed + first + number for number in range(len(some))]
            encoded = self.model.encode([phrase.text for phrase in some])
            with watch_image(self.model) as maps:
                found = self.paint(encoded, numbers, batch)
            for number, (phrase, reading, scene) in enumerate(
                zip(some, self.judge.read(found), scenes_by_colour(found))
            ):
                facts = parse_caption(phrase.text)
                if (
                    scene is not None
                    and reading.agrees(facts)
                    and Reading(scene.facts).agrees(facts)
                ):
                    phrases.append(phrase)
                    states.append(encoded[number])
                    pictures.append(found[number])
                    masks.append(masks_of(scene, found.shape[-1]))
                    cells.append(maps.mean(number))
                    seeds.append(numbers[number])
        return Painted(
            phrases, torch.stack(states), torch.stack(pictures), masks, torch.stack(cells), seeds
        )

    def means(self) -> Tensor:
        """The mean state of every query over many prompts, (queries, hidden): what mean ablation puts."""
        return self.model.encode([phrase.text for phrase in self.prompts("means", 200)]).mean(dim=0)


def word_places(trace, phrase: Phrase) -> list[int]:
    """Where the words of a prompt stand among a trace's inputs; ValueError if they are not just these words."""
    places = list(range(1, len(phrase.words) + 1))  # after <s>
    if [trace.inputs[place] for place in places] != list(phrase.words):
        raise ValueError(f"the inputs {trace.inputs} are not the words {phrase.words}")
    return places


def with_new_queries(model, seed: int):
    """The same model with dream queries that were never trained, as large as the trained ones."""
    control = copy.deepcopy(model)
    drawn = torch.randn(control.dream_queries.shape, generator=torch.Generator().manual_seed(seed))
    control.dream_queries.data = (drawn * model.dream_queries.std().cpu()).to(model.device)
    return control


# --------------------------------------------------------------------------------------------------
# The parts: each takes a Lab and gives numbers, as JSON


def pointing(lab: Lab) -> dict:
    """Do two-hop maps of a thing's words point at that thing? Hits and mass, with controls."""
    done, (height, width) = (
        lab.painted("pointing", lab.plan.scenes),
        lab.model.decoder.latent_shape[1:],
    )
    control = Lab(with_new_queries(lab.model, lab.seed), lab.plan, lab.seed)
    traces = [dream_attention(lab.model, phrase.text) for phrase in done.phrases]
    unrolled = [
        dream_attention(lab.model, phrase.text, rollout=True).mean() for phrase in done.phrases
    ]
    masks = [on_cells(mask, height, width) for mask in done.masks]
    other_cells = []
    for first in range(0, len(done.phrases), 25):
        texts = [phrase.text for phrase in done.phrases[first : first + 25]]
        with watch_image(control.model) as maps:
            control.paint(control.model.encode(texts), done.seeds[first : first + 25])
        other_cells += [maps.mean(number) for number in range(len(texts))]
    others = [dream_attention(control.model, phrase.text).mean() for phrase in done.phrases]
    hits = {
        name: {kind: [] for kind in KINDS}
        for name in ("two hops", "rollout", "shuffled caption", "untrained queries", "uniform")
    }
    mass = {name: {kind: [] for kind in KINDS} for name in hits}
    layers = {kind: [[] for _ in range(len(traces[0].weights))] for kind in KINDS}
    for number, (phrase, trace) in enumerate(zip(done.phrases, traces)):
        places = word_places(trace, phrase)
        away = (number + 1) % len(done.phrases)  # another scene's caption and picture
        whole = {
            "two hops": join(done.cells[number], trace.mean()),
            "rollout": join(done.cells[number], unrolled[number]),
            "untrained queries": join(other_cells[number], others[number]),
        }
        elsewhere = join(done.cells[away], traces[away].mean())
        by_layer = [
            join(done.cells[number], trace.mean(layer)) for layer in range(len(trace.weights))
        ]
        for place, role in zip(places, phrase.roles):
            if role is None or role[0] not in KINDS:
                continue
            kind, thing = role[0], done.thing(number, role)
            same = next(
                spot + 1
                for spot, there in enumerate(done.phrases[away].roles)
                if there and there[0] == kind and done.thing(away, there) == thing
            )
            maps = {name: map_[place] for name, map_ in whole.items()} | {
                "shuffled caption": elsewhere[same]
            }
            for name, map_ in maps.items():
                hits[name][kind].append(points_at(map_, masks[number]) == thing)
                mass[name][kind].append(mass_inside(map_, masks[number][thing]))
            # A map that is the same everywhere points anywhere alike.
            covered = masks[number].argmax(dim=0)[masks[number].amax(dim=0) > 0] == thing
            hits["uniform"][kind].append(covered.sum().item() / (height * width))
            mass["uniform"][kind].append(masks[number][thing].mean().item())
            for layer, map_ in enumerate(by_layer):
                layers[kind][layer].append(points_at(map_[place], masks[number]) == thing)
    return {
        "scenes": len(done.phrases),
        "words": {kind: len(hits["two hops"][kind]) for kind in KINDS},
        "hits": {
            name: {kind: share(found) for kind, found in kinds.items()}
            for name, kinds in hits.items()
        },
        "mass": {
            name: {kind: share(found) for kind, found in kinds.items()}
            for name, kinds in mass.items()
        },
        "layers": {kind: [share(found) for found in each] for kind, each in layers.items()},
    }


def share(values: list) -> float:
    """The mean, to four digits."""
    return round(sum(values) / len(values), 4)


def ablations(lab: Lab) -> dict:
    """What is lost with each query, and with each word; and whether the maps say so."""
    done, means = lab.painted("ablations", lab.plan.ablated), lab.means()
    queries = lab.model.queries
    changes, pixels, agreement = (
        [],
        [],
        {
            "queries": [],
            "queries, another picture's map": [],
            "words": [],
            "words, another picture's map": [],
        },
    )
    traces = [dream_attention(lab.model, phrase.text) for phrase in done.phrases]
    for number, phrase in enumerate(done.phrases):
        away, trace = (number + 1) % len(done.phrases), traces[number]
        alone = repeat(
            done.states[number], "queries hidden -> copies queries hidden", copies=queries
        ).clone()
        alone[range(queries), range(queries)] = means
        pictures = lab.paint(alone, [done.seeds[number]] * queries)
        lost = torch.stack(
            [
                pixel_change(done.pictures[number], picture, done.masks[number])
                for picture in pictures
            ]
        )
        changed = verdict_changes(lab.judge, done.pictures[[number]], pictures)
        changes.append(torch.stack([changed[head] for head in HEADS], dim=-1).float())
        pixels.append(lost)
        # Words: each is put to "thing", and its loss is compared with its share in the two-hop map of the thing.
        words = list(phrase.words)
        neutral = lab.model.encode(
            [
                " ".join([*words[:place], "thing", *words[place + 1 :]])
                for place in range(len(words))
            ]
        )
        without = lab.paint(neutral, [done.seeds[number]] * len(words))
        lost_words = torch.stack(
            [
                pixel_change(done.pictures[number], picture, done.masks[number])
                for picture in without
            ]
        )
        places = word_places(trace, phrase)
        for thing in range(2):
            for name, whose in (("", number), (", another picture's map", away)):
                looked = done.looked(number, thing, whose)
                agreement[f"queries{name}"].append(rank_correlation(looked, lost[:, thing]))
                agreement[f"words{name}"].append(
                    rank_correlation(trace.mean()[:, places].T @ looked, lost_words[:, thing])
                )
    pixels = torch.stack(pixels)
    return {
        "scenes": len(done.phrases),
        "changes": rounded(torch.stack(changes).mean(dim=0)),
        "heads": list(HEADS),
        "pixels": rounded(pixels.mean(dim=0)),
        "agreement": {
            name: [round(value, 4) for value in values] for name, values in agreement.items()
        },
    }


def rounded(values: Tensor) -> list:
    """A tensor as nested lists, to four digits."""
    return (values.double() * 1e4).round().div(1e4).tolist()


def curves(lab: Lab) -> dict:
    """Deletion and insertion: queries go, or come back, in the order of a thing's map, in reverse, and at random."""
    done, means = lab.painted("curves", lab.plan.curves), lab.means()
    queries = lab.model.queries
    found = {
        direction: {order: [] for order in ("map", "random", "reverse")}
        for direction in ("deletion", "insertion")
    }
    for number, phrase in enumerate(done.phrases):
        facts = parse_caption(phrase.text)
        for thing, slot in enumerate(("first", "second")):
            best = done.looked(number, thing).argsort(descending=True)
            generator = torch.Generator().manual_seed(1000 * lab.seed + 2 * number + thing)
            orders = {
                "map": best,
                "random": torch.randperm(queries, generator=generator),
                "reverse": best.flip(0),
            }
            for order, ranking in orders.items():
                rank = ranking.argsort()
                gone = rearrange(rank, "queries -> 1 queries") < rearrange(
                    torch.arange(queries + 1), "steps -> steps 1"
                )
                for direction, absent in (("deletion", gone), ("insertion", ~gone)):
                    states = torch.where(
                        rearrange(absent, "steps queries -> steps queries 1"),
                        means,
                        done.states[number],
                    )
                    pictures = lab.paint(states, [done.seeds[number]] * (queries + 1))
                    sure = judged(lab.judge, pictures, [facts] * (queries + 1))
                    score = torch.stack(
                        [sure[f"{slot} {kind}"].exp() for kind in ("colour", "shape")]
                    ).mean(dim=0)
                    found[direction][order].append(score)
    return {
        "things": len(found["deletion"]["map"]),
        "curves": {
            direction: {
                order: rounded(torch.stack(scores).mean(dim=0)) for order, scores in orders.items()
            }
            for direction, orders in found.items()
        },
        "areas": {
            direction: {
                order: [round(curve_area(score), 4) for score in scores]
                for order, scores in orders.items()
            }
            for direction, orders in found.items()
        },
    }


def readable(lab: Lab) -> dict:
    """Linear probes: what can be read from each query after each layer, against shuffled labels."""
    phrases = lab.prompts("readable", lab.plan.prompts)
    states = torch.cat(
        [
            query_stream(lab.model, [phrase.text for phrase in phrases[first : first + 50]])
            for first in range(0, len(phrases), 50)
        ],
        dim=1,
    )
    answers = torch.tensor([answers_of(parse_caption(phrase.text)) for phrase in phrases])
    found = {}
    for column, head in enumerate(HEADS):
        if head == "axis" or head in LOOKS:
            result = linear_probes(
                states, answers[:, column].tolist(), held_out=len(phrases) // 3, seed=lab.seed
            )
            found[head] = {
                "accuracy": rounded(result.accuracy),
                "control": rounded(result.control),
                "chance": round(result.chance, 4),
            }
    return {"prompts": len(phrases), "heads": found}


def patching(lab: Lab) -> dict:
    """After which layer do the queries hold it all? Those of another prompt are put in; and the lens, which ends there."""
    count = lab.plan.pairs
    phrases = lab.prompts("patching", 2 * count)
    facts = [parse_caption(phrase.text) for phrase in phrases]
    here, there = facts[:count], facts[count:]
    texts = [phrase.text for phrase in phrases]
    seeds = [100_000 * lab.seed + number for number in range(count)]
    stream, seen = query_stream(lab.model, texts[count:]), lens_states(lab.model, texts[:count])
    found = {"to the other prompt": [], "still the prompt itself": [], "lens": []}
    for layer in range(len(stream)):
        with patch(lab.model, list(range(lab.model.queries)), stream[layer], layer):
            states = lab.model.encode(texts[:count])
        readings = lab.judge.read(lab.paint(states, seeds))
        found["to the other prompt"].append(
            share([reading.agrees(fact) for reading, fact in zip(readings, there)])
        )
        found["still the prompt itself"].append(
            share([reading.agrees(fact) for reading, fact in zip(readings, here)])
        )
        lensed = lab.judge.read(lab.paint(seen[layer], seeds))
        found["lens"].append(share([reading.agrees(fact) for reading, fact in zip(lensed, here)]))
    return {"pairs": count, **found}


def claims(lab: Lab) -> dict:
    """Section 5.2: are query maps stable across prompts, disentangled, semantic, and are the words of Stable Diffusion not?"""
    done, decoder = lab.painted("claims", lab.plan.pairs), lab.model.decoder
    tower = toy.pretrained_text_tower().to(lab.model.device)
    texts = [phrase.text for phrase in done.phrases]
    words = []
    for first in range(0, len(texts), 25):
        states = clip_text_states(tower, lab.model.tokenizer, [*texts[first : first + 25], ""])
        with watch_image(lab.model) as maps, torch.no_grad():
            decoder.sample_seeded(states[:-1], states[-1:], done.seeds[first : first + 25])
        words += [maps.mean(number) for number in range(len(states) - 1)]
    inside = [on_cells(mask, *decoder.latent_shape[1:]).amax(dim=0) > 0.5 for mask in done.masks]
    found = {}
    shortest = (
        min(len(phrase.words) for phrase in done.phrases) + 1
    )  # positions that are words in every caption, <s> too
    for name, maps in (
        ("dream queries", done.cells),
        ("text states", torch.stack(words)),
        ("text states, words only", torch.stack(words)[:, :shortest]),
    ):
        apart = [separation(map_, where).mean().item() for map_, where in zip(maps, inside)]
        away = [
            separation(map_, where).mean().item()
            for map_, where in zip(maps, inside[1:] + inside[:1])
        ]
        found[name] = {
            "slots": maps.shape[1],
            "stability": rounded(stability(maps)),
            "overlap": rounded(overlap(maps)),
            "separation": [round(value, 4) for value in apart],
            "separation of another picture": [round(value, 4) for value in away],
        }
    return {"prompts": len(texts), "conditions": found}


def exchanges(lab: Lab) -> dict:
    """Does one query carry a thing to another picture? The one that the thing's cells look at most, against any other."""
    here, there = (lab.painted(f"exchanges {side}", lab.plan.pairs) for side in ("here", "there"))
    rng = random.Random(lab.seed)
    pairs = [
        (number, thing)
        for number in range(min(len(here.phrases), len(there.phrases)))
        for thing in range(2)
    ]
    chosen: dict[str, list[int]] = {"as the map says": [], "at random": []}
    for number, thing in pairs:
        best = here.looked(number, thing).argmax().item()
        chosen["as the map says"].append(best)
        chosen["at random"].append(
            rng.choice([query for query in range(lab.model.queries) if query != best])
        )
    found = {}
    for name, queries in chosen.items():
        states = torch.cat(
            [
                replaced(here.states[[number]], [query], there.states[number])
                for (number, _), query in zip(pairs, queries)
            ]
        )
        carried = kept = 0
        for (number, thing), reading in zip(
            pairs, lab.judge.read(lab.paint(states, [here.seeds[number] for number, _ in pairs]))
        ):
            own, foreign = (
                set(parse_caption(done.phrases[number].text)[2]) for done in (here, there)
            )
            looks = set(reading.facts[2]) if reading.facts else set()
            gone = parse_caption(here.phrases[number].text)[2][thing]
            kept += looks == own
            # The thing has gone, the one beside it has stayed, and what has come is of the other prompt.
            carried += gone not in looks and len(looks & own) == 1 and bool(looks & (foreign - own))
        found[name] = {
            "carried": round(carried / len(pairs), 4),
            "nothing changed": round(kept / len(pairs), 4),
        }
    return {"things": len(pairs), **found}


def attributions(lab: Lab) -> dict:
    """Do integrated gradients and attention rank words as taking them away does? By the denoising loss of the painted picture."""
    done = lab.painted("attributions", lab.plan.attributed)
    ranks, deltas = {"integrated gradients": [], "attention": []}, []
    for number, phrase in enumerate(done.phrases):
        target = DenoisingTarget(
            lab.model, to_pil(done.pictures[number : number + 1])[0], seed=done.seeds[number]
        )
        taken, slopes = (
            feature_ablation(lab.model, phrase.text, target),
            integrated_gradients(lab.model, phrase.text, target),
        )
        trace = dream_attention(lab.model, phrase.text)
        places = word_places(trace, phrase)
        # The loss rises where a word is missed: what it contributes is negative.
        ranks["integrated gradients"].append(
            round(rank_correlation(slopes.values[places], taken.values[places]), 4)
        )
        ranks["attention"].append(
            round(rank_correlation(trace.mean()[:, places].mean(dim=0), -taken.values[places]), 4)
        )
        deltas.append(round(abs(slopes.delta / (slopes.whole - slopes.nothing)), 4))
    return {"prompts": len(done.phrases), "ranks": ranks, "relative delta": deltas}


PARTS: dict[str, Callable[[Lab], dict]] = {
    part.__name__: part
    for part in (pointing, ablations, curves, readable, patching, claims, exchanges, attributions)
}


# --------------------------------------------------------------------------------------------------
# Running, and reading the results


def load_results(path: Path = RESULTS, plan: Plan | None = None) -> dict:
    """As `studies.load_results`, from the committed file if no other is named."""
    return results.load_results(path, plan)


def study(plan: Plan, seeds: list[int], out: Path, parts: list[str], progress: bool = True) -> dict:
    """All parts and seeds that are not in the JSON yet; it is written anew after each of them."""
    results, model = load_results(out, plan), load("toy")
    finished = {(done["part"], done["seed"]) for done in results["runs"]}
    options = (
        [] if plan == Plan() else [f"--{name} {value}" for name, value in asdict(plan).items()]
    )
    results |= {
        "command": " ".join(
            ["python -m minidream.studies probing --seeds", *map(str, seeds), *options]
        ),
        **results.circumstances(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, seed in (
        bar := tqdm(
            [(name, seed) for seed in seeds for name in parts if (name, seed) not in finished],
            disable=not progress,
        )
    ):
        bar.set_description(f"{name}, seed {seed}")
        results["runs"].append({"part": name, "seed": seed, **PARTS[name](Lab(model, plan, seed))})
        write_atomically(lambda path: path.write_text(results.as_text(results)), out)
    return results


def runs_of(results: dict, part: str) -> list[dict]:
    """The runs of a part, by seed; ValueError if there is none."""
    chosen = sorted(
        (done for done in results["runs"] if done["part"] == part), key=lambda done: done["seed"]
    )
    if not chosen:
        raise ValueError(
            f"no run of {part!r} in these results; there are {sorted({done['part'] for done in results['runs']})}"
        )
    return chosen


def table(results: dict) -> str:
    """The pointing game as the README's table: hits in per cent, over all seeds; Wilson's intervals, which count pictures, not words."""
    runs = runs_of(results, "pointing")
    pictures = sum(run["scenes"] for run in runs)
    lines = [
        f"| hits, in % [95 % interval], {pictures:,} pictures | colour words | shape words | size words |",
        "|---|--:|--:|--:|",
    ]
    for name in runs[0]["hits"]:
        cells = []
        for kind in ("colour", "shape", "size"):
            hit = sum(run["hits"][name][kind] * run["scenes"] for run in runs) / pictures
            low, high = wilson(round(hit * pictures), pictures)
            cells.append(f"{100 * hit:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m minidream.studies probing",
        description="Scores the toy's maps and interventions; finished parts are not repeated.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help="see Plan")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of prompts and noise"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="which questions"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="JSON to write, and to go on with"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--table", action="store_true", help="run nothing, print the README's table of --out"
    )
    options = parser.parse_args(arguments)
    if options.table:
        return print(table(load_results(options.out)))
    try:
        plan = Plan(**{name: getattr(options, name) for name in asdict(Plan())})
        load_results(options.out, plan)
    except ValueError as error:
        parser.error(str(error))
    results = study(plan, options.seeds, options.out, options.parts, progress=not options.quiet)
    if "pointing" in options.parts:
        print(table(results))


if __name__ == "__main__":
    main()
