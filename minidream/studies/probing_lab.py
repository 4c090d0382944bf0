"""What the parts of the probing study share: prompts, and painting with fixed noise.

A part returns one entry per prompt wherever it can, so that intervals over prompts, and over pairs
of ways, can be computed from the file.
"""

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from einops import reduce
from torch import Tensor

from ..diffusion import normal
from ..images import as_integer
from ..probe.effects import masks_of, on_cells
from ..probe.unet_attention import watch_image
from ..weights import toy
from ..weights.commands import option
from ..weights.toy import clip_text_states
from ..world.judge import Reading, scenes_by_colour
from ..world.language import Phrase, describe, parse_caption
from ..world.scenes import Scene, sample_scene
from .probing_pairs import WORDS, Pair, sample_pair, slot_of

TIMESTEPS = (400, 800)  # of the denoising loss: shapes are decided late, arrangement early


@dataclass(frozen=True)
class ProbingPlan:
    """How much of each part; results of another plan cannot be compared with them."""

    prompts: int = option(300, "of two objects, for each part")
    steps: int = option(10, "denoising steps of each picture")
    batch: int = option(25, "prompts at once")

    def __post_init__(self):
        for name, value in asdict(self).items():
            as_integer(name, value, 1)
        if self.prompts < 4:
            raise ValueError(f"halves with another prompt each take 4 prompts, not {self.prompts}")

    @property
    def painted(self) -> int:
        """Of how many prompts, the first ones, tens of pictures are painted."""
        return max(2, self.prompts // 3)


@dataclass
class Painted:
    """Some prompts with what was painted from them.

    phrases: the prompts.
    states: that pictures were painted from, shape (prompts, queries, hidden).
    seeds: of the noise.
    masks: of each picture with which judge and analytic reader agree, in latent cells, shape
        (2, height, width), the object that is mentioned first first; else None.
    cells: how much latent cells attend to these states: (prompts, layers, queries, height, width).
    """

    phrases: list[Phrase]
    states: Tensor
    seeds: list[int]
    masks: list[Tensor | None]
    cells: Tensor

    @property
    def right(self) -> list[int]:
        """The pictures that are right."""
        return [index for index, mask in enumerate(self.masks) if mask is not None]

    def another_right(self, index: int) -> int:
        """The next right picture beyond a prompt and its partner; itself if there is none.

        A partner is the donor of a prompt: the first two prompts are each other's, and so on.
        """
        beyond = [each for each in self.right if each // 2 > index // 2]
        before = [each for each in self.right if each // 2 < index // 2]
        return (beyond or before or [index])[0]

    def looked_at(self, index: int, mention: int, map_index: int | None = None) -> Tensor:
        """How much the cells of an object attend to each query: shape (queries,), of sum 1.

        Args:
            index: of a picture that is right.
            mention: the object, in the order of the prompt.
            map_index: the picture whose map is used; None is the picture itself.
        """
        cells = self.cells[index if map_index is None else map_index].mean(dim=0)
        looked = (cells * self.masks[index][mention]).sum(dim=(1, 2))
        return looked / looked.sum()


class Lab:
    """What all parts share: the model, the judge, and painting with fixed noise.

    Args:
        model: a DreamLLM that paints toy scenes.
        plan: how much.
        seed: of prompts and noise.
        other: the dream queries of another run, shape (1, queries, hidden), as a control.
    """

    def __init__(self, model, plan: ProbingPlan, seed: int = 0, other: Tensor | None = None):
        self.model, self.plan, self.seed, self.other = model, plan, seed, other
        self.judge = toy.pretrained_judge().to(model.device)

    def rng(self, part: str) -> random.Random:
        """Random numbers of one part, the same for all weights."""
        return random.Random(f"probing {part} {self.seed}")

    def prompts(self, part: str, count: int | None = None) -> list[Phrase]:
        """Captions of two objects in free words, without a background."""
        rng, count = self.rng(part), count or self.plan.prompts
        return [describe(sample_scene(rng, count=2), rng, background=False) for _ in range(count)]

    def pairs(self, part: str, count: int | None = None) -> list[Pair]:
        """Prompts with a counterpart; the word that differs takes turns."""
        rng, count = self.rng(part), count or self.plan.prompts
        return [sample_pair(rng, *WORDS[index % len(WORDS)]) for index in range(count)]

    def batches(self, items: list) -> Iterator[tuple[list, list[int], int]]:
        """Some items at a time, the noise seed of each, and how many are painted more often."""
        for first in range(0, len(items), self.plan.batch):
            some = items[first : first + self.plan.batch]
            seeds = [100_000 * self.seed + first + index for index in range(len(some))]
            yield some, seeds, min(len(some), max(0, self.plan.painted - first))

    def latents(self, states: Tensor, seeds: list[int], model=None) -> Tensor:
        """What is painted from states, as clean latents, each with the noise of its own seed.

        Args:
            states: shape (batch, queries, hidden).
            seeds: of the noise.
            model: None is the lab's own.
        """
        model, steps = model or self.model, self.plan.steps
        return torch.stack(
            model.paint(states, seeds, num_inference_steps=steps, output_type="latent")
        )

    @torch.no_grad()
    def read(self, latents: Tensor) -> list[Reading]:
        """What the judge reads from the pictures of some latents."""
        return self.judge.read(self.model.decoder.decode(latents))

    @torch.no_grad()
    def losses(self, latents: Tensor, states: Tensor, seeds: list[int]) -> list[int]:
        """The denoising loss of each picture under states, with noise of its own seed.

        Args:
            latents: of the pictures, shape (batch, channels, height, width).
            states: shape (batch, queries, hidden).
            seeds: of the noise.

        Returns:
            The mean squared error, over `TIMESTEPS` too, in units of 1e-4, one for each picture.
        """
        decoder = self.model.decoder
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([normal(tuple(latents.shape[1:]), each) for each in generators])
        errors = []
        for timestep in TIMESTEPS:
            target = noise = noise.to(latents)
            at = torch.full((len(latents),), timestep, device=latents.device)
            noisy = decoder.scheduler.add_noise(latents, noise, at)
            if decoder.scheduler.config.prediction_type == "v_prediction":
                target = decoder.scheduler.get_velocity(latents, noise, at)
            error = (decoder.predict(noisy, at, decoder.projector(states)) - target).square()
            errors.append(reduce(error, "batch channels height width -> batch", "mean"))
        return (1e4 * torch.stack(errors).mean(dim=0)).round().int().tolist()

    @cached_property
    def maps(self) -> Painted:
        """Prompts, painted once, with their maps; several parts are about these."""
        return self.painted(self.model, self.prompts("maps"))

    def painted(self, model, phrases: list[Phrase]) -> Painted:
        """Paints prompts with a model, and records where latent cells look among the queries."""

        def paint(texts: list[str], seeds: list[int]) -> tuple[Tensor, Tensor]:
            states = model.encode(texts)
            return states, self.latents(states, seeds, model)

        return self.recorded(model, phrases, paint)

    def painted_from_text_states(self, phrases: list[Phrase]) -> Painted:
        """As `painted`, from the text states of the toy CLIP: the U-Net as it was before."""
        decoder, tower = self.model.decoder, toy.pretrained_text_tower().to(self.model.device)

        def paint(texts: list[str], seeds: list[int]) -> tuple[Tensor, Tensor]:
            states = clip_text_states(tower, self.model.tokenizer, [*texts, ""])
            return states[:-1], decoder.sample_seeded(
                states[:-1], states[-1:], seeds, num_inference_steps=self.plan.steps
            )

        return self.recorded(self.model, phrases, paint)

    @torch.no_grad()
    def recorded(self, model, phrases: list[Phrase], paint: Callable) -> Painted:
        """As `painted`.

        Args:
            model: whose U-Net paints.
            phrases: the prompts.
            paint: from texts and seeds to states and latents.
        """
        states, seeds, masks, cells = [], [], [], []
        for some, own_seeds, _ in self.batches(phrases):
            with watch_image(model) as maps:
                some_states, latents = paint([phrase.text for phrase in some], own_seeds)
            states.append(some_states)
            scenes = scenes_found(self.judge, model.decoder.decode(latents), some)
            layers = in_running_order(maps.layers)
            for index in range(len(some)):
                by_layer = [maps.mean(index, layer=layer) for layer in layers]
                cells.append(torch.stack(by_layer))
            grid = cells[-1].shape[-2:]
            masks += [masks_in_order(*pair, *grid) for pair in zip(some, scenes)]
            seeds += own_seeds
        return Painted(phrases, torch.cat(states), seeds, masks, torch.stack(cells))


def in_running_order(layers) -> list[str]:
    """The names of the U-Net's layers in the order in which they run, as `probe.points` does."""
    running = ("down_blocks", "mid_block", "up_blocks")
    return sorted(layers, key=lambda name: running.index(name.split(".")[0]))


def masks_in_order(phrase: Phrase, scene: Scene | None, height: int, width: int) -> Tensor | None:
    """The masks of both objects of a scene in the order of its prompt, on a grid of cells."""
    if scene is None:
        return None
    size = 8 * height  # fine enough: eight pixels along a side of a cell
    masks = on_cells(masks_of(scene, size), height, width)
    return masks[[slot_of(phrase, mention) for mention in (0, 1)]]


def scenes_found(judge, pictures: Tensor, phrases: list[Phrase]) -> list[Scene | None]:
    """The scenes in pictures, None where judge and analytic reader do not agree with a prompt."""
    found = []
    for phrase, reading, scene in zip(phrases, judge.read(pictures), scenes_by_colour(pictures)):
        facts = parse_caption(phrase.text)
        right = scene is not None and reading.agrees(facts) and Reading(scene.facts).agrees(facts)
        found.append(scene if right else None)
    return found


def joined(parts: list) -> dict | list | str:
    """The results of several batches as one: lists and strings are joined, by key."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts]) for key in first}
    return "".join(parts) if isinstance(first, str) else sum(parts, [])


def across(rows: list[list[str]]) -> list[str]:
    """Letters by way and prompt, as one string for each prompt."""
    return ["".join(letters) for letters in zip(*rows)]


def with_new_queries(model, seed: int):
    """The same model with untrained dream queries that are as large as the trained ones."""
    control = copy.deepcopy(model)
    new = normal(control.dream_queries.shape, torch.Generator().manual_seed(seed))
    control.dream_queries.data = (new * model.dream_queries.std().cpu()).to(model.device)
    return control


Part = Callable[[Lab], dict]
