"""What the parts of the probing study share: prompts, painted pictures and maps, controls."""

import copy
import random
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..diffusion import normal
from ..images import as_integer
from ..probe.effects import masks_of, on_cells
from ..probe.unet_attention import watch_image
from ..weights import toy
from ..weights.commands import option
from ..world.judge import Reading, scenes_by_colour
from ..world.language import Phrase, describe, parse_caption
from ..world.scenes import sample_scene

WORD_KINDS = ("size", "colour", "shape")  # of the words that describe an object


@dataclass(frozen=True)
class ProbingPlan:
    """How much of each part; results of another plan cannot be compared with them."""

    scenes: int = option(500, "for the pointing game")
    ablated: int = option(40, "scenes of which every query, and every word, is ablated")
    curves: int = option(20, "scenes with deletion and insertion curves of both objects")
    prompts: int = option(1200, "for linear probes; a third of them is held out")
    pairs: int = option(100, "for patching, the lens, swaps and the claims of section 5.2")
    attributed: int = option(20, "prompts with integrated gradients")

    def __post_init__(self):
        if min(asdict(self).values()) < 3:
            raise ValueError(f"every part takes at least 3 scenes: {asdict(self)}")
        for name, value in asdict(self).items():
            as_integer(name, value)


@dataclass
class Painted:
    """Prompts of two objects with what was painted from them, only those that came out right."""

    phrases: list[Phrase]
    states: Tensor  # (prompts, queries, hidden)
    pictures: Tensor  # (prompts, 3, size, size)
    masks: list[Tensor]  # of each picture, (2, size, size), the left or upper object first
    cells: Tensor  # how much latent cells attend to queries, (prompts, queries, height, width)
    seeds: list[int]  # of the noise

    def object_index(self, index: int, role: tuple) -> int:
        """Which object of a picture a word describes: 0 is the left or upper one.

        Args:
            index: of the picture.
            role: of the word, (kind, which object in the order of the prompt).
        """
        phrase = self.phrases[index]
        # The first word of a role counts.
        words = dict(zip(reversed(phrase.roles), reversed(phrase.words)))
        look = (words["colour", role[1]], words["shape", role[1]])
        return [other[1:] for other in parse_caption(phrase.text)[2]].index(look)

    def attention_of_object(self, index: int, which: int, map_index: int | None = None) -> Tensor:
        """How much the cells of an object attend to each query, shape (queries,).

        Args:
            index: of the picture.
            which: the object, 0 or 1.
            map_index: the picture whose map is used; None is the picture itself.
        """
        cells = self.cells[index if map_index is None else map_index]
        return (cells * on_cells(self.masks[index], *cells.shape[1:])[which]).sum(dim=(1, 2))


class Lab:
    """What all parts share: the model, the judge, and painting with fixed noise.

    Args:
        model: the toy.
        plan: how much.
        seed: of prompts and noise.
    """

    def __init__(self, model, plan: ProbingPlan, seed: int):
        self.model, self.plan, self.seed = model, plan, seed
        self.judge = toy.pretrained_judge().to(model.device)

    def prompts(self, part: str, count: int) -> list[Phrase]:
        """Captions of two objects, in free words, without a background."""
        rng = random.Random(f"probing {part} {self.seed}")
        return [describe(sample_scene(rng, count=2), rng, background=False) for _ in range(count)]

    def noise_seeds(self, first: int, count: int) -> list[int]:
        """Seeds of noise, different for every seed of the lab."""
        return [100_000 * self.seed + first + index for index in range(count)]

    def paint(self, states: Tensor, seeds: list[int], batch: int = 32) -> Tensor:
        """Pictures (number, 3, size, size) from states, each with the noise of its own seed."""
        pictures = []
        for first in range(0, len(states), batch):
            some = slice(first, first + batch)
            pictures += self.model.paint(states[some], seeds[some], output_type="pt")
        return torch.stack(pictures)

    def painted(self, part: str, count: int, batch: int = 25) -> Painted:
        """Paints `count` prompts and keeps those that judge and analytic reader accept."""
        kept, captions = [], self.prompts(part, count)
        for first in range(0, count, batch):
            phrases = captions[first : first + batch]
            seeds = self.noise_seeds(first, len(phrases))
            states = self.model.encode([phrase.text for phrase in phrases])
            with watch_image(self.model) as maps:
                pictures = self.paint(states, seeds, batch)
            readings, scenes = self.judge.read(pictures), scenes_by_colour(pictures)
            for index, (phrase, reading, scene) in enumerate(zip(phrases, readings, scenes)):
                if accepted(phrase, reading, scene):
                    masks = masks_of(scene, pictures.shape[-1])
                    cells = maps.mean(index)
                    kept.append(
                        (phrase, states[index], pictures[index], masks, cells, seeds[index])
                    )
        phrases, states, pictures, masks, cells, seeds = map(list, zip(*kept))
        return Painted(
            phrases, torch.stack(states), torch.stack(pictures), masks, torch.stack(cells), seeds
        )

    def means(self) -> Tensor:
        """The mean state of every query over many prompts, (queries, hidden), for mean ablation."""
        return self.model.encode([phrase.text for phrase in self.prompts("means", 200)]).mean(dim=0)


def accepted(phrase: Phrase, reading: Reading, scene) -> bool:
    """Whether judge and analytic reader agree with a prompt; `scene` None means no scene found."""
    facts = parse_caption(phrase.text)
    return scene is not None and reading.agrees(facts) and Reading(scene.facts).agrees(facts)


def word_positions(trace, phrase: Phrase) -> list[int]:
    """The positions of a prompt's words among the inputs of a trace.

    Raises:
        ValueError: if the inputs there are not just these words.
    """
    positions = list(range(1, len(phrase.words) + 1))  # after <s>
    if [trace.inputs[position] for position in positions] != list(phrase.words):
        raise ValueError(f"the inputs {trace.inputs} are not the words {phrase.words}")
    return positions


def with_new_queries(model, seed: int):
    """The same model with untrained dream queries that are as large as the trained ones."""
    control = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    new = normal(control.dream_queries.shape, generator)
    control.dream_queries.data = (new * model.dream_queries.std().cpu()).to(model.device)
    return control


def mean_of(values: list) -> float:
    """The mean, to four digits."""
    return round(sum(values) / len(values), 4)


def rounded(values: Tensor) -> list:
    """A tensor as nested lists, to four digits."""
    return (values.double() * 1e4).round().div(1e4).tolist()
