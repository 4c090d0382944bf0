"""How right the toy is: `python -m minidream.studies shipped_toy` measures the shipped weights and writes the README's numbers.

Right means every stated attribute and relation, as the judge reads them. Each row is measured on fresh scenes of seen
and of held-out combinations, with one thing and with two apart; intervals are Wilson's, 95 %, over prompts.
"""

import argparse
import json
import os
import platform
import random
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..documents import Document, collate, lay_out
from ..images import to_pil
from ..train.lessons import document_of
from ..weights import load, toy
from ..weights.files import write_atomically
from ..weights.toy import clip_text_states
from ..world.judge import Reading, read_by_colour
from ..world.language import DESCRIBE, ask, describe, parse_caption
from ..world.render import render
from ..world.scenes import Scene, sample_scene
from ..world.stories import sample_edit, sample_story
from .intervals import wilson

RESULTS = Path(__file__).parents[2] / "notebooks" / "results" / "toy_metrics.json"
# (row, what it says in the table, target on seen and on held-out combinations, in per cent)
ROWS = (
    ("judge", "judge on fresh renders", 99.5, 99.0),
    ("analytic", "analytic reader on fresh renders", 99.5, 99.0),
    ("vae", "scenes after VAE encode-decode", 99.0, 98.0),
    ("unet", "toy U-Net driven by toy CLIP text states", 98.0, 90.0),
    ("dream", "DreamLLM, text to image", 97.0, 90.0),
    ("captions", "captions: every fact true, the scene identified", 97.0, 90.0),
    ("questions", "questions", 97.0, 93.0),
    ("placement", "stories: `<dream>` exactly where a picture belongs", 99.0, None),
    ("stories", "stories: later pictures right", 90.0, 75.0),
    ("edits", 'editing: "<picture> the same but …"', 90.0, 75.0),
)


class Bench:
    """Everything that is measured, on one set of weights.

    Args:
        model: the toy DreamLLM.
        n: scenes per row and kind of combination.
        batch: pictures painted at once.
        seed: of scenes, phrasings and noise.
    """

    def __init__(self, model, n: int, batch: int = 50, seed: int = 0):
        self.model, self.n, self.batch, self.seed = model, n, batch, seed
        self.agreed: list[
            bool
        ] = []  # of every picture judged in this row: did the analytic reader see the same?
        self.size = model.decoder.image_size
        self.reader, self.text = (
            toy.pretrained_judge().to(model.device),
            toy.pretrained_text_tower().to(model.device),
        )

    def measure(self, row: str, held_out: bool) -> list[tuple[int, bool]]:
        """(things in the scene, right or not) of every trial of a row."""
        self.agreed.clear()
        rng = random.Random(f"metrics {row} {held_out} {self.seed}")
        return getattr(self, row)(rng, held_out)

    def scenes(self, rng: random.Random, held_out: bool) -> list[Scene]:
        """Fresh scenes."""
        return [sample_scene(rng, held_out=held_out) for _ in range(self.n)]

    def verdicts(self, images: torch.Tensor, wanted: list[tuple]) -> list[tuple[int, bool]]:
        """Whether the judge finds what was wanted in pictures, shape (batch, 3, height, width) in [0, 1]."""
        readings = self.reader.read(images)
        self.agreed += [
            one == other for one, other in zip(readings, read_by_colour(images), strict=True)
        ]
        return [
            (len(facts[2]), reading.agrees(facts))
            for reading, facts in zip(readings, wanted, strict=True)
        ]

    def in_batches(self, items: list, work) -> list:
        """`work(items, first)` on a batch at a time, results joined."""
        return [
            result
            for first in tqdm(range(0, len(items), self.batch), leave=False)
            for result in work(items[first : first + self.batch], first)
        ]

    def judge(self, rng, held_out):
        """The judge itself, on renders."""
        scenes = self.scenes(rng, held_out)
        return self.verdicts(
            render(scenes, self.size)[0].to(self.model.device), [scene.facts for scene in scenes]
        )

    def analytic(self, rng, held_out):
        """The analytic reader, on renders."""
        scenes = self.scenes(rng, held_out)
        return [
            (len(scene.objects), reading.agrees(scene.facts))
            for scene, reading in zip(scenes, read_by_colour(render(scenes, self.size)[0]))
        ]

    def vae(self, rng, held_out):
        """Renders through the VAE and back."""

        def work(scenes, first):
            decoder = self.model.decoder
            return self.verdicts(
                decoder.decode(
                    decoder.encode_images(render(scenes, self.size)[0].to(decoder.device) * 2 - 1)
                ),
                [scene.facts for scene in scenes],
            )

        return self.in_batches(self.scenes(rng, held_out), torch.no_grad()(work))

    def unet(self, rng, held_out):
        """Pictures from toy CLIP text states: the toy's Stable Diffusion."""
        captions = [describe(scene, rng).text for scene in self.scenes(rng, held_out)]

        @torch.no_grad()
        def work(texts, first):
            decoder, count = self.model.decoder, len(texts)
            states = clip_text_states(self.text, self.model.tokenizer, [*texts, *[""] * len(texts)])
            latents = decoder.sample_seeded(
                states[:count],
                states[count:],
                [self.seed + first + number for number in range(count)],
            )
            return self.verdicts(decoder.decode(latents), [parse_caption(text) for text in texts])

        return self.in_batches(captions, work)

    def painted(self, prompts: list, wanted: list[tuple]) -> list[tuple[int, bool]]:
        """Verdicts on what the DreamLLM paints from prompts."""

        def work(pairs, first):
            images = self.model.dream(
                [prompt for prompt, _ in pairs], seed=self.seed + first, output_type="pt"
            )
            return self.verdicts(torch.stack(images), [facts for _, facts in pairs])

        return self.in_batches(list(zip(prompts, wanted)), work)

    def dream(self, rng, held_out):
        """Text to image."""
        captions = [describe(scene, rng).text for scene in self.scenes(rng, held_out)]
        return self.painted(captions, [parse_caption(text) for text in captions])

    def captions(self, rng, held_out):
        """Descriptions of renders: parsed, they must state the whole scene and nothing false."""
        results = []
        for scene in tqdm(self.scenes(rng, held_out), leave=False):
            stated = parse_caption(
                self.model.chat([to_pil(render([scene], self.size)[0])[0], DESCRIBE])
            )
            results.append(
                (len(scene.objects), stated is not None and Reading(scene.facts).agrees(stated))
            )
        return results

    def questions(self, rng, held_out):
        """Questions about renders; the answer must be the one word."""
        results = []
        for scene in tqdm(self.scenes(rng, held_out), leave=False):
            question, reply = ask(scene, rng)
            given = self.model.chat([to_pil(render([scene], self.size)[0])[0], question])
            results.append((len(scene.objects), given == reply))
        return results

    @torch.no_grad()
    def placement(self, rng, held_out):
        """Whole stories read along: is `<dream_start>` the likeliest next token exactly where it comes next?"""
        special, results = self.model.tokenizer.special, []
        for _ in tqdm(range(self.n), leave=False):
            story = sample_story(rng, held_out)
            document = document_of(story, self.size)
            layout = lay_out(
                document, self.model.tokenizer, self.model.queries, self.model.vision.patches
            )
            batch = collate([layout], special.pad, device=self.model.device)
            logits = self.model.llm.logits(
                self.model.llm(self.model.embed(batch, document.images))[0, :-1]
            )
            learned = batch.labels[0, 1:] >= 0
            says, should = (
                logits.argmax(dim=-1)[learned] == special.dream_start,
                batch.labels[0, 1:][learned] == special.dream_start,
            )
            results.append((len(story.scenes[-1].objects), torch.equal(says, should)))
        return results

    def stories(self, rng, held_out):
        """The last picture of stories, all before it true: also what only the earlier pictures show must be right."""
        drawn = [sample_story(rng, held_out) for _ in range(self.n)]
        whole = [document_of(story, self.size) for story in drawn]
        prompts = [
            Document(document.items[:-1], targets=document.targets[:-1]) for document in whole
        ]
        return self.painted(prompts, [story.scenes[-1].facts for story in drawn])

    def edits(self, rng, held_out):
        """A given picture and "the same but …"."""
        drawn = [sample_edit(rng, held_out) for _ in range(self.n)]
        prompts = [
            Document(document_of(story, self.size).items[:-1], targets=[]) for story in drawn
        ]
        return self.painted(prompts, [story.scenes[-1].facts for story in drawn])


def summary(results: list[tuple[int, bool]]) -> dict:
    """Trials, share of right ones with its interval, and the same for scenes of one and of two things."""

    def part(chosen: list[bool]) -> dict:
        low, high = wilson(sum(chosen), len(chosen))
        return {
            "n": len(chosen),
            "right": round(100 * sum(chosen) / len(chosen), 2),
            "interval": [round(100 * low, 2), round(100 * high, 2)],
        }

    apart = {
        name: part([right for things, right in results if things == count])
        for count, name in ((1, "one"), (2, "two"))
        if any(things == count for things, _ in results)
    }
    return part([right for _, right in results]) | apart


def table(results: dict) -> str:
    """The results as a Markdown table, as it stands in the README."""
    lines = [
        "| right, in % [95 % interval] | seen | target | held out | target | seen, one thing / two | held out, one / two |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, words, *targets in ROWS:
        cells = []
        for kind, target in zip(("seen", "held_out"), targets):
            measured = results["rows"].get(row, {}).get(kind)
            cells += [
                f"{measured['right']:.1f} [{measured['interval'][0]:.1f}, {measured['interval'][1]:.1f}]"
                if measured
                else "",
                f">= {target:g}" if target else "",
            ]
        for kind in ("seen", "held_out"):
            measured = results["rows"].get(row, {}).get(kind, {})
            cells.append(
                " / ".join(
                    f"{measured[name]['right']:.1f}" for name in ("one", "two") if name in measured
                )
            )
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m minidream.studies shipped_toy",
        description="Measures the shipped toy, or other weights, against the targets.",
    )
    parser.add_argument(
        "--weights", default="toy", help="what minidream.load takes (default: %(default)s)"
    )
    parser.add_argument(
        "--n",
        type=int,
        default=1000,
        help="scenes per row and kind of combination (default: %(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=50, help="pictures painted at once (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rows", nargs="*", default=[row for row, *_ in ROWS], help="which rows (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        help="JSON to write; rows measured before are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--table", action="store_true", help="measure nothing, print the table of --out"
    )
    options = parser.parse_args()
    if options.n < 1 or options.batch < 1:
        parser.error(f"--n and --batch are at least 1, not {options.n} and {options.batch}")
    results = json.loads(options.out.read_text()) if options.out.exists() else {"rows": {}}
    if options.table:
        return print(table(results))
    unknown = set(options.rows) - {row for row, *_ in ROWS}
    if unknown:
        parser.error(
            f"unknown rows {sorted(unknown)}; there are {', '.join(row for row, *_ in ROWS)}"
        )
    bench = Bench(load(options.weights), options.n, options.batch, options.seed)
    results |= {
        "n": options.n,
        "seed": options.seed,
        "command": f"python -m minidream.studies shipped_toy --n {options.n} --seed {options.seed}",
        "steps": bench.model.decoder.config.num_inference_steps,
        "guidance_scale": bench.model.decoder.config.guidance_scale,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {'CUDA' if torch.cuda.is_available() else 'CPU'}, torch {torch.__version__.split('+')[0]}",
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for row, words, *targets in ROWS:
        if row not in options.rows:
            continue
        results["rows"][row] = {}
        for kind, target in zip(("seen", "held_out"), targets):
            if target is None:
                continue
            clock = time.perf_counter()
            held_out = kind == "held_out"
            found = summary(bench.measure(row, held_out))
            results["rows"][row][kind] = (
                found
                | (
                    {"readers_agree": round(100 * sum(bench.agreed) / len(bench.agreed), 2)}
                    if bench.agreed
                    else {}
                )
                | {"seconds": round(time.perf_counter() - clock, 1)}
            )
            print(
                f"{row:10} {kind:9} {found['right']:6.2f} % {found['interval']}  one {found.get('one', {}).get('right')}  two {found.get('two', {}).get('right')}",
                flush=True,
            )
            write_atomically(
                lambda path: path.write_text(json.dumps(results, indent=1) + "\n"), options.out
            )


if __name__ == "__main__":
    main()
